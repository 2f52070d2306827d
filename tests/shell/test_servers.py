"""What cannot be listened on is said in one sentence, and nothing living is taken."""

import os
import socket
import stat
from pathlib import Path

import pytest

from agent.daemon.servers import SOCKET_PATH_LIMIT, bind_tcp, bind_unix
from agent.errors import ConfigError


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
