"""What only a living server tells of its writes: who waited, and who was told.

Theory of operation. A commit that waits for a synchronous standby is in the log like
any other, and its client has perhaps never heard of it. What a logical slot has sent is
known downstream already. Neither can be read out of a copy, so it is noted with every
sight of the local server that accepts writes, and stays when that server is gone; it
belongs to the timeline that the server was on.
"""

from dataclasses import replace

from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import Observation, PostgresSight
from agent.core.policy import Policy
from agent.core.state import LastSeen, Sent, State

LOGICAL = "logical"
SAME_WAIT_S = 5.0
"""A wait that seems to have begun so little earlier or later is the same one."""


def noted(state: State, seen: Observation, at: Moment, policy: Policy) -> State:
    """Take in a sight of the local server, if that accepts writes."""
    sight = seen.postgres
    if seen.node != policy.me or sight is None or sight.in_recovery:
        return state
    if sight.timeline is None:
        return state
    before = state.knowledge.last_seen
    now = _seen(sight, sight.timeline, before, at)
    if now == before:
        return state
    return replace(state, knowledge=replace(state.knowledge, last_seen=now))


def _seen(
    sight: PostgresSight, timeline: int, before: LastSeen | None, at: Moment
) -> LastSeen:
    sent = tuple(
        Sent(slot.name, slot.database or "", slot.plugin or "", slot.confirmed_lsn)
        for slot in sight.slots
        if slot.kind == LOGICAL and slot.confirmed_lsn is not None
    )
    if not sight.waiting_for_sync:
        return LastSeen(timeline, sent=sent)
    since_s = at.wall_s - sight.waiting_for_sync_s
    same = before is not None and before.timeline == timeline
    known_s = before.since_wall_s if before is not None and same else None
    if known_s is not None and abs(known_s - since_s) < SAME_WAIT_S:
        since_s = known_s
    return LastSeen(
        timeline=timeline,
        waiting=sight.waiting_for_sync,
        since_wall_s=since_s,
        seen_wall_s=at.wall_s,
        sent=sent,
    )


def past(seen: LastSeen | None, timeline: int, fork: Lsn) -> tuple[Sent, ...]:
    """Return the slots that had sent what lies past a fork of this timeline."""
    if seen is None or seen.timeline != timeline:
        return ()
    return tuple(one for one in seen.sent if one.lsn > fork)
