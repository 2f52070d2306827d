"""The unit where something is missing or wrong: it stays up, and says what is so."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.postgres.owner import unprivileged
from tests.fix_postgres import free_port
from tests.fix_systemd import Systemd, systemd_of

pytestmark = pytest.mark.postgres

WITNESS = """\
cluster = "acceptance"
node = "w1"
listen = "127.0.0.1:{port}"
state_dir = "{home}/state"
socket = "{home}/run/agent.sock"
[[nodes]]
name = "n1"
agent = "http://127.0.0.1:{gone}"
postgres = "host=127.0.0.1 port={gone} dbname=postgres user=splitguard_probe"
[[witnesses]]
name = "w1"
agent = "http://127.0.0.1:{port}"
"""
ALONE = """\
cluster = "acceptance"
node = "n1"
listen = "127.0.0.1:{port}"
state_dir = "{home}/state"
socket = "{home}/run/agent.sock"
[[nodes]]
name = "n1"
agent = "http://127.0.0.1:{port}"
postgres = "host=127.0.0.1 port={gone} dbname=postgres user=splitguard_probe"
"""


@contextmanager
def running(installed: Path, at: Path, config: str) -> Iterator[Systemd]:
    """The unit, started with a configuration whose servers are not there."""
    home = at / f"machine{free_port()}"
    text = config.format(home=home, port=free_port(), gone=free_port())
    with systemd_of(installed, home, unprivileged(), text) as unit:
        unit.start()
        yield unit


def verdict(unit: Systemd) -> str:
    """What the agent says at the top of its status."""
    told = json.loads(unit.splitguard("status", "--output", "json"))
    return str(told["headline"]["verdict"])


def test_a_witness_goes_on_without_a_database(installed, postgres_home):
    with running(installed, postgres_home, WITNESS) as witness:
        for _ in range(3):
            witness.hear("WATCHDOG=1")
        verdict(witness)
        assert witness.stop()[0] == 0, witness.log()


def test_an_agent_whose_server_never_ran_refuses_a_snapshot_and_goes_on(
    installed, postgres_home
):
    with running(installed, postgres_home, ALONE) as agent:
        with agent.asks_agent() as connection:
            connection.request("POST", "/v1/snapshots", body='{"reason": "test"}')
            answer = connection.getresponse()
            words = answer.read().decode()
        assert answer.status < 500, words
        for _ in range(3):
            agent.hear("WATCHDOG=1")
        # And again: what was asked for must not end the next start either.
        assert agent.stop()[0] == 0, agent.log()
        agent.start()
        for _ in range(3):
            agent.hear("WATCHDOG=1")
        assert agent.process is not None
        assert agent.process.poll() is None


def test_an_agent_goes_on_when_systemd_does_not_listen(installed, postgres_home):
    with running(installed, postgres_home, ALONE) as agent:
        agent.listen_no_more()
        fill_up(f"{agent.home}/notify")
        time.sleep(3)  # rounds pass, and each wants to be told of
        verdict(agent)
        code, seconds = agent.stop()
        assert code == 0
        assert seconds < 5.0
        agent.listen()


def fill_up(path: str) -> None:
    """Send messages that nobody takes, until the kernel keeps no more of them."""
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as out,
        contextlib.suppress(BlockingIOError),
    ):
        out.setblocking(False)
        while True:
            out.sendto(b"X", path)
