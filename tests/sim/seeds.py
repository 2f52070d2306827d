"""The list of seeds that ever failed, each with the reason why it is on it."""

from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("seeds.txt")


@dataclass(frozen=True)
class Known:
    """One line of the list."""

    seed: int
    hours: float
    rough: bool
    """Whether it is a cluster of the soak."""
    reason: str


def known() -> tuple[Known, ...]:
    """Return the list, oldest first."""
    lines = LIST.read_text("utf-8").splitlines()
    found = [line.split(maxsplit=3) for line in lines if line and line[0] != "#"]
    return tuple(
        Known(int(seed), float(hours), kind == "soak", reason)
        for kind, seed, hours, reason in found
    )
