"""Whose side of a split a snapshot holds.

Theory of operation. A snapshot names the incidents that it was taken for, and these
say which node will probably be kept and which ones would be resynced. That is the
prediction on which the work was ordered; a snapshot of no split has no side. An
incident may end with a stage that predicts nobody: then the loss reports of that split
say who wrote alone, and with whom that was compared.
"""

from collections.abc import Collection, Iterable
from typing import Literal

from agent.api.present.frame import Frame
from agent.core.incident import Incident
from agent.core.verdict import Family

Side = Literal["loser", "winner", "standby"]


def side(frame: Frame, node: str, incident_ids: Collection[str]) -> Side | None:
    """Return the predicted side of `node` in these incidents; None when nobody knows.

    `standby` is who took part in none of the two lines of descent.
    """
    splits = [
        incident
        for incident in frame.state.ledger.incidents
        if incident.id in incident_ids and incident.verdict.family is Family.SPLIT
    ]
    known = [one for one in splits if winner(one) is not None]
    if any(winner(one) == node for one in known):
        return "winner"
    if any(node in one.sides for one in known):
        return "loser"
    return "standby" if known else _compared(splits, node)


def _compared(splits: Iterable[Incident], node: str) -> Side | None:
    """Return the side of a node as the loss reports of splits tell it."""
    losses = [loss for incident in splits for loss in incident.losses if loss.winner]
    if any(loss.node == node for loss in losses):
        return "loser"
    return "winner" if any(loss.winner == node for loss in losses) else None


def winner(incident: Incident) -> str | None:
    """Return who will probably be kept, as the last stage of an incident says."""
    found = incident.verdict.evidence.get("winner")
    return found if isinstance(found, str) and found else None
