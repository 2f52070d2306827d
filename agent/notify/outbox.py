"""Hands due messages to their channels until each is taken or given up.

Theory of operation. The journal says which messages are due; at most one per
channel and incident, so that none overtakes an older one. Each attempt is a task
of its own, a few at a time per channel: a receiver that hangs delays nobody else.
A failed attempt is put off, twice as long each time up to a limit, or as long as
the receiver asks. After about three days, or a few attempts that the receiver
refused for good, the message is a dead letter, which stays in the journal and is
counted. A new message is tried at once: whoever commits one calls `wake`.

Delivery is at least once. A message that was taken, but whose delivery could not
be noted because the journal failed, is remembered here and not sent again as long
as this process lives.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar, cast

from agent.errors import DeliveryError, JournalError
from agent.notify.receivers import OnTried, Receivers
from agent.ports import Clock, Journal, NoticeChannel, OutboxRow

T = TypeVar("T")

RunBlocking = Callable[[Callable[[], object]], Awaitable[object]]
"""Runs work on the journal's thread and returns what it returned."""

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
ATTEMPTS_LIMIT = 870
"""About three days: nine attempts in ten minutes, then one each five minutes."""
REFUSED_LIMIT = 8
"""Attempts at a receiver that says it will never take the message."""
BATCH_LIMIT = 1000
FAR_S = 3600.0
"""Longer than any message waits for its next attempt."""
AT_ONCE_LIMIT = 4
"""Attempts on their way per channel."""
POLL_S = 1.0
"""How often waiting messages are looked at; a new one wakes us before."""
IDLE_S = 30.0
"""The same when there is none."""

_log = logging.getLogger(__name__)


class OutboxWorker:
    """Delivers what is in the outbox, as long as `run` runs.

    `on_delivered` is called, in the loop, with a notice's id once all its channels
    have it.
    """

    def __init__(
        self,
        journal: Journal,
        channels: Sequence[NoticeChannel],
        clock: Clock,
        run_blocking: RunBlocking,
        on_delivered: Callable[[str], None],
        on_tried: OnTried = lambda _receivers, _failing: None,
    ) -> None:
        self._journal = journal
        self._channels = {channel.name: channel for channel in channels}
        self._clock = clock
        self._run_blocking = run_blocking
        self._on_delivered = on_delivered
        self._receivers = Receivers(self._channels, clock, on_tried)
        self._hurried = False
        self._wake = asyncio.Event()
        self._attempts: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._ended: set[tuple[str, str]] = set()
        self._unnoted: set[tuple[str, str]] = set()
        self._overtaken: set[tuple[str, str]] = set()
        """Attempts that were under way when the channels were renewed."""

    def renew(self, channels: Sequence[NoticeChannel]) -> None:
        """Deliver to these channels from the next attempt on. From the loop's thread.

        What waits for one that is gone becomes a dead letter, as at a start. All that
        waits is tried again at once: somebody may have mended something. What is on
        its way is, too, if it fails: it went as before.
        """
        self._channels = {channel.name: channel for channel in channels}
        self._receivers.renew(self._channels)
        self._overtaken = set(self._attempts)
        self._hurried = True
        self._wake.set()

    def wake(self) -> None:
        """Look for due messages now. From the loop's thread only."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; then give up what is on its way."""
        try:
            while True:
                self._wake.clear()
                pause_s = await self._start_due()
                await self._rest(pause_s)
        finally:
            tasks = list(self._attempts.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _start_due(self) -> float:
        """Start an attempt for each due message; return how long to rest then."""
        wall_s = self._clock.moment().wall_s + (FAR_S if self._hurried else 0.0)
        self._hurried = False
        self._ended.clear()
        try:
            rows = await self._on_thread(
                partial(self._journal.due, wall_s, BATCH_LIMIT)
            )
            waiting = await self._on_thread(self._journal.counts)
        except JournalError as error:
            _log.warning("outbox: %s", error)
            return POLL_S
        busy = Counter(channel for _, channel in self._attempts)
        for row in rows:
            key = (row.notice_id, row.channel)
            if key in self._ended:
                continue  # it ended while the journal was being read: a stale row
            if key in self._attempts or busy[row.channel] >= AT_ONCE_LIMIT:
                continue
            busy[row.channel] += 1
            self._attempts[key] = asyncio.create_task(self._attempt(row))
        return POLL_S if waiting.undelivered else IDLE_S

    async def _attempt(self, row: OutboxRow) -> None:
        key = (row.notice_id, row.channel)
        try:
            if key not in self._unnoted:
                await self._hand_over(row)
                self._receivers.took(row.channel)
                self._unnoted.add(key)
            await self._note_delivery(row)
            self._unnoted.discard(key)
            self._wake.set()  # the next of its incident may go now
        except DeliveryError as error:
            self._receivers.failed(row.channel, error.message)
            await self._note_failure(row, error)
            if key in self._overtaken:
                self._hurried = True
                self._wake.set()
        except JournalError as error:
            _log.warning("outbox: delivery not noted: %s", error)
        finally:
            self._ended.add(key)
            self._overtaken.discard(key)
            del self._attempts[key]

    async def _hand_over(self, row: OutboxRow) -> None:
        """Deliver. Raises DeliveryError, whatever a channel raises."""
        channel = self._channels.get(row.channel)
        if channel is None:
            raise DeliveryError(
                f"{row.channel}: no such channel is configured", permanent=True
            )
        try:
            wall_s = self._clock.moment().wall_s
            await channel.deliver(row.notice_id, row.body, wall_s)
        except DeliveryError:
            raise
        except Exception as error:
            _log.exception("channel %s failed", row.channel)
            raise DeliveryError(
                f"{row.channel}: failed by itself ({type(error).__name__})",
                permanent=False,
            ) from error

    async def _note_delivery(self, row: OutboxRow) -> None:
        wall_s = self._clock.moment().wall_s
        everybody = await self._on_thread(
            partial(self._journal.delivered, row.notice_id, row.channel, wall_s)
        )
        _log.info("notice %s delivered to %s", row.notice_id, row.channel)
        if everybody:
            self._on_delivered(row.notice_id)

    async def _note_failure(self, row: OutboxRow, error: DeliveryError) -> None:
        pause_s = pause_after(row.attempts + 1, error)
        wall_s = self._clock.moment().wall_s
        due_wall_s = None if pause_s is None else wall_s + pause_s
        _log.warning(
            "notice %s not taken: %s; %s",
            row.notice_id,
            error,
            "given up" if pause_s is None else f"again in {pause_s:.0f} s",
        )
        try:
            await self._on_thread(
                partial(self._journal.failed, row, str(error), due_wall_s)
            )
        except JournalError as failed:
            _log.warning("outbox: failure not noted: %s", failed)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return cast("T", await self._run_blocking(work))


def pause_after(attempts: int, error: DeliveryError) -> float | None:
    """Return how long to wait after so many attempts; None to give up."""
    if attempts >= (REFUSED_LIMIT if error.permanent else ATTEMPTS_LIMIT):
        return None
    doubled = FIRST_WAIT_S * 2.0 ** min(attempts - 1, 16)
    return max(min(doubled, LONGEST_WAIT_S), error.retry_after_s or 0.0)
