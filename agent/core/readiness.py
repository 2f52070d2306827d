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
class LeftPin:
    """Hard links that are all there is of a server which is gone."""

    capture: str
    place: str


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
    yielding_bytes: int = 0
    """Of snapshots that nothing holds: they make way for the capture of a split."""
    reserve_bytes: int | None = None
    """Held for the WAL tail and the journal; None where none is wanted."""
    reserve_lacks: int = 0
    """So many bytes more it would have, if there were room."""
    pins: tuple[LeftPin, ...] = ()
    """Of captures that were closed before a copy was complete."""
    method: str = ""
    """How the copy would be made now; empty where nobody has looked."""
    offsite: str = ""
    """Which archives did not get off-site, and why; empty when none is missing."""
    no_rows: str = ""
    """Why a losing side's rows could not be read out; empty where they could."""

    @property
    def reasons(self) -> str:
        """All obstacles in one line; empty without one."""
        return "; ".join(one.reason for one in self.obstacles)

    @property
    def copy_line(self) -> str:
        """How a full copy would go, for the node's standing line."""
        how = f" ({self.method})" if self.method else ""
        told = [
            f"full copy{how} about {max(1, round(self.seconds))} s",
            f"needs {size_text(self.needed_bytes)}",
            f"free {size_text(self.free_bytes)}",
        ]
        if self.needed_bytes > self.free_bytes:
            told.append(f"{size_text(self.yielding_bytes)} of old snapshots make way")
        if self.reserve_bytes is not None:
            told.append(self._reserve_line())
        if self.no_pin:
            told.append(f"no pin: {self.no_pin}")
        if self.no_rows:
            told.append(f"no rows: {self.no_rows}")
        return ", ".join(told)

    @property
    def opened_line(self) -> str:
        """Since when a copy is proven to open, for the node's standing line."""
        if self.opened_wall_s is None:
            return "no copy was opened yet"
        return f"last opened {_when(self.opened_wall_s)}"

    def _reserve_line(self) -> str:
        held = self.reserve_bytes or 0
        if not self.reserve_lacks:
            return f"reserve {size_text(held)}"
        whole = size_text(held + self.reserve_lacks)
        return f"reserve {size_text(held)} of {whole}: no room for all of it"


def size_text(count: float) -> str:
    """Return a number of bytes as people read it, such as `1.2 GB`."""
    for unit in _UNITS:
        if count < _STEP or unit == _UNITS[-1]:
            break
        count /= _STEP
    return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"


def _when(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
