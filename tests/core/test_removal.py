"""What was removed from the disk goes out of the ledger, and out of the report."""

from dataclasses import replace

from agent.core import machine, reporting
from agent.core.capture import Phase
from agent.core.event import SnapshotsRemoved
from agent.core.permit import Permit, PermitState
from agent.core.removal import forgettable
from tests.core import given

POLICY = given.policy()


def kept(name: str, phase: Phase = Phase.CLOSED, node: str = "n1"):
    one = given.capture(capture_id=name, phase=phase)
    return replace(one, order=replace(one.order, capture_id=name, node=node))


def after(removed: tuple[str, ...], *captures) -> list[str]:
    """The captures that the next report tells of."""
    state = given.state(captures=captures)
    made = machine.step(state, SnapshotsRemoved(given.at(1), removed), POLICY)
    report = reporting.make_report(made.state, given.at(1), POLICY)
    return [brief.id for brief in report.captures]


def test_a_removed_snapshot_is_told_of_no_more():
    assert after(("n1-a", "n1-z"), kept("n1-a"), kept("n1-b")) == ["n1-b"]


def test_what_goes_on_and_what_another_node_s_agent_keeps_stays():
    going_on = kept("n1-a", Phase.COPYING)
    assert after(("n1-a",), going_on) == ["n1-a"]
    assert after(("n2-a",), kept("n2-a", node="n2")) == ["n2-a"]


def test_what_a_granted_permit_rests_on_stays_until_the_permit_is_over():
    permit = Permit(
        id="p",
        node="n1",
        purpose="pg_rewind",
        state=PermitState.GRANTED,
        reason="",
        asked_wall_s=0.0,
        granted_s=0.5,
        system_id=None,
        timeline=1,
        final_lsn=None,
        capture_id="n1-a",
        bytes_done=0,
        bytes_total=0,
        seconds_left=None,
        released_by=None,
    )
    state = given.state(captures=(kept("n1-a"),), permits=(permit,))
    assert forgettable(state, "n1") == frozenset()
    over = replace(permit, state=PermitState.VOID)
    state = given.state(captures=(kept("n1-a"),), permits=(over,))
    assert forgettable(state, "n1") == {"n1-a"}
