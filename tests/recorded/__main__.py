"""Records what a PostgreSQL 9.5 or 9.6 answers, for tests on machines without one.

    python3 tests/recorded BIN_DIR tests/recorded/postgres-9.6.json

BIN_DIR holds initdb, pg_ctl, pg_basebackup, pg_controldata and psql of that version.
A primary and its standby are made in a temporary folder; what is written down is what
they say while all is well, and after the standby was promoted and both took writes:
the answer to the probe's statement, pg_control, the history file, and the pages of WAL
with which the new timeline begins. As root the servers run as the user nobody.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent"
STATEMENT = AGENT / "probe/sql/sight_before_10.sql"
PAGE = 8192
SEGMENT = 16 * 1024 * 1024
CONTROL_BYTES = 512
WITHIN_S = 30
CONF = """
listen_addresses = ''
unix_socket_directories = '{folder}'
wal_level = hot_standby
hot_standby = on
max_wal_senders = 5
wal_keep_segments = 8
wal_log_hints = on
max_prepared_transactions = 7
"""
RECOVERY_CONF = """standby_mode = 'on'
primary_conninfo = 'host={folder} port={port} user=postgres application_name=n2'
recovery_target_timeline = 'latest'
"""


class Recorder:
    """A primary and its standby, and what they said."""

    def __init__(self, bin_dir: Path, folder: Path) -> None:
        self.bin_dir = bin_dir
        self.folder = folder
        self.ports = {"n1": free_port(), "n2": free_port()}

    def run(self, program: str, *arguments: object, given: str = "") -> str:
        is_root = os.geteuid() == 0
        ran = subprocess.run(
            [str(self.bin_dir / program), *map(str, arguments)],
            input=given, text=True, capture_output=True, check=False, cwd=self.folder,
            env={"LC_ALL": "C", "LD_LIBRARY_PATH": str(self.bin_dir.parent / "lib")},
            timeout=WITHIN_S, extra_groups=[] if is_root else None,
            user="nobody" if is_root else None, group="nogroup" if is_root else None,
        )  # fmt: skip
        if ran.returncode != 0:
            raise SystemExit(f"{program}: {ran.stdout}{ran.stderr}")
        return ran.stdout.strip()

    def sql(self, node: str, text: str, user: str = "postgres") -> str:
        return self.run(
            "psql", "-X", "-q", "-A", "-t", "-h", self.folder, "-p", self.ports[node],
            "-U", user, "-d", "postgres", "-f", "-", given=text,
        )  # fmt: skip

    def start(self, node: str) -> None:
        # Its output goes to a file: a pipe would stay open as long as the server.
        log = self.folder / f"{node}.log"
        options = f"-p {self.ports[node]}"
        self.run(
            "pg_ctl", "-D", self.folder / node, "-w", "-l", log, "-o", options,
            "-s", "start",
        )  # fmt: skip

    def make(self) -> None:
        place = self.folder
        self.run("initdb", "-D", place / "n1", "-U", "postgres", "-A", "trust")
        with (place / "n1/postgresql.conf").open("a") as file:
            file.write(CONF.format(folder=place))
        with (place / "n1/pg_hba.conf").open("a") as file:
            file.write("local replication all trust\n")
        self.start("n1")
        grants = subprocess.run(
            [shutil.which("splitguard") or "splitguard", "grants", "--before-10"],
            check=True, capture_output=True, text=True, timeout=WITHIN_S,
        )  # fmt: skip
        self.sql("n1", grants.stdout)
        self.run(
            "pg_basebackup", "-D", place / "n2", "-h", place, "-p", self.ports["n1"],
            "-U", "postgres", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        conf = place / "n2/recovery.conf"
        conf.write_text(RECOVERY_CONF.format(folder=place, port=self.ports["n1"]))
        if os.geteuid() == 0:
            shutil.chown(conf, "nobody", "nogroup")
        self.start("n2")
        self.sql("n1", "CREATE TABLE kept AS SELECT 1 AS id; CHECKPOINT;")
        self.caught_up()

    def caught_up(self) -> None:
        here = self.sql("n1", "SELECT pg_current_xlog_location()")
        wait = f"SELECT pg_last_xlog_replay_location() >= '{here}'::pg_lsn"
        self.until(lambda: self.sql("n2", wait) == "t")

    def until(self, so) -> None:
        end = time.monotonic() + WITHIN_S
        while not so():
            if time.monotonic() > end:
                raise SystemExit("what was waited for did not come")
            time.sleep(0.1)

    def seen(self) -> dict[str, object]:
        """What both say now, over SQL and on disk."""
        return {node: self.node(node) for node in self.ports}

    def node(self, node: str) -> dict[str, object]:
        home = self.folder / node
        wal = home / "pg_xlog"
        conf = home / "recovery.conf"
        control = (home / "global/pg_control").read_bytes()[:CONTROL_BYTES]
        return {
            "answer": self.sql(node, STATEMENT.read_text(), "splitguard_probe"),
            "controldata": self.run("pg_controldata", "-D", home).splitlines(),
            "pg_control": control.hex(),
            "pg_version": (home / "PG_VERSION").read_text(),
            "recovery_conf": conf.read_text() if conf.exists() else None,
            "pg_xlog": sorted(path.name for path in wal.iterdir() if path.is_file()),
            "histories": {p.name: p.read_text() for p in sorted(wal.glob("*.history"))},
        }

    def beginning(self) -> dict[str, object]:
        """The pages of n2's first segment of timeline 2, from the switch on."""
        wal = self.folder / "n2/pg_xlog"
        line = (wal / "00000002.history").read_text().split()
        high, low = (int(part, 16) for part in line[1].split("/"))
        lsn = (high << 32) + low
        name = f"00000002{lsn >> 32:08X}{(lsn & 0xFFFFFFFF) // SEGMENT:08X}"
        raw = (wal / name).read_bytes()
        first = lsn % SEGMENT // PAGE
        pages = {
            number: raw[number * PAGE :][:PAGE] for number in (0, first, first + 1)
        }
        return {
            "segment": name,
            "pages": {str(k): page.rstrip(b"\0").hex() for k, page in pages.items()},
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(bin_dir: Path, target: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sgrec"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    made = Recorder(bin_dir, folder)
    told: dict[str, object] = {}
    try:
        made.make()
        told["recorded_from"] = made.sql("n1", "SELECT version()")
        told["healthy"] = made.seen()
        made.run("pg_ctl", "-D", folder / "n2", "promote")
        made.until(lambda: made.sql("n2", "SELECT pg_is_in_recovery()") == "f")
        told["promoted"] = made.seen()
        for node in made.ports:
            made.sql(node, f"INSERT INTO kept VALUES (2); -- {node}")
        made.sql("n2", "CHECKPOINT")
        told["split"] = made.seen()
        told["beginning"] = made.beginning()
        made.run("pg_ctl", "-D", folder / "n1", "-m", "fast", "-w", "stop")
        control = (folder / "n1/global/pg_control").read_bytes()[:CONTROL_BYTES]
        told["n1_stopped"] = control.hex()
    finally:
        for node in made.ports:
            if (folder / node / "postmaster.pid").exists():
                made.run("pg_ctl", "-D", folder / node, "-m", "immediate", "stop")
        shutil.rmtree(folder)
    target.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
