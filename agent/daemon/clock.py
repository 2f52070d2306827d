"""The one place that reads clocks and waits."""

import asyncio
import time
from collections.abc import Callable

from agent.core.moment import Moment
from agent.core.observation import SelfHealth

Clocks = tuple[float, float, float]
"""What the monotonic, the wall and the boot-time clock show, in seconds."""


class SystemClock:
    """The machine's clocks; implements ports.Clock."""

    def moment(self) -> Moment:
        """Read the monotonic and the wall clock."""
        return Moment(monotonic_s=time.monotonic(), wall_s=time.time())

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, or not at all when there are none."""
        await asyncio.sleep(max(0.0, seconds))


def read_clocks() -> Clocks:
    """Read the machine's monotonic, wall and boot-time clock, in seconds."""
    return time.monotonic(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


class SelfWatch:
    """Compares clocks from one reading to the next, to doubt oneself in time.

    The boot-time clock goes on while the machine is suspended and the monotonic
    one does not (clock_gettime(2)); the wall clock can be stepped, they cannot.
    """

    def __init__(self, read: Callable[[], Clocks] = read_clocks) -> None:
        self._read = read
        self._last = read()

    def reading(self, loop_lag_s: float) -> SelfHealth:
        """Return what happened to the clocks since the reading before."""
        monotonic_s, wall_s, boot_s = self._read()
        before_monotonic_s, before_wall_s, before_boot_s = self._last
        self._last = (monotonic_s, wall_s, boot_s)
        passed_s = monotonic_s - before_monotonic_s
        return SelfHealth(
            loop_lag_s=max(0.0, loop_lag_s),
            wall_jump_s=(wall_s - before_wall_s) - (boot_s - before_boot_s),
            suspended_s=max(0.0, (boot_s - before_boot_s) - passed_s),
        )
