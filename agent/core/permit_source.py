"""Whether the server that a loser is to be copied from is still the right one.

Theory of operation. Whoever asks for a permit may say from which server the loser will
be rewound. Minutes can pass until the copy is complete, and the cluster may have chosen
another primary meanwhile: a loser made a copy of the former one would be a loser again.
So a source that is seen to be a standby, or is not seen while another node accepts
writes, is an objection; a source that went to another timeline after the grant makes
the grant void. What was read before the request proves nothing: the source is asked
once more first. A server that is none of the configured ones proves nothing either, nor
does silence: then nothing is objected.

A source of PostgreSQL 14 or 15 that was promoted just now still names the old timeline
in its pg_control, and pg_rewind would find nothing to do. That is waited for too, up to
READY_S; Patroni waits by itself.
"""

from agent.core.detector import key
from agent.core.moment import Moment
from agent.core.observation import Channel, PostgresSight
from agent.core.permit import Permit
from agent.core.policy import Policy
from agent.core.state import State

READY_S = 600.0
"""A checkpoint after a promotion comes within checkpoint_timeout, 300 s by default."""
BELIEVES_PG_CONTROL = 160_000
"""Below this version pg_rewind takes the source's timeline from pg_control."""


def objection(state: State, permit: Permit, at: Moment, policy: Policy) -> str:
    """Return why nothing should be copied from that server now; empty when it may."""
    node = meant(permit, policy)
    if node is None:
        return ""
    what = f"{node} ({permit.source}), from which it would be copied,"
    last = state.view.latest.get(key(node, Channel.POSTGRES))
    if last is None or last.sent_s < permit.asked_s:
        return f"{what} has not been looked at since you asked"
    seen = _fresh(state, node, at, policy)
    others = [
        spec.name
        for spec in policy.nodes
        if spec.name != node and _accepts_writes(_fresh(state, spec.name, at, policy))
    ]
    instead = f", and {others[0]} accepts writes" if others else ""
    if seen is None:
        return f"{what} is not seen{instead}" if others else ""
    if seen.in_recovery:
        return f"{what} is a standby{instead}: waiting until it is the primary"
    return _late(seen, what) if _patient(permit, at) else ""


def moved(state: State, permit: Permit, at: Moment, policy: Policy) -> str:
    """Return why a grant for that server is void; empty while it holds."""
    node = meant(permit, policy)
    seen = None if node is None else _fresh(state, node, at, policy)
    if seen is None:
        return ""
    if seen.in_recovery:
        return f"{node} ({permit.source}) became a standby after the grant: ask again"
    left = permit.source_timeline
    if None not in (left, seen.timeline) and seen.timeline != left:
        return (
            f"{node} ({permit.source}) went from timeline {left} to {seen.timeline}"
            " after the grant: ask again"
        )
    return ""


def timeline(state: State, permit: Permit, at: Moment, policy: Policy) -> int | None:
    """Return the timeline that the source is on; None when that is not known."""
    node = meant(permit, policy)
    seen = None if node is None else _fresh(state, node, at, policy)
    return None if seen is None else seen.timeline


def meant(permit: Permit, policy: Policy) -> str | None:
    """Return which node is meant; None when none, or more than one, fits."""
    if permit.source is None:
        return None
    found = [spec.name for spec in policy.nodes if permit.source in spec.upstreams]
    return found[0] if len(found) == 1 and found[0] != policy.me else None


def _fresh(state: State, node: str, at: Moment, policy: Policy) -> PostgresSight | None:
    """Return what was read of a server lately."""
    seen = state.view.latest.get(key(node, Channel.POSTGRES))
    if seen is None or at.monotonic_s - seen.received_s > policy.fresh_s:
        return None
    return seen.postgres


def _accepts_writes(seen: PostgresSight | None) -> bool:
    return seen is not None and not seen.in_recovery


def _patient(permit: Permit, at: Moment) -> bool:
    return at.wall_s - permit.asked_wall_s < READY_S


def _late(seen: PostgresSight, what: str) -> str:
    late = (
        seen.version_num < BELIEVES_PG_CONTROL
        and None not in (seen.control_timeline, seen.timeline)
        and seen.control_timeline != seen.timeline
    )
    if not late:
        return ""
    return (
        f"{what} was promoted just now: its control file still says timeline"
        f" {seen.control_timeline}, it is on {seen.timeline}; waiting for its"
        " checkpoint (CHECKPOINT there makes it at once)"
    )
