"""Full copies from what a configured program froze: real servers, real programs.

On a btrfs made for the test the shipped program takes real snapshots. Who may not
mount runs the same test on an ordinary folder: there the program refuses, and the copy
falls back. Programs that lie, hang or fail are shell scripts; copying is their way to
freeze.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.capture import Level, Phase
from agent.postgres.owner import give, unprivileged
from agent.snapshot.opening import check_opened
from agent.snapshot.program import MARK
from agent.snapshot.verify import verify_folder
from tests.capturing import GRANTS, ID, PROGRAM_S, ROLE, Client, Gate, capturing
from tests.fix_postgres import Server, Stage, eventually
from tests.fix_volumes import Volume, volume_of

pytestmark = pytest.mark.postgres

BTRFS = Path(__file__).resolve().parents[2] / "deploy/capture/btrfs.sh"
StageOn = Callable[..., Stage]
# Copies each folder, one after the other, while the server writes on.
COPIES = """
create)
    id=$2; shift 2; n=0
    mkdir "$HERE/$id"
    for folder in "$@"; do
        n=$((n + 1))
        # What vanishes meanwhile is one more way in which this is no one instant.
        cp -a "$folder" "$HERE/$id/$n" 2>/dev/null || :
        echo "$HERE/$id/$n"
    done ;;
"""
REMOVES = 'remove) rm -rf "${HERE:?}/$2" ;;'


def program(stage: Stage, create: str, remove: str = REMOVES) -> Path:
    """A program that notes how it was called, and does this when it is to freeze."""
    path = stage.folder / "program.sh"
    path.write_text(
        f"#!/bin/sh\nHERE={stage.folder}/frozen\nmkdir -p $HERE\n"
        f'echo "$*" >>{stage.folder}/calls\ncase $1 in\n{create}\n{remove}\nesac\n'
    )
    path.chmod(0o755)
    return path


def verbs(stage: Stage) -> list[str]:
    lines = (stage.folder / "calls").read_text().splitlines()
    return [line.split()[0] for line in lines]


def left(stage: Stage) -> list[Path]:
    return list((stage.folder / "frozen").iterdir())


def with_tablespace(server: Server) -> Path:
    """Put table `kept` into a tablespace of its own."""
    place = server.data_dir.parent / "space"
    place.mkdir()
    give(place, unprivileged())
    server.query(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    server.query(
        "CREATE TABLE kept (id bigserial PRIMARY KEY, mark text) TABLESPACE elsewhere"
    )
    return place


def with_linked_wal(server: Server) -> Path:
    """Move pg_wal elsewhere and leave a link; the server is not started yet."""
    elsewhere = server.data_dir.parent / "wal"
    (server.data_dir / "pg_wal").rename(elsewhere)
    (server.data_dir / "pg_wal").symlink_to(elsewhere)
    return elsewhere


def test_a_server_that_knows_of_it_needs_no_common_instant(stage: Stage):
    server = stage.server("n1")
    with_linked_wal(server)
    server.start()
    with_tablespace(server)
    for grant in GRANTS:
        server.query(grant)
    freezes = program(stage, COPIES)
    with (
        Client(server) as client,
        capturing(stage, server, user=ROLE, program=freezes) as capture,
    ):
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method == "frozen copy"
        client.go_on()
        server.stop()
        client.end()
        assert capture.take_the_rest().method == "frozen copy"
        assert capture.ids() >= client.acknowledged
        assert capture.close().method_note == f"frozen by {freezes}"
        assert capture.manifest.has_backup_label
        assert verify_folder(capture.folder, programs=stage.programs).good
        assert check_opened(capture.folder, stage.folder, stage.programs).good
    assert verbs(stage) == ["create", "remove"]
    assert left(stage) == []
    created = (stage.folder / "calls").read_text().splitlines()[0].split()
    home = server.data_dir.parent
    folders = [home / name for name in ("data", "wal", "space")]
    assert created == ["create", ID, *map(str, folders)]


def test_once_it_is_frozen_a_promotion_does_not_matter(stage16: Stage):
    primary, standby = stage16.pair()
    primary.write(20, "common")
    gate = Gate("during-copy")
    freezes = program(stage16, COPIES)
    with capturing(stage16, standby, crash=gate, program=freezes) as capture:
        standby.caught_up(primary)
        capture.order(Level.TAIL, Level.FULL)
        assert gate.reached.wait(20)
        primary.stop()
        standby.promote()
        standby.write(30, "after")
        capture.until("the tail follows", lambda s: s.timeline == 2)
        gate.opened.set()
        assert capture.until_complete().method == "frozen copy"
        assert capture.manifest.copy_timeline == 1
        standby.stop()
        capture.take_the_rest()
        assert len(capture.ids()) == 50
    assert verbs(stage16).count("create") == 1


@pytest.fixture
def on_btrfs(stage_on: StageOn):
    """A stage whose servers lie on btrfs, if one can be made."""
    with volume_of("btrfs") as volume:
        stage = stage_on(volume)
        make_subvolume(volume, stage)
        yield volume, stage
        stage.close()


def make_subvolume(volume: Volume, stage: Stage) -> None:
    """Make the stage's folder a subvolume, because only such can be frozen."""
    if volume.kind:
        stage.folder.rmdir()
        subprocess.run(
            ["btrfs", "subvolume", "create", stage.folder],
            check=True, capture_output=True,
        )  # fmt: skip
        give(stage.folder, unprivileged())


def test_a_frozen_volume_opens_after_a_crash_where_the_server_cannot_be_asked(on_btrfs):
    volume, stage = on_btrfs
    primary = stage.primary()
    with (
        Client(primary) as client,
        capturing(stage, primary, sql=False, program=BTRFS) as capture,
    ):
        client.go_on()
        capture.order(Level.TAIL, Level.FULL)
        if not volume.kind:
            refused = capture.until("it is refused", lambda s: s.phase is Phase.FAILED)
            assert "is not on btrfs" in refused.reason
            assert "local.dsn" in refused.reason
            return
        assert capture.until_complete().method == "frozen copy"
        client.go_on()
        primary.stop()
        client.end()
        capture.take_the_rest()
        assert capture.ids() >= client.acknowledged
        assert not capture.close().has_backup_label
        assert "without asking the server" in capture.manifest.method_note
        assert verify_folder(capture.folder, programs=stage.programs).good
        assert check_opened(capture.folder, stage.folder, stage.programs).good
    assert not list(stage.folder.glob(".splitguard-*"))


def test_a_server_that_hangs_is_frozen_and_copied_all_the_same(on_btrfs):
    volume, stage = on_btrfs
    primary = stage.primary()
    primary.write(40)
    with capturing(stage, primary, program=BTRFS) as capture:
        capture.order(Level.TAIL)
        capture.until_kept(primary.lsn)
        assert primary.process is not None
        os.killpg(primary.process.pid, signal.SIGSTOP)
        try:
            capture.order(Level.TAIL, Level.FULL)
            if volume.kind:
                assert capture.until_complete().method == "frozen copy"
                assert len(capture.ids()) == 40
            else:
                copying = "it tries to ask the server"
                capture.until(copying, lambda s: s.phase is Phase.COPYING)
        finally:
            os.killpg(primary.process.pid, signal.SIGCONT)


def test_a_standby_that_cannot_be_asked_is_frozen_too(on_btrfs):
    volume, stage = on_btrfs
    primary, standby = stage.pair()
    primary.write(40)
    standby.caught_up(primary)
    with capturing(stage, standby, sql=False, program=BTRFS) as capture:
        capture.order(Level.TAIL, Level.FULL)
        if volume.kind:
            assert capture.until_complete().method == "frozen copy"
            assert len(capture.ids()) == 40
        else:
            capture.until("it is refused", lambda s: s.phase is Phase.FAILED)


def test_the_shipped_program_freezes_a_server_that_knows_of_it(on_btrfs):
    volume, stage = on_btrfs
    server = stage.server("n1")
    with_linked_wal(server)
    server.start()
    with_tablespace(server)
    with (
        Client(server) as client,
        capturing(stage, server, program=BTRFS) as capture,
    ):
        capture.order(Level.TAIL, Level.FULL)
        told = capture.until_complete()
        assert told.method == ("frozen copy" if volume.kind else "copy")
        server.stop()
        client.end()
        capture.take_the_rest()
        assert capture.ids() >= client.acknowledged
        note = capture.close().method_note
        assert "frozen by" in note if volume.kind else "is not on btrfs" in note
    assert not list(stage.folder.glob(".splitguard-*"))


LIARS = {
    "fails": ('create) echo "no such volume" >&2; exit 3 ;;', "with 3: no such volume"),
    "hangs": ("create) sleep 60 ;;", f"did not end within {PROGRAM_S:g} s"),
    "floods": ("create) yes ;;", "printed more than 65536 bytes"),
    "prints nothing": ("create) ;;", "printed 0 paths for 2 folders"),
    "covers no tablespace": (
        'create) cp -a "$3" "$HERE/c"; echo "$HERE/c" ;;',
        "printed 1 paths for 2 folders",
    ),
    "prints no path": ("create) echo a; echo b ;;", "no absolute path"),
    "prints what is not there": ("create) echo /no/1; echo /no/2 ;;", "is no folder"),
    "prints the living folders": (
        'create) echo "$3"; echo "$4" ;;',
        "itself, or links",
    ),
    "prints the living tablespace": (
        'create) cp -a "$3" "$HERE/c"; echo "$HERE/c"; echo "$4" ;;',
        "itself, or links",
    ),
    "prints an empty tablespace": (
        'create) cp -a "$3" "$HERE/c"; mkdir "$HERE/e"; ls -d "$HERE/"[ce] ;;',
        "holds nothing of",
    ),
    "links": (
        'create) cp -al "$3" "$HERE/c"; cp -a "$4" "$HERE/t"; ls -d "$HERE/"[ct] ;;',
        "itself, or links",
    ),
}


@pytest.mark.parametrize("what", LIARS)
def test_what_a_program_says_is_checked_and_the_copy_made_without(
    stage16: Stage, what, caplog
):
    create, said = LIARS[what]
    primary = stage16.primary()
    with_tablespace(primary)
    primary.write(20)
    clears = 'remove) rm -rf "${HERE:?}"/* ;;'
    lies = program(stage16, create, clears)
    with capturing(stage16, primary, program=lies) as capture:
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method in {"copy", "reflink"}
        assert len(capture.ids()) == 20
        note = capture.close().method_note
    assert note.startswith("capture.exec gave nothing: ")
    assert said in note
    assert said in caplog.text
    assert verbs(stage16) == ["create", "remove"]
    assert left(stage16) == []


def test_an_old_snapshot_and_one_of_another_server_are_refused(stage16: Stage):
    primary, other = stage16.primary(), stage16.server("other")
    frozen = stage16.scratch(primary, "old")
    primary.write(20)
    primary.query("CHECKPOINT")
    shows = program(stage16, f"create) echo {frozen} ;;")
    with capturing(stage16, primary, program=shows) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        assert "is an old snapshot" in capture.close().method_note
    stage16.programs.run(
        ["initdb", "-D", other.data_dir.parent / "made", "-U", "postgres", "-N"],
        as_owner_of=other.data_dir.parent,
    )
    foreign = program(stage16, f"create) echo {other.data_dir.parent / 'made'} ;;")
    with capturing(stage16, primary, program=foreign) as capture:
        capture.capture_dir = stage16.folder / "more"
        capture.__post_init__()
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        assert "is of system" in capture.close().method_note


def test_a_writable_copy_is_no_proof_where_the_server_cannot_be_asked(stage16: Stage):
    primary = stage16.primary()
    primary.write(20)
    freezes = program(stage16, COPIES)
    with capturing(stage16, primary, sql=False, program=freezes) as capture:
        capture.order(Level.TAIL, Level.FULL)
        refused = capture.until("it is refused", lambda s: s.phase is Phase.FAILED)
        assert "can be written to" in refused.reason
        assert "in one instant" in refused.reason
    assert left(stage16) == []


def test_a_program_that_is_not_there_is_named(stage16: Stage):
    primary = stage16.primary()
    primary.write(20)
    nothing = stage16.folder / "nothing"
    with capturing(stage16, primary, program=nothing) as capture:
        capture.order(Level.TAIL, Level.FULL)
        capture.until_complete()
        note = capture.close().method_note
        assert f"{nothing} create cannot be run: No such file" in note


def test_a_snapshot_that_cannot_be_removed_is_tried_again_and_told(
    stage16: Stage, caplog
):
    primary = stage16.primary()
    primary.write(20)
    stays = program(stage16, COPIES, 'remove) echo "it is busy" >&2; exit 1 ;;')
    with capturing(stage16, primary, program=stays) as capture:
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method == "frozen copy"
        assert (capture.folder / MARK).read_text() == f"{ID}\n"
        assert "was not removed and takes up room" in caplog.text
        assert "it is busy" in caplog.text
        program(stage16, COPIES)  # mended; a further copy cleans up first
        primary.stop()
        primary.start()
        assert len(capture.ids()) == 20


def test_a_snapshot_that_a_killed_agent_left_is_removed_first(stage16: Stage):
    primary = stage16.primary()
    primary.write(20)
    freezes = program(stage16, COPIES)
    with capturing(stage16, primary, program=freezes) as capture:
        folder = capture.capture_dir / ID
        folder.mkdir(parents=True)
        (folder / MARK).write_text(f"{ID}\n")
        capture.order(Level.TAIL, Level.FULL)
        assert capture.until_complete().method == "frozen copy"
        assert not (folder / MARK).exists()
    assert verbs(stage16) == ["remove", "create", "remove"]


def test_the_end_of_the_agent_ends_the_program_and_removes_the_snapshot(stage16: Stage):
    primary = stage16.primary()
    primary.write(20)
    slow = program(
        stage16,
        f'create) mkdir "$HERE/$2"; echo $$ >{stage16.folder}/pid; exec sleep 600 ;;',
    )
    with capturing(stage16, primary, program=slow) as capture:
        capture.order(Level.TAIL, Level.FULL)
        noted = stage16.folder / "pid"
        eventually("it freezes", lambda: noted.exists() and noted.read_text().strip())
        began_s = time.monotonic()
        capture.engine.stop()
        assert time.monotonic() - began_s < 60  # the program sleeps for 600
        pid = int(noted.read_text())
        eventually("it is gone", lambda: not Path(f"/proc/{pid}").exists())
        eventually("it was removed", lambda: left(stage16) == [])
        assert not (capture.folder / MARK).exists()
