"""The agent looks at its HA software by itself, and again soon while it is not well."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import NodeSettings, Settings
from agent.config.model import GuardSettings
from agent.core.event import Event, GateSeen
from agent.core.moment import Moment
from agent.core.observation import ReadFailure
from agent.core.state import State
from agent.daemon import forecast
from agent.daemon.clock import SystemClock
from tests.core import given

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
            settings, lambda: next(now, last), clock, clock.post
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
