"""Asking agents and managers: who they say they are, and how they fail."""

import asyncio
import contextlib
import json

import pytest

from agent import codec
from agent.core.observation import Channel, Outcome
from agent.daemon.clock import SystemClock
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.core import given
from tests.fix_network import head_of, http
from tests.fix_postgres import free_port

DEADLINE_S = 0.4
LATE_S = 0.5


@contextlib.asynccontextmanager
async def prober(*, agent=None, manager=None, deadline_s=DEADLINE_S):
    client = HttpClient()
    made = NetworkProber(
        {"n2": Target("n2", agent_url=agent, manager_url=manager)},
        ProbeSettings("test", "n1", "the-token", deadline_s, fresh_every=4),
        SystemClock(),
        client,
    )
    try:
        yield made
    finally:
        await made.close()
        await client.close()


def report(**more) -> bytes:
    return json.dumps(
        {**json.loads(codec.to_json(given.report("n2"))), **more}
    ).encode()


async def ask_agent(network, answer: bytes):
    there = await network.answer(answer)
    async with prober(agent=there.url) as probes:
        return await probes.probe("n2", Channel.AGENT), there


async def test_a_peers_report_is_fetched_with_the_peer_token(network):
    one, there = await ask_agent(network, http("200 OK", report()))
    assert (one.outcome, one.report) == (Outcome.ANSWERED, given.report("n2"))
    request = there.requests[0].decode().lower()
    assert request.startswith("get /v1/report http/1.1\r\n")
    assert "authorization: bearer the-token\r\n" in request
    assert "x-splitguard-node: n1\r\n" in request


async def test_a_newer_peers_unknown_fields_are_left_aside(network):
    one, _ = await ask_agent(network, http("200 OK", report(mood="fine")))
    assert one.outcome is Outcome.ANSWERED


@pytest.mark.parametrize(
    ("body", "outcome", "words"),
    [
        (report(cluster="other"), Outcome.FOREIGN, "cluster 'other'"),
        (report(cluster="other", format=9), Outcome.FOREIGN, "cluster 'other'"),
        (report(format=9), Outcome.INCOMPATIBLE, "format 9"),
        (report(node="n3"), Outcome.GARBLED, "calls itself 'n3'"),
        (report(sequence="one"), Outcome.GARBLED, "sequence"),
        (report(sights=None), Outcome.GARBLED, "sights"),
        (report(cluster=None), Outcome.GARBLED, "cluster"),
        (b"{}", Outcome.GARBLED, "Report"),
        (b"[]", Outcome.GARBLED, "not a JSON object"),
        (b"{", Outcome.GARBLED, "not a JSON object"),
        (b"\xff\xfe\x00", Outcome.GARBLED, "not a JSON object"),
        (b"[" * 100_000, Outcome.GARBLED, "not a JSON object"),
        (b" " * (1 << 20) + b"{}", Outcome.GARBLED, "more than 1048576 bytes"),
    ],
    ids=str,
)
async def test_what_is_no_report_of_this_peer_is_named(network, body, outcome, words):
    one, _ = await ask_agent(network, http("200 OK", body))
    assert (one.outcome, one.report) == (outcome, None)
    assert words in one.reason
    assert "\n" not in one.reason


@pytest.mark.parametrize(
    ("status", "outcome", "words"),
    [
        ("401 Unauthorized", Outcome.REFUSED, "peer_token_file"),
        ("403 Forbidden", Outcome.REFUSED, "peer_token_file"),
        ("503 Service Unavailable", Outcome.REFUSED, "busy"),
        ("404 Not Found", Outcome.GARBLED, "no Splitguard agent"),
        ("302 Found", Outcome.GARBLED, "no Splitguard agent"),
    ],
)
async def test_another_status_is_a_failure_that_says_what_to_do(
    network, status, outcome, words
):
    one, _ = await ask_agent(network, http(status, b"busy"))
    assert one.outcome is outcome
    assert words in one.reason
    assert "the-token" not in one.reason


async def test_a_silent_agent_ends_at_the_deadline(network):
    there = await network.silence()
    async with prober(agent=there.url) as probes:
        one = await probes.probe("n2", Channel.AGENT)
    assert one.outcome is Outcome.TIMED_OUT
    assert one.received_s - one.sent_s < DEADLINE_S + LATE_S


async def test_an_agent_that_is_not_there_is_unreachable():
    async with prober(agent=f"http://127.0.0.1:{free_port()}") as probes:
        one = await probes.probe("n2", Channel.AGENT)
    assert one.outcome is Outcome.UNREACHABLE
    assert "refused" in one.reason


async def test_every_few_rounds_an_agent_is_reached_over_a_new_connection(network):
    there = await network.answer(http("200 OK", report()))
    async with prober(agent=there.url) as probes:
        for _ in range(9):
            await probes.probe("n2", Channel.AGENT)
    assert there.connections == 3


async def ask_manager(network, answer: bytes):
    there = await network.answer(answer)
    async with prober(manager=there.url + "/") as probes:
        one = await probes.probe("n2", Channel.MANAGER)
    assert there.requests[0].startswith(b"GET /api/v3.1/status HTTP/1.1\r\n")
    return one


async def test_a_manager_that_answers_is_active(network):
    body = b'{"status": "OK", "services": {}, "version": "7.0.5"}'
    one = await ask_manager(network, http("200 OK", body))
    assert one.outcome is Outcome.ANSWERED
    assert (one.manager.active, one.manager.version) == (True, "7.0.5")


async def test_a_manager_that_is_not_the_master_is_passive(network):
    body = b'{"message": "not the master", "error_code": "not_cluster_master"}'
    one = await ask_manager(network, http("400 Bad Request", body))
    assert one.outcome is Outcome.ANSWERED
    assert one.manager.active is False


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("400 Bad Request", b'{"error_code": "SSL_REQUIRED"}', "SSL_REQUIRED"),
        ("401 Unauthorized", b"{}", "wants a login"),
        ("500 Oops", b"<html>down</html>", "HTTP 500: <html>down"),
        ("500 Oops", b"[" * 100_000, "HTTP 500"),
    ],
)
async def test_other_answers_of_a_manager_are_refusals(network, status, body, words):
    one = await ask_manager(network, http(status, body))
    assert one.outcome is Outcome.REFUSED
    assert words in one.reason


async def test_a_slow_manager_never_has_two_requests_of_ours(network):
    """Each would hold one of its few workers for as long as it hangs."""
    release = asyncio.Event()
    began = []

    async def slow(reader, writer):
        while True:
            await head_of(reader)
            began.append(1)
            await release.wait()
            writer.write(http("200 OK", b"{}"))
            await writer.drain()

    there = await network.listen(slow)
    async with prober(manager=there.url, deadline_s=0.1) as probes:
        ones = [await probes.probe("n2", Channel.MANAGER) for _ in range(4)]
        assert [one.outcome for one in ones] == [Outcome.TIMED_OUT] * 4
        assert len(began) == 1
        release.set()
        late = await probes.probe("n2", Channel.MANAGER)
        assert (late.outcome, late.manager.active) == (Outcome.ANSWERED, True)
        assert late.sent_s <= ones[0].received_s  # it says when the question left
        assert len(began) == 1


async def test_closing_gives_a_hanging_request_up(network):
    there = await network.silence()
    async with prober(manager=there.url, deadline_s=0.1) as probes:
        await probes.probe("n2", Channel.MANAGER)
        async with asyncio.timeout(2):
            await probes.close()
