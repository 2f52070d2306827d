"""When the trouble is this agent's own: late, suspended, or with a clock that jumped.

Theory of operation. Each round tells how late the loop was and how the clocks moved
apart since the round before. Who was held up has missed others by its own fault: such
a miss counts for nothing, nor does an answer that lay unread, and for a few rounds it
takes twice as many misses in a row to accuse anybody. After a suspension no age can be
trusted, because the monotonic clock stood still meanwhile: what was seen before is
forgotten, and an answer to a question from before is not listened to. A wall clock that
jumps may be all that shows of a machine that was paused from outside; times are never
taken from it. Until the next round tells what the jump was, nothing is listened to and
nothing is judged: a death that is long over would else be found on waking.
"""

from dataclasses import dataclass

from agent.core.moment import Moment
from agent.core.observation import Observation, SelfHealth
from agent.core.policy import Policy

JUMP_S = 1.0
"""The wall clock moved apart from the others by more than this: it was stepped."""
ROUNDS = 3
"""How long doubt lasts: until everybody was asked anew, twice."""
STRETCH = 2
"""How many times as many misses it takes meanwhile to accuse."""


@dataclass(frozen=True, slots=True)
class SelfDoubt:
    """Why this agent doubts itself, and how long."""

    why: str
    since_s: float
    """The round that showed it, on the monotonic clock."""
    until_s: float
    suspended: bool = False


def after(
    doubt: SelfDoubt | None, health: SelfHealth, at: Moment, policy: Policy
) -> SelfDoubt | None:
    """Return the doubt after a round; the latest reason is the one that is told."""
    now_s = at.monotonic_s
    suspended = health.suspended_s > policy.round_s
    why = _why(health, policy)
    if why is not None:
        return SelfDoubt(why, now_s, now_s + ROUNDS * policy.round_s, suspended)
    return doubt if doubt is not None and now_s < doubt.until_s else None


def _why(health: SelfHealth, policy: Policy) -> str | None:
    if health.suspended_s > policy.round_s:
        return f"this machine was suspended for {health.suspended_s:.0f} s"
    if health.loop_lag_s > policy.round_s:
        return f"its own loop was {health.loop_lag_s:.1f} s late"
    if abs(health.wall_jump_s) > JUMP_S:
        return f"the wall clock here jumped by {health.wall_jump_s:+.1f} s"
    return None


def own_fault(seen: Observation, doubt: SelfDoubt | None, policy: Policy) -> bool:
    """Whether an observation says more of this agent than of the one it asked.

    What took a round longer than the deadline was timed by a loop that was held up; the
    round that finds that out may come after it. An answer that lay unread meanwhile is
    as old as the hold-up: what a report in it tells of others would pass for fresh. A
    question counts as older than a round when it was sent half a round before that
    one's tick.
    """
    if seen.received_s - seen.sent_s > _patience_s(policy):
        return True
    if doubt is None or seen.sent_s > doubt.since_s - policy.round_s / 2:
        return False
    return doubt.suspended or not seen.outcome.alive


def clocks_parted(offset_s: float | None, at: Moment) -> bool:
    """Whether the wall clock moved apart from the monotonic one since the last round.

    `offset_s` is by how much it was ahead then.
    """
    if offset_s is None:
        return False
    return abs(at.wall_s - at.monotonic_s - offset_s) > JUMP_S


def _patience_s(policy: Policy) -> float:
    # What is fresh is younger than two rounds and a deadline.
    return max(policy.fresh_s - policy.round_s, policy.round_s)


def misses_to_accuse(doubt: SelfDoubt | None, at: Moment, policy: Policy) -> int:
    """Return how many misses in a row make a channel unseen by this agent now."""
    if doubt is None or at.monotonic_s >= doubt.until_s:
        return policy.missed_to_accuse
    return policy.missed_to_accuse * STRETCH
