"""The tree of timelines, and every node's place on it.

Theory of operation. A branch is one timeline with the whole way that led to it: system
id, and where each ancestor was left. Two servers that took the same timeline number at
different places, or whose WAL after the switch has different fingerprints, are on two
branches of one number. Only a lineage read from a disk makes branches; a server that is
known by SQL alone is placed on the branch of its number when there is exactly one.

Everybody is held against the line of the primary. While two nodes are primaries, that
is the one that will probably be kept; when nobody can tell, each side is held against
the other. Who is not seen has no place now, only one where it was last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.api.models import BranchOut, ForkOut, LineageOut, PlaceOut
from agent.api.present.frame import Frame, lsn_text, short
from agent.api.present.position import Place, place
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.prediction import winner

Stage = tuple[int, int, str]
"""A timeline, the LSN at which it left its parent, and the fingerprint of its start
where two different ones are known."""
Way = tuple[str, tuple[Stage, ...]]
"""System id, and the stages from the root to the branch itself."""
Prints = Mapping[tuple[int, int], set[str]]


@dataclass(slots=True)
class _Branch:
    way: Way
    end: Lsn | None = None
    nodes: list[str] = field(default_factory=list)

    @property
    def parent(self) -> Way | None:
        system_id, stages = self.way
        return (system_id, stages[:-1]) if len(stages) > 1 else None

    @property
    def timeline(self) -> int:
        return self.way[1][-1][0]

    @property
    def switch(self) -> Lsn | None:
        return Lsn(self.way[1][-1][1]) if self.parent else None


Tree = dict[Way, _Branch]


@dataclass(frozen=True, slots=True)
class _Map:
    """The tree with everybody's place on it."""

    tree: Tree
    tips: Mapping[str, Way]
    places: Mapping[str, Place]
    against: tuple[str, ...]
    """The primary whose line is kept; several while nobody can tell whose it will be;
    none while no primary is seen."""


def lineage(frame: Frame) -> LineageOut:
    """Return the tree that all known lineages make."""
    found = _map(frame)
    called = _names(found.tree)
    return LineageOut(
        branches=[_branch_out(one, called) for one in found.tree.values()],
        forks=_forks(found.tree, called),
        places=[_place_out(found, name, called) for name in found.tips],
        against=list(found.against),
        unplaced=[
            spec.name
            for spec in frame.policy.nodes
            if spec.has_postgres and spec.name not in found.tips
        ],
    )


def past_fork(frame: Frame) -> dict[str, int | None]:
    """Return for each node on the tree how far it is past the fork, at most.

    None for who is on the line that is kept, or cannot be compared with it.
    """
    found = _map(frame)
    return {name: _past(found, name) for name in found.tips}


def _map(frame: Frame) -> _Map:
    specs = {spec.name: spec for spec in frame.policy.nodes if spec.has_postgres}
    known = {name: one for name in specs if (one := frame.lineage(name))}
    prints = _prints(known)
    tree: Tree = {}
    grown = {name: _grow(tree, one, prints) for name, one in known.items()}
    tips = {
        name: tip
        for name in specs
        if (tip := grown.get(name) or _by_number(frame, tree, name))
    }
    places = {name: place(frame, specs[name]) for name in tips}
    for name, here in places.items():
        branch = tree[tips[name]]
        branch.nodes.append(name)
        branch.end = max(filter(None, (branch.end, here.lsn)), default=None)
    return _Map(tree, tips, places, _against(frame, places))


def _against(frame: Frame, places: Mapping[str, Place]) -> tuple[str, ...]:
    """Return whose line all others are held against."""
    primaries = tuple(n for n, here in places.items() if here.role == "primary")
    predicted = winner(frame.state, frame.policy).node
    if len(primaries) > 1 and predicted in primaries:
        return (predicted,)
    return primaries


def _place_out(found: _Map, name: str, called: Mapping[Way, str]) -> PlaceOut:
    tip, here, past = found.tips[name], found.places[name], _past(found, name)
    on_line = here.known and bool(found.against)
    return PlaceOut(
        node=name,
        branch=called[tip],
        system_id=tip[0],
        timeline=found.tree[tip].timeline,
        lsn=lsn_text(here.lsn),
        lsn_age_s=None if here.age_s is None else short(here.age_s),
        known=here.known,
        role=here.role,
        past_fork_bytes=past,
        stands="past" if past is not None else "on" if on_line else "unknown",
    )


def _past(found: _Map, name: str) -> int | None:
    """Return how far a node is past the fork; while two may be kept, from either."""
    tip, lsn = found.tips[name], found.places[name].lsn
    lines = (_line(found.tips[primary]) for primary in found.against)
    away = (_past_fork(tip, lsn, line) for line in lines)
    return max((each for each in away if each is not None), default=None)


def _prints(known: Mapping[str, Lineage]) -> Prints:
    """Return the fingerprints known of each switch: two different ones are twins."""
    found: dict[tuple[int, int], set[str]] = {}
    for one in known.values():
        for mark in one.fingerprints:
            found.setdefault((mark.timeline, int(mark.lsn)), set()).add(mark.sha256)
    return found


def _grow(tree: Tree, one: Lineage, prints: Prints) -> Way:
    """Enter a lineage's branches; return its tip.

    A fingerprint tells branches apart only where two different ones are known: one
    that is unavailable on a server proves nothing.
    """
    mine = {(mark.timeline, int(mark.lsn)): mark.sha256 for mark in one.fingerprints}
    numbers = [switch.timeline for switch in one.switches] + [one.timeline]
    starts = [0] + [int(switch.lsn) for switch in one.switches]
    stages: tuple[Stage, ...] = ()
    for timeline, start in zip(numbers, starts, strict=True):
        told_apart = len(prints.get((timeline, start), ())) > 1
        mark = mine.get((timeline, start), "") if told_apart else ""
        stages = (*stages, (timeline, start, mark))
        way = (one.system_id, stages)
        tree.setdefault(way, _Branch(way))
    return one.system_id, stages


def _by_number(frame: Frame, tree: Tree, name: str) -> Way | None:
    sight = frame.sight(name)
    if sight is None or sight[0].timeline is None:
        return None
    wanted = (sight[0].system_id, sight[0].timeline)
    ways = [way for way, one in tree.items() if (way[0], one.timeline) == wanted]
    return ways[0] if len(ways) == 1 else None


def _line(tip: Way) -> tuple[Way, ...]:
    """Return the branches from the root to this one."""
    system_id, stages = tip
    return tuple((system_id, stages[:depth]) for depth in range(1, len(stages) + 1))


def _past_fork(way: Way, lsn: Lsn | None, line: tuple[Way, ...]) -> int | None:
    """Return how far a position lies past the point where it left a line.

    A server that stayed on an ancestor left the line where the line left that
    ancestor; being short of that point is being behind, not being past a fork.
    """
    shared = [one for one in _line(way) if one in line]
    if not shared or lsn is None:
        return None
    meeting = shared[-1]
    exits = [
        path[-1][1]
        for _, path in (*_line(way), *line)
        if path[:-1] == meeting[1] and len(path) > 1
    ]
    if not exits:
        return None
    past = lsn - min(exits)
    return max(past, 0) if past > 0 or way != meeting else None


def _forks(tree: Tree, called: Mapping[Way, str]) -> list[ForkOut]:
    """Return each point at which lines part.

    A branch that everybody left at one switch is no fork: it is history.
    """
    found: list[ForkOut] = []
    for way, branch in tree.items():
        leaving = [one for one in tree.values() if one.parent == way]
        for lsn in sorted({one.switch for one in leaving if one.switch is not None}):
            children = [called[one.way] for one in leaving if one.switch == lsn]
            went_on = branch.end is not None and branch.end > lsn
            later = any(one.switch is not None and one.switch > lsn for one in leaving)
            if len(children) > 1 or went_on or later:
                found.append(
                    ForkOut(
                        branch=called[way],
                        timeline=branch.timeline,
                        lsn=str(lsn),
                        children=children,
                    )
                )
    return found


def _names(tree: Tree) -> dict[Way, str]:
    """Return short names: the timeline's number, with a letter where twins need one."""
    names: dict[Way, str] = {}
    many_systems = len({way[0] for way in tree}) > 1
    for way, branch in tree.items():
        same = [
            other
            for other, one in tree.items()
            if (other[0], one.timeline) == (way[0], branch.timeline)
        ]
        letter = chr(ord("a") + same.index(way) % 26) if len(same) > 1 else ""
        prefix = f"{way[0]}:" if many_systems else ""
        names[way] = f"{prefix}{branch.timeline}{letter}"
    return names


def _branch_out(branch: _Branch, called: Mapping[Way, str]) -> BranchOut:
    return BranchOut(
        id=called[branch.way],
        system_id=branch.way[0],
        timeline=branch.timeline,
        parent=called[branch.parent] if branch.parent is not None else None,
        switch_lsn=lsn_text(branch.switch),
        end_lsn=lsn_text(branch.end),
        nodes=branch.nodes,
    )
