"""A journal on a full disk: the reserve makes room, and what failed is there."""

from pathlib import Path

import pytest

from agent.core.state import Knowledge
from agent.errors import JournalFullError
from agent.snapshot.reserve import NAME, Reserve
from agent.store.sqlite import SqliteJournal
from tests.core import given
from tests.fix_apart import MIB, fill
from tests.shell.test_journal import NOW, incident, whole_ledger

pytestmark = pytest.mark.system
FLOOR_BYTES = 16 * MIB
MANY = tuple(incident(f"inc-{number}") for number in range(2000))
SOME_BYTES = 64 << 10


@pytest.mark.apart(small="256m")
def test_a_journal_on_a_full_disk_gets_the_reserve_and_loses_nothing(small_disk: Path):
    reserve = Reserve(small_disk, 8 * MIB)
    assert reserve.make(FLOOR_BYTES)
    path = small_disk / "journal.sqlite"
    journal = SqliteJournal(path, lambda: reserve.give_back("the journal"))
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    filled = fill(small_disk, SOME_BYTES)
    journal.commit(given.ledger(incidents=MANY), Knowledge(), (), NOW)
    assert reserve.held_bytes == 0
    assert not reserve.make(FLOOR_BYTES)
    assert journal.load().ledger.incidents == MANY

    fill(small_disk, 0)
    more = given.ledger(incidents=tuple(incident(f"inc-x{n}") for n in range(9000)))
    with pytest.raises(JournalFullError, match="make room on the file system"):
        journal.commit(more, Knowledge(), (), NOW)
    assert journal.load().ledger.incidents == MANY
    filled.unlink()
    journal.commit(more, Knowledge(), (), NOW)
    journal.close()
    assert SqliteJournal(path).load().ledger == more


@pytest.mark.apart(small="256m")
def test_an_agent_that_starts_on_a_full_disk_takes_the_reserve_of_the_one_before(
    small_disk: Path,
):
    assert Reserve(small_disk, 8 * MIB).make(FLOOR_BYTES)
    fill(small_disk, 0)
    path = small_disk / "journal.sqlite"
    with pytest.raises(JournalFullError):
        SqliteJournal(path)
    mine = Reserve(small_disk, 8 * MIB)
    journal = SqliteJournal(path, lambda: mine.give_back("the journal"))
    journal.commit(whole_ledger(), Knowledge(), (), NOW)
    assert not (small_disk / NAME).exists()
    journal.close()


@pytest.mark.apart(small="400m")
def test_the_reserve_is_never_made_at_the_expense_of_what_stays_free(small_disk: Path):
    reserve = Reserve(small_disk, 1 << 30)
    assert reserve.wanted_bytes <= 20 * MIB
    filled = fill(small_disk, 100 * MIB)
    assert not reserve.make(FLOOR_BYTES)
    assert reserve.owed_bytes == reserve.wanted_bytes
    assert not reserve.give_back("nobody")
    filled.unlink()
    assert reserve.make(FLOOR_BYTES)
    assert (small_disk / NAME).stat().st_mode & 0o777 == 0o600
    smaller = Reserve(small_disk, 4 * MIB)
    assert smaller.make(FLOOR_BYTES)
    assert smaller.held_bytes == 4 * MIB
    assert Reserve(small_disk, 0).make(FLOOR_BYTES)
    assert not (small_disk / NAME).exists()


@pytest.mark.apart
def test_a_reserve_helps_only_what_lies_beside_it(small_disk: Path, other_disk: Path):
    reserve = Reserve(small_disk, MIB)
    assert reserve.is_beside(small_disk)
    assert not reserve.is_beside(other_disk)
    assert not reserve.is_beside(small_disk / "nothing")
