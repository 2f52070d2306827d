"""Stand-in managers over real PostgreSQL servers: one of 4.5.5, one of 7.0.5.

Each runs in a thread of its own on a free loopback port, one of each for a module; it
is reset before each test. Passwords, faults and the office are there to be read and
changed: `manager_7.faults.worker_dead = True`, `manager_4.office.active = False`. Waits
are short (`SHORT`), which `start_manager(...)` changes. `issued` is a certificate for
one that speaks TLS.
"""

import asyncio
import contextlib
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trustme
import uvicorn
from fastapi import FastAPI

from agent.lab.plan import DATABASE, MANAGER_ROLE
from agent.lab.schema import KINDS, READERS, manager_statements
from agent.lab.standin import Alone, Faults, Peer, Traits
from agent.lab.standin.app import Standin, add_to, make_desk
from agent.lab.standin.cluster import Note, RefusedError, cluster_routes
from agent.lab.standin.routing import Route
from agent.lab.web import EmbeddedServer
from tests.fix_postgres import Server, Stage, eventually, stage_of

PASSWORD = "stand-in-p4ssword"
DATABASE_PASSWORD = "the-databases-own-p4ssword"
OTHERS = {"reader": "readers-p4ssword"}
SHORT: dict[str, Any] = {
    "stall_s": 0.4,
    "listener_timeout_s": 0.1,
    "work_s": 0.05,
    "broker_hang_s": 2.0,
    "broker_look_s": 0.1,
}
PATIENCE_S = 20.0
SWITCHES = [each for each in fields(Faults) if each.name != "in_flight"]


@dataclass
class Office(Alone):
    """Where a manager sits: alone, or in the cluster that `peers` tells.

    Members are taken off the list and made the active one; nobody can join.
    """

    notes: tuple[Note, ...] = ()

    @property
    def initialized(self) -> bool:
        return bool(self.peers)

    def remove_member(self, name: str) -> None:
        self.peers = tuple(peer for peer in self.peers if peer.name != name)

    def set_active(self, name: str) -> None:
        self.peers = tuple(
            replace(peer, master=peer.name == name) for peer in self.peers
        )

    def start_cluster(self) -> None:
        self.peers = (Peer("manager", self.name, "127.0.0.1", master=True),)

    def add_member(self, name: str) -> Mapping[str, object]:
        raise RefusedError("nobody joins here", code="illegal_action_error")

    def join(self, shown: Mapping[str, object]) -> None:
        raise RefusedError("nobody joins here", code="illegal_action_error")


@dataclass
class Manager:
    """A running stand-in manager."""

    url: str
    """`http://127.0.0.1:PORT`, without `/api/v3.1`."""
    traits: Traits
    standin: Standin
    office: Alone
    faults: Faults
    server: Server
    folder: Path
    username: str = "admin"
    password: str = PASSWORD
    tenant: str = "default_tenant"
    database_password: str = DATABASE_PASSWORD
    _stop: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def api(self) -> str:
        return f"{self.url}/api/v3.1"

    def wrong_passwords(self) -> int:
        """How many wrong ones the administrator's account has had in a row."""
        return self.standin.desk.door.wrong.get(self.username, 0)

    def unlock(self) -> None:
        """Forget the wrong passwords, as an administrator does by hand."""
        self.standin.desk.door.wrong.clear()

    def http(self, **more: Any) -> httpx.Client:
        """A client of an administrator; its base URL is `/api/v3.1`."""
        wanted: dict[str, Any] = {
            "base_url": self.api, "auth": (self.username, self.password),
            "headers": {"Tenant": self.tenant}, "trust_env": False, "timeout": 30,
        }  # fmt: skip
        return httpx.Client(**(wanted | more))

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run SQL in the manager's database."""
        with self.server.session(DATABASE) as session:
            cursor = session.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def put(self, kind: str, *names: str) -> None:
        """Add blueprints, deployments or plugins as rows."""
        assert kind in KINDS
        for name in names:
            self.query(
                f"INSERT INTO {kind} (id, tenant_name, content) VALUES (%s, %s, %s)",
                name, self.tenant, f"content of {name}",
            )  # fmt: skip

    def names(self, kind: str) -> list[str]:
        """The ids of a kind's rows."""
        return [row[0] for row in self.query(f"SELECT id FROM {kind} ORDER BY id")]

    def make(self, name: str, **wishes: object) -> Any:
        """Have a snapshot made; returns the execution's JSON once both have ended."""
        with self.http() as client:
            made = client.put(f"/snapshots/{name}", json=wishes)
            assert made.status_code == 201, made.text
            return self.ended(made.json()["id"])

    def ended(self, execution: str) -> Any:
        """Wait until an execution has ended; its JSON."""

        bypass = {"Tenant": self.tenant, "X-BYPASS-MAINTENANCE": "True"}

        def look() -> Any:
            with self.http(headers=bypass) as client:
                found = client.get(f"/executions/{execution}").json()
            return found if found.get("ended_at") else None

        return eventually("the execution ends", look, PATIENCE_S)

    def reset(self) -> None:
        """Make it as it was when it started: no rows, no faults, nothing under way."""
        faults, works = Faults(), self.standin.desk.works
        self.faults.switch({f.name: getattr(faults, f.name) for f in SWITCHES})
        works.forget()
        eventually("nothing is under way", lambda: not works.running, PATIENCE_S)
        if self.server.process is None:
            self.server.start()
        tables = (*KINDS, "snapshots", "executions", "tokens", "maintenance_mode")
        audited = ("audit_log",) if self.traits.has_new_format else ()
        self.query(f"TRUNCATE {', '.join((*tables, *audited))} RESTART IDENTITY")
        shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o700)
        self.unlock()
        works.reboots = 0
        alone = Office()
        for each in fields(alone):
            setattr(self.office, each.name, getattr(alone, each.name))

    def close(self) -> None:
        self._stop()


def manager_database(server: Server, *, audited: bool) -> None:
    """Make the manager's role, database and tables on a server."""
    server.query(f"CREATE ROLE {MANAGER_ROLE} LOGIN")
    for role in READERS.split(", "):
        server.query(f"CREATE ROLE {role} LOGIN")
    server.query(f"CREATE DATABASE {DATABASE} OWNER {MANAGER_ROLE}")
    with psycopg.connect(
        server.dsn, dbname=DATABASE, user=MANAGER_ROLE, autocommit=True
    ) as session:
        for statement in manager_statements(audited=audited):
            session.execute(statement)


def manager_pair(
    stage: Stage, *, audited: bool, tcp: bool = False
) -> tuple[Server, Server]:
    """A primary that holds a manager's database, and a standby that has all of it."""
    primary = stage.server("d1", tcp=tcp).start()
    manager_database(primary, audited=audited)
    standby = stage.server("d2", tcp=tcp)
    standby.follow(primary)
    standby.start()
    standby.caught_up(primary)
    return primary, standby


def run_manager(
    server: Server,
    traits: Traits,
    folder: Path,
    office: Alone | None = None,
    tls: tuple[Path, Path] | None = None,
) -> Manager:
    """Run a stand-in over a server that `manager_database` has filled.

    `tls`: a certificate and its key, in PEM. `close()` it.
    """
    office = office or Office()

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(
            server.dsn, dbname=DATABASE, user=MANAGER_ROLE, autocommit=True,
            connect_timeout=5,
        )  # fmt: skip

    more: tuple[Route, ...] = ()
    if isinstance(office, Office) and not traits.all_active:
        more = cluster_routes(office)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    standin = add_to(app, make_desk(office, connect, traits, folder, Faults()), more)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, access_log=False,
        lifespan="off", timeout_graceful_shutdown=1,
        ssl_certfile=tls[0] if tls else None, ssl_keyfile=tls[1] if tls else None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )  # fmt: skip
    served = EmbeddedServer(config)
    thread = threading.Thread(target=lambda: asyncio.run(served.serve()), daemon=True)
    thread.start()
    eventually("the stand-in listens", lambda: served.started, PATIENCE_S)
    port = served.servers[0].sockets[0].getsockname()[1]

    def stop() -> None:
        standin.close()
        served.should_exit = True
        thread.join(10)

    scheme = "https" if tls else "http"
    url = f"{scheme}://127.0.0.1:{port}"
    return Manager(
        url, traits, standin, office, standin.desk.faults, server, folder, _stop=stop
    )  # fmt: skip


def traits_of(version: str, **more: Any) -> Traits:
    """The traits that tests use: short waits, passwords of their own."""
    wanted = {
        "version": version, "password": PASSWORD, "others": OTHERS,
        "database_password": DATABASE_PASSWORD,
    }  # fmt: skip
    return Traits(**(SHORT | wanted | more))


@dataclass(frozen=True)
class Issued:
    """What an authority of its own has issued for 127.0.0.1."""

    ca: Path
    """The authority's certificate."""
    tls: tuple[Path, Path]
    """What `start_manager(tls=...)` takes: the manager's certificate and its key."""


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    """A certificate for a manager, of an authority that nobody knows."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    made.cert_chain_pems[0].write_to_path(cert)
    made.private_key_pem.write_to_path(key)
    return Issued(ca, (cert, key))


StartManager = Callable[..., Manager]


def _starter(stage: Stage) -> Iterator[StartManager]:
    made: list[Manager] = []
    with tempfile.TemporaryDirectory(prefix="sg-manager-") as home:

        def start(
            version: str = "7.0.5",
            *,
            office: Alone | None = None,
            tls: tuple[Path, Path] | None = None,
            server: Server | None = None,
            **more: Any,
        ) -> Manager:
            traits = traits_of(version, **more)
            number = len(made) + 1
            if server is None:
                server = stage.primary(f"m{number}")
                manager_database(server, audited=traits.has_new_format)
            folder = Path(home) / f"m{number}"
            made.append(run_manager(server, traits, folder, office, tls))
            return made[-1]

        yield start
        for one in made:
            with contextlib.suppress(Exception):
                one.close()


@pytest.fixture
def start_manager(stage16: Stage) -> Iterator[StartManager]:
    """Starts stand-ins: version, then Traits by name, `office`, `tls`, `server`."""
    yield from _starter(stage16)


@pytest.fixture(scope="module")
def started_managers(postgres_home: Path) -> Iterator[StartManager]:
    """As `start_manager`, for a whole module."""
    with stage_of("16", postgres_home) as stage:
        yield from _starter(stage)


@pytest.fixture(scope="module")
def shared_manager(started_managers: StartManager) -> Callable[[str], Manager]:
    """Gives a module's manager of a version, as if it had just been started."""
    made: dict[str, Manager] = {}

    def share(version: str) -> Manager:
        if version in made:
            made[version].reset()
        else:
            made[version] = started_managers(version)
        return made[version]

    return share


@pytest.fixture
def manager_4(shared_manager: Callable[[str], Manager]) -> Manager:
    """A manager of 4.5.5 over a PostgreSQL of its own."""
    return shared_manager("4.5.5")


@pytest.fixture
def manager_7(shared_manager: Callable[[str], Manager]) -> Manager:
    """A manager of 7.0.5 over a PostgreSQL of its own."""
    return shared_manager("7.0.5")


@pytest.fixture(params=["4.5.5", "7.0.5"])
def manager(
    request: pytest.FixtureRequest, shared_manager: Callable[[str], Manager]
) -> Manager:
    """A manager of either generation."""
    return shared_manager(request.param)
