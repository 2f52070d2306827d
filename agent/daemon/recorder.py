"""Keeps what the agent sees, so that it can be told and judged again later.

Theory of operation. The runtime notes every event with what came of it; notes wait in
memory and are written as one chunk every few seconds, and within a second of a change
that people see. Encoding and writing happen on the journal's thread. A recording never
holds up the judging: when the medium does not take it, or not soon enough, the notes
are dropped, and the next recording begins with a whole state, as it also does every
quarter of an hour, so that old rounds can be given up.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from agent import __version__
from agent.core.event import Event
from agent.core.policy import Policy
from agent.core.replay import outcome, same_outcome
from agent.core.state import State
from agent.ports import Clock, Rounds
from agent.store import field, recall
from agent.store.recall import Recalled, Window
from agent.store.rounds import Encoder, Entry, Noted, Start

log = logging.getLogger(__name__)
RunBlocking = Callable[[Callable[[], object]], Awaitable[object]]

FLUSH_S = 10.0
"""How long notes wait while nothing changes: what a killed agent loses at most."""
SOON_S = 1.0
"""The pause between two writings, however much changes."""
SEGMENT_S = 900.0
"""How often a recording begins anew."""
PENDING_MAX = 5000
"""Notes that may wait: some minutes of a medium that hangs."""


class Recorder:
    """Notes events and writes them; implements api.ports.FieldRounds."""

    def __init__(
        self,
        policy: Policy,
        rounds: Rounds,
        clock: Clock,
        on_journal_thread: RunBlocking,
    ) -> None:
        self._policy = policy
        self._rounds = rounds
        self._clock = clock
        self._on_thread = on_journal_thread
        self._encoder = Encoder()
        self._pending: list[Entry] = []
        self._begun_s: float | None = None
        self._soon = asyncio.Event()
        self._turn = asyncio.Lock()
        self._failing = False

    def note(
        self, event: Event, before: State, after: State, *, committed: bool
    ) -> None:
        """Take in an event and the states around it. From the loop's thread only."""
        if len(self._pending) >= PENDING_MAX:
            self._drop("the journal does not take them in time")
        now_s = event.at.monotonic_s
        if self._begun_s is None or now_s - self._begun_s >= SEGMENT_S:
            follows = self._begun_s is not None
            self._begun_s = now_s
            start = Start(event.at.wall_s, __version__, self._policy, before, follows)
            self._pending.append(start)
        changed = not same_outcome(before, after)
        self._pending.append(
            Noted(event, committed, outcome(after) if changed else None)
        )
        if changed:
            self._soon.set()

    async def run(self) -> None:
        """Write what was noted, every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(SOON_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S - SOON_S):
                    await self._soon.wait()
            self._soon.clear()
            await self.freshen()

    async def freshen(self) -> None:
        """Write at once what was noted so far."""
        async with self._turn:
            noted, self._pending = self._pending, []
            if not noted:
                return
            try:
                await self._on_thread(lambda: self._write(noted))
            except Exception as error:  # noqa: BLE001 - a record never ends the agent
                self._drop(str(error) or type(error).__name__)
            else:
                self._failing = False

    def _write(self, noted: list[Entry]) -> None:
        for chunk in self._encoder.chunks(noted):
            self._rounds.record(chunk)

    def export(self, since_wall_s: float | None) -> Iterator[bytes]:
        """Yield the field journal; see agent.store.field. Blocking."""
        header = field.Header(
            splitguard_journal=field.FORMAT,
            agent=__version__,
            cluster=self._policy.cluster,
            node=self._policy.me,
            exported_wall_s=self._clock.moment().wall_s,
            since_wall_s=since_wall_s,
        )
        return field.exported(self._rounds, header)

    def recall(self, windows: Sequence[Window]) -> Iterator[Recalled]:
        """Yield what came in within these spans of time; see recall. Blocking."""
        return recall.recall(self._rounds, windows)

    def begins(self) -> float | None:
        """Return from when on rounds are kept. Blocking."""
        return recall.begins(self._rounds)

    def _drop(self, reason: str) -> None:
        """Give up what waits; the next note begins a recording anew."""
        self._pending.clear()
        self._begun_s = None
        if not self._failing:
            log.warning("rounds are not recorded: %s", reason)
        self._failing = True
