"""Rows read out of a live losing server, and the permit that rests on them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.grants import SQL
from agent.core import permits
from agent.core.capture import Capture, CaptureStatus, Grade, Level, Phase
from agent.core.event import PermitAsked
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.core.permit import Permit, PermitState
from agent.core.policy import Minimum
from agent.divergence import shelf
from agent.divergence.losses import Task, examine
from agent.divergence.model import DifferenceKind
from agent.divergence.rowfiles import read_rows
from agent.postgres.history import read_lineage
from agent.postgres.reader import DiskReader
from agent.snapshot.verify import verify_folder
from tests.capturing import ID, ROLE, Capturing, capturing
from tests.core import given
from tests.fix_apart import MIB
from tests.fix_postgres import Server, Stage
from tests.parted import Parted

pytestmark = [pytest.mark.postgres, pytest.mark.system]
TABLE = "CREATE TABLE notes (id int PRIMARY KEY, note text)"
ROWS = (Level.TAIL, Level.ROWS)
COPY_BYTES_S = 64.0 * 1024
"""So slow that no full copy is complete in a test."""


def written(parted: Parted, first: int, count: int) -> None:
    """Commit notes on the losing side."""
    for number in range(first, first + count):
        parted.loser.query(f"INSERT INTO notes VALUES ({number}, 'kept')")


def reaches(lsn: Lsn):
    return lambda status: status.rows_lsn is not None and status.rows_lsn >= lsn


def answer(capture: Capturing, parted: Parted, policy=None) -> Permit:
    """What the core says to a resync of the stopped loser."""
    policy = policy or given.policy()
    status, order = capture.statuses[-1], capture.ordered
    assert order is not None
    entry = Capture(order, status, given.at(0).wall_s, 0.0)
    facts = DiskReader(parted.loser.data_dir, parted.stage.programs.bin_dir).read()
    assert isinstance(facts, ServerFacts)
    winner = read_lineage(parted.winner.data_dir, 2, facts.lineage.system_id)
    state = given.state(
        server=facts,
        server_read_s=10.5,
        captures=(entry,),
        lineages={"n2": winner},
        alive={"n2/postgres": given.postgres("n2", given.sight(timeline=2), 10.5)},
    )
    event = PermitAsked(given.at(10), "permit-1", "pg_rewind")
    state = permits.asked(state, event, policy)
    return permits.advance(state, given.at(11), policy).ledger.permits[0]


def kept_notes(folder: Path) -> set[int]:
    """The keys of the notes that a snapshot's rows hold."""
    extraction = shelf.read_extraction(shelf.folder_of(folder))
    assert extraction is not None
    assert shelf.problems(shelf.folder_of(folder), extraction) == ()
    return {
        int(row.values[0] or "")
        for database in extraction.databases
        for table in database.tables
        if table.table.name.name == "notes"
        for row in read_rows(shelf.folder_of(folder) / table.file)
        if row.values is not None
    }


def grow(server: Server, mib: int) -> None:
    """Give a server so much more to copy, and no WAL of it."""
    ballast = server.data_dir / "base" / "1" / "ballast"
    ballast.write_bytes(os.urandom(MIB) * mib)
    found = server.data_dir.stat()
    os.chown(ballast, found.st_uid, found.st_gid)


def stopped(capture: Capturing, parted: Parted) -> CaptureStatus:
    """Stop the loser and wait until the engine has answered for its last position."""
    parted.loser.stop()
    final = capture.end_of_stopped()
    capture.order(
        *tuple(Level), confirmed=parted.fork.lsn, final=final, fork=parted.fork
    )
    return capture.until("it has looked", lambda status: status.final_lsn == final)


@contextmanager
def following(
    parted: Parted,
    *levels: Level,
    folder: Path | None = None,
    user: str = "postgres",
    max_bytes_s: float = 0.0,
) -> Iterator[Capturing]:
    with capturing(
        parted.stage, parted.loser, folder=folder, user=user, max_bytes_s=max_bytes_s
    ) as capture:
        capture.order(*levels, confirmed=parted.fork.lsn, fork=parted.fork)
        yield capture


@pytest.mark.apart(other="256m")
def test_without_room_for_a_copy_the_permit_rests_on_rows(
    stage16: Stage, other_disk: Path
):
    parted = Parted.make(stage16, TABLE)
    grow(parted.loser, 300)
    written(parted, 1, 40)
    with following(parted, folder=other_disk) as capture:
        capture.until("rows are there", reaches(parted.loser.lsn))
        written(parted, 41, 10)
        capture.until("the new ones too", reaches(parted.loser.lsn))
        final = stopped(capture, parted).final_lsn
        assert final is not None
        capture.until("rows reach the end", reaches(final))
        capture.until("no room is told", lambda status: status.missing_bytes > 0)
        permit = answer(capture, parted)
        assert permit.state is PermitState.GRANTED
        assert "large objects" in permit.reason
        manifest = capture.close()
        assert (manifest.grade, manifest.rows_lsn) == (Grade.NONE, final)
        assert manifest.rows_from == parted.fork.lsn
        assert verify_folder(capture.folder).good
        assert kept_notes(capture.folder) == set(range(1, 51))
        task = Task(capture.folder, parted.fork, 1_800_000_000.0)
        _, comparison = examine(task, parted.door())
        assert comparison is not None
        [notes] = comparison.tables
        assert notes.counts == {DifferenceKind.LOST: 50}
        assert verify_folder(capture.folder).good


def test_a_commit_after_the_rows_keeps_the_permit_pending(stage16: Stage):
    parted = Parted.make(stage16, TABLE)
    written(parted, 1, 5)
    with following(parted, max_bytes_s=COPY_BYTES_S) as capture:
        reached = capture.until("rows are there", reaches(parted.loser.lsn)).rows_lsn
        written(parted, 6, 1)
        final = stopped(capture, parted).final_lsn
        status = capture.until(
            "it is judged", lambda one: "committed past them" in one.rows_reason
        )
        assert status.rows_lsn is not None
        assert final is not None
        assert reached is not None
        assert reached <= status.rows_lsn < final
        rows = replace(given.policy(), guard_minimum=Minimum.ROWS)
        permit = answer(capture, parted, rows)
        assert permit.state is PermitState.PENDING
        assert "committed past them" in permit.reason


@pytest.mark.parametrize("version", ["15", "18"])
def test_rows_are_enough_where_the_configuration_says_so(
    version: str, request: pytest.FixtureRequest
):
    stage: Stage = request.getfixturevalue(f"stage{version}")
    parted = Parted.make(stage, TABLE)
    written(parted, 1, 5)
    parted.loser.query("UPDATE notes SET note = 'changed' WHERE id < 3")
    with following(parted, max_bytes_s=COPY_BYTES_S) as capture:
        capture.until("rows are there", reaches(parted.loser.lsn))
        parted.loser.query("ANALYZE")
        parted.loser.query("CHECKPOINT")
        final = stopped(capture, parted).final_lsn
        assert final is not None
        capture.until("maintenance is nobody's commit", reaches(final))
        assert answer(capture, parted).state is PermitState.PENDING
        rows = replace(given.policy(), guard_minimum=Minimum.ROWS)
        assert answer(capture, parted, rows).state is PermitState.GRANTED


def test_an_engine_that_begins_again_finds_its_rows(stage16: Stage):
    parted = Parted.make(stage16, TABLE)
    written(parted, 1, 5)
    with following(parted, *ROWS) as capture:
        first = capture.until("rows are there", reaches(parted.loser.lsn))
    parted.loser.stop()
    with following(parted, *ROWS) as capture:
        final = capture.end_of_stopped()
        capture.order(*ROWS, final=final, fork=parted.fork)
        again = capture.until("rows reach the end", reaches(final))
        assert again.rows_from == first.rows_from
        assert kept_notes(capture.folder) == set(range(1, 6))


def test_a_table_that_may_not_be_read_is_named_and_rows_protect_nothing(
    stage16: Stage,
):
    parted = Parted.make(stage16, TABLE)
    written(parted, 1, 5)
    parted.loser.query(f"CREATE ROLE {ROLE} LOGIN")
    parted.loser.query(f"GRANT pg_monitor TO {ROLE}")
    with following(parted, *ROWS, user=ROLE) as capture:
        status = capture.until("it is refused", lambda one: bool(one.rows_reason))
        assert "public.notes" in status.rows_reason
        assert "splitguard grants" in status.rows_reason
        assert status.rows_lsn is None
        assert status.phase is Phase.FOLLOWING, "the tail goes on"
        assert not shelf.folder_of(capture.folder).exists()


def test_the_local_role_reads_rows_with_what_grants_prints(stage16: Stage):
    parted = Parted.make(stage16, TABLE)
    psql = stage16.programs.path("psql")
    subprocess.run(
        [psql, "-X", "-q", "-d", parted.loser.dsn, "-f", "-"],
        input=SQL, check=True, text=True, timeout=30,
    )  # fmt: skip
    parted.loser.query("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
    parted.loser.query("CREATE DATABASE beside")
    written(parted, 1, 5)
    with following(parted, *ROWS, user=ROLE) as capture:
        capture.until("rows are there", reaches(parted.loser.lsn))
        assert kept_notes(capture.folder) == set(range(1, 6))


def test_a_complete_copy_lets_the_rows_go(stage16: Stage):
    parted = Parted.make(stage16, TABLE)
    written(parted, 1, 5)
    with following(parted) as capture:
        capture.until_complete()
        capture.until("rows are let go", lambda one: one.rows_lsn is None)
        assert capture.close().rows_lsn is None
        assert capture.manifest.id == ID
        assert verify_folder(capture.folder).good
