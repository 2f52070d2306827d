"""What the losing side wrote, read out of real servers and held against the doing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from agent.core.lineage import Fork
from agent.core.lsn import Lsn
from agent.divergence import shelf
from agent.divergence.extracted import Extraction, Source, TableRows
from agent.divergence.extraction import extract
from agent.divergence.model import Values
from agent.divergence.reading import Stretch, read_story
from agent.divergence.rowfiles import KeptRow, read_rows
from agent.divergence.story import Story
from agent.postgres.control import read_control
from agent.postgres.owner import give, owner_of
from agent.postgres.private import PrivateServer, prepare
from agent.postgres.wal import Chain
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres

SETTINGS = {"max_prepared_transactions": "4"}
COMMON = """
    CREATE TABLE plain (id serial PRIMARY KEY, word text, at timestamptz);
    INSERT INTO plain (word, at) SELECT 'w' || g, '2026-01-01 00:00+00'
        FROM generate_series(1, 30) g;
    CREATE TABLE nokey (a int, b text);
    INSERT INTO nokey SELECT g % 3, 'same' FROM generate_series(1, 9) g;
    CREATE TABLE part (id int, region text, PRIMARY KEY (id, region))
        PARTITION BY LIST (region);
    CREATE TABLE part_n PARTITION OF part FOR VALUES IN ('n');
    CREATE TABLE part_s PARTITION OF part FOR VALUES IN ('s');
    INSERT INTO part SELECT g, 'n' FROM generate_series(1, 5) g;
    CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied VALUES (1), (2);
    CREATE TABLE refilled (id int PRIMARY KEY); INSERT INTO refilled VALUES (1), (2);
    CREATE TABLE packed (id int PRIMARY KEY, v text);
    INSERT INTO packed VALUES (1, 'a'), (2, 'b'), (3, 'c');
    CREATE TABLE retyped (id int PRIMARY KEY, v text);
    INSERT INTO retyped VALUES (1, 'a'), (2, 'b');
    CREATE TABLE untouched (id int PRIMARY KEY); INSERT INTO untouched VALUES (1);
    CREATE TABLE wide (id int PRIMARY KEY, v text);
    ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
    INSERT INTO wide VALUES (1, 'small');
    CREATE UNLOGGED TABLE fleeting (id int); INSERT INTO fleeting VALUES (1);
    CREATE FOREIGN DATA WRAPPER nowhere;
    CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
    CREATE FOREIGN TABLE remote (id int) SERVER away;
    CREATE TABLE "Quoted ""Näme" ("Übel" int PRIMARY KEY, "a.b" text);
"""
DIVERGED = (
    "UPDATE plain SET word = 'changed' WHERE id IN (3, 4)",
    "UPDATE plain SET word = 'again' WHERE id = 4",
    "UPDATE plain SET id = 105 WHERE id = 5",
    "DELETE FROM plain WHERE id IN (6, 7)",
    (
        "BEGIN; INSERT INTO plain (word) VALUES ('kept'); SAVEPOINT s;"
        " INSERT INTO plain (word) VALUES ('dropped'); ROLLBACK TO s; SAVEPOINT t;"
        " INSERT INTO plain (word) VALUES ('nested'); COMMIT"
    ),
    "BEGIN; INSERT INTO plain (word) VALUES ('rolled back'); ROLLBACK",
    (
        "INSERT INTO plain (id, word) VALUES (8, 'x')"
        " ON CONFLICT (id) DO UPDATE SET word = 'upserted'"
    ),
    "INSERT INTO nokey VALUES (7, 'new'), (7, 'new')",
    "DELETE FROM nokey WHERE a = 0",
    "INSERT INTO part VALUES (9, 's')",
    "UPDATE part SET region = 's' WHERE id = 2",
    "TRUNCATE emptied",
    "INSERT INTO emptied VALUES (3)",
    (
        "BEGIN; TRUNCATE refilled; CREATE TABLE noise (id int);"
        " INSERT INTO refilled VALUES (5); DROP TABLE noise; COMMIT"
    ),
    "UPDATE packed SET v = 'changed' WHERE id = 2",
    "VACUUM FULL packed",
    "INSERT INTO packed VALUES (4, 'late')",
    "UPDATE packed SET v = 'after' WHERE id = 3",
    (
        "BEGIN; SAVEPOINT s; ALTER TABLE retyped ALTER id TYPE bigint;"
        " INSERT INTO retyped VALUES (3, 'late'); COMMIT"
    ),
    "INSERT INTO retyped VALUES (4, 'later')",
    "UPDATE wide SET v = repeat('q', 9000) WHERE id = 1",
    "INSERT INTO fleeting VALUES (2)",
    (
        "BEGIN; CREATE TABLE fresh (id int PRIMARY KEY, v text);"
        " INSERT INTO fresh VALUES (1, 'f'), (2, 'g'); COMMIT"
    ),
    'INSERT INTO "Quoted ""Näme" VALUES (1, \'tab\there\\and\nline\')',
    (
        "BEGIN; INSERT INTO plain (word) VALUES ('prepared');"
        " PREPARE TRANSACTION 'left open'"
    ),
    "ANALYZE plain",
)


@dataclass
class Loser:
    """A server that wrote on past a fork, and what the log tells of it."""

    server: Server
    fork_lsn: Lsn

    def story(self) -> Story:
        wal_dir = self.server.data_dir / "pg_wal"
        size = read_control(self.server.data_dir).wal_segment_bytes
        chain = Chain(wal_dir, (), 1, size)
        programs = self.server.programs
        return read_story(Stretch(programs, chain, self.fork_lsn, self.server.lsn))

    def dsn_for(self, name: str) -> str:
        return make_conninfo(self.server.dsn, dbname=name)

    @property
    def source(self) -> Source:
        fork = Fork(1, self.fork_lsn)
        return Source("s1", "n1", "7", 160000, fork, made_wall_s=1e9)


def run(server: Server, *statements: str, dbname: str = "postgres") -> None:
    with server.session(dbname) as session:
        for statement in statements:
            session.execute(statement)


def at_fork(server: Server) -> Loser:
    """Call what is there now the fork."""
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    return Loser(server, Lsn.parse(lsn))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    made = tmp_path / "snapshot"
    made.mkdir()
    return made


def extracted(
    loser: Loser, snapshot: Path, dsn_for: Callable[[str], str] | None = None
) -> Extraction:
    with shelf.renewed(snapshot) as folder:
        extract(loser.story(), dsn_for or loser.dsn_for, folder, source=loser.source)
    kept = shelf.read_extraction(shelf.folder_of(snapshot))
    assert kept is not None
    assert shelf.problems(shelf.folder_of(snapshot), kept) == ()
    return kept


class Seen:
    """What was kept of one database, by table."""

    def __init__(self, extraction: Extraction, snapshot: Path, name: str) -> None:
        self.database = next(each for each in extraction.databases if each.name == name)
        self._folder = shelf.folder_of(snapshot)

    def table(self, name: str) -> TableRows:
        return next(
            rows for rows in self.database.tables if rows.table.name.name == name
        )

    def rows(self, name: str) -> list[KeptRow]:
        return list(read_rows(self._folder / self.table(name).file))

    def born(self, name: str) -> list[Values]:
        """Rows that were not there at the fork, or came into a new file later."""
        return sorted(
            row.values for row in self.rows(name) if row.values and not row.was
        )

    def changed(self, name: str) -> dict[int, Values]:
        """By where they were."""
        return {
            row.was: row.values
            for row in self.rows(name)
            if row.values and row.was and row.was != row.now
        }

    def carried(self, name: str) -> list[Values]:
        return [
            row.values for row in self.rows(name) if row.values and row.was == row.now
        ]

    def gone(self, name: str) -> list[int | None]:
        return [row.was for row in self.rows(name) if row.now is None]


def test_every_touched_row_is_kept_with_what_was_done_to_it(
    stage: Stage, snapshot: Path
):
    server = stage.primary(**SETTINGS)
    run(server, COMMON)
    loser = at_fork(server)
    run(server, *DIVERGED)
    extraction = extracted(loser, snapshot)
    seen = Seen(extraction, snapshot, "postgres")

    at = "2026-01-01 00:00:00+00"
    # Ids are places here: the table was filled in order, and is one block.
    assert seen.born("plain") == [("31", "kept", None), ("33", "nested", None)]
    assert seen.changed("plain") == {
        3: ("3", "changed", at), 4: ("4", "again", at), 5: ("105", "w5", at),
        8: ("8", "upserted", at),
    }  # fmt: skip
    assert seen.gone("plain") == [6, 7]
    assert seen.born("nokey") == [("7", "new"), ("7", "new")]
    assert seen.gone("nokey") == [3, 6, 9]
    assert seen.born("part_s") == [("2", "s"), ("9", "s")]
    assert seen.gone("part_n") == [2]
    assert str(seen.table("part_s").table.root) == "public.part"
    assert seen.changed("wide") == {1: ("1", "q" * 9000)}
    assert seen.born('Quoted "Näme') == [("1", "tab\there\\and\nline")]
    assert [str(each) for each in seen.database.sequences] == ["public.plain_id_seq"]
    assert {rows.table.name.name for rows in seen.database.tables} == {
        "plain", "nokey", "part_n", "part_s", "emptied", "packed", "retyped", "wide",
        "fresh", "refilled", 'Quoted "Näme',
    }  # fmt: skip
    _holds_whole_tables(seen)
    _names_what_it_did_not_read(extraction)
    _counts_transactions(extraction)


def _holds_whole_tables(seen: Seen) -> None:
    """Where the file is a new one, all rows are there, and which came in later."""
    assert seen.born("emptied") == [("3",)]
    assert seen.born("refilled") == [("5",)]
    assert seen.carried("packed") == [("1", "a"), ("2", "changed")]
    assert list(seen.changed("packed").values()) == [("3", "after")]
    assert seen.born("packed") == [("4", "late")]
    assert seen.carried("retyped") == [("1", "a"), ("2", "b")]
    assert seen.born("retyped") == [("3", "late"), ("4", "later")]
    assert seen.born("fresh") == [("1", "f"), ("2", "g")]
    untouched = {
        rows.table.name.name: rows.untouched
        for rows in seen.database.tables
        if rows.whole
    }
    assert untouched == {
        "emptied": True, "refilled": True, "packed": False, "retyped": True,
        "fresh": True,
    }  # fmt: skip
    retyped = seen.table("retyped")
    assert {row.xid for row in seen.rows("retyped")} >= {retyped.made_by}
    assert (retyped.born, retyped.changed, retyped.carried) == (2, 0, 2)


def _names_what_it_did_not_read(extraction: Extraction) -> None:
    whats = {each.what: each.reason for each in extraction.unread}
    assert set(whats) == {
        "prepared transaction 'left open' in database postgres",
        "table public.remote in database postgres",
        "table public.fleeting in database postgres",
    }
    assert "foreign" in whats["table public.remote in database postgres"]
    assert "unlogged" in whats["table public.fleeting in database postgres"]


def _counts_transactions(extraction: Extraction) -> None:
    counted = extraction.transactions
    # ANALYZE, and the write into the unlogged table, of which the log has no row.
    assert counted.maintenance == 2
    assert counted.user == counted.committed - counted.maintenance
    assert counted.first_s is not None
    assert counted.last_s is not None
    assert counted.first_s < counted.last_s


def test_databases_of_other_encodings_and_new_ones_are_read(
    stage15: Stage, snapshot: Path
):
    server = stage15.primary()
    for name, encoding in (("latin", "LATIN1"), ("bytes", "SQL_ASCII")):
        made = f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' ENCODING"
        run(server, f"{made} '{encoding}'")
        run(server, "CREATE TABLE t (id int PRIMARY KEY, v text)", dbname=name)
    run(server, "CREATE DATABASE shut ALLOW_CONNECTIONS false")
    loser = at_fork(server)
    run(server, "INSERT INTO t VALUES (1, 'Übel')", dbname="latin")
    nothing_in_utf8 = "INSERT INTO t VALUES (1, convert_from('\\xfc41', 'SQL_ASCII'))"
    run(server, nothing_in_utf8, dbname="bytes")
    run(server, "CREATE DATABASE late TEMPLATE latin")
    run(server, "INSERT INTO t VALUES (2, 'late')", dbname="late")
    extraction = extracted(loser, snapshot)

    assert Seen(extraction, snapshot, "latin").born("t") == [("1", "Übel")]
    assert Seen(extraction, snapshot, "bytes").born("t") == [("1", "\udcfcA")]
    late = Seen(extraction, snapshot, "late")
    assert late.table("t").whole
    assert late.born("t") == [("2", "late")]
    assert late.carried("t") == [("1", "Übel")]
    encodings = {each.name: each.encoding for each in extraction.databases}
    assert (encodings["latin"], encodings["bytes"]) == ("LATIN1", "SQL_ASCII")


def test_tables_and_databases_in_tablespaces_are_found_by_their_files(
    stage16: Stage, snapshot: Path
):
    server = stage16.primary()
    place = server.socket_dir / "space"
    place.mkdir()
    give(place, owner_of(server.data_dir))
    run(server, f"CREATE TABLESPACE side LOCATION '{place}'")
    run(server, "CREATE DATABASE aside TABLESPACE side")
    run(server, "CREATE TABLE t (id int); CREATE TABLE back (id int)", dbname="aside")
    run(server, "ALTER TABLE back SET TABLESPACE pg_default", dbname="aside")
    run(server, "CREATE TABLE t (id int) TABLESPACE side")
    loser = at_fork(server)
    run(server, "INSERT INTO t VALUES (1)")
    run(server, "INSERT INTO t VALUES (2); INSERT INTO back VALUES (3)", dbname="aside")
    extraction = extracted(loser, snapshot)
    assert Seen(extraction, snapshot, "postgres").born("t") == [("1",)]
    aside = Seen(extraction, snapshot, "aside")
    assert (aside.born("t"), aside.born("back")) == ([("2",)], [("3",)])


def test_an_opened_copy_tells_the_same_as_the_running_server(
    stage16: Stage, snapshot: Path
):
    server = stage16.primary(**SETTINGS)
    run(server, COMMON)
    loser = at_fork(server)
    run(server, *DIVERGED)
    live = extracted(loser, snapshot)
    story = loser.story()
    server.crash()
    copy = stage16.scratch(server)
    prepare(copy)
    told: list[tuple[int, int]] = []
    with (
        PrivateServer(copy, server.programs) as opened,
        shelf.renewed(snapshot) as folder,
    ):
        extract(
            story, opened.dsn_for, folder, source=loser.source,
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
    again = shelf.read_extraction(shelf.folder_of(snapshot))
    assert again is not None
    assert (again.databases, again.unread) == (live.databases, live.unread)
    assert told[-1] == (again.rows - _gone(again), again.rows - _gone(again))


def _gone(extraction: Extraction) -> int:
    return sum(
        table.gone for database in extraction.databases for table in database.tables
    )


def test_what_does_not_fit_the_log_is_said(stage16: Stage, snapshot: Path):
    server = stage16.primary()
    run(server, "CREATE TABLE t (id int); CREATE TABLE locked (id int)")
    loser = at_fork(server)
    run(server, "INSERT INTO t SELECT generate_series(1, 3)")
    run(server, "INSERT INTO t VALUES (4)", "INSERT INTO locked VALUES (1)")
    story = loser.story()
    oid = server.value("SELECT relfilenode FROM pg_class WHERE relname = 't'")
    (file,) = [file for file in story.rows if file.filenode == oid]
    story.rows[file].born |= {77, 78 << 16 | 1}
    del story.committed[max(story.committed) - 1]  # that of the row with a 4
    with server.session() as reader, shelf.renewed(snapshot) as folder:
        reader.execute("CREATE ROLE looker LOGIN")
        reader.execute("GRANT SELECT ON t TO looker")
        dsn = make_conninfo(server.dsn, user="looker")
        extraction = extract(
            story, lambda name: make_conninfo(dsn, dbname=name), folder,
            source=loser.source,
        )  # fmt: skip
    seen = Seen(extraction, snapshot, "postgres")
    assert seen.born("t") == [("1",), ("2",), ("3",), ("4",)]
    reasons = {(each.what, each.reason) for each in extraction.unread}
    t = "table public.t in database postgres"
    assert (
        t,
        "2 rows that the log tells of are not there, such as the one at (0,77)",
    ) in reasons
    assert any(what == t and "commit is not in the log" in why for what, why in reasons)
    locked = "table public.locked in database postgres"
    assert any(what == locked and "permission denied" in why for what, why in reasons)


def test_who_began_before_the_kept_log_is_looked_for_everywhere(
    stage16: Stage, snapshot: Path
):
    server = stage16.primary()
    run(server, "CREATE TABLE t (id int); CREATE TABLE other (id int)")
    with server.session() as long:
        long.execute("BEGIN; INSERT INTO other VALUES (1)")
        run(server, "SELECT pg_switch_wal()", "CHECKPOINT")
        loser = at_fork(server)
        long.execute("INSERT INTO t VALUES (2); COMMIT")
    wal = sorted(path.name for path in (server.data_dir / "pg_wal").glob("0*"))
    whole = loser.story()
    (server.data_dir / "pg_wal" / wal[0]).rename(server.data_dir / "aside")
    story = loser.story()
    assert not whole.early
    assert len(story.early) == 1
    with shelf.renewed(snapshot) as folder:
        extraction = extract(story, loser.dsn_for, folder, source=loser.source)
    seen = Seen(extraction, snapshot, "postgres")
    assert seen.born("t") == [("2",)]
    assert seen.born("other") == [("1",)]
    assert "began before" in seen.table("other").reason
    assert [each.what for each in extraction.unread] == [
        "rows deleted by transactions that had begun before the kept log"
    ]
