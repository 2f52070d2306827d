"""Two real servers that parted: what the loser wrote, set against the winner."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.core.lsn import Lsn
from agent.divergence import compare, losses, shelf
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.extracted import Extraction
from agent.divergence.reading import Stretch, read_story
from agent.divergence.winner import Door, Horizon, read_winner
from agent.errors import DivergenceError
from agent.postgres.wal import Chain, segment_bytes_of
from tests.fix_postgres import Stage, stage_of
from tests.parted import Parted, script

pytestmark = pytest.mark.postgres

COMMON = """
    CREATE TABLE t (id int PRIMARY KEY, word text, mail text UNIQUE);
    INSERT INTO t SELECT g, 'x' || g, 'e' || g FROM generate_series(1, 50) g;
    CREATE TABLE bare (a int, b text);
    INSERT INTO bare VALUES (1, 'a'), (1, 'a'), (2, 'b');
    CREATE TABLE cut (id int PRIMARY KEY, v text);
    INSERT INTO cut VALUES (1, 'a'), (2, 'b');
    CREATE TABLE full_of_it (id int PRIMARY KEY, v text);
    INSERT INTO full_of_it SELECT g, 'v' || g FROM generate_series(1, 20) g;
    CREATE TABLE doc (id int PRIMARY KEY, j json);
    INSERT INTO doc VALUES (1, '{}'), (2, '{}');
"""
LOSER = """
    INSERT INTO t VALUES (101, 'lost', 'l1'), (102, 'mine', 'l2'), (103, 'same', 'l3');
    UPDATE t SET word = 'changed' WHERE id = 1;
    UPDATE t SET word = 'mine' WHERE id = 2;
    DELETE FROM t WHERE id IN (3, 4, 8);
    UPDATE t SET id = 205 WHERE id = 5;
    DELETE FROM t WHERE id = 6;
    INSERT INTO t VALUES (6, 'anew', 'e6');
    UPDATE t SET word = 'mine' WHERE id = 7;
    UPDATE t SET word = 'alike' WHERE id = 9;
    UPDATE t SET word = word WHERE id = 10;
    INSERT INTO t VALUES (110, 'one mail', 'shared');
    INSERT INTO bare VALUES (3, 'c'), (3, 'c'), (4, 'd');
    UPDATE bare SET b = 'bb' WHERE a = 2;
    TRUNCATE cut;
    INSERT INTO cut VALUES (2, 'bx'), (3, 'c');
    UPDATE full_of_it SET v = 'mine' WHERE id IN (1, 2);
    DELETE FROM full_of_it WHERE id = 3;
    UPDATE doc SET j = '{"a": 1, "b": [2.0]}' WHERE id = 1;
    UPDATE doc SET j = '{"a": 1.0}' WHERE id = 2;
"""
WINNER = """
    INSERT INTO t VALUES (102, 'theirs', 'w2'), (103, 'same', 'l3');
    INSERT INTO t VALUES (111, 'one mail', 'shared');
    UPDATE t SET word = 'theirs' WHERE id IN (2, 4);
    DELETE FROM t WHERE id IN (7, 8);
    UPDATE t SET word = 'alike' WHERE id = 9;
    INSERT INTO bare VALUES (3, 'c');
    UPDATE full_of_it SET v = 'theirs' WHERE id IN (2, 9);
    DELETE FROM full_of_it WHERE id = 10;
    INSERT INTO full_of_it VALUES (22, 'theirs');
    UPDATE doc SET j = '{"b":[2.0],"a":1}' WHERE id = 1;
    UPDATE doc SET j = '{"a": 1}' WHERE id = 2;
"""
T = {
    ("lost", ("101", "lost", "l1"), None),
    ("collision", ("102", "mine", "l2"), ("102", "theirs", "w2")),
    ("collision", ("110", "one mail", "shared"), None),
    ("changed", ("1", "changed", "e1"), ("1", "x1", "e1")),
    ("conflict", ("2", "mine", "e2"), ("2", "theirs", "e2")),
    ("deleted", None, ("3", "x3", "e3")),
    ("conflict", None, ("4", "theirs", "e4")),
    ("changed", ("205", "x5", "e5"), ("5", "x5", "e5")),
    ("changed", ("6", "anew", "e6"), ("6", "x6", "e6")),
    ("conflict", ("7", "mine", "e7"), None),
}
"""What both sides did to t, worked out by hand; 8, 9, 10 and 103 are agreed."""


def table_of(comparison: Comparison, name: str) -> TableDifferences:
    """Return what came out for one table."""
    [found] = [each for each in comparison.tables if each.table.name.name == name]
    return found


def seen(parted: Parted, table: TableDifferences) -> set[tuple[Any, ...]]:
    """Return kind, loser's and winner's values of each difference."""
    found = parted.differences(table)
    assert len(found) == table.differing
    return {(one.kind.value, one.loser, one.winner) for one in found}


@pytest.fixture(scope="module", params=["15", "16", "18"])
def parted(
    request: pytest.FixtureRequest, postgres_home: Path
) -> Iterator[tuple[Parted, Extraction]]:
    """Two sides that wrote, and what the loser's was."""
    with stage_of(request.param, postgres_home) as stage:
        made = Parted.make(stage, COMMON)
        script(made.loser, LOSER)
        script(made.loser, "VACUUM FULL full_of_it")
        script(made.loser, "UPDATE full_of_it SET v = 'later' WHERE id = 4")
        script(made.winner, WINNER)
        yield made, made.extraction()


def test_each_row_is_what_both_sides_made_of_it(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    comparison = made.compared(extraction)
    table = table_of(comparison, "t")
    assert seen(made, table) == T
    assert (table.equal, table.unknown) == (4, 0)
    assert comparison.against.by_log
    assert comparison.uncompared == extraction.unread == ()
    [twin] = [one.twin for one in made.differences(table) if one.twin]
    assert twin == ("111", "one mail", "shared")


def test_without_the_winners_log_its_rows_tell_all_but_what_is_gone_there(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    table = table_of(made.compared(extraction, by_log=False), "t")
    assert seen(made, table) == T - {("conflict", None, ("4", "theirs", "e4"))}
    assert (table.equal, table.unknown) == (3, 2)


def test_rows_without_a_key_are_counted(parted: tuple[Parted, Extraction]) -> None:
    made, extraction = parted
    for by_log in (True, False):
        table = table_of(made.compared(extraction, by_log=by_log), "bare")
        assert seen(made, table) == {
            ("changed", ("2", "bb"), ("2", "b")),
            ("lost", ("3", "c"), None),
            ("lost", ("4", "d"), None),
        }
        assert table.equal == 1


def test_a_table_that_was_emptied_is_compared_whole(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    table = table_of(made.compared(extraction), "cut")
    assert table.whole
    assert seen(made, table) == {
        ("changed", ("2", "bx"), ("2", "b")),
        ("lost", ("3", "c"), None),
        ("deleted", None, ("1", "a")),
    }


def test_a_table_that_was_rewritten_is_compared_whole(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    table = table_of(made.compared(extraction), "full_of_it")
    assert table.whole
    assert seen(made, table) == {
        ("changed", ("1", "mine"), ("1", "v1")),
        ("conflict", ("2", "mine"), ("2", "theirs")),
        ("changed", ("4", "later"), ("4", "v4")),
        ("deleted", None, ("3", "v3")),
    }


def test_the_order_of_keys_in_json_says_nothing_and_its_numbers_do(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    table = table_of(made.compared(extraction), "doc")
    assert seen(made, table) == {("conflict", ("2", '{"a": 1.0}'), ("2", '{"a": 1}'))}
    assert table.equal == 1


def test_both_sides_transactions_are_counted(
    parted: tuple[Parted, Extraction],
) -> None:
    made, extraction = parted
    comparison = made.compared(extraction)
    assert extraction.transactions.committed >= LOSER.count(";")
    assert (comparison.winner_committed or 0) >= WINNER.count(";")
    assert comparison.winner_first_s is not None


@pytest.fixture
def pair(stage16: Stage) -> Parted:
    """Two sides that have tables in common and wrote nothing yet."""
    return Parted.make(stage16, COMMON)


def test_what_was_open_or_prepared_at_the_fork_counts_when_it_commits(
    stage: Stage,
) -> None:
    loser, winner = stage.pair(max_prepared_transactions="4")
    script(loser, COMMON)
    with psycopg.connect(loser.dsn) as open_one:
        open_one.execute("INSERT INTO t VALUES (300, 'open', 'o')")
        script(loser, "BEGIN; INSERT INTO t VALUES (301, 'prepared', 'p')")
        with psycopg.connect(loser.dsn, autocommit=True) as session:
            session.execute("BEGIN")
            session.execute("UPDATE t SET word = 'prepared' WHERE id = 11")
            session.execute("PREPARE TRANSACTION 'one'")
            session.execute("CHECKPOINT")
            made = Parted.part(stage, loser, winner)
            session.execute("COMMIT PREPARED 'one'")
        open_one.commit()
    comparison = made.compared(made.extraction())
    assert seen(made, table_of(comparison, "t")) == {
        ("lost", ("300", "open", "o"), None),
        ("changed", ("11", "prepared", "e11"), ("11", "x11", "e11")),
    }


def test_rows_copied_in_between_others_are_found(pair: Parted) -> None:
    with pair.loser.session() as session:
        session.execute("DELETE FROM t WHERE id BETWEEN 20 AND 25")
        session.execute("VACUUM t")
        with session.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(400, 420):
                copy.write_row((number, "copied", f"c{number}"))
        session.execute("UPDATE t SET word = 'after' WHERE id = 405")
    table = table_of(pair.compared(pair.extraction()), "t")
    found = seen(pair, table)
    assert ("lost", ("405", "after", "c405"), None) in found
    assert {one[0] for one in found} == {"lost", "deleted"}
    assert len([one for one in found if one[0] == "lost"]) == 20
    assert len([one for one in found if one[0] == "deleted"]) == 6


def test_a_winner_that_rewrote_its_table_is_asked_by_key(pair: Parted) -> None:
    script(pair.loser, "UPDATE t SET word = 'mine' WHERE id IN (1, 2)")
    script(pair.loser, "INSERT INTO t VALUES (500, 'mine', 'm500')")
    script(pair.winner, "UPDATE t SET word = 'theirs' WHERE id = 2")
    script(pair.winner, "VACUUM FULL t")
    table = table_of(pair.compared(pair.extraction()), "t")
    assert seen(pair, table) == {
        ("changed", ("1", "mine", "e1"), ("1", "x1", "e1")),
        ("conflict", ("2", "mine", "e2"), ("2", "theirs", "e2")),
        ("lost", ("500", "mine", "m500"), None),
    }


def test_a_table_that_the_winner_lacks_stops_no_other(pair: Parted) -> None:
    script(pair.loser, "CREATE TABLE mine (id int); INSERT INTO mine VALUES (7)")
    script(pair.loser, "INSERT INTO t VALUES (500, 'mine', 'm500')")
    comparison = pair.compared(pair.extraction())
    mine = table_of(comparison, "mine")
    assert seen(pair, mine) == {("lost", ("7",), None)}
    assert "no such table" in mine.note
    assert table_of(comparison, "t").differing == 1


def test_a_table_that_may_not_be_read_is_named_and_stops_no_other(
    pair: Parted,
) -> None:
    script(pair.winner, "CREATE ROLE reader LOGIN; GRANT SELECT ON bare TO reader")
    script(pair.loser, "INSERT INTO t VALUES (500, 'mine', 'm500')")
    script(pair.loser, "INSERT INTO bare VALUES (9, 'z')")
    extraction = pair.extraction()
    door = Door("n2", psycopg.conninfo.make_conninfo(pair.winner.dsn, user="reader"))
    with read_winner(
        door, extraction.system_id, ("postgres",), losses.horizon_of(extraction)
    ) as winner:
        comparison = compare.compare(extraction, shelf.folder_of(pair.home), winner)
    [unread] = comparison.uncompared
    assert unread.what == "table public.t in database postgres"
    assert "permission denied" in unread.reason
    assert seen(pair, table_of(comparison, "bare")) == {("lost", ("9", "z"), None)}


def test_who_is_in_recovery_is_no_winner(stage16: Stage) -> None:
    primary, standby = stage16.pair()
    door = Door("n2", standby.dsn)
    with (
        pytest.raises(DivergenceError, match="is in recovery"),
        read_winner(door, "", ("postgres",), Horizon(None)),
    ):
        pass
    with (
        pytest.raises(DivergenceError, match="of another cluster"),
        read_winner(Door("n1", primary.dsn), "77", ("postgres",), Horizon(None)),
    ):
        pass


def test_a_log_that_ends_before_the_end_is_an_error(pair: Parted) -> None:
    wal = pair.loser.data_dir / "pg_wal"
    size = segment_bytes_of(wal)
    stretch = Stretch(
        pair.stage.programs, Chain(wal, (), 1, size), pair.fork.lsn, Lsn(1 << 40)
    )
    with pytest.raises(Exception, match="is not whole"):
        read_story(stretch)
