"""Which receivers take what is sent to them, as their last attempts show.

Theory of operation. A receiver counts as failing from the first attempt that it did not
take until it takes one. Every failure is passed on with its instant, and so is the end;
what goes well and went well before is no news. When the configuration is read again
nobody counts as failing: the next attempt shows it.
"""

from collections.abc import Callable, Iterable

from agent.core.observation import Failing
from agent.ports import Clock

REASON_CHARS = 200

OnTried = Callable[[int, tuple[Failing, ...]], None]
"""Takes how many receivers there are, and those that fail."""


class Receivers:
    """The state of each receiver. From one thread only."""

    def __init__(self, names: Iterable[str], clock: Clock, on_tried: OnTried) -> None:
        self._names = tuple(names)
        self._clock = clock
        self._on_tried = on_tried
        self._failing: dict[str, Failing] = {}

    def renew(self, names: Iterable[str]) -> None:
        """Begin anew with these receivers."""
        self._names = tuple(names)
        if self._failing:
            self._failing = {}
            self._pass_on()

    def took(self, name: str) -> None:
        """Note that one took what was sent."""
        if self._failing.pop(name, None) is not None:
            self._pass_on()

    def failed(self, name: str, reason: str) -> None:
        """Note that one did not; `reason` holds no secret. Others are passed over."""
        if name not in self._names:
            return
        now_s = self._clock.moment().monotonic_s
        known = self._failing.get(name)
        line = " ".join(reason.removeprefix(f"{name}: ").split())[:REASON_CHARS]
        since_s = now_s if known is None else known.since_s
        self._failing[name] = Failing(name, line, since_s, now_s)
        self._pass_on()

    def _pass_on(self) -> None:
        ordered = (self._failing.get(name) for name in self._names)
        self._on_tried(len(self._names), tuple(one for one in ordered if one))
