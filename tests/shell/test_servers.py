"""What cannot be listened on is said in one sentence, and nothing living is taken."""

import asyncio
import gc
import json
import os
import socket
import stat
import struct
import warnings
from pathlib import Path

import httpx
import pytest

from agent.core.event import PermitAsked
from agent.daemon.servers import SOCKET_PATH_LIMIT, Servers, bind_tcp, bind_unix
from agent.errors import ConfigError
from tests.fix_desk import healthy, serve


def test_a_port_in_use_names_the_setting_and_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            bind_tcp(listen)
    assert listen in caught.value.message
    assert "ss -ltnp" in caught.value.hint


def test_an_address_of_another_machine_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="cannot listen there"):
        bind_tcp("192.0.2.1:0")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_both_families_can_be_listened_on(listen):
    with bind_tcp(listen) as bound:
        assert bound.getsockname()[1] > 0


def test_the_socket_is_for_owner_and_group_only(tmp_path):
    path = tmp_path / "run" / "agent.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_socket_left_by_a_killed_agent_is_replaced(tmp_path):
    path = tmp_path / "agent.sock"
    with bind_unix(path) as first:
        first.listen()
    assert path.exists()
    with bind_unix(path) as second:
        second.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_the_socket_of_a_living_agent_is_left_alone(tmp_path):
    path = tmp_path / "agent.sock"
    with bind_unix(path) as living:
        living.listen()
        with pytest.raises(ConfigError) as caught:
            bind_unix(path)
        assert "an agent listens there already" in caught.value.message
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_not_removed(tmp_path):
    path = tmp_path / "agent.sock"
    path.write_text("somebody's")
    with pytest.raises(ConfigError, match="cannot listen there"):
        bind_unix(path)
    assert path.read_text() == "somebody's"


def test_a_path_that_the_kernel_cannot_take_is_refused_by_length(tmp_path):
    path = tmp_path / ("x" * SOCKET_PATH_LIMIT)
    with pytest.raises(ConfigError) as caught:
        bind_unix(path)
    assert f"longer than {SOCKET_PATH_LIMIT} bytes" in caught.value.message


def test_a_folder_that_cannot_be_made_is_named():
    path = Path("/proc", str(os.getpid()), "nowhere", "agent.sock")
    with pytest.raises(ConfigError) as caught:
        bind_unix(path)
    assert str(path) in caught.value.message


PERMIT = b"permit-1"
RELEASE = b'{"node":"n1","reason":"none","who":"nobody"}'
REQUEST = (
    b"POST /v1/guard/release HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    b"content-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(RELEASE), RELEASE)
)
ATTEMPTS = 30
HTTP_OK = 200


def knock_and_reset(port: int) -> None:
    """Send a whole request and reset the connection before it can be answered."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        linger = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.send(REQUEST)


async def test_a_client_that_resets_at_once_is_not_taken_for_the_unix_socket(tmp_path):
    served = serve(healthy())
    asked = PermitAsked(served.desk.now(), PERMIT.decode(), "pg_rewind")
    await served.desk.submit(asked)
    tcp, unix = bind_tcp("127.0.0.1:0"), bind_unix(tmp_path / "agent.sock")
    servers = Servers(served.app, tcp, unix, None)
    running = asyncio.create_task(servers.run())
    for _ in range(ATTEMPTS):
        await asyncio.to_thread(knock_and_reset, tcp.getsockname()[1])
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "agent.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as local:
        permits = (await local.get("/v1/guard/permits")).json()["permits"]
        assert [permit["released_by"] for permit in permits] == [None]
        freed = await local.post("/v1/guard/release", json=json.loads(RELEASE))
        assert freed.status_code == HTTP_OK
    servers.stop()
    await running
    with warnings.catch_warnings():
        # asyncio leaves a connection that was reset before it was accepted to the
        # garbage collector, which warns of it in whatever test comes next.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
