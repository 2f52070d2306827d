"""Whether the next split would be survived, as the agent beside the server found out.

Theory of operation. Every few minutes the shell tries in earnest what a full copy
needs: the programs, the grants, the room. What is missing is an obstacle, each with
what to do about it; obstacles make `capture-not-ready`. The rest is told in the
standing line of the node: how, how long, how many bytes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that a full copy would fail on."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a full copy of the local server would need and find now."""

    needed_bytes: int
    free_bytes: int
    """What captures may use there; the floor that stays free is taken off."""
    seconds: float
    """About how long the copy would take, reading back included."""
    no_pin: str
    """Why there can be no farm of hard links beside PGDATA; empty if there can."""
    opened_wall_s: float | None
    """From when the newest snapshot is that was proven to open."""
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def reasons(self) -> str:
        """All obstacles in one line; empty without one."""
        return "; ".join(one.reason for one in self.obstacles)

    @property
    def line(self) -> str:
        """The rest of the node's standing line."""
        told = [
            f"full copy about {max(1, round(self.seconds))} s",
            f"needs {_size(self.needed_bytes)}",
            f"free {_size(self.free_bytes)}",
        ]
        if self.no_pin:
            told.append(f"no pin: {self.no_pin}")
        opened = "none yet" if self.opened_wall_s is None else _when(self.opened_wall_s)
        return f"{', '.join(told)}; newest copy that was opened: {opened}"


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < _STEP or unit == _UNITS[-1]:
            break
        count /= _STEP
    return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"


def _when(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
