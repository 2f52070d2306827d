"""The clocks of one machine: they drift, one can be stepped, both can be suspended.

Theory of operation. World time runs in the simulator and nobody in it can read it.
A machine's monotonic clock runs at a speed of its own, never jumps, and stands still
while the machine is suspended; the boot-time clock goes on. The wall clock follows
the boot-time clock, plus whatever somebody stepped it by.
"""

from dataclasses import dataclass

from agent.core.moment import Moment

WALL_S = 1_800_000_000.0


@dataclass
class Clock:
    """One machine's clocks, as a function of world time."""

    rate: float = 1.0
    """Seconds on this machine per second of the world."""
    begin_s: float = 0.0
    """What the monotonic clock shows at world time 0."""
    step_s: float = 0.0
    """By how much the wall clock was stepped, all steps together."""
    lost_s: float = 0.0
    """How long the machine was suspended, by its own speed."""
    since_s: float | None = None
    """World time since when it is suspended."""

    def monotonic(self, now_s: float) -> float:
        until_s = now_s if self.since_s is None else self.since_s
        return self.begin_s + until_s * self.rate - self.lost_s

    def wall(self, now_s: float) -> float:
        return WALL_S + now_s * self.rate + self.step_s

    def boot(self, now_s: float) -> float:
        return self.begin_s + now_s * self.rate

    def moment(self, now_s: float) -> Moment:
        return Moment(self.monotonic(now_s), self.wall(now_s))

    def suspend(self, now_s: float) -> None:
        if self.since_s is None:
            self.since_s = now_s

    def resume(self, now_s: float) -> None:
        if self.since_s is not None:
            self.lost_s += (now_s - self.since_s) * self.rate
            self.since_s = None
