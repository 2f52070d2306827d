"""The agent looks at its HA software by itself, and again soon while it is not well."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import NodeSettings, Settings
from agent.config.model import GuardSettings
from agent.core.capture import Phase
from agent.core.event import Event, GateSeen, SnapshotsRemoved
from agent.core.moment import Moment
from agent.core.observation import ReadFailure
from agent.core.removal import forgettable
from agent.core.state import State
from agent.daemon import forecast
from agent.daemon.clock import SystemClock
from agent.daemon.removals import Removals
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.marks import Twin
from agent.snapshot.removal import remove
from tests.core import given
from tests.shell.test_snapshot_catalogue import make_snapshot

LIMIT_S = 30


class Waits:
    """A clock that tells how long it was asked to wait, and waits for nothing."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.posted: list[GateSeen] = []
        self.done = asyncio.Event()

    def post(self, event: Event) -> None:
        assert isinstance(event, GateSeen)
        self.posted.append(event)

    def moment(self) -> Moment:
        return SystemClock().moment()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        if self.posted:
            self.done.set()
        await asyncio.sleep(0)


async def seen(tmp_path: Path, states: list[State]) -> Waits:
    """What was posted by the first look, the last of the states staying."""
    settings = Settings(
        cluster="test",
        node="n1",
        state_dir=tmp_path,
        nodes=(NodeSettings(name="n1"),),
        guard=GuardSettings(patroni=tmp_path / "patroni.yml"),
    )
    clock = Waits()
    now, last = iter(states), states[-1]
    watching = asyncio.create_task(
        forecast.keep_watching_the_gate(
            lambda: settings, lambda: next(now, last), clock, clock.post
        )
    )
    async with asyncio.timeout(LIMIT_S):
        await clock.done.wait()
    watching.cancel()
    return clock


def beside(data_dir: Path) -> State:
    return given.state(server=replace(given.facts(), data_dir=str(data_dir)))


async def test_it_waits_until_the_server_s_folder_is_found(tmp_path: Path):
    unread = given.state(server=ReadFailure("no PostgreSQL runs here", "x"))
    clock = await seen(tmp_path, [State(), unread, beside(tmp_path)])
    assert clock.asked[:2] == [forecast.NOT_FOUND_S, forecast.NOT_FOUND_S]


@pytest.mark.parametrize(
    ("text", "pause_s", "line"),
    [
        (None, forecast.UNSURE_S, "guard not known: {0}/patroni.yml cannot be read"),
        (
            {"scope": "x"},
            forecast.UNSURE_S,
            "guard not known: {0}/patroni.yml names no",
        ),
        (
            {"postgresql": {"data_dir": "/other"}},
            forecast.EVERY_S,
            "no HA software of this server found here",
        ),
        ({"postgresql": {"data_dir": "{0}"}}, forecast.AGAIN_S, "guard not wired"),
    ],
)
async def test_what_it_finds_is_told_and_looked_at_again_sooner_while_it_is_not_well(
    tmp_path: Path, text, pause_s: float, line: str
):
    if text is not None:
        written = json.dumps(text).replace("{0}", str(tmp_path))
        (tmp_path / "patroni.yml").write_text(written)
    clock = await seen(tmp_path, [beside(tmp_path)])
    assert clock.posted[0].gate.line.startswith(line.format(tmp_path))
    assert clock.asked[0] == pause_s


def test_what_did_not_get_off_site_is_told_with_the_reason(tmp_path: Path):
    catalogue = Catalogue(tmp_path)
    for name in ("n1-1", "n1-2", "n1-3"):
        make_snapshot(tmp_path, name)
    assert forecast.unsent(catalogue) == ""
    marks.note_twin(tmp_path / "n1-1", Twin("file:///x", "0/9", url="file:///x/1"))
    assert forecast.unsent(catalogue) == ""
    failed = Twin("file:///x", "0/9", attempts=3, error="the folder is full")
    marks.note_twin(tmp_path / "n1-2", failed)
    assert forecast.unsent(catalogue) == (
        "1 archive is not off-site, tried 3 times: the folder is full"
    )
    marks.note_twin(tmp_path / "n1-3", replace(failed, attempts=1))
    assert forecast.unsent(catalogue).startswith("2 archives are not off-site, tried 3")


async def test_the_core_hears_of_a_removal_once(tmp_path: Path):
    for name in ("n1-1", "n1-2"):
        make_snapshot(tmp_path, name)
    clock, told = Waits(), []
    held = [given.capture(capture_id=name) for name in ("n1-1", "n1-2")]
    captures = tuple(
        replace(
            one,
            order=replace(one.order, capture_id=one.status.capture_id),
            status=replace(one.status, phase=Phase.CLOSED),
        )
        for one in held
    )
    removals = Removals(tmp_path)
    known = forgettable(given.state(captures=captures), "n1")
    assert removals.gone(known) == ()
    remove(Catalogue(tmp_path), "n1-2", "ann", "old", 1.0)
    assert removals.gone(known) == ("n1-2",)
    make_snapshot(tmp_path, "n1-2")
    assert removals.gone(known) == (), "the id was used anew"
    remove(Catalogue(tmp_path), "n1-2", "ann", "old", 2.0)

    def post(event: Event) -> None:
        told.append(event)
        clock.done.set()

    watching = asyncio.create_task(
        removals.watch("n1", lambda: given.state(captures=captures), clock, post)
    )
    async with asyncio.timeout(LIMIT_S):
        await clock.done.wait()
    watching.cancel()
    (first, *_) = told
    assert isinstance(first, SnapshotsRemoved)
    assert first.ids == ("n1-2",)
