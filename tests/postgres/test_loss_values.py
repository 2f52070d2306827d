"""Rows as texts and tables as described, on real servers with odd settings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from psycopg import sql

from agent.divergence import values
from agent.divergence.catalog import read_tables
from agent.divergence.model import Name, Relation, Table, Values, place_of
from agent.errors import PostgresError
from agent.postgres.connect import Session, connect
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres

ODD = {
    "DateStyle": "German",
    "TimeZone": "Asia/Tokyo",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "quote_all_identifiers": "on",
    "xmloption": "document",
}
TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE TABLE every (
        id int PRIMARY KEY, b bool, f float8, r real, n numeric, m money, t text,
        c char(5), v varchar(20), y bytea, d date, ts timestamp, tz timestamptz,
        iv interval, j json, jb jsonb, bits bit(3), vb bit varying, rg int4range,
        tr tstzrange, ia int[], ta text[], e mood, p pair, pa pair[], dm small,
        u uuid, ip inet, pt point, one "char", o oid, ts_v tsvector
    );
    INSERT INTO every VALUES (
        1, true, '0.30000000000000004', 'NaN', 'NaN', '1234.5',
        E'tab\\t, \\\\N \\\\ "q" \\b\\f\\x0b\\r\\n é€𝄞',
        'ab', 'pad  ', '\\x00ff5c'::bytea,
        '0044-03-15 BC', 'infinity', '2026-03-29 02:30:00.123456+02',
        '-1 year 3 days -04:05:06.7', '{"b": 1, "a" : 2}', '{"b": 1, "a": 2}', B'101',
        B'1', '[1,5)', '["2026-01-01 00:00+09",)', '{{1,NULL},{3,4}}',
        '{"a,b","",NULL,"NULL","\\\\\\""}', 'it''s ok', '(1,"x y")',
        ARRAY[(1, 'q"')::pair, (NULL, NULL)::pair], 99,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '(1.5,-2)', 'x',
        4294967295, 'the:1 quick:2A'
    );
    INSERT INTO every (id) VALUES (2);
"""


@contextmanager
def reading(
    server: Server, dbname: str = "postgres", user: str = "postgres"
) -> Iterator[Session]:
    """A settled session, as the loss report's are."""
    with connect(f"{server.dsn} user={user}", dbname=dbname) as session:
        values.settle(session)
        yield session


def run(server: Server, *statements: str, dbname: str = "postgres") -> None:
    with server.session(dbname) as session:
        for statement in statements:
            session.execute(statement)


def tables(session: Session) -> dict[str, Table]:
    (oid,) = session.execute(
        "SELECT oid FROM pg_database WHERE datname = current_database()"
    ).fetchone() or (0,)
    return {table.name.name: table for table in read_tables(session, oid)}


def all_of(session: Session, name: str) -> list[Values]:
    table = tables(session)[name]
    return [row for _, _, row in values.fetch_all(session, table)]


def test_every_kind_of_value_reads_alike_and_reads_back(stage: Stage):
    server = stage.primary()
    run(server, TYPES, "CREATE ROLE odd LOGIN SUPERUSER")
    for name, value in ODD.items():
        run(server, f"ALTER ROLE odd SET {name} = '{value}'")
    with reading(server) as here, reading(server, user="odd") as there:
        expected = all_of(here, "every")
        assert all_of(there, "every") == expected
        table = tables(there)["every"]
        first = dict(
            zip((each.name for each in table.columns), expected[0], strict=True)
        )
        assert first["t"] == 'tab\t, \\N \\ "q" \b\f\v\r\n é€𝄞'
        assert first["f"] == "0.30000000000000004"
        assert first["tz"] == "2026-03-29 00:30:00.123456+00"
        assert first["y"] == "\\x00ff5c"
        assert first["c"] == "ab   "
        assert first["m"] == "$1,234.50"
        assert expected[1][1:] == (None,) * (len(table.columns) - 1)
        types = {column.name: column.type for column in table.columns}
        assert (types["e"], types["pa"]) == ("public.mood", "public.pair[]")
        _write_back(there, table, expected[0])
        assert all_of(there, "again")[0] == expected[0]


def _write_back(session: Session, table: Table, row: Values) -> None:
    session.execute("CREATE TABLE public.again (LIKE public.every)")
    texts = sql.SQL(", ").join(values.literal(value) for value in row)
    session.execute(
        sql.SQL("INSERT INTO public.again ({}) VALUES ({})").format(
            sql.SQL(", ").join(values.identifier(each.name) for each in table.columns),
            texts,
        )
    )


SCHEMA = """
    CREATE SCHEMA "Odd schema";
    CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY, region text, note serial,
        PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE middle PARTITION OF parent FOR VALUES IN ('a', 'b')
        PARTITION BY LIST (region);
    CREATE TABLE leaf PARTITION OF middle FOR VALUES IN ('a');
    CREATE TABLE "Odd schema"."Tä""ble" (
        "Key 1" bigserial, "key,2" text NOT NULL, gone int, code text UNIQUE,
        twice int GENERATED ALWAYS AS ("Key 1" * 2) STORED, later int, other int,
        PRIMARY KEY ("key,2", "Key 1"),
        CONSTRAINT late UNIQUE (later) DEFERRABLE INITIALLY DEFERRED
    );
    ALTER TABLE "Odd schema"."Tä""ble" DROP COLUMN gone;
    CREATE UNIQUE INDEX ON "Odd schema"."Tä""ble" (other) WHERE other > 0;
    CREATE UNIQUE INDEX ON "Odd schema"."Tä""ble" (lower(code));
    CREATE UNIQUE INDEX ON "Odd schema"."Tä""ble" (other, later) INCLUDE (code);
    CREATE TABLE refers (id int, a text, b bigint, r text,
        FOREIGN KEY (a, b) REFERENCES "Odd schema"."Tä""ble" DEFERRABLE,
        FOREIGN KEY (id, r) REFERENCES parent);
    CREATE TABLE named (id int NOT NULL, v text);
    CREATE UNIQUE INDEX named_id ON named (id);
    ALTER TABLE named REPLICA IDENTITY USING INDEX named_id;
    CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one;
    CREATE UNLOGGED TABLE fleeting (id int);
    CREATE VIEW shown AS SELECT 1;
    CREATE TEMP TABLE passing (id int);
    CREATE TABLE bare ();
    INSERT INTO bare DEFAULT VALUES;
    CREATE SEQUENCE mine;
    CREATE TABLE base (id int DEFAULT nextval('mine') PRIMARY KEY);
    CREATE TABLE child () INHERITS (base);
"""


def test_tables_are_described_with_keys_parents_and_sequences(stage: Stage):
    server = stage.primary()
    run(server, SCHEMA)
    with reading(server) as session:
        found = tables(session)
        assert set(found) == {
            "leaf", 'Tä"ble', "refers", "named", "seen", "fleeting", "bare", "base",
            "child",
        }  # fmt: skip
        _describes_the_odd_one(found['Tä"ble'])
        _describes_relations(server, found)
        assert all_of(session, "bare") == [()]


def test_every_other_version_is_read_by_its_own_catalogue(other: Stage):
    server = other.primary()
    run(
        server,
        "CREATE TABLE parent (id int NOT NULL, r text) PARTITION BY LIST (r)",
        "CREATE TABLE leaf PARTITION OF parent (PRIMARY KEY (id)) FOR VALUES IN ('a')",
        "CREATE TABLE t (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY,"
        " code text UNIQUE, at timestamptz, leaf int REFERENCES leaf)",
        "INSERT INTO parent VALUES (1, 'a')",
        "INSERT INTO t (code, at, leaf) VALUES ('x', '2026-01-01 00:00+00', 1)",
    )
    with reading(server) as session:
        found = tables(session)
        assert found["leaf"].root == Name("public", "parent")
        table = found["t"]
        assert table.keys == (("id",), ("code",))
        assert [column.identity for column in table.columns[:2]] == ["", "a"]
        assert str(table.columns[0].sequence) == "public.t_id_seq"
        assert str(table.columns[1].sequence) == "public.t_n_seq"
        assert [key.table.name for key in table.foreign_keys] == ["leaf"]
        (hit,) = values.fetch_by_key(session, table, ("code",), [("x",)])
        assert hit[3] == ("1", "1", "x", "2026-01-01 00:00:00+00", "1")
        (row,) = values.fetch(session, table, [hit[1]])
        assert row == hit[1:]


def _describes_the_odd_one(odd: Table) -> None:
    assert odd.name == Name("Odd schema", 'Tä"ble')
    assert [column.name for column in odd.columns] == [
        "Key 1", "key,2", "code", "twice", "later", "other",
    ]  # fmt: skip
    assert odd.primary == ("key,2", "Key 1")
    assert odd.uniques == (("code",), ("later",), ("other", "later"))
    assert odd.columns[0].sequence == Name("Odd schema", 'Tä"ble_Key 1_seq')
    assert [column.name for column in odd.columns if column.generated] == ["twice"]


def _describes_relations(server: Server, found: dict[str, Table]) -> None:
    leaf = found["leaf"]
    assert leaf.root == Name("public", "parent")
    identity, _, note = leaf.columns
    assert (identity.identity, str(identity.sequence)) == ("a", "public.parent_id_seq")
    assert str(note.sequence) == "public.parent_note_seq"
    assert leaf.primary == ("id", "region")
    refers = {key.columns: key for key in found["refers"].foreign_keys}
    assert set(refers) == {("a", "b"), ("id", "r")}
    assert refers["a", "b"].referenced == ("key,2", "Key 1")
    assert refers["a", "b"].deferrable
    assert refers["id", "r"].table == Name("public", "parent")
    assert (found["named"].primary, found["named"].uniques) == (("id",), ())
    assert (found["seen"].kind, found["fleeting"].persistence) == ("m", "u")
    assert str(found["base"].columns[0].sequence) == "public.mine"
    assert found["child"].root is None
    database, node = server.query(
        "SELECT d.oid, c.relfilenode FROM pg_database d, pg_class c"
        " WHERE datname = current_database() AND relname = 'leaf'"
    )[0]
    assert leaf.relation == Relation(1663, database, node)
    assert leaf.toast is not None


def test_rows_are_found_by_place_by_key_and_by_transaction(stage: Stage):
    server = stage.primary()
    run(
        server,
        "CREATE TABLE t (a numeric, b char(4), c text, PRIMARY KEY (a, b))",
        "INSERT INTO t SELECT g, 'k', 'v' || g FROM generate_series(1, 2500) g",
        "UPDATE t SET c = 'new' WHERE a = 7",
    )
    xid = server.value("SELECT xmin::text::int FROM t WHERE a = 7")
    with reading(server) as session:
        table = tables(session)["t"]
        rows = list(values.fetch_all(session, table))
        assert len(rows) == 2500
        places = [place for place, _, _ in rows]
        nothing = [place_of(0, 7), place_of(99_999, 1), place_of(0, 60_000)]
        assert list(values.fetch(session, table, [*nothing, *places])) == rows
        keys: list[Values] = [("7.00", "k"), (None, "k"), ("-1", "k"), ("2500", "k   ")]
        keys += [(str(number), "k") for number in range(1, 2001)]
        found = list(values.fetch_by_key(session, table, ("a", "b"), keys))
        by_index = {index: row for index, _, _, row in found}
        assert by_index[0] == ("7", "k   ", "new")
        assert by_index[3] == ("2500", "k   ", "v2500")
        assert len(found) == 2002
        assert {1, 2}.isdisjoint(by_index)
        (only,) = values.fetch_by_xid(session, table, [xid, 4_000_000_000])
        assert only[1:] == (xid, ("7", "k   ", "new"))


def test_one_table_that_cannot_be_read_leaves_the_rest_readable(stage16: Stage):
    server = stage16.primary()
    run(
        server,
        "CREATE TABLE a (id int)",
        "CREATE TABLE b (id int)",
        "CREATE TABLE hidden (id int)",
        "INSERT INTO a VALUES (1); INSERT INTO hidden VALUES (2), (3);"
        " INSERT INTO b VALUES (4)",
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON hidden USING (id = 2)",
        "CREATE ROLE looker LOGIN; GRANT pg_read_all_data TO looker",
    )
    with connect(f"{server.dsn} user=looker") as session:
        values.settle(session)
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = tables(session)
        assert len(list(values.fetch_all(session, found["a"]))) == 1
        with pytest.raises(PostgresError, match=r"public\.hidden.*row-level") as caught:
            list(values.fetch_all(session, found["hidden"]))
        assert "BYPASSRLS" in caught.value.hint
        run(server, "DROP TABLE b")
        with pytest.raises(PostgresError, match=r"public\.b"):
            list(values.fetch_by_key(session, found["b"], ("id",), [("4",)]))
        with pytest.raises(PostgresError, match="invalid input syntax"):
            list(values.fetch_by_key(session, found["a"], ("id",), [("x",)]))
        half = values.fetch_all(session, found["a"])
        next(half)
        half.close()
        assert len(list(values.fetch_all(session, found["a"]))) == 1
        session.execute("COMMIT")


def test_the_server_says_which_keys_are_equal(stage15: Stage):
    server = stage15.primary()
    run(
        server,
        "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext",
        "CREATE DOMAIN tag AS ext.citext; CREATE TYPE mood AS ENUM ('x', 'y')",
        "CREATE TABLE c (id ext.citext PRIMARY KEY, d tag UNIQUE, e mood UNIQUE,"
        " i int[] UNIQUE, n name UNIQUE)",
        "INSERT INTO c VALUES ('Mixed', 'Tag', 'y', '{1,2}', 'é')",
        "CREATE TABLE ext.owned (id int); ALTER EXTENSION citext ADD TABLE ext.owned",
    )
    with reading(server) as session:
        found = tables(session)
        assert found["owned"].extension == "citext"
        table = found["c"]
        looked_up: list[tuple[str, str]] = [
            ("id", "mIXED"), ("d", "TAG"), ("e", "y"), ("i", "{1, 2}"), ("n", "é"),
        ]  # fmt: skip
        for column, key in looked_up:
            hits = list(values.fetch_by_key(session, table, (column,), [(key,)]))
            assert [row[3][0] for row in hits] == ["Mixed"], column


def test_bytes_that_are_no_text_survive_in_names_and_values(stage16: Stage):
    server = stage16.primary()
    run(
        server,
        "CREATE DATABASE bytes TEMPLATE template0 LOCALE 'C' ENCODING 'SQL_ASCII'",
        "CREATE DATABASE latin TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'",
    )
    run(server, 'CREATE TABLE "Ü" ("ß" text PRIMARY KEY)', dbname="latin")
    run(server, "INSERT INTO \"Ü\" VALUES ('ÿ')", dbname="latin")
    with server.session("bytes") as session:
        for statement in (
            b'CREATE TABLE "n\xfc" ("k\xff\'" text PRIMARY KEY, "\xc3\xbc" text)',
            b"INSERT INTO \"n\xfc\" VALUES (E'\xfe\\\\\t\"''', '\xc3\xa9')",
        ):
            session.execute(statement)
    with reading(server, "latin") as session:
        assert all_of(session, "Ü") == [("ÿ",)]
        _found_by(session, "Ü", ("ÿ",))
    with reading(server, "bytes") as session:
        row = ("\udcfe\\\t\"'", "é")
        assert all_of(session, "n\udcfc") == [row]
        assert [each.name for each in tables(session)["n\udcfc"].columns] == [
            "k\udcff'", "ü",
        ]  # fmt: skip
        _found_by(session, "n\udcfc", row[:1])


def _found_by(session: Session, name: str, key: Sequence[str | None]) -> None:
    table = tables(session)[name]
    hits = list(values.fetch_by_key(session, table, table.primary, [tuple(key)]))
    assert [hit[0] for hit in hits] == [0]


def test_documents_and_pieces_of_xml_read_back(stage15: Stage):
    server = stage15.primary(xmloption="document")
    run(server, "CREATE TABLE x (id int, v xml)")
    run(server, "SET xmloption TO content; INSERT INTO x VALUES (1, '<a>é</a>tail')")
    with reading(server) as session:
        assert all_of(session, "x") == [("1", "<a>é</a>tail")]
        session.execute(
            sql.SQL("INSERT INTO public.x VALUES (2, {})").format(
                values.literal("<a>é</a>tail")
            )
        )


def test_columns_that_are_computed_when_read_are_read(stage18: Stage):
    server = stage18.primary()
    run(
        server,
        "CREATE TABLE v (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2))",
        "INSERT INTO v VALUES (4)",
    )
    with reading(server) as session:
        table = tables(session)["v"]
        assert [column.generated for column in table.columns] == [False, True]
        assert all_of(session, "v") == [("4", "8")]
