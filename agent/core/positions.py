"""Where each server's WAL was last read to be, and of which timeline that is known.

Theory of operation. A position says something only together with its timeline. Whoever
writes WAL, or receives it, names the timeline of it. A standby that receives nothing
has only pg_control's, which is that of its last restart point: it still shows the old
one when the standby has taken over WAL of a new one since, and beside that the position
would lie past a fork that it never passed. So what such a standby holds is kept apart,
with the instant at which it was first read to hold it. The disk names the timeline as
soon as there is WAL of it: what it says well after that instant is what the position
is of.

What a data directory held is gone when it was cloned, rewound or set back since. Its
disk shows that (see `prints`), and then tells where the server is for a start: what was
read of it before then says nothing any more.
"""

from collections.abc import Iterable, Mapping
from math import nextafter

from agent.core.frozen import replace
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import PostgresSight, ServerFacts
from agent.core.prints import Printed, undone_from
from agent.core.state import Position, Received, View

TELLS_TIMELINE = 100_000
"""The first version whose receiver names the timeline to everybody who may ask."""
Read = tuple[str, PostgresSight, float]
"""A node, what its server told, and when (monotonic) it was asked."""


def noted(
    view: View, read: Iterable[Read]
) -> tuple[Mapping[str, Position], Mapping[str, Received]]:
    """Return the view's `positions` and `received` with these readings.

    One that is older than what is known is dropped.
    """
    positions, received = dict(view.positions), dict(view.received)
    for node, sight, read_s in read:
        lsns = [lsn for lsn in (sight.flush_lsn, sight.replay_lsn) if lsn is not None]
        last, held = positions.get(node), received.get(node)
        if not lsns or (last is not None and read_s < last.read_s):
            continue
        if held is not None and read_s < held.since_s:
            continue
        named = not sight.in_recovery or _receives(sight)
        if not named:
            received[node] = _held(held, sight.timeline, max(lsns), read_s)
        elif sight.timeline is not None:
            positions[node] = Position(sight.timeline, max(lsns), read_s)
            received.pop(node, None)
    return positions, received


def _receives(sight: PostgresSight) -> bool:
    """Whether it names the timeline of what it receives; none does before 10."""
    return sight.receiver_mark is not None and sight.version_num >= TELLS_TIMELINE


def _held(
    before: Received | None, timeline: int | None, lsn: Lsn, read_s: float
) -> Received:
    if before is not None and before.lsn == lsn:
        return replace(before, timeline=timeline)
    return Received(lsn, read_s, timeline)


def after_disk(
    view: View, node: str, before: Printed | None, facts: ServerFacts, read: Moment
) -> View:
    """Return the view after this reading of a disk; `before` is of the one before.

    No position outlives the WAL that it was read of.
    """
    if before is None or facts.marks is None:
        return view
    if undone_from(before.marks, facts.marks) is None:
        return view
    # Just before the disk was read: any answer since then says more.
    then_s = nextafter(read.monotonic_s, 0.0)
    place = replace(on_disk(facts, None, None, read), read_s=then_s)
    received = {name: one for name, one in view.received.items() if name != node}
    return replace(view, positions={**view.positions, node: place}, received=received)


def unread(view: View, node: str, lineage: Lineage | None) -> Position | None:
    """Return where a server is whose disk nobody tells of.

    pg_control's word counts then, unless the server is known to be on a later timeline.
    """
    last, held = view.positions.get(node), view.received.get(node)
    if held is None or held.timeline is None:
        return last
    latest = max(
        0 if last is None else last.timeline, 0 if lineage is None else lineage.timeline
    )
    if held.timeline < latest:
        return last
    return Position(held.timeline, held.lsn, held.since_s)


def on_disk(
    facts: ServerFacts, last: Position | None, held: Received | None, at: Moment
) -> Position:
    """Return where a server is whose disk was read.

    `last` is what was read with its timeline, which does not go away because nobody can
    see it any more; `held` what the standby has held since well before that reading.
    """
    timeline, end = facts.lineage.timeline, facts.checkpoint_lsn + 1
    if not facts.running and facts.end_lsn is not None:
        end = max(end, int(facts.end_lsn))
    elif last is not None and last.timeline == timeline:
        end = max(end, int(last.lsn))
    if held is not None:
        end = max(end, int(held.lsn))
    return Position(timeline, Lsn(end), at.monotonic_s)
