"""The tree of timelines, and every node's place on it.

Theory of operation. A branch is one timeline with the whole way that led to it: system
id, and where each ancestor was left. Two servers that took the same timeline number at
different places, or whose WAL after the switch has different fingerprints, are on two
branches of one number. Only a lineage read from a disk makes branches; a server that is
known by SQL alone is placed on the branch of its number when there is exactly one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.api.models import BranchOut, ForkOut, LineageOut, PlaceOut
from agent.api.present.frame import Frame, lsn_text
from agent.api.present.nodes import node_out
from agent.core.lineage import Lineage
from agent.core.lsn import Lsn

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


def lineage(frame: Frame) -> LineageOut:
    """Return the tree that all known lineages make."""
    names = [spec.name for spec in frame.policy.nodes if spec.has_postgres]
    known = {name: found for name in names if (found := frame.lineage(name))}
    prints = _prints(known)
    tree: Tree = {}
    tips = {name: _grow(tree, one, prints) for name, one in known.items()}
    for name in names:
        tip = tips.get(name) or _by_number(frame, tree, name)
        if tip is not None:
            tips[name] = tip
    outs = {
        spec.name: node_out(frame, spec, [])
        for spec in frame.policy.nodes
        if spec.name in tips
    }
    for name, out in outs.items():
        branch = tree[tips[name]]
        branch.nodes.append(name)
        lsn = Lsn.parse(out.lsn) if out.lsn else None
        branch.end = max(filter(None, (branch.end, lsn)), default=None)
    called = _names(tree)
    primaries = [tips[name] for name, out in outs.items() if out.role == "primary"]
    line = _line(max(primaries, key=lambda way: way[1][-1][0], default=None))
    places = [
        PlaceOut(
            node=name,
            branch=called[tips[name]],
            system_id=tips[name][0],
            timeline=tree[tips[name]].timeline,
            lsn=out.lsn,
            role=out.role,
            past_fork_bytes=_past_fork(tips[name], out.lsn, line),
        )
        for name, out in outs.items()
    ]
    return LineageOut(
        branches=[_branch_out(one, called) for one in tree.values()],
        forks=_forks(tree, called),
        places=places,
        unplaced=[name for name in names if name not in tips],
    )


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


def _line(tip: Way | None) -> tuple[Way, ...]:
    """Return the branches from the root to this one."""
    if tip is None:
        return ()
    system_id, stages = tip
    return tuple((system_id, stages[:depth]) for depth in range(1, len(stages) + 1))


def _past_fork(way: Way, lsn: str | None, line: tuple[Way, ...]) -> int | None:
    """Return how far a position lies past the point where it left the primary's line.

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
    past = Lsn.parse(lsn) - min(exits)
    return past if past > 0 or way != meeting else None


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
