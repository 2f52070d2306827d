"""The consumer of events: step, commit, act.

Theory of operation. Events wait in a bounded queue; one task takes them one by
one. After each step the ledger is committed together with the outbox rows of the
notices that the step decided, in one transaction on one thread, and only then are
the actions carried out. What was merely learnt (knowledge) is written with the
next round's tick.

A journal that cannot be written stops neither watching nor capturing. The ledger
then stays as it was, so the next step decides the same again; captures are begun
all the same, because the data at stake matters more than the note of it; nobody
is told, since telling twice cannot be prevented without memory; and the API says
that the journal fails.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agent.core.action import Action, Tell
from agent.core.event import (
    CaptureReported,
    Event,
    NoticeDelivered,
    PermitAsked,
    Ticked,
)
from agent.core.machine import Step, step
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.observation import Report
from agent.core.permit import PermitState
from agent.core.policy import Policy
from agent.core.replay import uncommitted
from agent.core.reporting import make_report
from agent.core.state import Ledger, State
from agent.errors import JournalError
from agent.ports import Clock, Journal, OutboxCounts, Rendered

log = logging.getLogger(__name__)

QUEUE_LIMIT = 2000
"""Events that may wait. A round of seven nodes makes about thirty."""

RunBlocking = Callable[[Callable[[], object]], Awaitable[object]]


class Note(Protocol):
    """Takes in an event, the states around it, and whether it was committed."""

    def __call__(
        self, event: Event, before: State, after: State, *, committed: bool
    ) -> None:
        """Keep it; never blocks."""
        ...


class Executor(Protocol):
    """Carries actions out; never blocks."""

    def carry_out(self, action: Action) -> None:
        """Begin this action; its outcome comes back as an event."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the runtime is made of."""

    policy: Policy
    journal: Journal
    clock: Clock
    render: Callable[[Notice, State, Moment], Rendered]
    on_journal_thread: RunBlocking
    crash: Callable[[str], None]
    note: Note | None = None
    """Takes in each event with the states around it, to keep them."""


class Runtime:
    """Holds the state and moves it on; implements ports.Desk."""

    def __init__(self, parts: Parts, state: State) -> None:
        self._parts = parts
        self._state = state
        self._saved_knowledge = state.knowledge
        self._queue: asyncio.Queue[tuple[Event, asyncio.Future[State] | None]]
        self._queue = asyncio.Queue(QUEUE_LIMIT)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()
        self._executor: Executor | None = None
        self._hurry: Callable[[], None] = lambda: None
        self._dropped = 0
        self._late: dict[str, Event] = {}
        self.revision = 0
        self.journal_error: str | None = None
        self.outbox = OutboxCounts(undelivered=0, dead=0)

    @property
    def state(self) -> State:
        """The state after the last step."""
        return self._state

    @property
    def policy(self) -> Policy:
        """The limits in force."""
        return self._parts.policy

    def now(self) -> Moment:
        """Read the clocks."""
        return self._parts.clock.moment()

    def report(self, heard_by: str | None) -> Report:
        """Make the report that a peer fetches; `heard_by` is only its name."""
        del heard_by
        return make_report(self._state, self.now(), self.policy)

    def employ(self, executor: Executor, hurry: Callable[[], None]) -> None:
        """Set who carries actions out. Once, before `run`.

        `hurry` makes the disk be read at once, when somebody asks for a permit.
        """
        self._executor = executor
        self._hurry = hurry

    async def submit(self, event: Event) -> State:
        """Step through this event; return the state once it is committed."""
        done: asyncio.Future[State] = self._loop.create_future()
        await self._queue.put((event, done))
        if isinstance(event, PermitAsked):
            self._hurry()
        return await done

    def post(self, event: Event) -> None:
        """Queue this event from the loop's thread; drop it when the queue is full.

        A dropped observation comes again with the next round. What is told only once is
        kept aside, the latest of each capture and notice.
        """
        try:
            self._queue.put_nowait((event, None))
        except asyncio.QueueFull:
            if isinstance(event, CaptureReported):
                self._late[event.status.capture_id] = event
            elif isinstance(event, NoticeDelivered):
                self._late[event.notice_id] = event
            else:
                self._dropped += 1
                log.warning("event queue full, %d events dropped", self._dropped)

    def post_from_thread(self, event: Event) -> None:
        """Queue this event from any thread; silently too late after the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.post, event)

    async def changed(self, since_revision: int, timeout_s: float) -> int:
        """Wait until the revision is past `since_revision`, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.revision > since_revision)
        except TimeoutError:
            pass
        return self.revision

    async def run(self) -> None:
        """Consume events until cancelled."""
        while True:
            event, done = await self._queue.get()
            await self._consume(event)
            if done is not None and not done.done():
                done.set_result(self._state)
            if self._late and self._queue.empty():
                await self._consume(self._late.pop(next(iter(self._late))))

    async def _consume(self, event: Event) -> None:
        before = self._state
        made = step(before, event, self.policy)
        must = made.state.ledger != before.ledger
        learnt = made.state.knowledge != self._saved_knowledge
        committed = True
        if must or (learnt and isinstance(event, Ticked)):
            committed = await self._commit(made, event.at)
        kept = made if committed else uncommitted(before, made)
        self._state = kept.state
        if self._parts.note is not None:
            self._parts.note(event, before, kept.state, committed=committed)
        if _visible(before) != _visible(self._state):
            await self._announce()
        self._carry_out(kept.actions)

    def _carry_out(self, actions: tuple[Action, ...]) -> None:
        if self._executor is None:
            raise RuntimeError("no executor employed")
        for action in actions:
            self._executor.carry_out(action)

    async def _announce(self) -> None:
        async with self._changed:
            self.revision += 1
            self._changed.notify_all()

    async def _commit(self, made: Step, at: Moment) -> bool:
        parts, state = self._parts, made.state
        notices = tuple(
            parts.render(action.notice, state, at)
            for action in made.actions
            if isinstance(action, Tell)
        )
        if notices:
            parts.crash("before-journal")
        try:
            await parts.on_journal_thread(
                lambda: parts.journal.commit(
                    state.ledger, state.knowledge, notices, at.wall_s
                )
            )
        except JournalError as error:
            if self.journal_error is None:
                log.critical("journal: %s", error)
            self.journal_error = str(error)
            return False
        self.journal_error = None
        self._saved_knowledge = state.knowledge
        if notices:
            parts.crash("after-journal")
        if _grants(state.ledger) > _grants(self._state.ledger):
            parts.crash("after-grant")
        for rendered in notices:
            if not rendered.channels:
                self.post(NoticeDelivered(at, rendered.notice.id))
        return True


def _grants(ledger: Ledger) -> int:
    return sum(permit.state is PermitState.GRANTED for permit in ledger.permits)


def _visible(state: State) -> tuple[object, ...]:
    """Return what people watch for; ages and positions are left aside."""
    return (
        state.ledger,
        tuple((v.code, v.subject, v.severity) for v in state.view.verdicts),
    )
