"""What is on a fresh machine: a new database cluster, certificates, nothing else.

Theory of operation. Installing a manager initialises a database cluster of its own,
with a system id that no other has, and puts roles and empty tables into it. The
certificates are those that lie in the administrator's folder, or new ones where it
is empty. Tearing a manager down removes all of that, and the manager's own snapshots
with it. The agent's files belong to the machine and stay.
"""

import asyncio
import secrets
import shutil
from pathlib import Path

import psycopg

from agent.errors import LabError
from agent.lab import texts
from agent.lab.membership import Membership, save
from agent.lab.plan import DATABASE, MANAGER_ROLE, NodeLayout, Plan
from agent.lab.schema import cluster_statements, manager_statements
from agent.lab.server import Installed, Server, installed, make_private

CERTIFICATES = {
    "ca_cert.pem": ("cloudify_internal_ca_cert.pem",),
    "ca_key.pem": ("cloudify_internal_ca_key.pem",),
    "manager_cert.pem": ("cloudify_internal_cert.pem", "cloudify_external_cert.pem"),
    "manager_key.pem": ("cloudify_internal_key.pem", "cloudify_external_key.pem"),
}
"""The administrator's files, and as what the manager keeps each of them."""
KEY_MODE = 0o600
OPEN_MODE = 0o644


def is_installed(layout: NodeLayout) -> bool:
    """Whether there is a manager on the machine, a half copied one included."""
    return layout.data_dir.exists() or layout.resync_mark.exists()


async def install(plan: Plan, name: str) -> None:
    """Put an empty manager, in no cluster, on a machine that has none.

    Raises LabError when it cannot be done; then there is still none.
    """
    layout = plan.layout.node(name)
    at = installed(plan, name)
    server = Server(at)
    try:
        make_folders(plan, name)
        save(layout.membership, Membership())
        await make_database(plan, at)
        server.write("postgresql.conf", texts.postgresql_conf(plan, name))
        server.write("postgresql.auto.conf", texts.auto_conf(plan, name, None))
    except BaseException:
        await server.stop()
        await asyncio.to_thread(tear_down, layout)
        raise


def tear_down(layout: NodeLayout) -> None:
    """Remove manager, database, snapshots and certificates from a machine. Blocking."""
    layout.resync_mark.unlink(missing_ok=True)
    layout.membership.unlink(missing_ok=True)
    for folder in (layout.manager_files, layout.data_dir, *layout.certificates):
        shutil.rmtree(folder, ignore_errors=True)


def make_folders(plan: Plan, name: str) -> None:
    """Make the folders that a manager and its server need, and its certificates."""
    layout = plan.layout.node(name)
    for folder in (layout.socket_dir, layout.server_home):
        make_private(folder, plan.account)
    layout.manager_files.mkdir(mode=0o700, exist_ok=True)
    _deal_certificates(layout)


def _deal_certificates(layout: NodeLayout) -> None:
    """Lay the certificates where the guide has them; keep those that are there.

    They are texts and not real ones: nothing in the lab speaks TLS.
    """
    given, kept = layout.certificates
    for folder in (given, kept):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, copies in CERTIFICATES.items():
        path = given / name
        if not path.exists():
            kind = "key" if "key" in name else "certificate"
            text = f"stands for a {kind} of {layout.root.name}: {secrets.token_hex(16)}"
            _write(path, f"{text}\n")
        for copy in copies:
            _write(kept / copy, path.read_text("utf-8"))


def _write(path: Path, text: str) -> None:
    path.touch(mode=KEY_MODE)
    path.chmod(KEY_MODE if "key" in path.name else OPEN_MODE)
    path.write_text(text, "utf-8")


async def make_database(plan: Plan, at: Installed) -> None:
    """Initialise a cluster, give it roles and empty tables, and stop it cleanly.

    It needs its final configuration afterwards. Raises LabError.
    """
    server = Server(at)
    make_private(server.data_dir, plan.account)
    ran = await server.run(
        "initdb", f"--pgdata={server.data_dir}", "--username=postgres", "--no-sync",
        "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8",
        "--locale=C", "--no-instructions",
    )  # fmt: skip
    if ran.code != 0:
        raise LabError(f"initdb failed: {ran.output.strip()[-300:]}")
    conf = texts.POSTGRESQL_CONF.format(
        host="", port=at.port, socket_dir=at.node.socket_dir, name="template"
    )
    server.write("postgresql.conf", f"{conf}listen_addresses = ''\n")
    server.write("pg_hba.conf", texts.HBA_CONF)
    await server.start()
    try:
        await asyncio.to_thread(_fill, server, plan)
    finally:
        await server.stop()


def _fill(server: Server, plan: Plan) -> None:
    major, audited = plan.version_num // 10000, plan.options.all_active
    try:
        with server.connect() as connection:
            for statement in cluster_statements(major, plan.secrets):
                connection.execute(statement)
        with server.connect(MANAGER_ROLE, DATABASE) as connection:
            for statement in manager_statements(audited=audited):
                connection.execute(statement)
    except psycopg.Error as error:
        raise LabError(f"the lab's database cannot be filled: {error}") from error
