"""What a node is and where its WAL ends, as far as anybody knows, and how sure that is.

Theory of operation. SQL, through whichever agent asked last, tells of a running server;
the agent beside it tells what its disk shows of a stopped one. The fresher of the two
counts. A position is known when it was read lately of a server that runs, or is the end
of the WAL of one that is stopped. Everything else is where the node was once.
"""

from dataclasses import dataclass
from typing import Literal

from agent.api.present.frame import Frame
from agent.core.lsn import Lsn
from agent.core.policy import NodeSpec

Role = Literal["primary", "standby", "stopped", "witness", "manager", "unknown"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's WAL ends."""

    role: Role
    lsn: Lsn | None
    age_s: float | None
    """How old the position is; None when there is none."""
    known: bool
    """Whether the node is there now; otherwise it was there when last seen."""


def place(frame: Frame, spec: NodeSpec) -> Place:
    """Return what is known of a node's place."""
    what = role(frame, spec)
    lsn, age_s = _position(frame, spec.name)
    fresh = lsn is not None and age_s is not None and frame.fresh(age_s)
    if what == "stopped":
        facts = frame.facts(spec.name)
        fresh = fresh and facts is not None and facts[0].end_lsn is not None
    return Place(what, lsn, age_s, fresh and what in ("primary", "standby", "stopped"))


def role(frame: Frame, spec: NodeSpec) -> Role:
    """Return what the node is, by its freshest sight."""
    if not spec.has_postgres:
        return "manager" if spec.has_manager else "witness"
    sight, facts = frame.sight(spec.name), frame.facts(spec.name)
    if facts and not facts[0].running and (not sight or facts[1] < sight[1]):
        return "stopped" if frame.fresh(facts[1]) else "unknown"
    if sight is None:
        return "unknown"
    fresh = frame.fresh(sight[1])
    if not fresh:
        return "unknown"
    return "standby" if sight[0].in_recovery else "primary"


def _position(frame: Frame, name: str) -> tuple[Lsn | None, float | None]:
    """Return the furthest flushed position that is known of a node, and its age."""
    sight, facts = frame.sight(name), frame.facts(name)
    if facts and not facts[0].running and (not sight or facts[1] < sight[1]):
        return facts[0].end_lsn or facts[0].checkpoint_lsn, facts[1]
    if sight and sight[0].flush_lsn is not None:
        return sight[0].flush_lsn, sight[1]
    return (facts[0].checkpoint_lsn, facts[1]) if facts else (None, None)
