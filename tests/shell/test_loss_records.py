"""Lines of pg_waldump, as servers of several versions printed them."""

import pytest

from agent.core.lsn import Lsn
from agent.divergence import records
from agent.divergence.model import Relation
from agent.divergence.records import Record, parse

TABLE = Relation(1663, 5, 24576)


def line(what: str, *, manager: str = "Heap", xid: int = 730) -> str:
    """Return a line with this description, as every version frames it."""
    return (
        f"rmgr: {manager:<11} len (rec/tot):     69/    69, tx:        {xid}, lsn:"
        f" 0/0154FEB8, prev 0/0154FE90, desc: {what}"
    )


def parsed(what: str, *, manager: str = "Heap", xid: int = 730) -> Record:
    """Return the record of such a line."""
    found = parse(line(what, manager=manager, xid=xid))
    assert found is not None
    return found


BLOCK = ", blkref #0: rel 1663/5/24576 blk 7"


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("UPDATE off 4 xmax 730 flags 0x40 KEYS_UPDATED ; new off 32 xmax 0", 4, 32),
        ("HOT_UPDATE off 8 xmax 727 flags 0x60 ; new off 11 xmax 0", 8, 11),
        ("UPDATE off 4 xmax 730 ; new off 32 xmax 0", 4, 32),
        (
            "UPDATE old_xmax: 758, old_off: 4, old_infobits: [], new_off: 32",
            4,
            32,
        ),
    ],
)
def test_an_update_says_from_where_to_where(what: str, old: int, new: int) -> None:
    record = parsed(what + BLOCK)
    assert (records.old_offset(record), records.new_offset(record)) == (old, new)


@pytest.mark.parametrize(
    ("what", "offset"),
    [
        ("INSERT off 12 flags 0x00", 12),
        ("INSERT off: 22, flags: 0x00", 22),
        ("DELETE off 5 flags 0x00 KEYS_UPDATED ", 5),
        ("DELETE xmax: 759, off: 6, infobits: [KEYS_UPDATED], flags: 0x00", 6),
    ],
)
def test_a_row_that_comes_or_goes_says_where(what: str, offset: int) -> None:
    assert records.old_offset(parsed(what + BLOCK)) == offset


@pytest.mark.parametrize(
    "what", ["MULTI_INSERT 3 tuples flags 0x02", "MULTI_INSERT ntuples: 3, flags: 0x02"]
)
def test_rows_that_come_together_are_counted(what: str) -> None:
    assert records.row_count(parsed(what + BLOCK, manager="Heap2")) == 3


def test_a_record_has_its_manager_name_transaction_and_place() -> None:
    record = parsed("INSERT+INIT off 1 flags 0x00, blkref #0: rel 1663/5/24576 blk 0")
    assert record.kind == "Heap/INSERT"
    assert record.fresh
    assert (record.xid, record.lsn) == (730, Lsn.parse("0/154FEB8"))
    assert records.heap_block(record) == (TABLE, 0)


def test_an_updated_row_may_have_come_from_another_block() -> None:
    record = parsed(
        "UPDATE off 4 xmax 7 flags 0 ; new off 1 xmax 0, blkref #0: rel 1663/5/24576"
        " blk 9 FPW, blkref #1: rel 1663/5/24576 blk 2"
    )
    assert records.heap_block(record) == (TABLE, 9)
    assert records.heap_block(record, 1) == (TABLE, 2)
    assert records.heap_block(parsed("UPDATE off 4" + BLOCK), 1) == (TABLE, 7)


def test_other_forks_of_a_file_are_no_rows() -> None:
    record = parsed(
        "VISIBLE cutoff xid 7, blkref #0: rel 1663/5/24576 fork vm blk 0,"
        " blkref #1: rel 1663/5/24576 blk 3",
        manager="Heap2",
    )
    assert records.heap_block(record, 1) == (TABLE, 3)


def test_a_commit_names_time_children_and_what_it_drops() -> None:
    record = parsed(
        "COMMIT 2026-11-23 08:43:51.486258 UTC; rels: base/5/24587 base/5/24588_vm"
        " pg_tblspc/16390/PG_15_202209061/5/16391; subxacts: 734 735; inval msgs:"
        " catcache 55",
        manager="Transaction",
    )
    assert records.ended_at(record) == pytest.approx(1795423431.486258)
    assert records.children(record) == (734, 735)
    assert records.dropped_files(record) == (
        Relation(1663, 5, 24587),
        Relation(16390, 5, 16391),
    )
    assert records.top_xid(record) == 730


def test_a_prepared_transaction_is_ended_by_another() -> None:
    record = parsed(
        "COMMIT_PREPARED 745: 2026-11-23 08:43:51 UTC; subxacts: 746",
        manager="Transaction",
        xid=0,
    )
    assert records.top_xid(record) == 745
    assert records.children(record) == (746,)


def test_a_date_beyond_our_calendar_is_no_error() -> None:
    record = parsed("COMMIT 294276-12-31 23:59:59 UTC", manager="Transaction")
    assert records.ended_at(record) > 0


def test_running_transactions_and_checkpoints_name_the_next_one() -> None:
    idle = parsed(
        "RUNNING_XACTS nextXid 752 latestCompletedXid 751 oldestRunningXid 752",
        manager="Standby",
    )
    busy = parsed(
        "RUNNING_XACTS nextXid 754 latestCompletedXid 751 oldestRunningXid 752; 2"
        " xacts: 752 753",
        manager="Standby",
    )
    checkpoint = parsed(
        "CHECKPOINT_ONLINE redo 0/152F548; tli 2; prev tli 2; fpw true; xid 0:726; oid"
        " 24576; multi 1; oldest xid 716 in DB 1",
        manager="XLOG",
    )
    assert records.next_xid(idle) == 752
    assert records.running(idle) == ()
    assert records.running(busy) == (752, 753)
    assert records.next_xid(checkpoint) == 726


@pytest.mark.parametrize(
    ("what", "database"),
    [
        ("CREATE_WAL_LOG create dir 1663/24607", 24607),
        ("CREATE_FILE_COPY copy dir 1663/5 to 1663/24608", 24608),
        ("DROP dir 1663/24609", 24609),
    ],
)
def test_a_database_that_comes_or_goes_is_named(what: str, database: int) -> None:
    record = parsed(what, manager="Database")
    assert records.created_database(record) == database


@pytest.mark.parametrize("text", ["", "pg_waldump: fatal: nothing", "BKP 0"])
def test_what_is_no_record_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("what", ["INSERT somewhere", "UPDATE off 4 xmax 1"])
def test_a_wording_that_is_not_known_is_an_error(what: str) -> None:
    record = parsed(what + BLOCK)
    with pytest.raises(ValueError, match=record.name):
        records.new_offset(record)


def test_a_record_without_a_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="names no block"):
        records.heap_block(parsed("INSERT off 4"))


@pytest.mark.parametrize(
    ("path", "relation"),
    [
        ("base/5/24576", TABLE),
        ("global/1262", Relation(1664, 0, 1262)),
        ("base/5/24576_fsm", None),
        ("base/5/24576_init", None),
    ],
)
def test_a_path_stands_for_a_file(path: str, relation: Relation | None) -> None:
    assert records.file_of(path) == relation


def test_a_path_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a relation's path"):
        records.file_of("../../etc/passwd")
