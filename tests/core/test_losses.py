"""What a split has cost reaches every agent's incident, and people once."""

from dataclasses import replace

import pytest

from agent.core import losses
from agent.core.action import Tell
from agent.core.capture import CaptureOrder, Grade, Phase
from agent.core.event import LossTold, Ticked
from agent.core.incident import Status
from agent.core.loss import SENTENCE_MAX, Loss
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.notice import NoticeReason, notice_id
from agent.core.observation import CaptureBrief, SelfHealth
from agent.core.permit import Permit, PermitState
from agent.core.plan import Pin
from agent.core.verdict import VerdictCode
from tests.core import given

SPLIT = replace(
    given.incident(replace(given.verdict(), evidence={"winner": "n2"})),
    sides=("n1", "n2"),
)
READ = Loss("n1-1", "n1", "3 deployments", 7, 3, Lsn(0x2000), made_wall_s=10.0)
COMPARED = replace(READ, sentence="2 deployments lost", winner="n2", made_wall_s=20.0)


def primary(node="n2", now=100.0):
    return {f"{node}/postgres": given.postgres(node, given.sight(timeline=2), now)}


def parted(incident=SPLIT, capture=None, **parts):
    """n1 was left behind at 0/1000 and is captured up to 0/2000."""
    return given.state(
        incidents=(incident,),
        captures=(capture or given.capture(phase=Phase.CLOSED),),
        lineages={"n2": given.lineage(2, (1, 0x1000))},
        **parts,
    )


def wanted(state, now=100.0, me="n1"):
    return losses.wanted(state, now, given.policy(me))


def after(state, event, me="n1"):
    made = step(state, event, given.policy(me))
    news = [one.notice for one in made.actions if isinstance(one, Tell)]
    return made.state, [one for one in news if one.reason is NoticeReason.LOSS]


def ticked(seconds):
    return Ticked(given.at(seconds), SelfHealth(0.0, 0.0, 0.0))


def test_a_report_is_wanted_of_what_the_losing_side_has_kept():
    (one,) = wanted(parted())
    assert (one.snapshot_id, one.winner, one.closed) == ("n1-1", None, True)


def test_it_is_compared_with_the_primary_that_answers():
    (one,) = wanted(parted(latest=primary(), alive=primary()))
    assert one.winner == "n2"
    (late,) = wanted(parted(latest=primary(now=90), alive=primary(now=90)))
    assert late.winner is None


def test_no_report_is_wanted_while_the_lineage_of_who_is_kept_is_not_known():
    known = parted()
    knowledge = replace(known.knowledge, lineages={})
    assert wanted(known) != ()
    assert wanted(replace(known, knowledge=knowledge)) == ()


@pytest.mark.parametrize(
    "why",
    [
        {"incident": replace(SPLIT, sides=("n2", "n3"))},
        {"incident": replace(SPLIT, verdict=given.verdict())},
        {"capture": given.capture(grade=Grade.CAPTURED)},
        {"capture": given.capture(reached_lsn=Lsn(0x1000), phase=Phase.CLOSED)},
        {"capture": given.capture(timeline=2, phase=Phase.CLOSED)},
    ],
    ids=["no side", "no winner", "not complete", "not past the fork", "winner's own"],
)
def test_no_report_is_wanted_of_anything_else(why):
    assert wanted(parted(**why)) == ()


def test_rows_alone_are_reported_once_nothing_is_added_to_them():
    kept = {"grade": Grade.NONE, "reached_lsn": None, "rows_lsn": Lsn(0x2000)}
    assert len(wanted(parted(capture=given.capture(phase=Phase.CLOSED, **kept)))) == 1
    assert wanted(parted(capture=given.capture(**kept))) == ()
    before = {**kept, "rows_lsn": Lsn(0x1000)}
    early = given.capture(phase=Phase.CLOSED, **before)
    assert wanted(parted(capture=early)) == ()


def test_the_winner_makes_none_of_its_own_snapshot():
    order = replace(given.capture().order, node="n2")
    own = replace(given.capture(), order=order)
    assert wanted(parted(capture=own), me="n2") == ()


def test_a_twin_of_the_same_number_is_a_loser_too():
    twin = replace(SPLIT.verdict, code=VerdictCode.LINEAGE_TWIN)
    capture = given.capture(timeline=2, phase=Phase.CLOSED)
    assert wanted(parted(capture=capture)) == ()
    assert len(wanted(parted(replace(SPLIT, verdict=twin), capture))) == 1


def test_a_report_is_made_again_once_the_winner_answers_and_then_no_more():
    read = replace(given.capture(phase=Phase.CLOSED), loss=READ)
    assert wanted(parted(capture=read)) == ()
    there = {"latest": primary(), "alive": primary()}
    assert wanted(parted(capture=read, **there))[0].winner == "n2"
    compared = replace(read, loss=COMPARED)
    assert wanted(parted(capture=compared, **there)) == ()


def test_what_was_written_after_the_report_is_added_when_the_capture_is_closed():
    goes_on = replace(given.capture(reached_lsn=Lsn(0x3000)), loss=COMPARED)
    assert wanted(parted(capture=goes_on)) == ()
    status = replace(goes_on.status, phase=Phase.CLOSED)
    assert len(wanted(parted(capture=replace(goes_on, status=status)))) == 1


def part(lineages, end=0x2000, **parts):
    state = given.state(lineages=lineages, **parts)
    mine = losses.Snapshot("n1", given.lineage(1), Lsn(end))
    return losses.parting(state, mine, 100.0, given.policy())


def test_a_snapshot_parts_from_the_line_of_whoever_was_promoted():
    found = part({"n1": given.lineage(1), "n2": given.lineage(2, (1, 0x1000))})
    assert found is not None
    assert (found.fork.timeline, found.fork.lsn) == (1, Lsn(0x1000))
    assert (found.node, found.answers) == ("n2", False)


def test_a_primary_of_the_other_line_goes_before_its_standbys():
    theirs = given.lineage(2, (1, 0x1000))
    found = part({"n3": theirs, "n2": theirs}, latest=primary(), alive=primary())
    assert found is not None
    assert (found.node, found.answers) == ("n2", True)
    # So it does where the side of the snapshot itself is to be kept.
    mine = Pin("n1", "ann", "x", 1, 0.0)
    both = {**primary(), "n1/postgres": given.postgres("n1", given.sight(), 100)}
    lineages = {"n3": theirs, "n2": theirs, "n1": given.lineage(1)}
    found = part(lineages, latest=both, alive=both, pins=(mine,))
    assert found is not None
    assert (found.node, found.answers) == ("n2", True)


def test_what_lies_before_the_fork_or_of_the_same_line_is_no_losing_side():
    theirs = given.lineage(2, (1, 0x1000))
    assert part({"n2": theirs}, end=0x1000) is None
    assert part({"n2": given.lineage(1)}) is None
    assert part({"n1": theirs}) is None
    assert part({"n2": replace(theirs, system_id="72")}) is None


def waits(seconds=100.0, **parts) -> bool:
    return losses.must_wait(given.state(**parts), seconds, given.policy())


@pytest.mark.parametrize("phase", [Phase.ORDERED, Phase.COPYING, Phase.VERIFYING])
def test_reports_make_way_for_captures(phase):
    assert waits(captures=(given.capture(phase=phase),))
    for done in (Phase.FOLLOWING, Phase.CLOSED, Phase.FAILED):
        assert not waits(captures=(given.capture(phase=done),))


def test_reports_take_no_room_from_a_capture_that_lacks_it():
    assert waits(captures=(given.capture(phase=Phase.FAILED, missing_bytes=1),))


def test_reports_make_way_for_who_has_just_asked_for_a_permit():
    permit = Permit(
        id="permit-1",
        node="n1",
        purpose="resync",
        source=None,
        state=PermitState.PENDING,
        reason="",
        asked_wall_s=0.0,
        asked_s=100.0,
        granted_s=None,
        system_id=None,
        timeline=None,
        final_lsn=None,
        capture_id=None,
        bytes_done=0,
        bytes_total=0,
        seconds_left=None,
        released_by=None,
    )
    assert waits(100.0 + losses.PERMIT_FIRST_S - 0.1, permits=(permit,))
    assert not waits(100.0 + losses.PERMIT_FIRST_S, permits=(permit,))
    done = replace(permit, state=PermitState.GRANTED)
    assert not waits(100.1, permits=(done,))


def test_the_headline_goes_into_the_incident_and_is_told_once():
    state, told = after(parted(), LossTold(given.at(100), READ))
    (incident,) = state.ledger.incidents
    assert incident.losses == (READ,)
    expected = notice_id(SPLIT.id, NoticeReason.LOSS, READ.revision)
    assert [one.id for one in told] == [expected]
    again = replace(READ, made_wall_s=11.0, sentence="4 deployments")
    state, told = after(state, LossTold(given.at(101), again))
    assert told == []
    assert state.ledger.incidents[0].losses == (again,)


def test_the_report_that_is_known_tells_nothing_more():
    assert READ.follows(None)
    assert not READ.follows(READ)
    assert replace(READ, made_wall_s=10.1).follows(READ)
    assert COMPARED.follows(replace(READ, made_wall_s=99.0))
    assert not replace(READ, made_wall_s=99.0).follows(COMPARED)


def test_a_headline_reads_as_a_sentence():
    assert READ.told == "n1 wrote alone, 3 deployments."
    assert COMPARED.told == "What n1 wrote alone and n2 lacks: 2 deployments lost."


def test_the_first_comparison_is_news_of_its_own():
    state, _ = after(parted(), LossTold(given.at(100), READ))
    state, told = after(state, LossTold(given.at(101), COMPARED))
    assert [one.revision for one in told] == [COMPARED.revision]
    assert state.ledger.incidents[0].losses == (COMPARED,)
    assert READ.revision != COMPARED.revision
    late = replace(READ, made_wall_s=99.0)
    state, told = after(state, LossTold(given.at(102), late))
    assert (told, state.ledger.incidents[0].losses) == ([], (COMPARED,))


def told_by_peer(loss, **more):
    brief = CaptureBrief(
        id="n1-1",
        node="n1",
        phase="closed",
        grade="complete",
        reached_lsn=Lsn(0x2000),
        incidents=(SPLIT.id,),
        loss=loss,
    )
    report = given.report("n1", captures=(replace(brief, **more),))
    return {"n1": given.heard("n1", report, 100.0)}


GONE = {"n1/agent": 2}
"""It is missed since, so that the next one tells at once."""


def test_every_other_agent_learns_it_from_the_report():
    heard = told_by_peer(READ)
    state = given.state(incidents=(SPLIT,), reports=heard, missed=GONE)
    state, told = after(state, ticked(101), me="n3")
    assert state.ledger.incidents[0].losses == (READ,)
    assert [one.revision for one in told] == [READ.revision]
    state, told = after(state, ticked(102), me="n3")
    assert told == []


def test_it_is_told_although_the_incident_is_over():
    over = replace(SPLIT, status=Status.RESOLVED, resolved_wall_s=given.at(50).wall_s)
    state = given.state(incidents=(over,), reports=told_by_peer(READ), missed=GONE)
    state, told = after(state, ticked(101), me="n3")
    assert len(told) == 1
    assert state.ledger.incidents[0].status is Status.RESOLVED


def test_a_headline_of_another_snapshot_than_its_capture_is_not_believed():
    state = given.state(incidents=(SPLIT,), reports=told_by_peer(READ, id="n1-2"))
    state, told = after(state, ticked(101), me="n3")
    assert (state.ledger.incidents[0].losses, told) == ((), [])


def test_a_peers_headline_is_cut_to_its_bound():
    long = replace(READ, sentence="x" * 10_000)
    state = given.state(incidents=(SPLIT,), reports=told_by_peer(long))
    state, _ = after(state, ticked(101), me="n3")
    (kept,) = state.ledger.incidents[0].losses
    assert kept.sentence == "x" * (SENTENCE_MAX - 3) + "..."


def test_a_headline_that_just_fits_is_kept_whole():
    long = replace(READ, sentence="x" * SENTENCE_MAX)
    state = given.state(incidents=(SPLIT,), reports=told_by_peer(long))
    state, _ = after(state, ticked(101), me="n3")
    assert [one.sentence for one in state.ledger.incidents[0].losses] == [long.sentence]


def test_an_incident_holds_a_bounded_number_of_headlines():
    state = given.state(incidents=(SPLIT,))
    captures = tuple(
        replace(
            given.capture(phase=Phase.CLOSED),
            order=order(number),
            loss=replace(READ, snapshot=f"n1-{number}"),
        )
        for number in range(losses.LOSSES_MAX + 3)
    )
    ledger = replace(state.ledger, captures=captures)
    state, _ = after(replace(state, ledger=ledger), ticked(100))
    assert len(state.ledger.incidents[0].losses) == losses.LOSSES_MAX
    _, told = after(state, ticked(101))
    assert told == []


def order(number) -> CaptureOrder:
    return replace(given.capture().order, capture_id=f"n1-{number}")


def test_the_news_of_a_report_has_one_number_everywhere():
    assert (READ.revision, COMPARED.revision) == (305932131, 3886375503)
