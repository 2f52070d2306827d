"""What a log says of rows, told by records that were made for it."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.lsn import Lsn
from agent.divergence.maintenance import is_maintenance
from agent.divergence.model import Relation, ctid, place_of
from agent.divergence.records import Record
from agent.divergence.story import Story, Teller

FORK = Lsn(0x5000)
TABLE = Relation(1663, 5, 24576)
BLOCK = "blkref #0: rel 1663/5/24576 blk 0"
WHEN = "2026-11-23 08:43:51.5 UTC"


class Log:
    """Writes records at rising positions, from the fork on unless told otherwise."""

    def __init__(self, *, before: int = 0) -> None:
        self._lsns: Iterator[int] = count(int(FORK) - 8 * before, 8)
        self.records: list[Record] = []

    def add(self, manager: str, name: str, text: str = "", xid: int = 0) -> None:
        """Write one record."""
        made = Record(manager, name, False, xid, Lsn(next(self._lsns)), text)
        self.records.append(made)

    def insert(self, xid: int, at: int) -> None:
        """Insert a row."""
        self.add("Heap", "INSERT", f"off: {at}, flags: 0x00, {BLOCK}", xid)

    def update(self, xid: int, old: int, new: int) -> None:
        """Update a row."""
        self.add("Heap", "UPDATE", f"old_off: {old}, new_off: {new}, {BLOCK}", xid)

    def delete(self, xid: int, at: int) -> None:
        """Delete a row."""
        self.add("Heap", "DELETE", f"off: {at}, {BLOCK}", xid)

    def commit(self, xid: int, *children: int) -> None:
        """Commit, with these subtransactions."""
        within = "; subxacts: " + " ".join(map(str, children)) if children else ""
        self.add("Transaction", "COMMIT", WHEN + within, xid)

    def abort(self, xid: int) -> None:
        """Roll back."""
        self.add("Transaction", "ABORT", WHEN, xid)

    def running(self, upcoming: int, *listed: int) -> None:
        """List who is under way."""
        tail = f"; {len(listed)} xacts: " + " ".join(map(str, listed)) if listed else ""
        text = f"nextXid {upcoming} latestCompletedXid 1 oldestRunningXid 1{tail}"
        self.add("Standby", "RUNNING_XACTS", text)

    def story(self, *, whole: bool = True) -> Story:
        """Tell it."""
        teller = Teller(FORK, lambda _: (), begins_whole=whole)
        for record in self.records:
            teller.take(record)
        return teller.story(Lsn(next(self._lsns)))


def rows_of(story: Story) -> tuple[set[str], dict[str, str], set[str]]:
    """Return what was born, moved (from now to then) and is gone, as ctids."""
    rows = story.rows[TABLE]
    moved = {ctid(now): ctid(was) for now, was in rows.moved.items()}
    return {ctid(at) for at in rows.born}, moved, {ctid(at) for at in rows.gone}


def test_only_committed_rows_count() -> None:
    log = Log()
    log.insert(10, 1)
    log.insert(11, 2)
    log.insert(12, 3)
    log.commit(10)
    log.abort(11)
    story = log.story()
    assert rows_of(story) == ({"(0,1)"}, {}, set())
    assert story.committed.keys() == {10}
    assert [one.committed for one in story.ended] == [True, False]


def test_a_row_of_the_fork_is_followed_from_place_to_place() -> None:
    log = Log()
    log.update(10, 3, 9)
    log.commit(10)
    log.update(11, 9, 12)
    log.commit(11)
    assert rows_of(log.story()) == (set(), {"(0,12)": "(0,3)"}, set())


def test_a_row_of_the_fork_that_was_updated_and_deleted_is_gone() -> None:
    log = Log()
    log.update(10, 3, 9)
    log.delete(10, 9)
    log.commit(10)
    assert rows_of(log.story()) == (set(), {}, {"(0,3)"})


def test_a_row_that_came_and_went_is_nothing() -> None:
    log = Log()
    log.insert(10, 4)
    log.update(10, 4, 5)
    log.delete(10, 5)
    log.commit(10)
    assert rows_of(log.story()) == (set(), {}, set())


def test_a_place_that_was_freed_holds_another_row() -> None:
    log = Log()
    log.delete(10, 4)
    log.commit(10)
    log.insert(11, 4)
    log.commit(11)
    log.update(12, 4, 6)
    log.commit(12)
    assert rows_of(log.story()) == ({"(0,6)"}, {}, {"(0,4)"})


def test_what_a_savepoint_took_back_does_not_count() -> None:
    log = Log()
    log.insert(10, 1)
    log.insert(11, 2)
    log.abort(11)
    log.insert(12, 3)
    log.commit(10, 12)
    story = log.story()
    assert rows_of(story)[0] == {"(0,1)", "(0,3)"}
    assert story.committed.keys() == {10, 12}


def test_a_transaction_and_its_savepoint_are_told_in_the_order_of_the_log() -> None:
    log = Log()
    log.update(10, 1, 2)
    log.update(11, 2, 3)
    log.update(10, 3, 4)
    log.commit(10, 11)
    assert rows_of(log.story()) == (set(), {"(0,4)": "(0,1)"}, set())


def test_what_was_begun_before_the_fork_and_committed_past_it_counts_whole() -> None:
    log = Log(before=3)
    log.running(10)
    log.insert(10, 1)
    log.insert(9, 7)
    log.commit(10)
    story = log.story()
    assert rows_of(story)[0] == {"(0,1)"}
    assert story.early == set()


def test_what_committed_before_the_fork_was_there() -> None:
    log = Log(before=2)
    log.insert(10, 1)
    log.commit(10)
    log.update(11, 1, 2)
    log.commit(11)
    assert rows_of(log.story()) == (set(), {"(0,2)": "(0,1)"}, set())


@pytest.mark.parametrize("listed", [(), (9,)])
def test_who_had_begun_before_the_kept_log_is_named(listed: tuple[int, ...]) -> None:
    log = Log(before=1)
    log.running(10, *listed)
    log.insert(9, 1)
    log.insert(10, 2)
    log.commit(9)
    log.commit(10)
    assert log.story(whole=False).early == {9}


def test_a_log_that_never_says_who_is_under_way_leaves_all_in_doubt() -> None:
    log = Log()
    log.insert(9, 1)
    log.commit(9)
    assert log.story(whole=False).early == {9}


def test_a_prepared_transaction_counts_when_it_is_committed() -> None:
    log = Log()
    log.insert(10, 1)
    log.insert(11, 2)
    log.add("Transaction", "PREPARE", f"gid a b: {WHEN}", 10)
    log.add("Transaction", "PREPARE", f"gid left: {WHEN}", 11)
    log.add("Transaction", "COMMIT_PREPARED", f"10: {WHEN}", 0)
    story = log.story()
    assert rows_of(story)[0] == {"(0,1)"}
    assert story.prepared == {11: "left"}


def test_a_file_that_was_made_is_named_with_who_made_it() -> None:
    log = Log()
    log.add("Storage", "CREATE", "base/5/30000", 10)
    log.add("Storage", "CREATE", "base/5/30001_fsm", 10)
    log.add("Storage", "CREATE", "base/5/30002", 11)
    log.add("Transaction", "COMMIT", WHEN + "; rels: base/5/24576", 10)
    log.abort(11)
    story = log.story()
    assert story.created == {Relation(1663, 5, 30000): 10}
    assert story.dropped == {TABLE: 10}


def test_rows_that_came_together_are_where_the_record_says() -> None:
    log = Log()
    log.add("Heap2", "MULTI_INSERT", f"ntuples: 2, flags: 0x02, {BLOCK}", 10)
    log.commit(10)
    teller = Teller(FORK, lambda _: (4, 9), begins_whole=True)
    for record in log.records:
        teller.take(record)
    assert rows_of(teller.story(FORK))[0] == {"(0,4)", "(0,9)"}


def test_a_count_that_does_not_fit_the_places_is_an_error() -> None:
    log = Log()
    log.add("Heap2", "MULTI_INSERT", f"ntuples: 2, flags: 0x02, {BLOCK}", 10)
    with pytest.raises(ValueError, match="fills 2 places, 0 are named"):
        log.story()


def test_an_empty_page_is_filled_from_its_first_place_on() -> None:
    text = f"ntuples: 3, flags: 0x02, {BLOCK}"
    log = Log()
    log.records.append(Record("Heap2", "MULTI_INSERT", True, 10, FORK, text))
    log.commit(10)
    assert rows_of(log.story())[0] == {"(0,1)", "(0,2)", "(0,3)"}


def test_what_a_moment_does_not_show_leaves_the_rows() -> None:
    log = Log()
    log.update(10, 1, 2)
    log.commit(10)
    log.update(11, 2, 3)
    log.commit(11)
    teller = Teller(
        FORK, lambda _: (), begins_whole=True, visible=lambda xid, _: xid < 11
    )
    for record in log.records:
        teller.take(record)
    story = teller.story(FORK)
    assert rows_of(story) == (set(), {"(0,2)": "(0,1)"}, set())


@pytest.mark.parametrize(("listed", "upcoming"), [(45, 45), (41, 44)])
def test_the_next_transaction_at_the_fork_is_known(listed: int, upcoming: int) -> None:
    log = Log(before=2)
    log.insert(43, 1)
    log.running(listed)
    log.insert(50, 2)
    assert log.story().fork_next_xid == upcoming


def test_who_was_under_way_or_prepared_at_the_fork_is_known() -> None:
    log = Log(before=6)
    log.running(40, 31, 32)
    log.commit(31)
    log.insert(41, 1)
    log.add("Transaction", "PREPARE", f"gid a: {WHEN}", 41)
    log.insert(42, 2)
    log.commit(42)
    log.insert(43, 3)
    log.commit(41)
    assert log.story().fork_open == {32, 41}


def test_what_may_be_a_persons_doing_is_kept_in_mind() -> None:
    log = Log()
    log.insert(10, 1)
    log.add("Btree", "INSERT_LEAF", "off 1", 10)
    log.add("Heap2", "PRUNE", "", 10)
    log.add(
        "Sequence", "LOG", "rel 1663/5/30000, blkref #0: rel 1663/5/30000 blk 0", 10
    )
    log.add("LogicalMessage", "MESSAGE", "", 0)
    log.add("Whatever", "NEW", "", 10)
    log.add("Storage", "TRUNCATE", "base/5/24576 to 3 blocks flags 7", 0)
    log.commit(10)
    story = log.story()
    assert story.ended[0].kinds == {"Sequence/LOG", "Whatever/NEW"}
    assert story.outside == {"LogicalMessage/MESSAGE": 1}
    assert story.sequences == {Relation(1663, 5, 30000)}


def test_statistics_alone_are_maintenance() -> None:
    statistics = Relation(1663, 5, 2619)
    assert is_maintenance({statistics}, (), {statistics})
    assert not is_maintenance({statistics, TABLE}, (), {statistics})
    assert not is_maintenance({statistics}, {"Sequence/LOG"}, {statistics})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "delete"]),
        st.integers(0, 40),
        st.booleans(),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_story_agrees_with_a_table_that_knows_its_rows(
    steps: list[tuple[str, int, bool]],
) -> None:
    """A table in which each row remembers where it was at the fork."""
    table: dict[int, int | None] = {at: at for at in range(1, 9)}
    free = count(20)
    log = Log()
    for xid, (what, which, commits) in enumerate(steps, 100):
        then = dict(table)
        place = list(then)[which % len(then)] if then else None
        if what == "insert" or place is None:
            new = next(free)
            log.insert(xid, new)
            then[new] = None
        elif what == "update":
            new = next(free)
            log.update(xid, place, new)
            then[new] = then.pop(place)
        else:
            log.delete(xid, place)
            then.pop(place)
        if commits:
            log.commit(xid)
            table = then
        else:
            log.abort(xid)
    rows = log.story().rows.get(TABLE)
    born = {place_of(0, at) for at, was in table.items() if was is None}
    moved = {
        place_of(0, at): place_of(0, was)
        for at, was in table.items()
        if was is not None and at != was
    }
    left = {was for was in table.values() if was is not None}
    gone = {place_of(0, at) for at in range(1, 9) if at not in left}
    told = (rows.born, rows.moved, rows.gone) if rows else (set(), {}, set())
    assert told == (born, moved, gone)
