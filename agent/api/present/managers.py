"""What is told of each node's manager: who it says it is, and what is kept of it.

Theory of operation. Whether a manager is active is the freshest answer to anybody who
has asked it lately. What it says of its cluster, and which snapshot of it is kept, is
told by the agent beside it, where that has a login; what an agent said that is not
heard any more is no news of the cluster, but the snapshot stays kept.
"""

from dataclasses import dataclass

from agent.api.present.frame import Frame, rfc3339_or_none
from agent.core.care import CareBrief, ManagerSight
from agent.core.observation import Channel, Outcome
from agent.core.policy import NodeSpec

MINUTE = len("2026-11-23T02:31")


@dataclass(frozen=True, slots=True)
class ManagerTold:
    """One node's manager, as far as this agent knows."""

    active: bool | None = None
    version: str | None = None
    cluster: str | None = None
    kept_at: str | None = None
    """When the newest good snapshot was made."""
    line: str | None = None
    """All that in words; None where the node has no manager."""


def manager_told(frame: Frame, spec: NodeSpec) -> ManagerTold:
    """Return what is known of a node's manager."""
    if not spec.has_manager:
        return ManagerTold()
    sight = _sight(frame, spec.name)
    brief, age_s = _brief(frame, spec.name)
    fresh = brief if frame.fresh(age_s) else None
    active = sight.says if sight is not None else None
    if active is None and fresh is not None and sight is not None:
        active = fresh.active
    good_s = None if brief is None else brief.last_good_age_s
    kept_at = rfc3339_or_none(
        None if good_s is None else frame.at.wall_s - good_s - age_s
    )
    version = (brief.version if brief is not None else "") or (
        sight.version if sight is not None else None
    )
    parts = [
        _state(frame, spec.name, active, answers=sight is not None),
        *([f"version {version}"] if version else []),
        *([_cluster(fresh)] if fresh is not None and fresh.cluster else []),
    ]
    kept = [] if brief is None else [_kept(brief, kept_at)]
    return ManagerTold(
        active=active,
        version=version or None,
        cluster=(fresh.cluster or None) if fresh is not None else None,
        kept_at=kept_at,
        line="; ".join([", ".join(parts), *kept]),
    )


def _sight(frame: Frame, node: str) -> ManagerSight | None:
    """Return the freshest answer of a manager to this agent or to a peer, lately."""
    found: list[tuple[float, ManagerSight]] = []
    own = frame.latest(node, Channel.MANAGER)
    if own is not None and own.manager is not None:
        found.append((frame.age_s(own), own.manager))
    for peer in frame.policy.nodes:
        heard = frame.report(peer.name)
        for one in heard[0].sights if heard is not None else ():
            if heard is None or one.node != node or one.manager is None:
                continue
            found.append((heard[1] + one.age_s, one.manager))
    latest = min(found, key=lambda one: one[0], default=None)
    return latest[1] if latest is not None and frame.fresh(latest[0]) else None


def _brief(frame: Frame, node: str) -> tuple[CareBrief | None, float]:
    """Return what the agent beside the manager tells of it, and how old that is."""
    if node == frame.policy.me:
        care = frame.state.view.care
        return (None if care is None else care.brief(frame.at.wall_s)), 0.0
    heard = frame.report(node)
    return (None, 0.0) if heard is None else (heard[0].care, heard[1])


def _state(frame: Frame, node: str, active: bool | None, *, answers: bool) -> str:
    if active is not None:
        return "active" if active else "not active"
    if answers:
        return "answers, and wants a login before it says more"
    seen = frame.latest(node, Channel.MANAGER)
    if seen is None or not frame.fresh(frame.age_s(seen)):
        return "not known"
    if seen.outcome in (Outcome.REFUSED, Outcome.GARBLED):
        return f"in trouble ({seen.reason})"
    return "does not answer"


def _cluster(brief: CareBrief) -> str:
    away = f" ({brief.away})" if brief.away else ""
    return f"cluster {brief.cluster}{away}"


def _kept(brief: CareBrief, kept_at: str | None) -> str:
    last = "no snapshot is kept yet"
    if kept_at is not None:
        last = f"last snapshot {kept_at[:MINUTE].replace('T', ' ')} UTC"
    if brief.running:
        return f"{last}, {brief.running} is being made"
    return f"{last}; {brief.trouble}" if brief.trouble else last
