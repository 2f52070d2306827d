"""What was printed of a switch is kept by an agent that was not there for a while."""

import pytest

from agent.core.kinship import relate
from agent.core.lineage import Kinship, Lineage
from agent.core.lsn import wal_file_name
from agent.core.observation import ServerFacts
from agent.core.prints import Printed
from agent.postgres.reader import DiskReader
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres


def lineage(server: Server, printed: Printed | None = None) -> Lineage:
    """What a reader that has just started finds, with what it knows from before."""
    return read(server, printed).lineage


def read(server: Server, printed: Printed | None = None) -> ServerFacts:
    found = DiskReader(server.data_dir, server.programs.bin_dir, printed).read()
    assert isinstance(found, ServerFacts), found
    return found


def known(server: Server) -> Printed:
    """What is journalled of a server that was read once."""
    facts = read(server)
    assert facts.marks is not None
    assert [one.timeline for one in facts.lineage.fingerprints] == [2]
    return Printed(facts.lineage.system_id, facts.marks, facts.lineage.fingerprints)


def without_beginning(server: Server) -> None:
    """Stop it, and take away the segment that its timeline began in."""
    (switch,) = lineage(server).switches
    server.stop()
    name = wal_file_name(2, switch.lsn, 1 << 24)
    (server.data_dir / "pg_wal" / name).unlink()


@pytest.fixture
def twins(stage16: Stage) -> tuple[Server, Server]:
    """Two that were promoted at one LSN, and archive; the primary is stopped."""
    archives = {"archive_mode": "on", "archive_command": "/bin/true"}
    primary = stage16.primary("n1", **archives)
    made = [stage16.standby(primary, name, **archives) for name in ("n2", "n3")]
    primary.write(5)
    for standby in made:
        standby.caught_up(primary)
    primary.stop()
    for standby in made:
        standby.promote()
        standby.write(5, standby.name)
    return made[0], made[1]


def test_a_switch_whose_segment_is_gone_is_told_from_its_twin_by_a_new_agent(
    twins: tuple[Server, Server],
):
    winner, loser = twins
    printed = known(loser)
    loser.query("SELECT pg_switch_wal()")
    loser.write(5, "n3")
    without_beginning(loser)
    assert lineage(loser).fingerprints == ()
    assert lineage(loser, printed).fingerprints == printed.prints
    assert relate(lineage(loser, printed), lineage(winner)).kinship is Kinship.TWIN


def test_a_twin_that_rejoined_by_an_archive_and_was_started_unseen_is_one_still(
    twins: tuple[Server, Server],
):
    winner, loser = twins
    printed = known(loser)
    history = loser.data_dir / "pg_wal/00000002.history"
    before = history.stat()
    loser.stop()
    loser.configure(restore_command=f"cp {winner.data_dir}/pg_wal/%f %p")
    loser.follow(winner)
    loser.start()
    loser.caught_up(winner)
    now = history.stat()
    assert (now.st_ino, now.st_mtime_ns) != (before.st_ino, before.st_mtime_ns)
    without_beginning(loser)
    assert relate(lineage(loser), lineage(winner)).kinship is Kinship.SAME
    assert relate(lineage(loser, printed), lineage(winner)).kinship is Kinship.TWIN


def test_a_twin_that_was_cloned_unseen_is_none_any_more(twins: tuple[Server, Server]):
    winner, loser = twins
    printed = known(loser)
    loser.clone_from(winner)
    assert relate(lineage(loser, printed), lineage(winner)).kinship is Kinship.SAME
