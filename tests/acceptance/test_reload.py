"""SIGHUP: what is right is taken over, what is wrong changes nothing."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.api.tokens import Scope, create
from agent.transport import Request, TransportError, request_sync
from tests.fix_cli import SPLITGUARD
from tests.fix_postgres import eventually, free_port

WITHIN_S = 30.0


class Agent:
    """A witness: an agent that needs no database to be one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.config, self.tokens = folder / "agent.toml", folder / "tokens.jsonl"
        self.log = folder / "log"
        self.tokens.write_text("")
        self.write()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SPLITGUARD, "run", "--config", self.config], stderr=log
            )

    def write(self, *, round_s: str = "1.0", more: str = "") -> None:
        self.config.write_text(
            f'cluster = "c"\nnode = "w1"\nlisten = "127.0.0.1:{self.port}"\n'
            f'socket = "{self.folder}/agent.sock"\nstate_dir = "{self.folder}/state"\n'
            f'{more}[auth]\ntokens_file = "{self.tokens}"\n'
            f"[probe]\nround_s = {round_s}\n"
            f'[[nodes]]\nname = "n1"\nagent = "http://127.0.0.1:{self.port + 1}"\n'
            'postgres = "host=127.0.0.1 port=1 dbname=postgres"\n'
            f'[[witnesses]]\nname = "w1"\nagent = "http://127.0.0.1:{self.port}"\n'
        )

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def says(self, text: str, times: int = 1) -> None:
        try:
            eventually(
                f"it says {text!r}",
                lambda: self.log.read_text().count(text) >= times,
                WITHIN_S,
            )
        except AssertionError:
            print(self.log.read_text())
            raise

    def status_for(self, token: str) -> int:
        """Which status a question with this token gets; 0 for no answer."""
        url = f"http://127.0.0.1:{self.port}/v1/status"
        headers = {"authorization": f"Bearer {token}"}
        try:
            return request_sync(Request("GET", url, headers), 5.0).status
        except TransportError:
            return 0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(WITHIN_S)


def test_a_new_token_counts_after_a_hang_up_and_a_revoked_one_no_more(agent: Agent):
    token, line = create("prometheus", Scope.READ)
    eventually("it answers", lambda: agent.status_for(token) == 401, WITHIN_S)
    agent.tokens.write_text(f"{line}\n")
    assert agent.status_for(token) == 401
    agent.hang_up()
    eventually("the token counts", lambda: agent.status_for(token) == 200, WITHIN_S)

    agent.tokens.write_text("no token\n")
    agent.hang_up()
    agent.says("auth.tokens_file, line 1: not a JSON object")
    agent.says("the agent goes on as it was")
    assert agent.status_for(token) == 200

    agent.tokens.write_text("")
    agent.hang_up()
    eventually("it counts no more", lambda: agent.status_for(token) == 401, WITHIN_S)


def test_what_is_wrong_changes_nothing_and_what_needs_a_restart_is_named(agent: Agent):
    agent.says("listens on")
    agent.write(round_s='"often"')
    agent.hang_up()
    agent.says(f"configuration: {agent.config}:9: probe.round_s")
    agent.says("the agent goes on as it was")

    agent.write(round_s="2.0", more='page_url = "https://example.com/"\n')
    agent.hang_up()
    agent.says("configuration and tokens were read again")
    agent.says("after a restart only: probe.round_s\n")
    agent.hang_up()
    agent.says("after a restart only: probe.round_s\n", times=2)
    assert agent.process.poll() is None


def test_a_receiver_that_is_added_is_told(agent: Agent):
    agent.says("listens on")
    secret = agent.folder / "secret"
    channel = (
        f'[[channels]]\nname = "oncall"\nurl = "http://127.0.0.1:{free_port()}/"\n'
        f'secret_file = "{secret}"\n'
    )
    agent.write()
    agent.config.write_text(agent.config.read_text() + channel)
    agent.hang_up()
    agent.says("secret_file")
    agent.says("the agent goes on as it was")
    secret.write_text("whsec_c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgISEhISE=\n")
    agent.hang_up()
    agent.says("configuration and tokens were read again")
    assert "after a restart" not in agent.log.read_text()
