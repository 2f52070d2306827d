"""The webhook channel against real receivers."""

import json

import pytest

from agent.errors import DeliveryError
from agent.notify import signing, webhook
from agent.notify.webhook import WebhookChannel, retry_after_s
from agent.transport import HttpClient
from tests.fix_network import http
from tests.fix_postgres import free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_800_000_000.0
BODY = json.dumps({"data": {"summary": "prüfung"}}, ensure_ascii=False)


@pytest.fixture
async def client():
    made = HttpClient()
    yield made
    await made.close()


async def refused(client, network, status: str, *headers: str) -> DeliveryError:
    there = await network.answer(http(status, b"", *headers))
    channel = WebhookChannel("on-call", there.url + "/T0P/S3CRET", SECRET, client)
    with pytest.raises(DeliveryError) as caught:
        await channel.deliver("msg-1", BODY, NOW)
    assert len(there.requests) == 1
    assert "S3CRET" not in str(caught.value)
    assert str(caught.value).startswith("on-call: 127.0.0.1")
    return caught.value


async def test_a_message_arrives_signed_and_whole(client, network):
    there = await network.answer(http("204 No Content"))
    channel = WebhookChannel("on-call", there.url + "/hook?key=1", SECRET, client)
    await channel.deliver("msg-1", BODY, NOW)
    head, _, body = there.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?key=1 HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["content-type"] == "application/json"
    assert signing.verify(signing.key_of(SECRET), headers, body, NOW) == "msg-1"
    assert body.decode() == BODY
    assert channel.name == "on-call"


async def test_without_a_secret_it_arrives_unsigned(client, network):
    there = await network.answer(http("200 OK"))
    await WebhookChannel("a", there.url, None, client).deliver("msg-1", BODY, NOW)
    assert b"webhook-id: msg-1" in there.requests[0].lower()
    assert b"webhook-signature" not in there.requests[0].lower()


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "408 Slow", "429 Many"])
async def test_trouble_that_may_pass_is_worth_another_attempt(client, network, status):
    error = await refused(client, network, status)
    assert (error.permanent, error.retry_after_s) == (False, None)
    assert status[:3] in error.message


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "404 None", "410 Gone"])
async def test_a_receiver_that_will_not_have_it_says_so_for_good(
    client, network, status
):
    assert (await refused(client, network, status)).permanent


async def test_a_redirect_is_a_failure_and_not_followed(client, network):
    error = await refused(client, network, "302 Found", "Location: /S3CRET2")
    assert not error.permanent
    assert "redirect" in error.message


async def test_the_receivers_wish_to_wait_is_honoured(client, network):
    error = await refused(client, network, "429 Many", "Retry-After: 120")
    assert error.retry_after_s == 120


async def test_nobody_there_is_worth_another_attempt(client):
    url = f"http://127.0.0.1:{free_port()}/S3CRET"
    with pytest.raises(DeliveryError, match="refused") as caught:
        await WebhookChannel("a", url, SECRET, client).deliver("msg-1", BODY, NOW)
    assert not caught.value.permanent
    assert "S3CRET" not in str(caught.value)


async def test_a_receiver_that_hangs_is_given_up_in_time(client, network, monkeypatch):
    monkeypatch.setattr(webhook, "DEADLINE_S", 0.2)
    there = await network.silence()
    with pytest.raises(DeliveryError, match=r"within 0\.2 s") as caught:
        await WebhookChannel("a", there.url, SECRET, client).deliver("msg-1", "", NOW)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 7 ", 7),
        ("999999999999", 3600),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("Fri, 99 Jan 9999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour(value, seconds):
    assert retry_after_s(value, NOW) == seconds
