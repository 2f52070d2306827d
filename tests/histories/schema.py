"""The tables that every history plays on: one for each special case.

Theory of operation. A table is described once, for the server (`ddl`) and for the
client's model (columns, keys, references, leaves of a partitioned table). What a server
cannot have (citext, ICU, virtual columns) is asked for at set-up and left out there.
Tables with a `fate` are those on which a side may run a command that gives them another
file or another shape; all others keep theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.histories import texts
from tests.histories.texts import Cell, Kind, name

Row = dict[str, str | None]
"""Printed values by column."""
MAIN, SECOND = "postgres", 'zweite "DB" ü'
DATABASES = (MAIN, SECOND)
ODD_SCHEMA = "Kunden Ünï"


@dataclass(frozen=True)
class ColumnSpec:
    """One column."""

    name: str
    kind: Kind
    key: Callable[[int], Cell] | None = None
    """Draws by number what no other row has."""
    clause: str = ""
    serial: bool = False
    """The server fills it when a statement does not."""
    computed: Callable[[Row], str | None] | None = None
    required: bool = False


@dataclass(frozen=True)
class Reference:
    """A foreign key of one column, to a table's first primary column."""

    column: str
    table: str
    on_delete: str
    """`CASCADE`, `SET NULL` or `RESTRICT`."""


@dataclass(frozen=True)
class TableSpec:
    """One table, or the root of a partitioned one."""

    name: str
    columns: tuple[ColumnSpec, ...]
    primary: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    schema: str = "public"
    database: str = MAIN
    references: tuple[Reference, ...] = ()
    fate: str = ""
    after: tuple[str, ...] = ()
    """Statements after CREATE TABLE."""
    storage: str = ""
    leaf: Callable[[Row], str] | None = None
    leaves: tuple[str, ...] = ()
    identity: bool = True
    """Its `primary` is a primary key, else a replica identity."""
    unlogged: bool = False
    rekeyed: bool = True
    """Its keys may be updated."""

    @property
    def sql(self) -> str:
        """Its quoted name."""
        return f"{name(self.schema)}.{name(self.name)}"

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns that names a row, the best first."""
        return ((self.primary,) if self.primary else ()) + self.uniques

    def column(self, wanted: str) -> ColumnSpec:
        """Return a column by its name."""
        return next(each for each in self.columns if each.name == wanted)

    def key_of(self, key: tuple[str, ...], row: Row) -> tuple[str, ...] | None:
        """Return what equal keys have in common; None: a NULL equals nothing."""
        found = []
        for each in key:
            value = row[each]
            if value is None:
                return None
            found.append(self.column(each).kind.fold(value))
        return tuple(found)

    def leaf_of(self, row: Row) -> str:
        """Return the table that holds this row."""
        return self.leaf(row) if self.leaf else self.name

    def ddl(self) -> list[str]:
        """Return the statements that make it."""
        lines = [
            f"{name(each.name)} {each.kind.sql} {each.clause}"
            + (" NOT NULL" if each.required else "")
            for each in self.columns
        ]
        if self.primary and self.identity:
            lines.append(f"PRIMARY KEY ({names(self.primary)})")
        lines += [f"UNIQUE ({names(each)})" for each in self.uniques]
        lines += [
            f"FOREIGN KEY ({name(each.column)}) REFERENCES {each.table}"
            f" ON DELETE {each.on_delete} DEFERRABLE"
            for each in self.references
        ]
        kind = "UNLOGGED TABLE" if self.unlogged else "TABLE"
        body = ", ".join(lines)
        return [f"CREATE {kind} {self.sql} ({body}) {self.storage}", *self.after]


def names(columns: tuple[str, ...] | list[str]) -> str:
    """Return quoted names, with commas."""
    return ", ".join(name(each) for each in columns)


def _id(kind: Kind = texts.INT) -> ColumnSpec:
    return ColumnSpec("id", kind, texts.number_key, required=True)


def _serial(table: str) -> ColumnSpec:
    clause = f"DEFAULT nextval('public.{table}_id_seq')"
    return ColumnSpec(
        "id", texts.BIGINT, texts.number_key, clause, serial=True, required=True
    )


def _identity(word: str) -> ColumnSpec:
    clause = f"GENERATED {word} AS IDENTITY"
    return ColumnSpec("id", texts.INT, texts.number_key, clause, serial=True)


def _double(row: Row) -> str | None:
    n = row["n"]
    return None if n is None else str(int(n) * 2)


HALF = 500_000
"""Where the inner partitions of `event` part; drawn numbers lie below."""


EVENT_PARTITIONS = (
    f"""
    CREATE TABLE public.event_2026 PARTITION OF public.event
      FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (id);
    CREATE TABLE public.event_2027 PARTITION OF public.event
      FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
    CREATE TABLE public."event 2026 «a»" PARTITION OF public.event_2026
      FOR VALUES FROM (MINVALUE) TO ({HALF});
    CREATE TABLE public.event_2026_b PARTITION OF public.event_2026
      FOR VALUES FROM ({HALF}) TO (MAXVALUE)
    """,
)


def _event_leaf(row: Row) -> str:
    assert row["day"] is not None
    assert row["id"] is not None
    if row["day"] >= "2027":
        return "event_2027"
    return "event 2026 «a»" if int(row["id"]) < HALF else "event_2026_b"


def _event_key(number: int) -> Cell:
    return texts.number_key(number + number % 2 * HALF)


def _fated(fate: str, table: str, more: tuple[ColumnSpec, ...] = ()) -> TableSpec:
    columns = (_id(), ColumnSpec("n", texts.INT), ColumnSpec("v", texts.TEXT), *more)
    return TableSpec(table, columns, ("id",), fate=fate)


TABLES: tuple[TableSpec, ...] = (
    TableSpec(
        "item",
        (_serial("item"), ColumnSpec("name", texts.TEXT, texts.text_key),
         ColumnSpec("n", texts.INT), ColumnSpec("note", texts.TEXT),
         ColumnSpec("big", texts.BIG)),
        ("id",), (("name",),), after=("CREATE INDEX ON public.item (n)",),
    ),
    TableSpec(
        "ident",
        (_identity("BY DEFAULT"), ColumnSpec("doc", texts.JSONB),
         ColumnSpec("raw", texts.JSON), ColumnSpec("tags", texts.TEXTS),
         ColumnSpec("nums", texts.INTS)),
        ("id",),
    ),
    TableSpec(
        "pair",
        (ColumnSpec("id", texts.INT, texts.number_key), ColumnSpec("f", texts.FLOAT),
         ColumnSpec("tenant", texts.WORD, required=True),
         ColumnSpec("r", texts.REAL), ColumnSpec("num", texts.NUMBER),
         ColumnSpec("price", texts.PRICE), ColumnSpec("raw", texts.BYTES),
         ColumnSpec("at", texts.INSTANT)),
        ("tenant", "id"), rekeyed=False,
    ),
    TableSpec("loose", (ColumnSpec("a", texts.SMALL), ColumnSpec("b", texts.WORD))),
    TableSpec(
        "loose_full", (ColumnSpec("a", texts.SMALL), ColumnSpec("b", texts.FLOAT)),
        after=("ALTER TABLE public.loose_full REPLICA IDENTITY FULL",),
    ),
    TableSpec(
        "replica",
        (ColumnSpec("v", texts.TEXT),
         ColumnSpec("code", texts.TEXT, texts.text_key, required=True)),
        ("code",), identity=False,
        after=("CREATE UNIQUE INDEX replica_code ON public.replica (code)",
               "ALTER TABLE public.replica REPLICA IDENTITY USING INDEX replica_code"),
    ),
    TableSpec(
        "kinds",
        (ColumnSpec("mood", texts.MOOD), ColumnSpec("id", texts.UUID, texts.uuid_key),
         ColumnSpec("many", texts.POSITIVE), ColumnSpec("ok", texts.BOOL),
         ColumnSpec("n", texts.SMALL), ColumnSpec("code", texts.CODE),
         ColumnSpec("short", texts.SHORT), ColumnSpec("day", texts.DAY),
         ColumnSpec("span", texts.SPAN), ColumnSpec("spot", texts.POINT),
         ColumnSpec("twice", texts.INT, computed=_double,
                    clause="GENERATED ALWAYS AS (n * 2) STORED")),
        ("id",),
    ),
    TableSpec(
        "event",
        (ColumnSpec("id", texts.INT, _event_key),
         ColumnSpec("day", texts.DAY, required=True), ColumnSpec("v", texts.TEXT)),
        ("day", "id"), rekeyed=False, leaf=_event_leaf,
        leaves=("event_2027", "event 2026 «a»", "event_2026_b"),
        storage="PARTITION BY RANGE (day)",
        after=EVENT_PARTITIONS,
    ),
    TableSpec(
        "parent", (_serial("parent"), ColumnSpec("v", texts.TEXT)), ("id",),
        rekeyed=False,
    ),
    TableSpec(
        "child",
        (_serial("child"), ColumnSpec("parent_id", texts.BIGINT),
         ColumnSpec("v", texts.TEXT)),
        ("id",), references=(Reference("parent_id", "parent", "RESTRICT"),),
        rekeyed=False,
    ),
    TableSpec(
        "grandchild",
        (_serial("grandchild"), ColumnSpec("child_id", texts.BIGINT),
         ColumnSpec("v", texts.TEXT)),
        ("id",), references=(Reference("child_id", "child", "CASCADE"),),
    ),
    TableSpec(
        "tree",
        (_serial("tree"), ColumnSpec("up", texts.BIGINT), ColumnSpec("v", texts.TEXT)),
        ("id",), references=(Reference("up", "tree", "SET NULL"),), rekeyed=False,
    ),
    TableSpec(
        'Größe "x" 表',
        (ColumnSpec("Ort id", texts.INT, texts.number_key),
         ColumnSpec("select", texts.TEXT), ColumnSpec('na"ïve', texts.TEXT),
         ColumnSpec("$1 %s", texts.INT)),
        ("Ort id",), schema=ODD_SCHEMA,
    ),
    TableSpec(
        "big",
        (_id(), ColumnSpec("blob", texts.BIG), ColumnSpec("n", texts.INT)), ("id",),
        after=("ALTER TABLE public.big ALTER blob SET STORAGE EXTERNAL",),
    ),
    TableSpec(
        "hot", (_id(), ColumnSpec("n", texts.INT), ColumnSpec("pad", texts.TEXT)),
        ("id",), storage="WITH (fillfactor = 50)",
    ),
    _fated("full", "moved"),
    _fated("cluster", "clustered"),
    _fated("retype", "retyped"),
    _fated("widen", "widened"),
    _fated("truncate", "emptied"),
    _fated("drop", "doomed"),
    _fated("create", "fresh"),
    TableSpec("fleeting", (_id(), ColumnSpec("v", texts.TEXT)), ("id",),
              unlogged=True),
    TableSpec(
        "item",
        (_id(), ColumnSpec("v", texts.TEXT), ColumnSpec("w", texts.INT)), ("id",),
        database=SECOND,
    ),
    TableSpec("notes", (ColumnSpec("b", texts.WORD),), database=SECOND),
)  # fmt: skip

LAX_TABLE = TableSpec(
    "lax",
    (ColumnSpec("k", texts.LAX, texts.mixed_key), ColumnSpec("v", texts.TEXT)), ("k",),
    after=(),
)  # fmt: skip
CITEXT_TABLE = TableSpec(
    "ci",
    (ColumnSpec("k", texts.CITEXT, texts.mixed_key), ColumnSpec("v", texts.CITEXT)),
    ("k",),
)
VIRTUAL_TABLE = TableSpec(
    "computed",
    (_id(), ColumnSpec("n", texts.SMALL),
     ColumnSpec("twice", texts.INT, computed=_double,
                clause="GENERATED ALWAYS AS (n * 2) VIRTUAL")),
    ("id",),
)  # fmt: skip
VIRTUAL_SINCE = 180000
FILES = {"full", "cluster", "retype"}
"""Fates after which all rows of a table lie elsewhere."""

BEFORE = (
    f"CREATE SCHEMA {name(ODD_SCHEMA)}",
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'it''s so-so')",
    "CREATE DOMAIN positive AS integer CHECK (value > 0)",
    "CREATE TYPE spot AS (n integer, word text)",
    *(
        f"CREATE SEQUENCE public.{table}_id_seq"
        for table in ("item", "parent", "child", "grandchild", "tree")
    ),
)
AFTER = (
    *(
        f"ALTER SEQUENCE public.{table}_id_seq OWNED BY public.{table}.id"
        for table in ("item", "parent", "child", "grandchild", "tree")
    ),
    "CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) FROM public.item",
    "CREATE SEQUENCE public.alone",
)
LAX_DDL = (
    "CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level2',"
    " deterministic = false)"
)


@dataclass
class Schema:
    """What one server has of it."""

    tables: list[TableSpec] = field(default_factory=list)

    def table(self, wanted: str, database: str = MAIN) -> TableSpec:
        """Return a table by its name."""
        return next(
            each
            for each in self.tables
            if each.name == wanted and each.database == database
        )
