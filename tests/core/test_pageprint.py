"""Pages of WAL: which are read, which count, and what a difference proves.

Two servers on one timeline with one history are told apart by nothing else; each test
of what does not count is a way in which two healthy servers could be called twins.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from agent.core import pageprint
from agent.core.event import ServerRead
from agent.core.kinship import relate
from agent.core.lineage import Fingerprint, Fork, Kinship, PagePrint, Relation
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.observation import ServerFacts
from agent.core.pageprint import PAGE_BYTES, wanted
from agent.core.plausible import LISTED_MAX, impossible_lineage
from agent.core.prints import Label, Marks
from agent.core.scene import Scene, build
from agent.core.state import Knowledge, Position, Received, State, View
from tests.core import given

MARKS = Marks("a folder", (), (), Lsn(0x100), Lsn(0x100))


def page(number: int, digest: str = "alike", timeline: int = 1) -> PagePrint:
    return PagePrint(timeline, Lsn(number * PAGE_BYTES), digest)


def at_page(number: float, timeline: int = 1) -> Position:
    return Position(timeline, Lsn(int(number * PAGE_BYTES)), 1.0)


def line(*pages: PagePrint, **more):
    return replace(given.lineage(**more), pages=pages)


def numbers(pages) -> list[int]:
    return [getattr(one, "lsn", one) // PAGE_BYTES for one in pages]


def primary(**positions: Position) -> State:
    """The agent of n1 beside the primary, that has read the disk once."""
    state = State(view=View(positions=positions))
    return read(state, standby=False)


def standby(**positions: Position) -> State:
    state = State(view=View(positions=positions))
    return read(state, standby=True)


def read(state: State, *pages: PagePrint, marks=MARKS, standby=None, **more) -> State:
    """Let the agent of n1 read the disk: these pages are there."""
    asleep = server(state).standby_signal if standby is None else standby
    facts = replace(given.facts(standby=asleep, **more), pages=pages, marks=marks)
    return step(state, ServerRead(given.at(1), facts), given.policy()).state


def server(state: State) -> ServerFacts:
    facts = state.view.server
    assert isinstance(facts, ServerFacts)
    return facts


def sure(state: State, *pages: PagePrint, **more) -> State:
    """Let two readings find these pages."""
    return read(read(state, *pages, **more), *pages, **more)


def kept(state: State) -> list[tuple[int, str]]:
    pages = server(state).lineage.pages
    assert state.knowledge.lineages["n1"].pages == pages
    return [(one.lsn // PAGE_BYTES, one.digest) for one in pages]


# --- Which pages are read -------------------------------------------------------------


def test_the_last_page_that_is_whole_on_both_is_read_for_each_other_server():
    state = primary(n1=at_page(9.5), n2=at_page(9.4), n3=at_page(5.9))
    assert numbers(wanted(state, given.policy())) == [4, 8]
    ends = primary(n1=at_page(9), n2=at_page(12))
    assert numbers(wanted(ends, given.policy())) == [8]


def test_nothing_is_read_of_a_server_that_is_on_another_timeline_or_nowhere():
    assert wanted(State(), given.policy()) == ()
    assert wanted(primary(), given.policy()) == ()
    state = primary(n1=at_page(9.5), n2=at_page(4, timeline=2))
    assert numbers(wanted(state, given.policy())) == [8]
    assert wanted(primary(n1=at_page(9, timeline=2)), given.policy()) == ()
    stopped = read(primary(n1=at_page(9)), running=False)
    assert wanted(stopped, given.policy()) == ()


def test_no_page_is_read_in_which_its_timeline_began():
    begun = given.lineage(2, (1, 5 * PAGE_BYTES + 100))
    for end, found in ((6.9, []), (7.1, [6])):
        state = primary(n1=at_page(end, timeline=2), n2=at_page(end, timeline=2))
        state = read(state, lineage=begun)
        assert numbers(wanted(state, given.policy())) == found


def test_a_position_of_which_the_timeline_is_not_known_is_no_end():
    state = standby(n1=at_page(9))
    unsure = Received(Lsn(20 * PAGE_BYTES), 1.0, timeline=2)
    view = replace(state.view, received={"n1": unsure})
    assert wanted(replace(state, view=view), given.policy()) == ()
    less = replace(unsure, lsn=Lsn(4 * PAGE_BYTES), timeline=1)
    view = replace(state.view, received={"n1": less})
    found = wanted(replace(state, view=view), given.policy())
    assert numbers(found) == [3]  # and not up to where an older directory reached


def test_what_a_peer_tells_prints_of_is_read_too_so_that_both_have_it():
    state = primary(n1=at_page(9), n2=at_page(9))
    lineages = {"n2": line(page(3), page(8), page(50)), "stranger": line(page(1))}
    knowledge = replace(state.knowledge, lineages=lineages)
    state = replace(state, knowledge=knowledge)
    assert numbers(wanted(state, given.policy())) == [3, 8]


def test_a_handful_is_read_whatever_peers_tell():
    state = primary(n1=at_page(900), n2=at_page(900))
    many = line(*(page(number) for number in range(800)))
    knowledge = replace(state.knowledge, lineages={"n2": many})
    found = wanted(replace(state, knowledge=knowledge), given.policy())
    assert len(found) == pageprint.READ_MAX
    assert numbers(found)[-1] == 899


def test_a_standby_begins_at_its_own_end_and_goes_only_upwards():
    state = standby(n1=at_page(9.5), n2=at_page(6))
    told = {"n2": line(page(3), page(5), page(8)), **state.knowledge.lineages}
    state = replace(state, knowledge=replace(state.knowledge, lineages=told))
    assert numbers(wanted(state, given.policy())) == [8]
    state = sure(state, page(8))
    assert numbers(wanted(state, given.policy())) == [8]  # to see that it stays
    view = replace(state.view, positions={"n1": at_page(12), "n2": at_page(11.5)})
    assert numbers(wanted(replace(state, view=view), given.policy())) == [8, 10]


def test_a_page_that_was_read_once_is_read_again_though_the_end_moved_on():
    state = read(standby(n1=at_page(9.5)), page(8))
    view = replace(state.view, positions={"n1": at_page(30)})
    assert numbers(wanted(replace(state, view=view), given.policy())) == [8, 29]


# --- Which count ----------------------------------------------------------------------


def test_a_print_counts_when_two_readings_give_it_alike():
    state = read(standby(n1=at_page(9)), page(8, "half written"))
    assert kept(state) == []
    state = read(state, page(8, "whole"))
    assert kept(state) == []
    state = read(state, page(8, "whole"))
    assert kept(state) == [(8, "whole")]
    assert server(state).pages == ()  # told to peers once, in the lineage


def test_what_a_standby_saw_first_stays_when_its_twin_overwrites_it():
    state = sure(standby(n1=at_page(9)), page(8, "its own"))
    state = sure(state, page(8, "its twin's"), page(20, "its twin's"))
    assert kept(state) == [(8, "its own")]
    again = State(state.ledger, state.knowledge, View(positions={"n1": at_page(30)}))
    again = sure(again, page(8, "its twin's"), standby=True)
    assert kept(again) == [(8, "its own")]  # an agent that was restarted


def test_a_page_that_is_gone_from_a_standbys_disk_stays_known():
    state = sure(standby(n1=at_page(9)), page(8))
    assert kept(read(state)) == [(8, "alike")]
    assert kept(read(state, running=False)) == [(8, "alike")]


def test_a_primary_is_what_its_disk_says_now():
    state = sure(primary(n1=at_page(30)), page(8, "before"), page(9))
    assert kept(state) == [(8, "before"), (9, "alike")]
    state = read(state, page(8, "after"), page(9))
    assert kept(state) == [(9, "alike")]
    state = read(state, page(8, "after"), page(9))
    assert kept(state) == [(8, "after"), (9, "alike")]


@pytest.mark.parametrize(
    "other",
    [
        replace(MARKS, folder="a clone's"),
        replace(MARKS, labels=(Label("of a rewind, or a backup", Lsn(0)),)),
        replace(MARKS, checkpoint_lsn=Lsn(0x80)),
        None,
    ],
)
def test_prints_go_with_the_directory_that_they_are_of(other):
    state = sure(standby(n1=at_page(9)), page(8, "before"))
    state = read(state, page(8, "after"), marks=other)
    assert kept(state) == []
    if other is not None:
        assert kept(read(state, page(8, "after"), marks=other)) == [(8, "after")]


def test_prints_of_the_timeline_that_was_left_are_dropped():
    state = sure(standby(n1=at_page(9)), page(8))
    assert kept(read(state, lineage=given.lineage(2, (1, 9 * PAGE_BYTES)))) == []


def test_a_standby_keeps_a_few_and_the_further_apart_the_older_they_are():
    state = standby(n1=at_page(1))
    for number in range(1, 3000, 7):
        state = sure(state, page(number))
    found = [number for number, _ in kept(state)]
    assert len(found) <= pageprint.KEPT_MAX
    assert found[-1] == 2997  # the latest
    assert found[0] == 1  # and the first
    gaps = [found[-1] - number for number in found[:-1]]
    assert all(below * 64 >= above for above, below in pairwise(gaps))


# --- What a difference proves ---------------------------------------------------------


def test_one_page_that_differs_makes_twins_that_parted_after_the_last_equal_one():
    ours = line(page(3), page(5), page(8, "ours"), page(9, "ours"))
    theirs = line(page(3), page(5), page(8, "theirs"), page(9, "theirs"), page(20))
    found, parted = relate(ours, theirs), Fork(1, Lsn(6 * PAGE_BYTES))
    assert found == Relation(Kinship.TWIN, parted)
    assert relate(theirs, ours) == found
    page_lsn = pageprint.parted_page(ours, theirs, parted)
    assert page_lsn == str(Lsn(8 * PAGE_BYTES))


def test_what_is_equal_after_a_page_that_differs_is_not_taken_for_the_fork():
    ours, theirs = line(page(8, "a"), page(20)), line(page(8, "b"), page(20))
    assert relate(ours, theirs).fork == Fork(1, Lsn(0))
    begun = {"timeline": 2}
    ours = replace(line(page(8, "a", 2)), **begun, switches=BEGUN)
    theirs = replace(line(page(8, "b", 2)), **begun, switches=BEGUN)
    assert relate(ours, theirs).fork == Fork(2, Lsn(5 * PAGE_BYTES))


BEGUN = given.lineage(2, (1, 5 * PAGE_BYTES)).switches


def test_no_page_is_named_where_two_were_promoted_to_one_number():
    """It is no sign of an old image: all that follows the switch differs."""
    ours, theirs = (
        replace(
            line(page(8, whose, 2)),
            timeline=2,
            switches=BEGUN,
            fingerprints=(Fingerprint(2, BEGUN[0].lsn, whose),),
        )
        for whose in ("ours", "theirs")
    )
    parted = Fork(1, BEGUN[0].lsn)
    assert relate(ours, theirs) == Relation(Kinship.TWIN, parted)
    assert pageprint.parted_page(ours, theirs, parted) is None


@pytest.mark.parametrize(
    "theirs",
    [
        line(),
        line(page(7, "theirs"), page(9, "theirs")),
        line(page(8, "theirs", timeline=2)),
        line(page(8, "ours"), page(9, "theirs")),
    ],
)
def test_pages_that_not_both_have_prove_nothing(theirs):
    assert relate(line(page(8, "ours")), theirs).kinship is Kinship.SAME


def test_another_history_is_told_as_before_whatever_pages_say():
    ours, theirs = line(page(8, "a")), replace(line(page(8, "b")), system_id="9")
    assert relate(ours, theirs).kinship is Kinship.FOREIGN
    child = replace(line(page(8, "b")), timeline=2, switches=BEGUN)
    assert relate(ours, child).kinship is Kinship.DESCENDS


def told_of(scene: Scene, node: str) -> tuple[PagePrint, ...]:
    lineage = scene.lineage(node)
    assert lineage is not None
    return lineage.pages


def test_an_old_print_accuses_nobody_whose_disk_no_agent_reads_any_more():
    lineages = {"n2": line(page(8)), "n3": line(page(8))}
    state = State(knowledge=Knowledge(lineages=lineages))
    names = ("n2", "n3")
    by_sql = {f"{n}/postgres": given.postgres(n, given.sight(), 1) for n in names}
    told = replace(given.report("n2"), server=given.facts())
    seen = given.heard("n2", told, 1)
    view = View(latest={"n2/postgres": by_sql["n2/postgres"]}, reports={"n2": seen})
    scene = build(replace(state, view=view), given.at(1.5), given.policy())
    assert told_of(scene, "n2")
    assert told_of(scene, "n3")  # nobody sees its server either
    view = replace(view, latest=by_sql)
    scene = build(replace(state, view=view), given.at(1.5), given.policy())
    assert told_of(scene, "n3") == ()


def test_a_lineage_with_more_pages_than_anybody_keeps_is_not_believed():
    many = line(*(page(number) for number in range(LISTED_MAX + 1)))
    assert "pages" in impossible_lineage(many)
    assert impossible_lineage(line(page(1))) == ""
