"""The outbox worker: at least once, at once, in order, and never for ever."""

import asyncio
import contextlib

import pytest

from agent.core.moment import Moment
from agent.core.notice import Notice, NoticeReason, notice_id
from agent.core.observation import Failing
from agent.core.state import Knowledge, Ledger
from agent.daemon.clock import SystemClock
from agent.errors import DeliveryError, JournalError
from agent.notify import outbox
from agent.notify.outbox import OutboxWorker, pause_after
from agent.ports import OutboxCounts, Rendered
from agent.store.memory import MemoryJournal
from agent.store.sqlite import SqliteJournal


class Receiver:
    """A channel that does as it is told and notes what it got."""

    def __init__(self, name: str = "on-call", *outcomes: BaseException) -> None:
        self.name = name
        self.outcomes = list(outcomes)
        self.got: list[str] = []
        self.tried = 0
        self.open = asyncio.Event()
        self.open.set()
        self.taken = asyncio.Event()

    async def deliver(self, notice_id: str, body: str, wall_s: float) -> None:
        self.tried += 1
        await self.open.wait()
        if self.outcomes:
            raise self.outcomes.pop(0)
        self.got.append(notice_id)
        self.taken.set()


class Skipping:
    """A clock that runs and can be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def moment(self) -> Moment:
        now = SystemClock().moment()
        return Moment(now.monotonic_s + self.ahead_s, now.wall_s + self.ahead_s)

    async def sleep(self, seconds: float) -> None:
        await SystemClock().sleep(seconds)


class Post:
    """A running worker with its journal, clock and news."""

    def __init__(self, journal, receivers, clock) -> None:
        self.journal = journal
        self.clock = clock
        self.done: list[str] = []
        self.tried: list[tuple[int, tuple[str, ...]]] = []
        """How many receivers there are, and which of them fail, as it was told."""
        self.reasons: set[str] = set()
        self.worker = OutboxWorker(
            journal, receivers, clock, asyncio.to_thread, self.done.append, self.hear
        )

    def hear(self, receivers: int, failing: tuple[Failing, ...]) -> None:
        self.tried.append((receivers, tuple(one.name for one in failing)))
        self.reasons |= {one.reason for one in failing}

    def put(self, name: str, *channels: str, reason=NoticeReason.FIRST) -> str:
        notice = Notice(notice_id(name, reason, 1), name, reason, 1)
        rendered = Rendered(notice, "{}", channels or ("on-call",))
        wall_s = self.clock.moment().wall_s
        self.journal.commit(Ledger(), Knowledge(), (rendered,), wall_s)
        self.worker.wake()
        return notice.id


async def until(condition) -> None:
    """Wait for what no event tells: the journal's threads have no loop."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(*receivers, journal=None):
    post = Post(journal or MemoryJournal(), receivers, Skipping())
    task = asyncio.create_task(post.worker.run())
    try:
        yield post
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look often, so that a test that puts the clock forward need not wait."""
    monkeypatch.setattr(outbox, "POLL_S", 0.02)


async def test_a_new_message_is_tried_without_waiting_for_the_next_look(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(outbox, "POLL_S", 600)
    monkeypatch.setattr(outbox, "IDLE_S", 600)
    receiver = Receiver()
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    async with running(receiver, journal=journal) as post:
        await asyncio.sleep(0.1)  # it is at rest
        async with asyncio.timeout(10):
            sent = post.put("inc-1")
            await receiver.taken.wait()
        await until(lambda: post.done == [sent])
    assert journal.counts() == OutboxCounts(0, 0)
    journal.close()


async def test_a_broken_channel_does_not_make_peers_stand_in_for_a_working_one():
    first, second = Receiver("a"), Receiver("b")
    second.open.clear()
    async with running(first, second) as post:
        sent = post.put("inc-1", "a", "b")
        await until(lambda: first.got)
        await until(lambda: post.done == [sent])
        assert second.got == []
        second.open.set()
        await until(lambda: second.got)


async def test_a_receiver_that_hangs_delays_no_other():
    hung, fine = Receiver("a"), Receiver("b")
    hung.open.clear()
    async with running(hung, fine) as post:
        for number in range(20):
            post.put(f"inc-{number}", "a", "b")
        await until(lambda: len(fine.got) >= 20)
        assert len(set(fine.got)) == fine.tried == 20
        assert (hung.got, hung.tried) == ([], outbox.AT_ONCE_LIMIT)


async def test_a_failed_attempt_is_made_again_later():
    receiver = Receiver("on-call", DeliveryError("HTTP 500", permanent=False))
    async with running(receiver) as post:
        sent = post.put("inc-1")
        await until(lambda: receiver.tried == 1)
        await until(lambda: not post.journal.due(post.clock.moment().wall_s, 1))
        post.clock.ahead_s += 2
        await until(lambda: receiver.got == [sent])
        await until(lambda: post.journal.counts() == OutboxCounts(0, 0))


async def test_a_receiver_may_ask_for_more_time():
    busy = DeliveryError("HTTP 429", permanent=False, retry_after_s=600)
    receiver = Receiver("on-call", busy)
    async with running(receiver) as post:
        post.put("inc-1")
        await until(lambda: not post.journal.due(post.clock.moment().wall_s, 1))
        assert not post.journal.due(post.clock.moment().wall_s + 590, 1)
        assert post.journal.due(post.clock.moment().wall_s + 601, 1)


async def test_the_end_never_overtakes_the_beginning():
    receiver = Receiver("on-call", DeliveryError("HTTP 500", permanent=False))
    async with running(receiver) as post:
        opened = post.put("inc-1")
        resolved = post.put("inc-1", reason=NoticeReason.RESOLVED)
        other = post.put("inc-2")
        await until(lambda: receiver.got == [other])
        post.clock.ahead_s += 2
        await until(lambda: len(receiver.got) == 3)
        assert receiver.got == [other, opened, resolved]


async def test_a_receiver_that_refuses_for_good_makes_a_dead_letter():
    gone = [DeliveryError("HTTP 410", permanent=True)] * outbox.REFUSED_LIMIT
    receiver = Receiver("on-call", *gone)
    async with running(receiver) as post:
        post.put("inc-1")
        for tried in range(1, outbox.REFUSED_LIMIT):
            await until(lambda tried=tried: receiver.tried == tried)
            await until(lambda: not post.journal.due(post.clock.moment().wall_s, 1))
            post.clock.ahead_s += 301
        await until(lambda: post.journal.counts() == OutboxCounts(0, 1))
        assert (receiver.got, post.done) == ([], [])


async def test_a_channel_that_is_no_longer_configured_ends_as_a_dead_letter():
    async with running() as post:
        post.put("inc-1", "former")
        for _ in range(outbox.REFUSED_LIMIT):
            await until(lambda: not post.journal.due(post.clock.moment().wall_s, 1))
            post.clock.ahead_s += 301
        await until(lambda: post.journal.counts() == OutboxCounts(0, 1))


async def test_a_channel_with_a_bug_does_not_stop_the_others():
    broken, fine = Receiver("a", ValueError("oops")), Receiver("b")
    async with running(broken, fine) as post:
        post.put("inc-1", "a", "b")
        one_left = OutboxCounts(undelivered=1, dead=0)
        await until(lambda: fine.got and post.journal.counts() == one_left)
        post.clock.ahead_s += 2
        await until(lambda: broken.got)


async def test_what_waited_when_the_agent_was_killed_is_sent_by_the_next(tmp_path):
    path = tmp_path / "journal.sqlite"
    silent = Receiver()
    silent.open.clear()
    journal = SqliteJournal(path)
    async with running(silent, journal=journal) as post:
        sent = post.put("inc-1")
        await until(lambda: silent.tried == 1)
    journal.close()
    receiver = Receiver()
    journal = SqliteJournal(path)
    async with running(receiver, journal=journal) as post:
        await until(lambda: post.done == [sent])
    assert receiver.got == [sent]  # under the same id, should it have had it before
    journal.close()


class Forgetful(MemoryJournal):
    """A journal that cannot be written for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.broken = True

    def delivered(self, notice_id: str, channel: str, wall_s: float) -> bool:
        if self.broken:
            self.failures += 1
            raise JournalError("no space left")
        return super().delivered(notice_id, channel, wall_s)


async def test_what_was_taken_is_not_sent_again_while_the_journal_fails():
    receiver, journal = Receiver(), Forgetful()
    async with running(receiver, journal=journal) as post:
        sent = post.put("inc-1")
        await until(lambda: journal.failures >= 3)
        assert receiver.got == [sent]
        journal.broken = False
        await until(lambda: post.done == [sent])
        assert receiver.tried == 1


class Unreadable(MemoryJournal):
    """A journal that cannot be read for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    def due(self, wall_s, limit):
        self.failures += 1
        if self.failures < 4:
            raise JournalError("input/output error")
        return super().due(wall_s, limit)


async def test_a_journal_that_cannot_be_read_is_tried_again():
    receiver = Receiver()
    async with running(receiver, journal=Unreadable()) as post:
        post.put("inc-1")
        await until(lambda: receiver.got)


def test_pauses_double_up_to_a_limit_and_end_after_about_three_days():
    error = DeliveryError("HTTP 500", permanent=False)
    pauses: list[float] = []
    while (pause := pause_after(len(pauses) + 1, error)) is not None:
        pauses.append(pause)
    assert pauses[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(pauses[9:]) == {300}
    assert 2.9 * 86_400 < sum(pauses) < 3.1 * 86_400


async def test_a_receiver_fails_from_the_first_refusal_until_it_takes_something():
    refusal = DeliveryError("on-call: host answered HTTP 503", permanent=False)
    receiver, other = Receiver("on-call", refusal, refusal), Receiver("pager")
    async with running(receiver, other) as post:
        post.put("inc-1", "on-call", "pager")
        await until(lambda: post.tried == [(2, ("on-call",))])
        post.clock.ahead_s += 2.0
        await until(lambda: len(post.tried) == 2)
        post.clock.ahead_s += 4.0
        await until(lambda: post.tried[2:] == [(2, ())])
    assert post.reasons == {"host answered HTTP 503"}, "its name is said elsewhere"


async def test_after_a_reload_nobody_fails_and_all_that_waits_is_tried_at_once():
    refusals = [DeliveryError("on-call: no", permanent=False) for _ in range(5)]
    receiver = Receiver("on-call", *refusals)
    async with running(receiver) as post:
        post.put("inc-1")
        for attempt in range(1, 6):
            await until(lambda n=attempt: receiver.tried == n)
            post.clock.ahead_s += 0.0 if attempt == 5 else 2.0**attempt
        await until(lambda: len(post.tried) == 5)
        post.worker.renew([receiver])
        async with asyncio.timeout(5):  # and not after 16 s
            await receiver.taken.wait()
        assert post.tried[-1] == (1, ())


async def test_what_is_on_its_way_at_a_reload_is_tried_at_once_if_it_fails():
    refusals = [DeliveryError("on-call: no", permanent=False) for _ in range(5)]
    receiver = Receiver("on-call", *refusals)
    async with running(receiver) as post:
        post.put("inc-1")
        for attempt in range(1, 5):
            await until(lambda n=attempt: receiver.tried == n)
            if attempt == 4:
                receiver.open.clear()
            post.clock.ahead_s += 2.0**attempt
        await until(lambda: receiver.tried == 5)
        post.worker.renew([receiver])
        await until(lambda: not post.worker._hurried)
        receiver.open.set()
        async with asyncio.timeout(5):  # and not after 16 s
            await receiver.taken.wait()


async def test_a_message_for_a_receiver_that_is_gone_makes_nobody_fail():
    async with running(Receiver("pager")) as post:
        post.put("inc-1", "taken-out")
        await until(lambda: not post.journal.due(post.clock.moment().wall_s, 10))
    assert post.tried == []
