"""A fingerprint that was taken once is kept, until what it is of was undone."""

from dataclasses import replace

import pytest

from agent import codec
from agent.core.event import Observed, ServerRead
from agent.core.kinship import relate
from agent.core.lineage import Fingerprint, Kinship, Lineage
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.core.plausible import LISTED_MAX, SWITCHES_MAX, impossible_facts
from agent.core.prints import START, Beginning, Label, Marks, Printed, surviving
from agent.core.state import Knowledge, State
from agent.core.view import fold
from tests.core import given

BORN = 0x2000
OWN, THEIRS = "a" * 64, "b" * 64
FIRST = Fingerprint(2, Lsn(BORN), OWN)
LATER = Fingerprint(3, Lsn(0x4000), OWN)
MARKS = Marks(
    folder="10/11-aa",
    labels=(Label("12-bb", START),),
    beginnings=(Beginning(2, ("13-cc", "14-dd")), Beginning(3, ("15-ee",))),
    checkpoint_lsn=Lsn(0x5000),
    redo_lsn=Lsn(0x4800),
)
PRINTED = Printed(given.SYSTEM, MARKS, (FIRST, LATER))
BOTH = (FIRST, LATER)
CLONED = replace(MARKS, folder="10/99-ff")
REWOUND = replace(MARKS, labels=(*MARKS.labels, Label("20-ff", Lsn(0x3000))))


def left(now: Marks, *, watched: bool = True) -> tuple[Fingerprint, ...]:
    return surviving(PRINTED, given.SYSTEM, now, watched=watched)


def fetched(*traces: str) -> Marks:
    """The marks when the second timeline's switch has left these traces."""
    return replace(MARKS, beginnings=(Beginning(2, traces), MARKS.beginnings[1]))


@pytest.mark.parametrize("watched", [True, False])
def test_the_same_directory_keeps_all_its_prints(watched: bool):
    later = replace(MARKS, checkpoint_lsn=Lsn(0x9000), redo_lsn=Lsn(0x9000))
    assert left(MARKS, watched=watched) == BOTH
    assert left(later, watched=watched) == BOTH


@pytest.mark.parametrize("watched", [True, False])
def test_a_clone_and_another_system_keep_none(watched: bool):
    assert left(CLONED, watched=watched) == ()
    assert surviving(PRINTED, "another", MARKS, watched=watched) == ()


@pytest.mark.parametrize("watched", [True, False])
def test_a_rewind_undoes_what_began_behind_where_it_went_back_to(watched: bool):
    assert left(REWOUND, watched=watched) == (FIRST,)
    to_it = replace(REWOUND, labels=(Label("20-ff", Lsn(BORN)),))
    assert left(to_it, watched=watched) == ()


def test_a_label_that_was_there_before_undoes_nothing():
    assert left(replace(MARKS, labels=())) == BOTH
    since = replace(PRINTED, marks=REWOUND)
    assert surviving(since, given.SYSTEM, REWOUND, watched=True) == BOTH
    other_order = replace(REWOUND, labels=REWOUND.labels[::-1])
    assert surviving(since, given.SYSTEM, other_order, watched=True) == BOTH


def test_a_base_backup_that_was_put_in_undoes_all_and_one_being_taken_nothing():
    assert left(replace(MARKS, labels=(Label("20-ff", START),))) == ()
    assert left(replace(MARKS, labels=(Label("20-ff", None),))) == BOTH


def test_a_checkpoint_that_went_back_undoes_what_is_recovered_anew():
    back = replace(MARKS, checkpoint_lsn=Lsn(0x4FFF), redo_lsn=Lsn(0x4000))
    assert left(back) == (FIRST,)
    assert left(replace(back, redo_lsn=Lsn(BORN))) == ()
    assert left(replace(back, redo_lsn=Lsn(0x4001))) == BOTH


def test_a_switch_that_was_come_by_anew_unseen_is_not_the_one_that_was_printed():
    assert left(fetched("77-77"), watched=False) == (LATER,)
    assert left(fetched(), watched=False) == (LATER,)
    assert left(replace(MARKS, beginnings=()), watched=False) == ()
    assert left(fetched("77-77")) == BOTH


def test_one_trace_of_a_switch_that_is_as_it_was_is_enough():
    assert left(fetched("77-77", "14-dd"), watched=False) == BOTH


def test_a_switch_that_never_left_a_trace_here_is_judged_by_all_else():
    none = fetched()
    before = replace(PRINTED, marks=none)
    assert surviving(before, given.SYSTEM, none, watched=False) == BOTH
    now = fetched("77-77")
    assert surviving(before, given.SYSTEM, now, watched=False) == (LATER,)


# --- In the knowledge -----------------------------------------------------------------

TWIN = Marks("30/31-aa", (), (Beginning(2, ("32-bb",)),), Lsn(0x3000), Lsn(0x3000))


def read(print_: str | None, marks: Marks | None = TWIN, **of) -> ServerFacts:
    """A reading of a disk that gives this fingerprint, or none."""
    prints = () if print_ is None else (Fingerprint(2, Lsn(BORN), print_),)
    lineage = replace(given.lineage(2, (1, BORN)), fingerprints=prints)
    return given.facts(lineage=replace(lineage, **of), marks=marks)


def known_of(node: str, *readings: ServerFacts) -> Knowledge:
    """What the agent on n1 knows after these, with a restart before the last one."""
    state = State()
    for number, facts in enumerate(readings):
        if number == len(readings) - 1:
            text = codec.to_json(state.knowledge)
            state = State(knowledge=codec.from_json(text, Knowledge))
        state = fold(state, event(node, facts, number), given.policy())
    return state.knowledge


def event(node: str, facts: ServerFacts, number: int) -> ServerRead | Observed:
    if node == "n1":
        return ServerRead(given.at(number), facts)
    told = given.report(node, server=facts, sequence=number + 1)
    return Observed(given.at(number), given.heard(node, told, float(number)))


def lineage_after(node: str, *readings: ServerFacts) -> Lineage:
    return known_of(node, *readings).lineages[node]


OTHER_SIDE = read(THEIRS).lineage


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("then", [None, THEIRS])
def test_what_was_printed_first_is_known_after_a_restart(node: str, then: str | None):
    found = lineage_after(node, read(OWN), read(then))
    assert [one.sha256 for one in found.fingerprints] == [OWN]
    assert relate(found, OTHER_SIDE).kinship is Kinship.TWIN


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("then", [None, THEIRS])
@pytest.mark.parametrize(
    "marks",
    [
        replace(TWIN, folder="30/99-ff"),
        replace(TWIN, labels=(Label("40-aa", Lsn(0x1000)),)),
        replace(TWIN, labels=(Label("40-aa", START),)),
        replace(TWIN, beginnings=(Beginning(2, ("99-ff",)),)),
        replace(TWIN, checkpoint_lsn=Lsn(0x1800), redo_lsn=Lsn(0x1800)),
    ],
    ids=["cloned", "rewound", "restored", "come by anew", "set back"],
)
def test_a_healthy_server_is_not_accused_by_what_was_there_before(
    node: str, then: str | None, marks: Marks
):
    found = lineage_after(node, read(OWN), read(then, marks))
    assert [one.sha256 for one in found.fingerprints] == (
        [] if then is None else [then]
    )
    assert relate(found, OTHER_SIDE).kinship is Kinship.SAME


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_switch_that_is_no_more_in_the_lineage_takes_its_print_along(node: str):
    before = given.facts(lineage=given.lineage(1), marks=replace(TWIN, beginnings=()))
    elsewhere = read(None)
    moved = given.lineage(2, (1, BORN + 8))
    elsewhere = replace(elsewhere, lineage=moved)
    for between in (before, elsewhere):
        found = lineage_after(node, read(OWN), between, read(None))
        assert found.fingerprints == ()


def test_what_is_printed_later_is_added_to_what_was_before():
    second = Fingerprint(3, Lsn(0x4000), THEIRS)
    switched = replace(given.lineage(3, (1, BORN), (2, 0x4000)), fingerprints=(second,))
    marks = replace(TWIN, beginnings=(*TWIN.beginnings, Beginning(3, ("50-aa",))))
    now = given.facts(lineage=switched, marks=marks)
    assert lineage_after("n2", read(OWN), now).fingerprints == (FIRST, second)


def test_an_older_agent_is_taken_at_its_word_and_nothing_is_forgotten_by_it():
    old = read(THEIRS, None)
    known = known_of("n2", read(OWN), old)
    assert known.lineages["n2"] == old.lineage
    found = lineage_after("n2", read(OWN), old, read(None))
    assert [one.sha256 for one in found.fingerprints] == [OWN]


def test_a_reading_like_the_last_one_changes_nothing():
    state = fold(State(), event("n1", read(OWN), 0), given.policy())
    again = fold(state, event("n1", read(OWN), 1), given.policy())
    assert again.knowledge is state.knowledge


def test_the_knowledge_of_an_older_agent_is_read():
    text = codec.to_json(Knowledge(lineages={"n1": OTHER_SIDE}))
    plain = codec.from_json(text.replace('"printed":{},', ""), Knowledge)
    assert "printed" not in text.replace('"printed":{},', "")
    assert plain == Knowledge(lineages={"n1": OTHER_SIDE})


def test_marks_without_end_are_no_answer():
    many = replace(TWIN, beginnings=(Beginning(2, ()),) * (SWITCHES_MAX + 1))
    assert "marks of more than" in impossible_facts(read(OWN, many))
    labels = replace(TWIN, labels=(Label("1-1", None),) * (LISTED_MAX + 1))
    assert "backup labels" in impossible_facts(read(OWN, labels))
    assert impossible_facts(read(OWN)) == ""
