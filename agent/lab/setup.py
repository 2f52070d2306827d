"""Sets a lab up in an empty state folder: programs, template, nodes, files.

Theory of operation. One database cluster is initialised, started for a moment on a
unix socket, given roles and tables, and stopped cleanly. Every node begins with a
copy of it, so all have one system id and timeline; two of them are told to follow
the first. All ports are held from here on, relays' and servers' alike.
"""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import LabError
from agent.lab import fresh, texts
from agent.lab.account import Account, server_account
from agent.lab.binaries import Binaries, find_binaries
from agent.lab.membership import Membership, save
from agent.lab.plan import (
    HOST,
    MANAGER_ROLE,
    NODES,
    SERVICES,
    SOCKET_PATH_MAX,
    Layout,
    NodePlan,
    Options,
    Plan,
    RelayPlan,
    Secrets,
    save_plan,
)
from agent.lab.ports import hold_port, port_of
from agent.lab.server import (
    STANDBY_SIGNAL,
    Server,
    installed,
    make_private,
    write_private,
)

LONGEST_SOCKET = "n1/s/.s.PGSQL.65535"
TOKEN_BYTES = 24


@dataclass(frozen=True, slots=True)
class Ground:
    """A lab that is set up and not yet running."""

    plan: Plan
    holders: tuple[socket.socket, ...]
    """Keep the lab's ports; closed when the lab ends."""


def claim(state_dir: Path) -> Layout:
    """Take an empty or new folder for a lab. Raises LabError."""
    layout = Layout(state_dir)
    if len(str(state_dir / LONGEST_SOCKET)) > SOCKET_PATH_MAX:
        raise LabError(
            f"the path {state_dir} is too long for unix sockets in it",
            f"give a --state-dir of up to {SOCKET_PATH_MAX - len(LONGEST_SOCKET) - 1} "
            "characters",
        )
    try:
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        check_ours(state_dir)
        if any(state_dir.iterdir()):
            raise LabError(
                f"{state_dir} is neither empty nor a lab's",
                "give another --state-dir",
            )
        layout.mark.write_text("A splitguard lab; lab down removes this folder.\n")
        state_dir.chmod(0o711)
        layout.pids.mkdir()
    except OSError as error:
        raise LabError(
            f"{state_dir} cannot be used: {error.strerror}", "give another --state-dir"
        ) from error
    return layout


def check_ours(state_dir: Path) -> None:
    """Raise LabError when the folder, if it is there, is somebody else's.

    Whoever owns a folder among the temporary files can put others into it.
    """
    if state_dir.is_symlink() or (
        state_dir.exists() and state_dir.stat().st_uid != os.geteuid()
    ):
        raise LabError(
            f"{state_dir} belongs to somebody else", "give another --state-dir"
        )


async def prepare(layout: Layout, options: Options) -> Ground:
    """Make everything that the machines need. Raises LabError."""
    account = server_account()
    if not account.may("-x", layout.state_dir):
        raise LabError(
            f"the user that servers run as cannot enter {layout.state_dir}",
            "give a --state-dir such as one under /tmp",
        )
    binaries = await asyncio.to_thread(
        find_binaries, options.pg, account, layout.state_dir / "pg"
    )
    plan, holders = draw_up(layout, options, binaries, account)
    save_plan(plan)
    _write_secrets(plan)
    await _make_template(plan)
    cluster = secrets.token_hex(8)
    for node in plan.nodes:
        await asyncio.to_thread(_make_node, plan, node.name, cluster)
    await asyncio.to_thread(shutil.rmtree, layout.template)
    return Ground(plan, holders)


def draw_up(
    layout: Layout, options: Options, binaries: Binaries, account: Account
) -> tuple[Plan, tuple[socket.socket, ...]]:
    """Choose ports and secrets."""
    holders: list[socket.socket] = []

    def port() -> int:
        holders.append(hold_port())
        return port_of(holders[-1])

    plan = Plan(
        state_dir=str(layout.state_dir),
        bin_dir=str(binaries.bin_dir),
        version_num=binaries.version_num,
        account=account,
        nodes=tuple(NodePlan(name, port(), port(), port()) for name in NODES),
        relays=tuple(
            RelayPlan(source, target, service, port())
            for source in NODES
            for target in NODES
            for service in SERVICES
            if source != target
        ),
        receiver_port=port(),
        secrets=_draw_secrets(),
        options=options,
    )
    return plan, tuple(holders)


def _draw_secrets() -> Secrets:
    webhook = base64.b64encode(secrets.token_bytes(TOKEN_BYTES)).decode()
    return Secrets(
        probe=secrets.token_hex(TOKEN_BYTES),
        loss=secrets.token_hex(TOKEN_BYTES),
        replicator=secrets.token_hex(TOKEN_BYTES),
        manager=secrets.token_hex(TOKEN_BYTES),
        peer=secrets.token_hex(TOKEN_BYTES),
        read=secrets.token_hex(TOKEN_BYTES),
        operate=secrets.token_hex(TOKEN_BYTES),
        data=secrets.token_hex(TOKEN_BYTES),
        internal=secrets.token_hex(TOKEN_BYTES),
        webhook=f"whsec_{webhook}",
    )


def _write_secrets(plan: Plan) -> None:
    folder = plan.layout.secrets
    folder.mkdir(mode=0o700)
    known = plan.secrets
    tokens = {"read": known.read, "operate": known.operate, "data": known.data}
    lines = [
        json.dumps(
            {
                "name": f"lab-{scope}",
                "scope": scope,
                "sha256": hashlib.sha256(token.encode()).hexdigest(),
            }
        )
        for scope, token in tokens.items()
    ]
    write_private(folder / "tokens.jsonl", lines, None)
    write_private(folder / "peer", [known.peer], None)
    write_private(folder / "webhook", [known.webhook], None)
    write_private(plan.layout.manager_password, [known.manager], None)
    passwords = [
        f"{HOST}:*:*:splitguard_probe:{known.probe}",
        f"{HOST}:*:*:splitguard_loss:{known.loss}",
        f"{HOST}:*:*:{MANAGER_ROLE}:{known.manager}",
    ]
    write_private(plan.layout.passfile, passwords, None)


async def _make_template(plan: Plan) -> None:
    """Make the database cluster that all nodes begin with."""
    at = installed(plan, NODES[0])
    home = plan.layout.node(plan.layout.template.name)
    for folder in (home.socket_dir, home.server_home):
        make_private(folder, plan.account)
    await fresh.make_database(plan, replace(at, node=home))


def _make_node(plan: Plan, name: str, cluster: str) -> None:
    layout = plan.layout.node(name)
    layout.root.mkdir(mode=0o711)
    layout.root.chmod(0o711)
    fresh.make_folders(plan, name)
    for folder in (layout.agent_state, layout.captures, layout.manager_snapshots):
        folder.mkdir(mode=0o700)
    save(layout.membership, Membership(cluster, 1, NODES))
    password = f"{HOST}:*:*:replicator:{plan.secrets.replicator}"
    write_private(texts.passfile(layout), [password], plan.account)
    write_private(layout.agent_config, [texts.agent_toml(plan, name)], None)
    template = plan.layout.node(plan.layout.template.name).data_dir
    shutil.copytree(template, layout.data_dir, symlinks=True)
    server = Server(installed(plan, name))
    upstream = None if name == NODES[0] else NODES[0]
    server.write("postgresql.conf", texts.postgresql_conf(plan, name))
    server.write("postgresql.auto.conf", texts.auto_conf(plan, name, upstream))
    if upstream is not None:
        server.write(STANDBY_SIGNAL, "")
    plan.account.own_all(layout.data_dir)
    layout.data_dir.chmod(0o700)
