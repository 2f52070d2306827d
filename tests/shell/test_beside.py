"""The server beside the agent is found again when it is stopped, and never by guess."""

import socket
from pathlib import Path

import pytest

from agent.config import NodeSettings, Settings
from agent.core.capture import CaptureOrder, CaptureStatus, Level, Phase
from agent.core.observation import ReadFailure
from agent.daemon import beside
from agent.daemon.beside import ServerBeside
from agent.daemon.clock import SystemClock
from agent.snapshot.reserve import Reserve
from agent.snapshot.settings import MakesWay

ORDER = CaptureOrder("n1-1", "n1", (Level.TAIL,), (), "a test", None, None)


def free_port() -> int:
    """A port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def told() -> list[CaptureStatus]:
    return []


@pytest.fixture
def server(tmp_path: Path, told: list[CaptureStatus]) -> ServerBeside:
    """Beside an agent that was told of no data folder, where no server runs."""
    dsn = f"host=127.0.0.1 port={free_port()} dbname=postgres user=splitguard_probe"
    settings = Settings(
        cluster="test",
        node="n1",
        state_dir=tmp_path,
        nodes=(NodeSettings(name="n1", postgres=dsn),),
    )
    way = MakesWay(Reserve(tmp_path, 0))
    return ServerBeside(
        settings, SystemClock().moment, told.append, lambda _: None, way
    )


def test_a_server_that_is_not_there_is_a_failure_with_what_to_set(server: ServerBeside):
    failure = server.read()
    assert isinstance(failure, ReadFailure)
    assert "local.data_dir" in failure.hint


def test_a_capture_of_no_server_fails_and_ends_nothing(
    server: ServerBeside, told: list[CaptureStatus]
):
    server.run(ORDER)
    server.finish(ORDER.capture_id)
    server.stop()
    assert [status.phase for status in told] == [Phase.FAILED]
    assert "local.data_dir" in told[0].reason


def test_the_folder_that_was_found_last_is_read_when_nothing_runs(
    server: ServerBeside, tmp_path: Path
):
    remembered = tmp_path / "pgdata-of-a-stopped-server"
    (tmp_path / beside.MEMORY).write_text(f"{remembered}\n")
    failure = server.read()
    assert isinstance(failure, ReadFailure)
    assert str(remembered) in failure.reason


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b""])
def test_a_garbled_memory_is_no_folder(
    server: ServerBeside, tmp_path: Path, garbage: bytes
):
    (tmp_path / beside.MEMORY).write_bytes(garbage)
    assert isinstance(server.read(), ReadFailure)
