"""HTTP within one deadline, against servers that do everything wrong."""

import asyncio
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trustme

from agent.errors import ConfigError
from agent.transport import (
    DeadlineError,
    HttpClient,
    Request,
    Tls,
    UnreachableError,
    UnreadableAnswerError,
    request_sync,
)
from tests.fix_network import head_of, http
from tests.fix_postgres import free_port


@pytest.fixture
async def client():
    made = HttpClient()
    yield made
    await made.close()


async def test_any_status_is_an_answer(client, network):
    there = await network.answer(http("503 Busy", b"later", "Retry-After: 7"))
    answer = await client.get(there.url, 2)
    assert (answer.status, answer.body, answer.ok) == (503, b"later", False)
    assert answer.headers["retry-after"] == "7"


async def test_a_redirect_is_not_followed(client, network):
    there = await network.answer(http("302 Found", b"", "Location: /elsewhere"))
    assert (await client.get(there.url, 2)).status == 302
    assert len(there.requests) == 1


async def test_a_connection_is_kept_between_requests(client, network):
    there = await network.answer(http("200 OK", b"a"))
    for _ in range(3):
        await client.get(there.url, 2)
    assert (there.connections, len(there.requests)) == (1, 3)


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(client, network):
    async def once(reader, writer):
        await head_of(reader)
        writer.write(http("200 OK", b"a"))
        await writer.drain()
        if there.connections == 1:
            await head_of(reader)  # take the second request, and hang up

        else:
            await reader.read()

    there = await network.listen(once)
    assert (await client.get(there.url, 2)).ok
    assert (await client.get(there.url, 2)).ok
    assert there.connections == 2


async def test_a_post_is_never_sent_twice(client, network):
    async def hang_up(reader, writer):
        there.requests.append(await head_of(reader))

    there = await network.listen(hang_up)
    with pytest.raises(UnreachableError, match="connection was cut"):
        await client.request(Request("POST", there.url, content=b"x"), 2)
    assert len(there.requests) == 1


async def test_nobody_listening_is_unreachable(client):
    port = free_port()
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}.*refused"):
        await client.get(f"http://127.0.0.1:{port}/secret-path", 2)


async def test_an_address_that_is_none_is_unreachable(client):
    with pytest.raises(UnreachableError, match="not an address"):
        await client.get("gopher://127.0.0.1/", 2)


@pytest.mark.parametrize("secret", ["hush\nhush", " hush", "hush\u00e9"])
async def test_a_header_that_cannot_be_sent_is_not_repeated(client, network, secret):
    there = await network.silence()
    with pytest.raises(UnreachableError, match="header") as caught:
        await client.get(there.url, 2, {"authentication-token": secret})
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.hint}"
    assert "hush" not in chain
    assert caught.value.__suppress_context__


async def test_a_mute_server_ends_at_the_deadline(client, network):
    there = await network.silence()
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
        await client.get(there.url, 0.2)
    assert time.monotonic() - began < 1


async def test_a_server_that_drips_ends_at_the_deadline_too(client, network):
    async def drip(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    there = await network.listen(drip)
    with pytest.raises(DeadlineError):
        await client.get(there.url, 0.3)


async def test_a_hundred_timeouts_leave_the_client_usable(client, network):
    mute = await network.silence()
    fine = await network.answer(http("200 OK", b"a"))

    async def in_vain():
        with pytest.raises(DeadlineError):
            await client.get(mute.url, 0.05)

    for _ in range(10):
        await asyncio.gather(*(in_vain() for _ in range(10)))
    assert (await client.get(fine.url, 2)).ok


async def test_no_more_is_read_than_is_allowed(client, network):
    there = await network.answer(http("200 OK", b"x" * 3000))
    with pytest.raises(UnreadableAnswerError, match="more than 2000 bytes"):
        await client.request(Request("GET", there.url, limit_bytes=2000), 2)


async def test_an_endless_body_is_cut_off(client, network):
    async def endless(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    there = await network.listen(endless)
    with pytest.raises(UnreadableAnswerError):
        await client.get(there.url, 5)


async def test_what_is_no_http_is_unreadable(client, network):
    async def smtp(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await reader.read()

    there = await network.listen(smtp)
    with pytest.raises(UnreadableAnswerError, match="not in HTTP"):
        await client.get(there.url, 2)


async def test_proxy_settings_of_the_environment_have_no_say(network, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    there = await network.answer(http("200 OK"))
    client = HttpClient()
    assert (await client.get(there.url, 2)).ok
    await client.close()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def secured(network, authority, *, demand=None):
    """A server that speaks TLS, and demands a certificate of `demand` if given."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if demand is not None:
        demand.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    async def handler(reader, writer):
        await head_of(reader)
        writer.write(http("200 OK", b"secret"))
        await writer.drain()
        await reader.read()

    there = await network.listen(handler, ssl=context)
    return f"https://127.0.0.1:{there.port}"


async def test_tls_is_trusted_by_the_configured_authority(network, authority, ca_file):
    client = HttpClient(Tls(ca=ca_file))
    url = await secured(network, authority)
    assert (await client.get(url, 2)).body == b"secret"
    await client.close()


async def test_a_certificate_of_somebody_else_is_refused(client, network, authority):
    url = await secured(network, authority)
    with pytest.raises(UnreadableAnswerError, match=r"TLS failed.*\[tls\] ca"):
        await client.get(url, 2)


async def test_a_client_certificate_is_shown(network, authority, ca_file, tmp_path):
    own = authority.issue_cert("agent.example")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(str(cert))
    own.private_key_pem.write_to_path(str(key))
    client = HttpClient(Tls(ca_file, cert, key))
    url = await secured(network, authority, demand=authority)
    assert (await client.get(url, 2)).ok
    await client.close()


def test_a_missing_certificate_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pem.*No such file"):
        HttpClient(Tls(ca=tmp_path / "none.pem"))


def test_without_an_event_loop_a_unix_socket_answers(tmp_path):
    """What the command line does: one request over the agent's socket."""
    path = tmp_path / "agent.sock"
    ready = threading.Event()
    over = asyncio.Event()
    loops = []

    async def serve():
        async def handler(reader, writer):
            request = await head_of(reader)
            writer.write(http("200 OK", request.split(b" ")[1]))
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_unix_server(handler, path):
            loops.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(5)
    try:
        answer = request_sync(Request("GET", "http://agent/v1/status"), 5, uds=path)
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(5)
    assert answer.body == b"/v1/status"


def test_without_an_agent_the_socket_is_unreachable(tmp_path):
    with pytest.raises(UnreachableError, match="No such file"):
        request_sync(Request("GET", "http://agent/"), 5, uds=tmp_path / "no.sock")


def test_without_an_event_loop_the_deadline_holds():
    class Sleepy(BaseHTTPRequestHandler):
        def do_GET(self):
            done.wait(5)

        def log_message(self, *args):
            pass

    done = threading.Event()
    server = HTTPServer(("127.0.0.1", 0), Sleepy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(DeadlineError):
            request_sync(Request("GET", f"http://127.0.0.1:{server.server_port}/"), 0.3)
        assert time.monotonic() - began < 2
    finally:
        done.set()
        server.shutdown()
        thread.join(5)
        server.server_close()
