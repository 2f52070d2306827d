"""Whose side of a split a snapshot holds.

Theory of operation. A snapshot names the incidents that it was taken for, and these
say which node will probably be kept and which ones would be resynced. That is the
prediction on which the work was ordered; a snapshot of no split has no side.
"""

from collections.abc import Collection
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
    return "standby" if known else None


def winner(incident: Incident) -> str | None:
    """Return who will probably be kept, as the last stage of an incident says."""
    found = incident.verdict.evidence.get("winner")
    return found if isinstance(found, str) and found else None
