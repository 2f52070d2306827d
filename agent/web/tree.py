"""The drawing of the timeline tree: one lane per timeline, forks, nodes on their place.

Theory of operation. All positions that matter (switches, ends, nodes) are put in order
and spread evenly: WAL grows by bytes in one place and by gigabytes in another, so the
drawing keeps the order and not the scale. A branch leaves its parent's lane at the
switch. WAL past the fork from the primary's line is drawn as what it is: what a resync
would destroy. Who is not seen is drawn where it was last, and called so. Old history on
which nobody stands and where nothing forked is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

WIDTH = 640
LEFT, RIGHT = 92.0, 560.0
TOP, LANE = 58.0, 76.0
TOGETHER_BYTES = 64 * 1024
"""Nodes of one branch that are this close share a dot: replication is never level."""
LANES_MAX = 12


@dataclass(frozen=True, slots=True)
class Lane:
    """One timeline."""

    name: str
    y: float
    path: str
    lost_path: str
    """The part of it that lies past the fork from the primary's line; may be empty."""
    words: str


@dataclass(frozen=True, slots=True)
class Dot:
    """Nodes that stand on one place."""

    names: str
    role: str
    lsn: str
    past_fork_bytes: int | None
    known: bool
    """Whether any of them is there now."""
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Fork:
    """A point at which lines part."""

    lsn: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Tree:
    """The drawing."""

    width: int
    height: int
    lanes: tuple[Lane, ...]
    dots: tuple[Dot, ...]
    forks: tuple[Fork, ...]
    left_out: int
    """How many old timelines are not drawn."""


@dataclass(frozen=True, slots=True)
class _Group:
    branch: str
    lsn: int
    places: tuple[Json, ...]


def draw_tree(lineage: Json) -> Tree:
    """Return the drawing of a lineage answer."""
    branches = _shown(lineage)
    names = {branch["id"] for branch in branches}
    groups = _groups(lineage, names)
    x_of = _spread(branches, groups)
    y_of = {one["id"]: TOP + LANE * rank for rank, one in enumerate(branches)}
    lanes = tuple(_lane(one, branches, groups, x_of, y_of) for one in branches)
    forks = tuple(
        Fork(one["lsn"], x_of[_number(one["lsn"])], y_of[one["branch"]])
        for one in lineage["forks"]
        if one["branch"] in names and _number(one["lsn"]) in x_of
    )
    return Tree(
        width=WIDTH,
        height=round(TOP + LANE * max(0, len(branches) - 1) + 52),
        lanes=lanes,
        dots=tuple(_dot(group, x_of, y_of) for group in groups),
        forks=forks,
        left_out=len(lineage["branches"]) - len(branches),
    )


def _number(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def _shown(lineage: Json) -> list[Json]:
    """Return the branches that are worth a lane, parents first."""
    forked = {one["branch"] for one in lineage["forks"]}
    forked |= {child for one in lineage["forks"] for child in one["children"]}
    shown = [
        branch
        for branch in lineage["branches"]
        if branch["nodes"] or branch["id"] in forked
    ]
    parents = {branch["parent"] for branch in shown}
    for branch in lineage["branches"]:  # one step of history before what is shown
        if branch["id"] in parents and branch not in shown:
            shown.append(branch)
    order = [branch["id"] for branch in lineage["branches"]]
    shown.sort(key=lambda branch: (branch["timeline"], order.index(branch["id"])))
    return shown[-LANES_MAX:]


def _groups(lineage: Json, names: set[str]) -> list[_Group]:
    """Put nodes together that stand closely on one branch, no fork between them.

    Where a node was last seen is another thing than where one is: those two share a
    dot only when they are on the very same position.
    """
    forks = [_number(one["lsn"]) for one in lineage["forks"]]
    placed = [p for p in lineage["places"] if p["lsn"] and p["branch"] in names]
    placed.sort(key=lambda one: (one["branch"], _number(one["lsn"])))
    live = _joined([p for p in placed if p["known"]], forks)
    old = _joined([p for p in placed if not p["known"]], forks)
    merged = {(group.branch, group.lsn): group for group in live}
    for group in old:
        key = (group.branch, group.lsn)
        before = merged[key].places if key in merged else ()
        merged[key] = _Group(group.branch, group.lsn, (*before, *group.places))
    return list(merged.values())


def _joined(placed: Sequence[Json], forks: Sequence[int]) -> list[_Group]:
    """Join neighbours of one branch; `placed` is in order of branch and position."""
    groups: list[_Group] = []
    for place in placed:
        lsn = _number(place["lsn"])
        last = groups[-1] if groups else None
        if (
            last is not None
            and last.branch == place["branch"]
            and lsn - last.lsn <= TOGETHER_BYTES
            and not any(last.lsn <= fork < lsn for fork in forks)
        ):
            groups[-1] = _Group(last.branch, lsn, (*last.places, place))
        else:
            groups.append(_Group(place["branch"], lsn, (place,)))
    return groups


def _spread(branches: Sequence[Json], groups: Sequence[_Group]) -> dict[int, float]:
    """Return an x for every position that matters, evenly and in order."""
    marks = {group.lsn for group in groups}
    for branch in branches:
        for key in ("switch_lsn", "end_lsn"):
            if branch[key] is not None:
                marks.add(_number(branch[key]))
    step = (RIGHT - LEFT) / (len(marks) + 1)
    return {
        lsn: round(LEFT + step * (rank + 1), 1)
        for rank, lsn in enumerate(sorted(marks))
    }


def _lane(
    branch: Json,
    branches: Sequence[Json],
    groups: Sequence[_Group],
    x_of: Mapping[int, float],
    y_of: Mapping[str, float],
) -> Lane:
    y, (start_x, from_y) = y_of[branch["id"]], _start(branch, x_of, y_of)
    ends = [x_of[group.lsn] for group in groups if group.branch == branch["id"]]
    ends += [
        x_of[_number(one["switch_lsn"])]
        for one in branches
        if one["parent"] == branch["id"] and one["switch_lsn"]
    ]
    if branch["end_lsn"]:
        ends.append(x_of[_number(branch["end_lsn"])])
    end_x = max([*ends, start_x + 40])
    bend = f"C {start_x + 26} {from_y} {start_x + 6} {y} {start_x + 40} {y}"
    begins = f"M {start_x} {from_y} " + (bend if from_y != y else "")
    lost = _lost(branch, groups)
    lost_path = ""
    if lost is not None:
        whole = branch["switch_lsn"] and lost <= _number(branch["switch_lsn"])
        lost_path = f"{begins} H {end_x}" if whole else _rest(lost, x_of, end_x, y)
    return Lane(
        name=branch["id"],
        y=y,
        path=f"{begins} H {end_x}",
        lost_path=lost_path,
        words=_words(branch, groups),
    )


def _start(
    branch: Json, x_of: Mapping[int, float], y_of: Mapping[str, float]
) -> tuple[float, float]:
    """Return where a lane begins: at its switch on the parent, or at the left."""
    if branch["parent"] in y_of and branch["switch_lsn"]:
        return x_of[_number(branch["switch_lsn"])], y_of[branch["parent"]]
    return LEFT - 34, y_of[branch["id"]]


def _lost(branch: Json, groups: Sequence[_Group]) -> int | None:
    """Return from where on the branch is past the fork from the primary's line."""
    starts = [
        _number(place["lsn"]) - place["past_fork_bytes"]
        for group in groups
        if group.branch == branch["id"]
        for place in group.places
        if place["past_fork_bytes"]
    ]
    return min(starts, default=None)


def _rest(lost: int, x_of: Mapping[int, float], end_x: float, y: float) -> str:
    """Return the path from the fork to the end; the fork is always a mark."""
    before = [x for lsn, x in x_of.items() if lsn <= lost]
    return f"M {max(before, default=LEFT)} {y} H {end_x}"


def _words(branch: Json, groups: Sequence[_Group]) -> str:
    left = f", left timeline {branch['parent']} at {branch['switch_lsn']}"
    here = [p for group in groups if group.branch == branch["id"] for p in group.places]
    now = ", ".join(place["node"] for place in here if place["known"])
    once = ", ".join(place["node"] for place in here if not place["known"])
    return (
        f"Timeline {branch['id']}{left if branch['parent'] else ''}; on it:"
        f" {now or 'nobody'}{f'; last seen on it: {once}' if once else ''}"
    )


def _dot(group: _Group, x_of: Mapping[int, float], y_of: Mapping[str, float]) -> Dot:
    roles = {place["role"] for place in group.places}
    past = [place["past_fork_bytes"] for place in group.places]
    now = [place["node"] for place in group.places if place["known"]]
    once = [f"{p['node']} (last seen)" for p in group.places if not p["known"]]
    return Dot(
        names=" · ".join((*now, *once)),
        role="primary" if "primary" in roles else min(roles),
        lsn=max(group.places, key=lambda place: _number(place["lsn"]))["lsn"],
        past_fork_bytes=max((one for one in past if one), default=None),
        known=bool(now),
        x=x_of[group.lsn],
        y=y_of[group.branch],
    )
