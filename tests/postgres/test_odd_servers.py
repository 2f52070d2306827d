"""Servers in a state that nobody wants: what can be kept of them is kept and said."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from agent.core.capture import Grade, Level, Phase
from agent.errors import SplitguardError
from agent.postgres.owner import give, owner_of
from agent.postgres.postmaster import orphans, running
from agent.snapshot.opening import check_opened
from agent.snapshot.outlook import Outlook
from agent.snapshot.verify import verify_folder
from tests.capturing import Capturing, Client, capturing, ids_in, settings_for
from tests.fix_postgres import Server, Stage, copy_tree, eventually, stage_of

pytestmark = pytest.mark.postgres
READ_ONLY = "on a read-only file system"


@dataclass
class Elsewhere(Server):
    """A server that is looked at through another path than its own."""

    sockets: Path = Path()

    @property
    def socket_dir(self) -> Path:
        return self.sockets


def seen_at(server: Server, data_dir: Path) -> Elsewhere:
    """The same server, with its data directory at another path."""
    return Elsewhere(
        server.name, data_dir, server.programs, server.settings, server.process,
        server.socket_dir,
    )  # fmt: skip


@contextlib.contextmanager
def crash_loop(server: Server) -> Iterator[threading.Event]:
    """Start the server again and again, and kill it as soon as it takes connections.

    The event is set after three rounds.
    """
    end, some = threading.Event(), threading.Event()

    def play() -> None:
        rounds = 0
        while not end.is_set():
            server.launch()
            with contextlib.suppress(AssertionError):
                eventually("it is up", server.answers, 20)
            server.crash()
            rounds += 1
            if rounds >= 3:
                some.set()

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield some
    finally:
        end.set()
        thread.join(30)


def test_a_server_in_a_crash_loop_keeps_its_tail_and_is_copied_when_it_rests(
    stage: Stage,
):
    primary = stage.primary()
    with Client(primary) as client:
        client.go_on()
        primary.crash()
        client.end()
    acknowledged = set(client.acknowledged)
    with capturing(stage, primary) as capture:
        with crash_loop(primary) as some:
            capture.order()
            assert some.wait(60)
            kept = capture.until("the tail", lambda s: s.tail_lsn is not None)
            assert kept.pin == "held"
        reached = capture.take_the_rest()
        assert reached.reached_lsn == capture.end_of_stopped()
        assert capture.ids() >= acknowledged
        assert verify_folder(capture.folder, programs=stage.programs).good


def test_a_server_that_fails_at_each_start_is_copied_as_it_lies_there(stage16: Stage):
    """Its postmaster comes and goes, and never recovers."""
    primary = stage16.primary()
    primary.write(30)
    primary.crash()
    primary.configure(recovery_target_timeline="7", restore_command="false")
    primary.write_file("recovery.signal", "")
    end, some = threading.Event(), threading.Event()

    def play() -> None:
        while not end.is_set():
            primary.launch()
            assert primary.process is not None
            primary.process.wait(20)
            some.set()
            end.wait(10)  # as long as a copy may take on a machine that has much to do

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        with capturing(stage16, primary) as capture:
            assert some.wait(20)
            capture.order()
            capture.until("it is copied", lambda s: s.grade is Grade.COMPLETE)
            assert len(capture.ids()) == 30
    finally:
        end.set()
        thread.join(30)


def everybody(server: Server, signum: int) -> None:
    """Send a signal to all processes of a server, the postmaster first."""
    server.signal(signum)
    for pid in orphans(server.data_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def test_a_server_that_hangs_is_pinned_and_copied_when_it_goes_on(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    end = primary.lsn
    everybody(primary, signal.SIGSTOP)
    try:
        with capturing(stage16, primary) as capture:
            began_s = time.monotonic()
            capture.order()
            capture.until_kept(end)
            capture.until("the pin is held", lambda s: s.pin == "held")
            assert time.monotonic() - began_s < 15
            assert capture.statuses[-1].grade is Grade.NONE
            everybody(primary, signal.SIGCONT)
            capture.until_complete()
            assert len(capture.ids()) == 30
    finally:
        everybody(primary, signal.SIGCONT)


@pytest.mark.apart(small="512m")
def test_a_server_on_a_read_only_file_system_is_copied_without_a_pin(
    stage16: Stage, small_disk: Path, frozen_view: Path
):
    primary = replace(stage16, folder=small_disk).primary()
    primary.write(30)
    seen = seen_at(primary, frozen_view / "n1" / "data")
    with capturing(stage16, seen) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until_kept(primary.lsn)
        pinned = {status.pin for status in capture.statuses}
        capture.order()
        capture.until_complete()
        assert {s.partition(" is ")[2] for s in pinned} == {READ_ONLY}
        ready = Outlook(settings_for(seen, capture.capture_dir)).look()
        assert ready.obstacles == ()
        assert ready.no_pin.endswith(READ_ONLY)
        primary.write(20)
        primary.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 50


@pytest.mark.apart(small="512m")
def test_a_stopped_server_on_a_read_only_file_system_is_copied_cold(
    stage16: Stage, small_disk: Path, frozen_view: Path
):
    primary = replace(stage16, folder=small_disk).primary()
    primary.write(30)
    primary.crash()
    seen = seen_at(primary, frozen_view / "n1" / "data")
    with capturing(stage16, seen) as capture:
        capture.order()
        assert capture.take_the_rest().method == "cold copy"
        assert len(capture.ids()) == 30
        capture.close()
        assert check_opened(capture.folder, stage16.folder, stage16.programs).good


@pytest.mark.apart(small="512m")
def test_a_data_directory_that_is_a_mount_point_is_copied_without_a_pin(
    stage16: Stage, small_disk: Path
):
    primary = stage16.server("n1")
    copy_tree(primary.data_dir, small_disk / "data")
    for entry in (small_disk / "data").iterdir():
        entry.rename(small_disk / entry.name)
    (small_disk / "data").rmdir()
    give(small_disk, owner_of(primary.data_dir))
    small_disk.chmod(0o700)
    shutil.rmtree(primary.data_dir)
    mounted = seen_at(primary, small_disk)
    stage16.servers.append(mounted)
    mounted.start()
    mounted.write(30)
    with capturing(stage16, mounted) as capture:
        capture.order()
        capture.until_complete()
        assert f"none: {small_disk} is a mount point" in {
            s.pin for s in capture.statuses
        }
        assert len(capture.ids()) == 30
        ready = Outlook(settings_for(mounted, capture.capture_dir)).look()
        assert ready.no_pin == "PGDATA is a mount point"


def test_a_data_directory_that_is_a_link_is_copied_and_pinned(stage16: Stage):
    primary = stage16.primary()
    primary.write(30)
    link = stage16.folder / "pgdata"
    link.symlink_to(primary.data_dir)
    with capturing(stage16, seen_at(primary, link)) as capture:
        capture.order(Level.TAIL, Level.PIN)
        capture.until("the pin is held", lambda s: s.pin == "held")
        assert list(primary.data_dir.parent.glob(".splitguard-pin-*"))
        capture.order()
        capture.until_complete()
        primary.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 30
        assert not list(primary.data_dir.parent.glob(".splitguard-pin-*"))


def test_configuration_outside_the_data_directory_is_kept_and_not_followed(
    stage: Stage,
):
    """Debian's layout: configuration in a folder of its own."""
    primary = stage.server("n1")
    etc = stage.folder / "etc"
    etc.mkdir()
    give(etc, owner_of(stage.template))
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (primary.data_dir / name).rename(etc / name)
    with (etc / "postgresql.conf").open("a") as config:
        config.write(f"data_directory = '{primary.data_dir}'\n")
        config.writelines(
            f"{key}_file = '{etc}/pg_{key}.conf'\n" for key in ("hba", "ident")
        )
    with primary.log.open("ab") as log:
        primary.process = primary.programs.spawn(
            ["postgres", "-D", etc], as_owner_of=primary.data_dir, log=log
        )
    eventually("it takes connections", primary.answers, 30)
    primary.write(30)
    with capturing(stage, primary) as capture:
        capture.order()
        capture.until_complete()
        primary.stop()
        capture.take_the_rest()
        manifest = capture.close()
        outside = {Path(entry.path).name for entry in manifest.files} & {
            "outside-postgresql.conf", "outside-pg_hba.conf", "outside-pg_ident.conf"
        }  # fmt: skip
        assert len(outside) == 3
        kept = capture.folder / "state" / "config" / "outside-postgresql.conf"
        assert kept.read_text() == (etc / "postgresql.conf").read_text()
        shutil.rmtree(etc)
        assert len(capture.ids()) == 30
        assert check_opened(capture.folder, stage.folder, stage.programs).good


@pytest.mark.parametrize("how", [Server.stop, Server.crash])
def test_a_stopped_server_of_another_version_than_the_programs_is_copied_whole(
    stage16: Stage, postgres_home: Path, how: Callable[[Server], None]
):
    primary = stage16.primary()
    primary.write(30)
    primary.query("SELECT pg_switch_wal()")
    primary.write(30)
    how(primary)
    with stage_of("18", postgres_home) as other:
        strange = replace(primary, programs=other.programs)
        with capturing(stage16, strange) as capture:
            capture.order()
            failed = capture.until("copied", lambda s: s.grade is Grade.CAPTURED)
            failed = capture.until("it says why", lambda s: s.phase is Phase.FAILED)
            assert "is PostgreSQL 18, the data directory is of 16" in failed.reason
            assert failed.method == "cold copy"
            assert failed.reached_lsn is None
            assert failed.pin == "held"
            primary.start()
            primary.write(10)
            primary.crash()
            capture.order(confirmed=failed.tail_lsn)
            until_rows(capture, stage16, 70)
        # Elsewhere, with the right programs, it verifies and opens; nobody proved more.
        assert verify_folder(capture.folder, programs=stage16.programs).good
        opened = check_opened(capture.folder, stage16.folder, stage16.programs)
        assert opened.problems == (
            "the WAL of this snapshot was never proven complete",
        )
    with capturing(stage16, primary) as capture:
        capture.order()
        capture.until_complete()
        assert capture.take_the_rest().grade.rank >= Grade.COMPLETE.rank


def until_rows(capture: Capturing, stage: Stage, rows: int) -> None:
    """Wait until a copy that was made again has so many rows."""

    def there() -> bool:
        with contextlib.suppress(SplitguardError, psycopg.Error, OSError):
            return len(ids_in(capture.folder, stage)) == rows
        return False

    eventually("the copy is a later one", there, 40)


def test_programs_of_another_version_copy_and_do_not_open(
    stage16: Stage, postgres_home: Path
):
    primary = stage16.primary()
    primary.write(30)
    with stage_of("18", postgres_home) as other:
        strange = replace(primary, programs=other.programs)
        with capturing(stage16, strange) as capture:
            capture.order()
            failed = capture.until(
                "it says why",
                lambda s: s.phase is Phase.FAILED and s.grade is Grade.CAPTURED,
            )
            assert "read back and kept, but" in failed.reason
            assert "is PostgreSQL 18, the data directory is of 16" in failed.reason
            assert "local.bin_dir" in failed.reason
            capture.until_kept(primary.lsn)
            (obstacle,) = (
                Outlook(settings_for(strange, capture.capture_dir)).look().obstacles
            )
            assert "18" in obstacle.reason
            assert "16" in obstacle.reason
        with capturing(stage16, primary) as capture:
            capture.order(Level.TAIL, Level.FULL)
            capture.until_complete()  # what was captured is proven, not copied anew
            assert len(ids_in(capture.folder, stage16)) == 30
    assert running(primary.data_dir) is not None
