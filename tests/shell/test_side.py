"""Whose side of a split a snapshot holds, while the split lasts and afterwards."""

from dataclasses import replace

import pytest

from agent.api.present.frame import Frame
from agent.api.present.side import side
from agent.core.incident import Incident
from agent.core.loss import Loss
from agent.core.lsn import Lsn
from agent.core.verdict import Family
from tests.fix_desk import SimulatedDesk, resynced


@pytest.fixture(scope="module")
def desk() -> SimulatedDesk:
    """The agent of n1, which has lost and was resynced."""
    return SimulatedDesk(resynced(), "n1")


def split_of(desk: SimulatedDesk) -> Incident:
    (found,) = (
        one for one in desk.state.ledger.incidents if one.verdict.family is Family.SPLIT
    )
    return found


def sides(desk: SimulatedDesk, incident: Incident) -> list[str | None]:
    ledger = replace(desk.state.ledger, incidents=(incident,))
    frame = Frame(replace(desk.state, ledger=ledger), desk.policy, desk.now())
    return [side(frame, node, (incident.id,)) for node in ("n1", "n2", "n3")]


def undecided(desk: SimulatedDesk, *losses: Loss) -> Incident:
    """The same split, ended in a stage that predicts nobody."""
    found = split_of(desk)
    evidence = {**found.verdict.evidence, "winner": None}
    verdict = replace(found.verdict, evidence=evidence)
    return replace(found, verdict=verdict, losses=losses)


def test_the_prediction_tells_the_sides(desk):
    assert sides(desk, split_of(desk)) == ["loser", "winner", "standby"]


def test_after_a_split_that_predicted_nobody_the_loss_report_tells_the_sides(desk):
    loss = Loss("n1-abc", "n1", "1 row lost", 1, 1, Lsn(9), "n2", 50.0)
    assert sides(desk, undecided(desk, loss)) == ["loser", "winner", None]


def test_without_prediction_and_comparison_nobody_knows(desk):
    loss = Loss("n1-abc", "n1", "not compared yet", 1, 1, Lsn(9), "", 50.0)
    assert sides(desk, undecided(desk)) == [None, None, None]
    assert sides(desk, undecided(desk, loss)) == [None, None, None]
