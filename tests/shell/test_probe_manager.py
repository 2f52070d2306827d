"""Asking managers without a login: both lines of them, and what ails them."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from agent.core.care import ManagerSight
from agent.core.moment import Moment
from agent.core.observation import Outcome
from agent.probe import manager
from agent.probe.manager import Line, ManagerProbe, judge
from agent.transport import Answer, HttpClient
from tests.fix_network import head_of, http

UNAUTHORIZED = b'{"error_code": "unauthorized_error", "message": "User unauthorized"}'
PASSIVE = b'{"error_code": "not_cluster_master", "message": "query the cluster"}'
READ_ONLY = (
    b'{"error_code": "internal_server_error", "message": "500: cannot execute UPDATE'
    b' in a read-only transaction", "server_traceback": "..."}'
)
MAINTENANCE = b'{"error_code": "maintenance_mode_active", "message": "off"}'
PAGE = b"<html><body>502 Bad Gateway</body></html>"


class HandClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def moment(self) -> Moment:
        return Moment(self.now_s, 1_800_000_000.0 + self.now_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def probing(url, clock=None, line=None, deadline_s=2.0):
    client = HttpClient()
    probe = ManagerProbe(url, deadline_s, clock or HandClock(), client, line)
    try:
        yield probe
    finally:
        await probe.close()
        await client.close()


class Desk:
    """Answers by path, and notes what was asked."""

    def __init__(self, network, **answers: bytes) -> None:
        self.network, self.answers = network, answers
        self.asked: list[str] = []

    async def open(self):
        async def serve(reader, writer):
            while True:
                head = await head_of(reader)
                path = head.split()[1].decode().rsplit("/", 1)[1]
                self.asked.append(path)
                writer.write(self.answers.get(path, http("404 Not Found", PAGE)))
                await writer.drain()

        return await self.network.listen(serve)


# --- the two lines ---------------------------------------------------------------


async def test_of_the_4_x_line_a_401_is_the_active_ones_once_another_is_passive(
    network,
):
    line = Line()
    active = Desk(network, status=http("401 Unauthorized", UNAUTHORIZED))
    passive = Desk(network, status=http("400 Bad Request", PASSIVE))
    first, second = await active.open(), await passive.open()
    async with (
        probing(first.url, line=line) as one,
        probing(second.url, line=line) as two,
    ):
        before = await one.ask()
        assert before.manager == ManagerSight(False, None, silent=True)
        assert (await two.ask()).manager == ManagerSight(False, "4.x")
        assert (await one.ask()).manager == ManagerSight(True, "4.x")
        assert (await one.ask()).outcome is Outcome.ANSWERED
    assert active.asked == ["status", "ok", "status", "status"]


async def test_a_manager_of_7_x_is_asked_where_it_needs_no_login(network):
    desk = Desk(
        network,
        status=http("401 Unauthorized", UNAUTHORIZED),
        ok=http("200 OK", b'"OK"\n'),
    )
    there = await desk.open()
    async with probing(there.url) as probe:
        assert (await probe.ask()).manager == ManagerSight(True, "7.x")
        assert (await probe.ask()).manager == ManagerSight(True, "7.x")
        desk.answers["ok"] = http("500 Internal Server Error", b'"FAIL"\n')
        sick = await probe.ask()
        assert sick.outcome is Outcome.REFUSED
        assert sick.reason == (
            "HTTP 500: the manager says FAIL: a service of it is down"
        )
        del desk.answers["ok"]
        assert (await probe.ask()).manager.silent
    assert desk.asked == ["status", "ok", "ok", "ok", "ok", "status"]


async def test_between_the_two_lines_a_manager_lives_and_says_no_more(network):
    desk = Desk(network, status=http("401 Unauthorized", UNAUTHORIZED))
    there = await desk.open()
    async with probing(there.url) as probe:
        for _ in range(3):
            assert (await probe.ask()).manager.silent
    assert desk.asked == ["status", "ok", "status", "status"]


# --- what ails them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "body", "outcome", "words"),
    [
        (500, "application/json", READ_ONLY, Outcome.REFUSED,
         "HTTP 500: its database is a standby and takes no writes"),
        (503, "application/json", MAINTENANCE, Outcome.REFUSED,
         "HTTP 503: the manager is in maintenance mode (maintenance_mode_active)"),
        (503, "application/json", b'{"error_code": "in_snapshot_restore_error"}',
         Outcome.REFUSED, "the manager restores a snapshot"),
        (400, "application/json", b'{"error_code": "SSL_REQUIRED"}', Outcome.REFUSED,
         "wants https: write https://"),
        (400, "application/json", b'{"error_code": "removed_from_cluster"}',
         Outcome.REFUSED, "was removed from its cluster"),
        (502, "text/html", PAGE, Outcome.REFUSED,
         "HTTP 502: the web server answers, the manager's REST service behind it"),
        (200, "text/html", PAGE, Outcome.GARBLED, "a web page, which no manager"),
        (200, "", b"\n <!doctype html>", Outcome.GARBLED, "a web page"),
        (401, "text/html", PAGE, Outcome.REFUSED, "wants a login"),
        (404, "text/html", PAGE, Outcome.REFUSED, "HTTP 404: <html>"),
    ],
)  # fmt: skip
def test_what_ails_a_manager_is_called_by_its_name(status, kind, body, outcome, words):
    line = Line()
    found = judge(Answer(status, {"content-type": kind}, body), line)
    assert found.outcome is outcome
    assert words in found.reason
    assert not line.divided


async def test_a_manager_that_held_a_request_is_left_in_peace_for_a_minute(network):
    """Its database is a standby: each request holds one of its few workers."""
    clock, asked, go = HandClock(), [], asyncio.Event()

    async def stalls(reader, writer):
        while True:
            await head_of(reader)
            asked.append(clock.now_s)
            await go.wait()
            writer.write(http("500 Oops", READ_ONLY))
            await writer.drain()

    there = await network.listen(stalls)
    async with probing(there.url, clock, deadline_s=0.2) as probe:
        assert (await probe.ask()).outcome is Outcome.TIMED_OUT
        clock.now_s += 45.0
        go.set()
        late = await replaced(probe)
        assert late.outcome is Outcome.REFUSED
        clock.now_s += manager.PEACE_S - 1
        held = await probe.ask()
        assert held.outcome is Outcome.TIMED_OUT
        assert held.reason == (
            "it held the last request for 45 s (HTTP 500: its database is a standby and"
            " takes no writes (read-only transaction)) and is asked again 60 s after"
        )
        assert len(asked) == 1
        clock.now_s += 2
        assert (await probe.ask()).outcome is Outcome.REFUSED
        assert len(asked) == 2


async def test_what_came_too_late_is_told_while_the_next_answer_is_awaited(network):
    """With its broker dead a manager takes three seconds to say so."""
    clock, go = HandClock(), asyncio.Event()
    desk = {b"status": http("401 U", UNAUTHORIZED), b"ok": http("500 E", b'"FAIL"')}
    asked = 0

    async def slow(reader, writer):
        nonlocal asked
        while True:
            path = (await head_of(reader)).split()[1].rsplit(b"/", 1)[1]
            asked += 1
            if asked > 3:
                await go.wait()
            writer.write(desk[path])
            clock.now_s += 3.0
            await writer.drain()

    there = await network.listen(slow)
    async with probing(there.url, clock, deadline_s=0.2) as probe:
        assert (await replaced(probe)).outcome is Outcome.REFUSED
        assert (await replaced(probe)).outcome is Outcome.REFUSED
        waiting = await probe.ask()
        assert waiting.outcome is Outcome.TIMED_OUT
        assert waiting.reason == (
            "no answer within 0.2 s; the last one came after 3 s"
            " (HTTP 500: the manager says FAIL: a service of it is down)"
        )
        go.set()


async def replaced(probe):
    """Ask until the request that is under way has ended."""
    async with asyncio.timeout(10):
        while True:
            found = await probe.ask()
            if found.outcome is not Outcome.TIMED_OUT:
                return replace(found, sent_s=None)
