"""The drawing of who sees whom: nodes on a circle, one arrow per direction.

Theory of operation. Nodes stand on a circle in the order of the configuration, the
first on top. Between two of them run two parallel arrows, one for each direction, so
that a one-way cut shows. An arrow is `seen` when every channel that was asked
answered, `part` when only some did, `cut` when none did, and `stale` when nothing
fresh is known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

Json = Mapping[str, Any]

WIDTH, HEIGHT = 420, 320
CENTRE_X, CENTRE_Y = 210.0, 162.0
REACH_X, REACH_Y = 140.0, 108.0
NODE_RADIUS = 27.0
LETTERS = {
    "primary": "P",
    "standby": "S",
    "stopped": "\N{EN DASH}",
    "witness": "W",
    "manager": "M",
    "unknown": "?",
}
GAP = 5.0
"""Between an arrow and the line from centre to centre."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A node on the drawing."""

    name: str
    role: str
    letter: str
    me: bool
    x: float
    y: float
    label_y: float


@dataclass(frozen=True, slots=True)
class Arrow:
    """How one node sees another."""

    observer: str
    node: str
    state: str
    words: str
    x1: float
    y1: float
    x2: float
    y2: float
    cross_x: float
    cross_y: float


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing."""

    width: int
    height: int
    spots: tuple[Spot, ...]
    arrows: tuple[Arrow, ...]
    summary: str
    """The drawing in words."""


def draw_graph(status: Json) -> Graph:
    """Return the drawing of a status."""
    nodes = status["nodes"]
    spots = tuple(_spot(node, rank, len(nodes)) for rank, node in enumerate(nodes))
    arrows = tuple(
        _arrow(a, b, [r for r in status["matrix"] if _about(r, a.name, b.name)])
        for a, b in permutations(spots, 2)
    )
    cut = [f"{arrow.observer} does not see {arrow.node}" for arrow in arrows
           if arrow.state == "cut"]  # fmt: skip
    fresh = any(arrow.state in ("seen", "part") for arrow in arrows)
    calm = "Every look between nodes finds somebody." if fresh else "Nothing is known."
    return Graph(WIDTH, HEIGHT, spots, arrows, "; ".join(cut) or calm)


def _about(row: Json, observer: str, node: str) -> bool:
    return bool(row["observer"] == observer and row["node"] == node)


def _spot(node: Json, rank: int, count: int) -> Spot:
    angle = 2 * math.pi * rank / max(count, 1) - math.pi / 2
    if count == 2:  # noqa: PLR2004 - two nodes stand side by side
        angle -= math.pi / 2
    x = CENTRE_X + REACH_X * math.cos(angle)
    y = CENTRE_Y + REACH_Y * math.sin(angle)
    above = y < CENTRE_Y - 1
    return Spot(
        name=node["name"],
        role=node["role"],
        letter=LETTERS[node["role"]],
        me=node["me"],
        x=round(x, 1),
        y=round(y, 1),
        label_y=round(y - NODE_RADIUS - 9 if above else y + NODE_RADIUS + 20, 1),
    )


def _arrow(observer: Spot, node: Spot, rows: Sequence[Json]) -> Arrow:
    length = math.dist((observer.x, observer.y), (node.x, node.y)) or 1.0
    ux, uy = (node.x - observer.x) / length, (node.y - observer.y) / length
    side_x, side_y = -uy * GAP, ux * GAP
    near, far = NODE_RADIUS + 4, length - NODE_RADIUS - 9
    return Arrow(
        observer=observer.name,
        node=node.name,
        state=_state(rows),
        words=_words(observer.name, node.name, rows),
        x1=round(observer.x + ux * near + side_x, 1),
        y1=round(observer.y + uy * near + side_y, 1),
        x2=round(observer.x + ux * far + side_x, 1),
        y2=round(observer.y + uy * far + side_y, 1),
        cross_x=round(observer.x + ux * length / 2 + side_x * 2.2, 1),
        cross_y=round(observer.y + uy * length / 2 + side_y * 2.2, 1),
    )


def _state(rows: Sequence[Json]) -> str:
    fresh = [row["seen"] for row in rows if row["seen"] is not None]
    if not fresh:
        return "stale"
    if all(fresh):
        return "seen"
    return "part" if any(fresh) else "cut"


def _words(observer: str, node: str, rows: Sequence[Json]) -> str:
    if not rows:
        return f"How {observer} sees {node} is not known."
    told = [f"{row['channel']} {row['outcome']} {row['age_s']:.1f} s ago"
            for row in rows]  # fmt: skip
    return f"{observer} looks at {node}: {', '.join(told)}"
