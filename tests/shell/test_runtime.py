"""Persist, then act: the consumer of events keeps that order whatever fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent.core import event as events
from agent.core.action import Action, RunCapture
from agent.core.capture import Level
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.observation import SelfHealth
from agent.core.state import State
from agent.daemon.clock import SystemClock
from agent.daemon.crash import KILLED, CrashPoints
from agent.daemon.runtime import Parts, Runtime
from agent.errors import JournalError
from agent.ports import Rendered
from agent.store.memory import MemoryJournal
from tests.core import given

CALM = SelfHealth(0.0, 0.0, 0.0)


class FullDisk(MemoryJournal):
    """A journal whose medium has no room until somebody makes some."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    def commit(self, ledger, knowledge, notices, wall_s) -> None:
        if self.full:
            raise JournalError("no space left on device", "make room")
        super().commit(ledger, knowledge, notices, wall_s)


class Done:
    """Notes what it was told to carry out."""

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def carry_out(self, action: Action) -> None:
        self.actions.append(action)


async def on_thread(call):
    return await asyncio.to_thread(call)


def rendered(notice: Notice, state: State, at: Moment) -> Rendered:
    del state, at
    return Rendered(notice, "{}", ("on-call",))


@contextlib.asynccontextmanager
async def running(journal, state=None) -> AsyncIterator[tuple[Runtime, Done]]:
    parts = Parts(
        policy=given.policy(),
        journal=journal,
        clock=SystemClock(),
        render=rendered,
        on_journal_thread=on_thread,
        crash=CrashPoints({}),
    )
    runtime, done = Runtime(parts, state or State()), Done()
    runtime.employ(done, lambda: None)
    task = asyncio.create_task(runtime.run())
    try:
        yield runtime, done
    finally:
        task.cancel()


def asked(runtime: Runtime) -> events.CaptureAsked:
    return events.CaptureAsked(runtime.now(), "n1-asked", "a test")


def read(runtime: Runtime) -> events.ServerRead:
    return events.ServerRead(runtime.now(), given.facts())


async def test_an_action_is_carried_out_after_its_ledger_is_in_the_journal():
    journal = MemoryJournal()
    async with running(journal) as (runtime, done):
        await runtime.submit(read(runtime))
        await runtime.submit(asked(runtime))
        (action,) = [a for a in done.actions if isinstance(a, RunCapture)]
        assert action.order.levels == (Level.TAIL, Level.FULL)
        (kept,) = journal.load().ledger.captures
        assert kept.order == action.order


async def test_a_full_journal_stops_no_capture_and_is_said_aloud():
    journal = FullDisk()
    async with running(journal) as (runtime, done):
        await runtime.submit(read(runtime))
        state = await runtime.submit(asked(runtime))
        assert state.ledger.captures == ()
        assert [type(action) for action in done.actions] == [RunCapture]
        assert "no space left" in (runtime.journal_error or "")
        journal.full = False
        await runtime.submit(asked(runtime))
        assert runtime.journal_error is None
        assert len(journal.load().ledger.captures) == 1


async def test_a_change_wakes_whoever_waits_and_silence_ends_the_wait():
    async with running(MemoryJournal()) as (runtime, _):
        await runtime.submit(read(runtime))
        before = runtime.revision
        waiting = asyncio.create_task(runtime.changed(before, 30))
        await runtime.submit(asked(runtime))
        assert await waiting > before
        now = runtime.revision
        assert await runtime.changed(now, 0.05) == now


async def test_events_from_other_threads_are_taken_in():
    async with running(MemoryJournal()) as (runtime, _):
        await asyncio.to_thread(runtime.post_from_thread, read(runtime))
        await runtime.submit(events.Ticked(runtime.now(), CALM))
        assert runtime.state.view.server == given.facts()


async def test_what_is_told_only_once_survives_a_full_queue(monkeypatch):
    monkeypatch.setattr("agent.daemon.runtime.QUEUE_LIMIT", 1)
    async with running(MemoryJournal()) as (runtime, _):
        await runtime.submit(read(runtime))
        await runtime.submit(asked(runtime))
        status = runtime.state.ledger.captures[0].status
        runtime.post(events.Ticked(runtime.now(), CALM))
        for done in (1, 2, 3):
            told = replace(status, bytes_done=done)
            runtime.post(events.CaptureReported(runtime.now(), told))
        await runtime.submit(events.Ticked(runtime.now(), CALM))
        await runtime.submit(events.Ticked(runtime.now(), CALM))
        assert runtime.state.ledger.captures[0].status.bytes_done == 3


def test_a_crash_point_kills_once(tmp_path):
    mark = tmp_path / "mark"
    died: list[int] = []
    environ = {
        "SPLITGUARD_CRASH_AT": "after-grant",
        "SPLITGUARD_CRASH_MARK": str(mark),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os._exit", died.append)
        crash = CrashPoints(environ)
        crash("before-journal")
        assert died == []
        crash("after-grant")
        crash("after-grant")
    assert died == [KILLED]
    assert mark.exists()
