"""The plan of a rescue, without a server: order, constants, keys, forms and files."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.divergence import shelf
from agent.divergence.model import (
    Column,
    Difference,
    DifferenceKind,
    ForeignKey,
    Name,
    Relation,
    Table,
    Values,
)
from agent.divergence.rescue_apply import Result
from agent.divergence.rescue_bag import Bag
from agent.divergence.rescue_files import write_folder
from agent.divergence.rescue_forms import csv_head, csv_lines, json_line
from agent.divergence.rescue_journal import Act, instant, note
from agent.divergence.rescue_order import in_order
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_quote import identifier, key_of, literal
from agent.divergence.rescue_script import Target
from agent.divergence.rescue_survey import Survey
from agent.divergence.rescue_wish import Collisions, Format, Wish
from agent.errors import DivergenceError

LOST, COLLISION = DifferenceKind.LOST, DifferenceKind.COLLISION
BYTES = "".join(map(chr, range(0xDC80, 0xDD00)))
"""Surrogate escapes: bytes that are no UTF-8."""


def table(
    name: str,
    *columns: Column,
    refers: tuple[ForeignKey, ...] = (),
    root: Name | None = None,
) -> Table:
    own = columns or (number("id", name), Column("up", "integer"))
    return Table(
        hash(name),
        Name("public", name),
        Relation(1663, 1, 1),
        own,
        primary=(own[0].name,),
        foreign_keys=refers,
        root=root,
    )


def number(name: str, owner: str) -> Column:
    sequence = Name("public", f"{owner}_{name}_seq")
    return Column(name, "integer", not_null=True, sequence=sequence)


def leads(to: str, column: str = "up", *, deferrable: bool = False) -> ForeignKey:
    return ForeignKey(
        f"{column}_{to}", (column,), Name("public", to), ("id",), deferrable
    )


@dataclass
class Given:
    """Differences by table, and rows that both sides inserted alike."""

    differing: dict[str, list[Difference]]
    alike: dict[str, list[Values]] = field(default_factory=dict)

    def differences(self, of: Table) -> Iterator[Difference]:
        return iter(self.differing.get(of.name.name, ()))

    def born(self, of: Table) -> Iterator[Values]:
        name = of.name.name
        rows = [one.loser for one in self.differing.get(name, ()) if one.loser]
        return iter([*rows, *self.alike.get(name, ())])


def plan(*tables: Table, wish: Wish | None = None, **rows: list[Difference]) -> Plan:
    return Plan(Survey(tables, Given(rows), wish or Wish(), {}), "n1, fork")


def statements(made: Plan) -> list[str]:
    return [step.sql for part in made.parts() for step in part.steps()]


def test_a_table_comes_after_those_that_it_refers_to():
    tables = [
        table("a", refers=(leads("b"), leads("c", "id"))),
        table("b", refers=(leads("c"),)),
        table("c", refers=(leads("missing"), leads("c"))),
    ]
    order = in_order(tables)
    assert [each.name.name for each in order.tables] == ["c", "b", "a"]
    assert order.late == {(Name("public", "c"), "up_c")}


def test_a_circle_is_opened_where_a_reference_can_wait():
    hard = Column("up", "integer", not_null=True)
    tables = [
        table("a", number("id", "a"), hard, refers=(leads("b"),)),
        table("b", refers=(leads("a"),)),
        # Comes after the circle, though by its name it could come first.
        table("Below", refers=(leads("a"),)),
    ]
    order = in_order(tables)
    assert [each.name.name for each in order.tables] == ["b", "a", "Below"]
    assert order.late == {(Name("public", "b"), "up_a")}


def test_a_key_to_a_partitioned_table_leads_to_its_partitions():
    root = Name("public", "parts")
    tables = [table("a", refers=(leads("parts"),)), table("z", root=root)]
    order = in_order(tables)
    assert [each.name.name for each in order.tables] == ["z", "a"]


@given(
    st.text(
        st.characters(exclude_characters="\0", codec="utf-8") | st.sampled_from(BYTES)
    )
)
def test_a_constant_is_one_line_and_reads_back(text):
    made = literal(text)
    assert len(made.splitlines()) == 1
    made.encode("utf-8")
    if made.startswith("E"):
        inner = made[2:-1].replace("''", "'")
        raw = inner.encode("utf-8").decode("utf-8")
        out = bytearray()
        place = 0
        while place < len(raw):
            if raw[place] != "\\":
                out += raw[place].encode("utf-8")
                place += 1
            elif raw[place + 1] == "\\":
                out += b"\\"
                place += 2
            elif raw[place + 1] == "x":
                out.append(int(raw[place + 2 : place + 4], 16))
                place += 4
            else:
                out += chr(int(raw[place + 2 : place + 6], 16)).encode("utf-8")
                place += 6
        assert bytes(out) == text.encode("utf-8", "surrogateescape")
    else:
        assert made[1:-1].replace("''", "'") == text
        assert "\\" not in made


def test_names_are_quoted_and_nothing_is_null():
    assert identifier('Od"d') == '"Od""d"'
    assert literal(None) == "NULL"
    assert literal("NULL") == "'NULL'"


def test_keys_that_print_differently_and_are_equal_are_one():
    kinds = ("numeric(5,2)", "character(4)", "public.citext", "text")
    made = table("t", *(Column(f"c{n}", kind) for n, kind in enumerate(kinds)))
    names = [column.name for column in made.columns]
    one = key_of(made, ("5.00", "ab  ", "Ann", "a "), names)
    assert one == key_of(made, ("5", "ab", "ANN", "a "), names)
    assert one == ("5", "ab", "ann", "a ")
    assert key_of(made, ("5", None, "a", "b"), names) is None
    assert key_of(made, ("500", "x", "a", "b"), names[:1]) == ("500",)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)))
def test_a_bag_counts_as_a_counter_does(numbers):
    bag, counter = Bag(), Counter[int]()
    for each in numbers:
        counter[each] += 1
        assert bag.add(each) == counter[each]
    assert len(bag) == len(counter)
    for each in numbers:
        assert each in bag
        assert bag.take(each)
    assert not any(each in bag or bag.take(each) for each in numbers)


def test_a_bag_grows():
    bag = Bag()
    for each in range(5000):
        bag.add(each * 7)
    assert all(each * 7 in bag for each in range(5000))
    assert not any(each * 7 + 1 in bag for each in range(5000))


def test_rows_wait_for_the_row_of_their_table_that_they_refer_to():
    rows = [("3", "2"), ("2", "1"), ("1", None), ("9", "77")]
    made = plan(
        table("t", refers=(leads("t"),)),
        t=[Difference(LOST, row, None) for row in rows],
    )
    steps = [step for part in made.parts() for step in part.steps()]
    keys = [step.values[0] for step in steps if step.row is not None]
    assert keys == ["1", "2", "3", "9"]
    assert statements(made) == statements(made)


def test_what_refers_to_a_collided_row_follows_it_and_nothing_else_does():
    top = table("top")
    low = table("low", refers=(leads("top"),))
    made = plan(
        top,
        low,
        top=[
            Difference(COLLISION, ("5", "1"), ("5", "2")),
            Difference(LOST, ("6", "1"), None),
        ],
        low=[
            Difference(LOST, ("1", "5"), None),
            Difference(LOST, ("2", "6"), None),
            Difference(LOST, ("3", None), None),
        ],
    )
    lines = [line for line in statements(made) if '"public"."low"' in line]
    followed = [line for line in lines if "splitguard_rescue.ledger" in line]
    assert len(followed) == 1
    [one] = [line for line in lines if "SELECT '2', '6' WHERE EXISTS" in line]
    assert "splitguard_there" in one  # the row 6 itself, not any with that key
    assert made.survey.needs_ledger


def test_a_row_alike_is_another_row_when_what_it_refers_to_is():
    top, low = table("top"), table("low", refers=(leads("top"),))
    source = Given(
        {"top": [Difference(COLLISION, ("5", "1"), ("5", "2"))]},
        {"low": [("1", "5"), ("2", "6")]},
    )
    survey = Survey((top, low), source, Wish(), {})
    [one] = survey.rows(low)
    assert (one.kind, one.loser) == (LOST, ("1", "5"))


def test_collisions_fail_before_anything_is_written(tmp_path):
    rows = [Difference(COLLISION, ("5", "1"), ("5", "2"))]
    with pytest.raises(DivergenceError, match=r"public\.t: 1") as refused:
        plan(table("t"), wish=Wish(collisions=Collisions.FAIL), t=rows)
    assert "renumber" in refused.value.hint


def test_patterns_name_tables_with_or_without_schema_and_partitions_by_their_root():
    part = table("part_1", root=Name("other", "parts"))
    for pattern in ("part_1", "public.*", "parts", "other.parts", "p?rt_1"):
        assert Wish((pattern,)).wants(part), pattern
    for pattern in ("part", "other.part_1", "*.nothing"):
        assert not Wish((pattern,)).wants(part), pattern
    assert Wish().wants(part)


def test_csv_tells_an_empty_text_from_null_and_json_has_every_version():
    made = table("t", Column("id", "int"), Column("te,xt", "text"))
    one = Difference(
        DifferenceKind.CONFLICT, ("1", ""), ("1", None), ("1", 'a"\n'), 7, note="n"
    )
    assert csv_head(made).endswith(',id,"te,xt"')
    assert list(csv_lines(one)) == [
        'conflict,loser,7,n,1,""',
        "conflict,winner,,n,1,",
        'conflict,fork,,n,1,"a""\n"',
    ]
    plain = json.loads(json_line(made, replace(one, loser=("1", "\udcff"))))
    assert plain["loser"] == {"id": "1", "te,xt": "\udcff"}
    assert (plain["kind"], plain["xid"], plain["twin"]) == ("conflict", 7, None)


def test_names_of_files_are_safe_whatever_a_table_is_called(tmp_path):
    bad = Name("..", "/etc/ä\udcff" + "x" * 300)
    made = replace(table("t"), name=bad)
    source = Given({bad.name: [Difference(LOST, ("1", None), None)]})
    target = Target("1", "../evil")
    rescue = Plan(Survey((made,), source, Wish(), {}), "o")
    index = write_folder(tmp_path / "out", "s", Format.SQL, [(target, rescue)])
    [entry] = index.files
    assert (tmp_path / "out" / entry.file).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    written = json.loads((tmp_path / "out" / "index.json").read_text())
    assert written["files"][0]["steps"] == {"inserted": 1}
    with pytest.raises(DivergenceError, match="is there already"):
        write_folder(tmp_path / "out", "s", Format.SQL, [])


def test_the_record_of_rescues_outlives_another_reading_of_the_rows(tmp_path: Path):
    with shelf.renewed(tmp_path):
        pass
    folder = shelf.folder_of(tmp_path)
    act = Act(instant(0), "ann", "why", "db", "host:1", {})
    note(folder, act, "begun")
    note(folder, act, "done", Result())
    (folder / "rescues").mkdir()
    (folder / "rescues" / "renumbered.csv").write_text("kept")
    with shelf.renewed(tmp_path):
        pass
    lines = (folder / "rescues.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines] == ["begun", "done"]
    assert json.loads(lines[0])["at"] == "1970-01-01T00:00:00Z"
    assert (folder / "rescues" / "renumbered.csv").read_text() == "kept"
