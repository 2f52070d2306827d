"""How two lineages relate, and whether a server has gone past a fork.

Theory of operation. A lineage is a chain of timelines, each left at an LSN but the
last. Two chains are walked from the oldest end: they share whatever is equal. What
comes first that differs is the fork. Equal timeline numbers beyond it are twins:
one number, two histories. Where the chains are equal, the fingerprints of the WAL
at the switches decide, and after the last one pages of WAL that both have (see
`pageprint`); a missing print proves nothing.

A server has diverged from a primary when its position lies past the fork. LSN
order alone names neither: a loser is often ahead.
"""

from itertools import pairwise

from agent.core import pageprint
from agent.core.lineage import Fork, Kinship, Lineage, Relation
from agent.core.lsn import Lsn
from agent.core.memo import remembered_pair
from agent.core.state import Position

_MIRRORED = {
    Kinship.DESCENDS: Kinship.ANCESTOR,
    Kinship.ANCESTOR: Kinship.DESCENDS,
}

SAME = Relation(Kinship.SAME, None)

Step = tuple[int, Lsn | None]
"""A timeline and where it was left; None for the one that is still written."""
Place = tuple[int, Lsn]
"""A timeline and where it began."""


def relate(first: Lineage, second: Lineage) -> Relation:
    """Return how `first` stands to `second`.

    Chains whose oldest timelines differ (a history file is missing) show nothing
    that tells them apart, and nothing is what is said: `same` without a fork.
    """
    return SAME if first is second else _related(first, second)


@remembered_pair
def _related(first: Lineage, second: Lineage) -> Relation:
    if first.system_id != second.system_id:
        return Relation(Kinship.FOREIGN, None)
    if first == second:
        return SAME
    ours, theirs = _chain(first), _chain(second)
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    twin = _fingerprint_fork(first, second, _begun(ours, theirs, shared))
    if twin is not None:
        return Relation(Kinship.TWIN, twin)
    if shared == len(ours) == len(theirs):
        wrote_on = pageprint.fork(first, second)
        return SAME if wrote_on is None else Relation(Kinship.TWIN, wrote_on)
    return _parted(ours, theirs, shared)


def mirrored(kinship: Kinship) -> Kinship:
    """Return how the second stands to the first, when the first stands so."""
    return _MIRRORED.get(kinship, kinship)


def past_fork(position: Position, own: Lineage | None, primary: Lineage) -> Fork | None:
    """Return the fork that this position lies past; None when it does not.

    `own` is the server's lineage, if it is known; it counts only when it is of the
    position's timeline. Without it the position is measured against the primary's
    own ancestors, which tells a loser that stayed behind on an older timeline.
    """
    if own is not None and own.timeline == position.timeline:
        fork = relate(own, primary).fork
        return fork if fork is not None and position.lsn > fork.lsn else None
    for switch in primary.switches:
        if switch.timeline == position.timeline and position.lsn > switch.lsn:
            return Fork(switch.timeline, switch.lsn)
    return None


def fork_timeline(
    lineages: tuple[Lineage | None, Lineage | None],
    timelines: tuple[int | None, int | None],
) -> str:
    """Return the fork's parent timeline as text, alike on both sides of a split.

    Known lineages tell it. Else it is the lower of the two timelines, or the one
    before when both took the same number. `?` when nothing is known.
    """
    first, second = lineages
    fits = tuple(
        lineage is not None and timeline in (None, lineage.timeline)
        for lineage, timeline in zip(lineages, timelines, strict=True)
    )
    if first is not None and second is not None and all(fits):
        fork = relate(first, second).fork
        if fork is not None:
            return str(fork.timeline)
    known = [timeline for timeline in timelines if timeline is not None]
    if not known:
        return "?"
    if len(known) == len(timelines) and known[0] == known[1]:
        return str(max(known[0] - 1, 1))
    return str(min(known))


def _chain(lineage: Lineage) -> tuple[Step, ...]:
    steps: list[Step] = [(one.timeline, one.lsn) for one in lineage.switches]
    return (*steps, (lineage.timeline, None))


def _begun(
    ours: tuple[Step, ...], theirs: tuple[Step, ...], shared: int
) -> tuple[Step, ...]:
    """Return the timelines that both began at the same point."""
    if shared < len(ours) and ours[shared][0] == theirs[shared][0]:
        return ours[: shared + 1]
    return ours[:shared]


def _parted(ours: tuple[Step, ...], theirs: tuple[Step, ...], shared: int) -> Relation:
    """Return the relation of two chains that differ from step `shared` on."""
    (our_timeline, our_end), (their_timeline, their_end) = ours[shared], theirs[shared]
    if our_timeline != their_timeline:
        if shared == 0:
            return Relation(Kinship.SAME, None)
        parent, end = ours[shared - 1]
        return Relation(_forked(ours, theirs, shared), Fork(parent, end or Lsn(0)))
    if our_end is None:
        return Relation(Kinship.DESCENDS, Fork(our_timeline, their_end or Lsn(0)))
    if their_end is None:
        return Relation(Kinship.ANCESTOR, Fork(our_timeline, our_end))
    fork = Fork(our_timeline, min(our_end, their_end))
    return Relation(_forked(ours, theirs, shared + 1), fork)


def _forked(ours: tuple[Step, ...], theirs: tuple[Step, ...], start: int) -> Kinship:
    """One number on both sides after the fork makes them twins."""
    common = {number for number, _ in ours[start:]} & {
        number for number, _ in theirs[start:]
    }
    return Kinship.TWIN if common else Kinship.FORKED


def _fingerprint_fork(
    first: Lineage, second: Lineage, shared: tuple[Step, ...]
) -> Fork | None:
    """Return where equal history stands before different WAL, if it does."""
    ours, theirs = _prints(first), _prints(second)
    forks = [
        Fork(parent, end)
        for (parent, end), (timeline, _) in pairwise(shared)
        if end is not None and _differ(ours, theirs, (timeline, end))
    ]
    return min(forks, key=lambda fork: fork.lsn, default=None)


def _prints(lineage: Lineage) -> dict[Place, set[str]]:
    """Return the fingerprints by the place that they are of."""
    found: dict[Place, set[str]] = {}
    for one in lineage.fingerprints:
        found.setdefault((one.timeline, one.lsn), set()).add(one.sha256)
    return found


def _differ(
    ours: dict[Place, set[str]], theirs: dict[Place, set[str]], place: Place
) -> bool:
    """Whether both have a fingerprint of this place, and none in common."""
    one, other = ours.get(place, set()), theirs.get(place, set())
    return bool(one) and bool(other) and not one & other
