"""A report is made of what was read and compared: counts, examples, things, gaps."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.core.capture import Grade, Level
from agent.core.lineage import Fork, Lineage
from agent.core.lsn import Lsn
from agent.divergence import shelf
from agent.divergence.compared import Against, Comparison, TableDifferences
from agent.divergence.extracted import (
    DatabaseRows,
    Extraction,
    TableRows,
    Transactions,
    Unread,
)
from agent.divergence.managers_words import Changed, Holds, Key, Kind, is_managers, tell
from agent.divergence.model import Column, Difference, Name, Relation, Table, Values
from agent.divergence.model import DifferenceKind as Fate
from agent.divergence.redaction import Redaction
from agent.divergence.report import ManagersLoss
from agent.divergence.report_making import Found, Style, build
from agent.divergence.rowfiles import DifferenceWriter
from agent.snapshot.manifest import Manifest
from tests.fix_losses import NIGHT_S


def table(name: str, columns: str, primary: str = "", oid: int = 1) -> Table:
    made = tuple(Column(column, "text") for column in columns.split())
    return Table(
        oid, Name("public", name), Relation(1663, 5, oid), made, tuple(primary.split())
    )


# --- a manager's things -------------------------------------------------------------

DEPLOYMENTS = table("deployments", "_storage_id id _tenant_id created_at state")
TENANTS = table("tenants", "id name rabbitmq_username rabbitmq_password")
USERS = table("users", "id username last_login_at api_token_key")
PLUGINS = table(
    "plugins", "_storage_id id _tenant_id package_name package_version uploaded_at"
)
AUDIT = table(
    "audit_log", "_storage_id ref_table ref_id operation creator_name execution_id"
    " created_at",
)  # fmt: skip


def row(text: str) -> Values:
    return tuple(None if word == "-" else word for word in text.split())


def told(
    changes: dict[Table, list[Difference]], winner_has: Iterable[Key] = ()
) -> ManagersLoss:
    def holds(_: Kind, keys: Iterable[Key]) -> set[Key]:
        return set(keys) & set(winner_has)

    given: Holds = holds
    changed = {
        each.name: Changed(each, lambda found=found: iter(found))  # type: ignore[misc]
        for each, found in changes.items()
    }
    return tell("cloudify_db", changed, {"0": "default_tenant", "3": "theirs"}, given)


def fates(loss: ManagersLoss) -> dict[str, tuple[str, str]]:
    return {each.id: (each.fate.value, each.tenant) for each in loss.entities}


def test_things_are_matched_by_tenant_and_id_and_never_by_number():
    lost = told(
        {
            DEPLOYMENTS: [
                # The winner gave number 7 to another deployment, and has `b` as 9.
                Difference(Fate.COLLISION, row("7 a 0 t ok"), row("7 x 0 t ok"), xid=9),
                Difference(Fate.LOST, row("8 b 0 t ok"), None, xid=9),
                Difference(Fate.LOST, row("9 a 3 t ok"), None, xid=9),
            ],
            TENANTS: [
                Difference(Fate.COLLISION, row("3 ours u p"), row("3 theirs u p"))
            ],
        },
        winner_has=[("default_tenant", "b"), ("theirs", "a")],
    )
    assert [(e.tenant, e.id, e.fate) for e in lost.entities] == [
        ("default_tenant", "a", Fate.LOST),
        ("default_tenant", "b", Fate.COLLISION),
        ("ours", "a", Fate.LOST),
        ("", "ours", Fate.LOST),
    ]
    assert [(c.kind, c.lost, c.collisions) for c in lost.counts] == [
        ("deployment", 2, 1), ("tenant", 1, 0),
    ]  # fmt: skip


def test_what_was_deleted_and_made_again_was_changed():
    lost = told(
        {
            DEPLOYMENTS: [
                Difference(Fate.DELETED, None, row("1 a 0 t ok")),
                Difference(Fate.DELETED, None, row("2 b 0 t ok")),
                Difference(Fate.DELETED, None, None),
                Difference(Fate.LOST, row("7 a 0 t ok"), None),
                Difference(Fate.CONFLICT, None, row("3 c 0 t ok")),
            ]
        },
        winner_has=[("default_tenant", "a"), ("default_tenant", "b")],
    )
    assert fates(lost) == {
        "": ("deleted", ""),
        "a": ("changed", "default_tenant"),
        "b": ("deleted", "default_tenant"),
        "c": ("conflict", "default_tenant"),
    }


def test_a_login_alone_changes_no_user():
    lost = told(
        {
            USERS: [
                Difference(Fate.CHANGED, row("1 mira 16:53 k"), row("1 mira 11:00 k")),
                Difference(
                    Fate.CHANGED, row("2 olaf 16:53 new"), row("2 olaf 11:00 k")
                ),
            ]
        }
    )
    assert fates(lost) == {"olaf": ("changed", "")}


def test_the_audit_log_tells_who_did_it():
    lost = told(
        {
            DEPLOYMENTS: [Difference(Fate.LOST, row("7 a 0 t ok"), None)],
            PLUGINS: [Difference(Fate.LOST, row("4 0f6d 0 openstack 3.3.8 t"), None)],
            AUDIT: [
                Difference(
                    Fate.LOST, row("1 deployments 7 create mira - 16:53:02"), None
                ),
                Difference(
                    Fate.LOST, row("2 deployments 8 create olaf - 16:53:03"), None
                ),
                Difference(
                    Fate.COLLISION, row("3 plugins 4 create - e1 16:53:04"), None
                ),
            ],
        }
    )
    assert [(each.id, each.who, each.detail) for each in lost.entities] == [
        ("a", "mira", ""), ("0f6d", "execution e1", "openstack 3.3.8"),
    ]  # fmt: skip
    assert lost.audited


def test_all_are_counted_and_some_are_named():
    many = [
        Difference(Fate.LOST, row(f"{number} d{number} 0 t ok"), None)
        for number in range(5000)
    ]
    lost = told({DEPLOYMENTS: many})
    assert lost.counts[0].lost == 5000
    assert len(lost.entities) == 200


def test_a_manager_is_known_by_its_tables():
    assert is_managers([AUDIT, DEPLOYMENTS])
    assert is_managers([USERS])
    assert not is_managers([table("users", "id username password", "id")])
    assert not is_managers([table("deployments", "id name"), AUDIT])
    assert not is_managers([])


# --- the report ---------------------------------------------------------------------


ORDERS = table("orders", "id word secret", "id")
KEYLESS = table("notes", "a b c d", oid=2)


def extraction(*tables: TableRows) -> Extraction:
    return Extraction(
        snapshot="s1",
        node="n1",
        system_id="7",
        version_num=160_014,
        fork=Fork(3, Lsn.parse("0/5000148")),
        end_lsn=Lsn.parse("0/5A11C30"),
        made_wall_s=NIGHT_S,
        databases=(DatabaseRows(5, "shop", "UTF8", tables),),
        transactions=Transactions(470, 31, 439, 31, NIGHT_S, NIGHT_S + 69),
        unread=(Unread("table public.sessions", "it is unlogged"),),
    )


def rows_of(one: Table, born: int, changed: int = 0) -> TableRows:
    return TableRows(one, born, changed, 0, False, "", "rows/5-1.jsonl.zst", 1, "")


def compared(folder: Path, one: Table, found: list[Difference]) -> TableDifferences:
    (folder / shelf.DIFFERENCES).mkdir(exist_ok=True)
    name = shelf.differences_name(5, one.oid)
    with DifferenceWriter(folder / name) as writer:
        for each in found:
            writer.write(each)
    kinds = [each.kind for each in found]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    return TableDifferences("shop", one, counts, 2, 0, name, there=one)


def comparison(*tables: TableDifferences) -> Comparison:
    against = Against(
        "n2", "7", 160_014, 2, Lsn.parse("0/61F2A80"), NIGHT_S + 190, by_log=False
    )
    return Comparison(against, tables, (Unread("table public.gone", "it was dropped"),))


@pytest.fixture
def style() -> Style:
    return Style(Redaction(["*.*.secret"], b"salt"), NIGHT_S + 200, top=2)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        id="s1", cluster="shop-prod", node="n1", system_id="7", timeline=3,
        lineage=Lineage("7", 3, ()), incident_ids=("split-1",), reason="",
        created_wall_s=NIGHT_S, updated_wall_s=NIGHT_S, version_num=160_014,
        wal_segment_bytes=1 << 24, levels=(Level.FULL,), method="", grade=Grade.OPENED,
        start_lsn=Lsn(1), tail_lsn=Lsn(1), copy_lsn=None, needed_lsn=None,
        end_lsn=None, has_backup_label=False, copy_timeline=None, wal_link="",
        incarnation="", closed=True, size_bytes=0, files=(), folders=(), links=(),
    )  # fmt: skip


@pytest.fixture
def made(style: Style, tmp_path: Path, manifest):
    found = [
        *(Difference(Fate.LOST, row(f"{n} w s{n}"), None) for n in range(5)),
        Difference(Fate.CONFLICT, row("7 ours k1"), row("7 theirs k2"), note="look"),
        Difference(Fate.CHANGED, row("8 same k1"), row("8 same -")),
    ]
    notes = [Difference(Fate.LOST, row("1 2 3 4"), None)]
    return build(
        manifest,
        extraction(rows_of(ORDERS, 7, 2), rows_of(KEYLESS, 1)),
        comparison(
            compared(tmp_path, ORDERS, found), compared(tmp_path, KEYLESS, notes)
        ),
        tmp_path,
        style,
        Found(gaps=(Unread("objects of database shop", "timeout"),)),
    )


def test_every_table_is_counted_and_a_few_rows_are_shown(made):
    orders, notes = made.tables
    assert (orders.counts.lost, orders.counts.conflicts, orders.counts.equal) == (
        5,
        1,
        2,
    )
    assert [(s.kind, s.key[0].value) for s in orders.samples] == [
        (Fate.LOST, "0"), (Fate.LOST, "1"), (Fate.CHANGED, "8"), (Fate.CONFLICT, "7"),
    ]  # fmt: skip
    assert [cell.column for cell in notes.samples[0].key] == ["a", "b", "c"]
    assert made.headline.startswith("6 rows in 2 tables lost, 1 changed, 1 conflict;")
    assert (made.winner.name, made.loser.aborted) == ("n2", 31)


def test_secret_values_are_hashed_wherever_rows_are_shown(made):
    [conflict] = [s for s in made.tables[0].samples if s.kind is Fate.CONFLICT]
    assert ("word", "ours") in [(c.column, c.loser) for c in conflict.contrasts]
    hashes = {c.column: (c.loser, c.winner) for c in conflict.contrasts}["secret"]
    assert all(each.startswith("sha256:") for each in hashes)
    assert hashes[0] != hashes[1]
    assert made.tables[0].redacted == ("secret",)
    assert "k1" not in repr(made)


def test_a_lost_row_is_known_again_by_its_first_columns_and_secrets_stay_hidden(made):
    lost = made.tables[0].samples[0]
    assert [cell.column for cell in lost.row] == ["word", "secret"]
    assert lost.row[0].value == "w"
    assert str(lost.row[1].value).startswith("sha256:")
    [conflict] = [s for s in made.tables[0].samples if s.kind is Fate.CONFLICT]
    assert conflict.row == (), "what differs tells more"
    assert [cell.column for cell in made.tables[1].samples[0].row] == ["d"]


def test_only_so_many_columns_of_a_lost_row_are_shown_and_none_that_is_empty(
    style: Style, tmp_path: Path, manifest
):
    wide = table("wide", "id a b c d e f", "id")
    found = [Difference(Fate.DELETED, None, row("1 - b c - e f"))]
    rows, differing = rows_of(wide, 1), comparison(compared(tmp_path, wide, found))
    built = build(manifest, extraction(rows), differing, tmp_path, style)
    assert [cell.column for cell in built.tables[0].samples[0].row] == [*"bcef"]


def test_an_example_says_what_its_kind_does_not(style: Style, tmp_path: Path, manifest):
    found = [
        Difference(Fate.CONFLICT, None, row("1 theirs -")),
        Difference(Fate.CONFLICT, row("2 ours -"), None),
        Difference(Fate.COLLISION, row("3 ours -"), None, twin=row("9 ours -")),
    ]
    tables = rows_of(ORDERS, 3)
    differing = comparison(compared(tmp_path, ORDERS, found))
    made = build(manifest, extraction(tables), differing, tmp_path, style)
    assert [each.note for each in made.tables[0].samples] == [
        "the losing side deleted it, the winner changed it",
        "the winner deleted it",
        "the winner has it under another key",
    ]
    [contrast] = made.tables[0].samples[2].contrasts
    assert (contrast.column, contrast.loser, contrast.winner) == ("id", "3", "9")


def test_what_could_not_be_had_is_named_from_all_sides(made):
    assert [gap.what for gap in made.gaps] == [
        "table public.sessions", "table public.gone", "objects of database shop",
    ]  # fmt: skip


def test_before_there_is_a_winner_a_report_says_what_was_written(
    style: Style, tmp_path: Path, manifest
):
    report = build(manifest, extraction(rows_of(ORDERS, 7, 2)), None, tmp_path, style)
    assert report.winner is None
    assert report.tables[0].counts.differing == 0
    assert report.headline.startswith("not compared yet: 7 rows inserted, 2 changed in")
