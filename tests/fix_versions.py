"""Real servers of the versions that tests/setup/servers.py fetches: 10 to 14, and 17.

They are built as those of fix_postgres are, with what a version does not know left
out: before 12 a standby is told by recovery.conf, and nobody can promote by SQL.
These installations have no client programs: no pg_waldump, no pg_controldata.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import Server, Stage, eventually, stage_of

OTHER_VERSIONS = ("10", "11", "12", "13", "14", "17")
FIRST = {
    "wal_init_zero": 12, "primary_conninfo": 12, "recovery_target_timeline": 12,
    "wal_keep_size": 13,
}  # fmt: skip
"""Settings of fix_postgres with the first version that knows them."""
SIGNAL_FILES = 12
"""The first version with standby.signal and pg_promote()."""


class VersionServer(Server):
    """A server that is told only what its version understands."""

    @property
    def major(self) -> int:
        return self.programs.major

    def configure(self, **settings: str) -> None:
        self.settings |= settings
        known = {
            name: value
            for name, value in self.settings.items()
            if self.major >= FIRST.get(name, 0)
        }
        if "wal_keep_size" not in known:
            known["wal_keep_segments"] = "16"
        text = "".join(f"{name} = '{value}'\n" for name, value in known.items())
        self.write_file("postgresql.conf", text)
        if self.recovery_conf.exists():
            self._write_recovery_conf()

    @property
    def recovery_conf(self) -> Path:
        return self.data_dir / "recovery.conf"

    def follow(self, upstream: Server) -> None:
        super().follow(upstream)
        if self.major < SIGNAL_FILES:
            (self.data_dir / "standby.signal").unlink()
            self._write_recovery_conf()

    def _write_recovery_conf(self) -> None:
        upstream = self.settings["primary_conninfo"]
        self.write_file(
            "recovery.conf",
            "standby_mode = on\nrecovery_target_timeline = latest\n"
            + (f"primary_conninfo = '{upstream}'\n" if upstream else ""),
        )

    def promote(self) -> None:
        if self.major >= SIGNAL_FILES:
            super().promote()
            return
        self.write_file("promote", "")
        self.signal(signal.SIGUSR1)
        eventually(
            f"{self.name} is promoted",
            lambda: not self.value("SELECT pg_is_in_recovery()"),
        )


@pytest.fixture(params=OTHER_VERSIONS)
def other(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[Stage]:
    """Servers of every other version, one after the other."""
    with stage_of(request.param, postgres_home, VersionServer) as made:
        yield made


@pytest.fixture(params=("14", "17"))
def newer(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[Stage]:
    """Servers of the two that Splitguard supports in full."""
    with stage_of(request.param, postgres_home, VersionServer) as made:
        yield made
