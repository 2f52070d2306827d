"""What is wrong around the agents, with real processes: tokens, settings, receivers.

Three agents without any database, which vote all the same. Receivers of notices are
real HTTP servers, or ports on which nobody listens.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.transport import Request, request_sync
from tests.fix_cli import SPLITGUARD
from tests.fix_postgres import eventually, free_port

pytestmark = pytest.mark.timeout(240)

NAMES = ("n1", "n2", "n3")
WITHIN_S = 60.0
ENDS_S = 20.0
SECRET = "a-word-that-nobody-may-see"


class Receiver:
    """A webhook receiver that answers what it is told to, and keeps what it took."""

    def __init__(self) -> None:
        self.status = 200
        self.took: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.status < 300:
                    receiver.took.append(json.loads(body))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def verdicts(self) -> set[str]:
        return {body["data"]["incident"]["verdict"] for body in self.took}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Trio:
    """Three agents and their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in NAMES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in NAMES:
            (folder / name).mkdir()
            self.write_token(name, "the-secret-of-all-three-agents-of-this-test")

    def write_token(self, name: str, token: str) -> None:
        (self.folder / name / "peer.token").write_text(token)

    def start(self, name: str, more: str = "") -> None:
        """Start an agent; `more` goes before the list of nodes."""
        home = self.folder / name
        lines = [
            f'cluster = "c"\nnode = "{name}"\nlisten = "127.0.0.1:{self.ports[name]}"',
            f'socket = "{home}/agent.sock"\nstate_dir = "{home}/state"',
            f'[auth]\npeer_token_file = "{home}/peer.token"',
            more,
        ]
        lines += [
            f'[[nodes]]\nname = "{one}"\nagent = "http://127.0.0.1:{self.ports[one]}"'
            for one in NAMES
        ]
        (home / "agent.toml").write_text("\n".join(lines) + "\n")
        with (home / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [SPLITGUARD, "run", "--config", home / "agent.toml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(ENDS_S)

    def run(self, name: str, *arguments: str) -> str:
        """What a command beside one agent prints."""
        return subprocess.run(
            [SPLITGUARD, *arguments, "--socket", self.folder / name / "agent.sock"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

    def verdicts(self, name: str) -> dict[tuple[str, str], Any]:
        """By verdict and subject: what an agent says now."""
        out = self.run(name, "status", "--output", "json")
        told = json.loads(out)["verdicts"] if out else []
        return {(one["verdict"], one["subject"]): one for one in told}

    def says(self, name: str, verdict: str, subject: str, words: str = "") -> Any:
        """Wait for the verdict, with these words once all agents were heard."""

        def said() -> Any:
            found = self.verdicts(name).get((verdict, subject))
            return found if found and words in found["sentence"] else None

        return eventually(f"{name} says {verdict} {subject} {words}", said, WITHIN_S)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    made = Trio(tmp_path)
    yield made
    for name in tuple(made.processes):
        made.stop(name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_an_agent_with_another_token_makes_no_healthy_cluster(trio: Trio):
    trio.write_token("n3", "a-token-that-was-forgotten-on-this-node")
    for name in NAMES:
        trio.start(name)
    refused = "n3 refuses the peer token that n1 shows"
    found = trio.says("n1", "config-error", "n1|n3", refused)
    assert found["severity"] == "critical"
    assert "auth.peer_token_file) on n1 and n3" in found["next_step"]
    trio.says("n3", "config-error", "n2|n3")
    trio.write_token("n3", "the-secret-of-all-three-agents-of-this-test")
    trio.processes["n3"].send_signal(1)
    for name in NAMES:
        trio.says(name, "healthy", "cluster")


def test_a_limit_that_differs_is_named_with_whom_it_parts(trio: Trio):
    trio.start("n1")
    trio.start("n2")
    trio.start("n3", "[probe]\nround_s = 1.5\ndeadline_s = 0.8")
    for name in NAMES:
        differs = "probe.round_s (n1 and n2 against n3)"
        trio.says(name, "config-drift", "cluster", differs)
    trio.stop("n3")
    trio.start("n3")
    trio.says("n1", "healthy", "cluster")


def test_a_receiver_that_is_gone_is_told_to_the_others_and_shown(
    trio: Trio, receiver: Receiver
):
    gone = free_port()
    channels = (
        f'[[channels]]\nname = "gone"\nurl = "http://127.0.0.1:{gone}/{SECRET}"\n'
        f'[[channels]]\nname = "good"\nurl = "http://127.0.0.1:{receiver.port}/"'
    )
    for name in NAMES:
        trio.start(name, channels)
    for name in NAMES:
        trio.says(name, "healthy", "cluster")
    trio.stop("n3")
    for name in ("n1", "n2"):
        told = "n1 cannot tell gone, 1 of 2 receivers: "
        found = trio.says(name, "cannot-alert", "n1", told)
        assert found["severity"] == "warning"
    eventually("good is told", lambda: "cannot-alert" in receiver.verdicts(), WITHIN_S)
    url = f"http://127.0.0.1:{trio.ports['n2']}"
    metrics = request_sync(Request("GET", f"{url}/metrics", {}), 5.0).body.decode()
    shown = [trio.run("n1", "status"), trio.run("n1", "explain"), metrics]
    assert "cannot-alert" in shown[0]
    assert SECRET not in repr([*shown, receiver.took])
    assert SECRET not in (trio.folder / "n1" / "log").read_text()


def test_a_receiver_that_refuses_is_tried_at_once_after_a_reload(
    trio: Trio, receiver: Receiver
):
    receiver.status = 410
    channel = f'[[channels]]\nname = "only"\nurl = "http://127.0.0.1:{receiver.port}/"'
    for name in NAMES:
        trio.start(name, channel)
    for name in NAMES:
        trio.says(name, "healthy", "cluster")
    trio.stop("n3")
    found = trio.says("n1", "cannot-alert", "n1")
    assert found["severity"] == "critical"
    assert "n1 cannot tell anybody (only): 127.0.0.1" in found["sentence"]
    assert "answered HTTP 410" in found["sentence"]
    receiver.status = 200
    trio.processes["n1"].send_signal(1)
    eventually("it is told", lambda: "node-down" in receiver.verdicts(), WITHIN_S)
    eventually(
        "nothing is wrong with it",
        lambda: ("cannot-alert", "n1") not in trio.verdicts("n1"),
        WITHIN_S,
    )
