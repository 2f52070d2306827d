"""The client that remembers what it was promised, and the count afterwards.

Theory of operation. A client writes rows into one server, each in a transaction of its
own, and notes a row in its log, flushed to disk, only when the commit was acknowledged.
The count asks nobody whom it tests: it takes the log, asks the winner with psql, opens
each snapshot's archive with the commands of the archive's own README (tar, cp, pg_ctl),
and asks the opened copy with psql.
"""

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.fix_postgres import eventually
from tests.system.texts import BIN_DIR
from tests.system.world import Box

TABLE = "CREATE TABLE IF NOT EXISTS kept (content text PRIMARY KEY, padding text)"
INSERT = "INSERT INTO kept VALUES (%s, repeat('x', 200))"
RETRY_S = 0.05
PACE_S = 0.004
RECOVERED_S = 30.0
OPEN_PORT = "54399"
CONNECT = "host={} user=postgres dbname=postgres connect_timeout=2"


@dataclass
class Ledger:
    """Every acknowledged commit, one JSON line each: `side` and `content`."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, side: str, content: str) -> None:
        """Append a promise and flush it to disk."""
        line = json.dumps({"side": side, "content": content}) + "\n"
        with self.lock, self.path.open("a") as log:
            log.write(line)
            log.flush()
            os.fsync(log.fileno())

    def promised(self, side: str | None = None) -> set[str]:
        """Return what was acknowledged, by all sides or by one."""
        if not self.path.exists():
            return set()
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        wanted = [one for one in lines if side in {None, one["side"]}]
        contents = {one["content"] for one in wanted}
        assert len(contents) == len(wanted), "a row was promised twice"
        return contents


class Client(threading.Thread):
    """Writes into one server until it is told to stop."""

    def __init__(self, ledger: Ledger, box: Box, word: str) -> None:
        super().__init__(daemon=True, name=f"client-{box.name}-{word}")
        self.ledger = ledger
        self.box = box
        self.word = word
        self.acknowledged = 0
        self.over = threading.Event()
        self.trouble = "none"

    def run(self) -> None:
        number = 0
        conninfo = CONNECT.format(self.box.folder / "pg")
        while not self.over.is_set():
            try:
                with psycopg.connect(conninfo, autocommit=True) as session:
                    session.execute("SET statement_timeout = '15s'")
                    while not self.over.is_set():
                        # Counted up even when refused: an attempt that failed may
                        # have been committed all the same.
                        number += 1
                        content = f"{self.box.name}/{self.word}/{number}"
                        session.execute(INSERT, [content])
                        self.ledger.note(self.box.name, content)
                        self.acknowledged += 1
                        self.over.wait(PACE_S)
            except psycopg.Error as error:
                self.trouble = str(error).strip()
                self.over.wait(RETRY_S)

    def until(self, rows: int, within_s: float = 20.0) -> None:
        """Wait until so many more rows are acknowledged."""
        wanted = self.acknowledged + rows
        eventually(
            f"{self.name}: {rows} more rows, last trouble: {self.trouble}",
            lambda: self.acknowledged >= wanted,
            within_s,
        )

    def stop(self) -> None:
        """Stop writing, and return when it has stopped."""
        self.over.set()
        self.join(30)
        assert not self.is_alive(), f"{self.name} hangs"


@dataclass(frozen=True)
class Count:
    """What became of every acknowledged write."""

    acknowledged: int
    in_winner: int
    in_snapshot: int
    lost: int
    without: int
    """Those that the winner lacks: what would be lost without any snapshot."""

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged} / in winner {self.in_winner} / "
            f"in snapshot {self.in_snapshot} / lost {self.lost}"
        )


def count(promised: set[str], winner: set[str], snapshots: set[str]) -> Count:
    """Add up."""
    return Count(
        acknowledged=len(promised),
        in_winner=len(promised & winner),
        in_snapshot=len(promised & snapshots),
        lost=len(promised - winner - snapshots),
        without=len(promised - winner),
    )


def rows_by_psql(box: Box, socket_dir: Path, port: str = "5432") -> set[str]:
    """Ask a server in a box for all rows, with psql."""
    ran = box.run(
        BIN_DIR / "psql", "--no-psqlrc", "--tuples-only", "--no-align",
        "-h", socket_dir, "-p", port, "-U", "postgres",
        "-c", "SELECT content FROM kept",
    )  # fmt: skip
    return set(ran.stdout.split())


def rows_in_archive(box: Box, archive: Path) -> set[str]:
    """Open an archive in the box by the commands of its README, and ask it.

    `archive` is a path as the box sees it; what is opened goes again.
    """
    home = archive.with_suffix(".open")
    readme = box.run("tar", "-xOf", archive, "README.txt").stdout
    commands = [line.strip() for line in readme.splitlines() if line.startswith("  ")]
    script = "\n".join(["set -e", f"mkdir -m 700 {home}", f"cd {home}", *commands])
    script = script.replace(f"-xf {archive.name}", f"-xf {archive}")
    script = script.replace(f"/tmp -p {OPEN_PORT}", f"{home} -p {OPEN_PORT}")
    assert str(archive) in script, readme
    return rows_opened(box, script, home)


BY_HAND = """
set -e
mkdir -m 700 {home} {home}/copy && cd {home}/copy
cp -a {farm} data
cp -an {wal}/. data/pg_wal/
rm -rf data/*.signal data/postmaster.pid data/pg_replslot/*
echo "listen_addresses = ''" >data/postgresql.conf
: >data/postgresql.auto.conf
echo "local all all trust" >data/pg_hba.conf
pg_ctl -D data -w -l server.log -o "-k {home} -p {port} -c max_connections=60" start
"""


def rows_in_pin(box: Box, farm: Path, wal: Path) -> set[str]:
    """Open a copy of a pin, or of data moved aside, with more WAL, and ask it."""
    home = box.here / "pin.open"
    script = BY_HAND.format(home=home, farm=farm, wal=wal, port=OPEN_PORT)
    return rows_opened(box, script, home)


def rows_opened(box: Box, script: str, home: Path) -> set[str]:
    """Run a script that starts a copy below `home`; ask it; remove it."""
    environ = {"PATH": f"{BIN_DIR}:/usr/bin:/bin"}
    box.run("/bin/sh", "-c", script, environ=environ)

    def ready() -> bool:
        words = ("-h", home, "-p", OPEN_PORT)
        return box.run(BIN_DIR / "pg_isready", *words, check=False).returncode == 0

    try:
        # As the README says: while psql is refused, recovery goes on.
        eventually(f"the copy in {home} is recovered", ready, RECOVERED_S)
        return rows_by_psql(box, home, OPEN_PORT)
    finally:
        data = home / "copy/data"
        box.run(BIN_DIR / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
        box.run("rm", "-rf", home)
