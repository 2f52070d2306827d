"""A manager that is active beside a standby: real servers, managers over real HTTP.

The managers answer `GET /api/v3.1/status` as those of the 4.x line do: 200 on the
active node, 400 `not_cluster_master` on the others. One agent, a witness, sees it all.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import SPLITGUARD
from tests.fix_postgres import Server, Stage, eventually, free_port

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

WITHIN_S = 60.0
ENDS_S = 20.0


class Manager:
    """One manager's status route."""

    def __init__(self) -> None:
        self.active = False
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = {"status": "running"}
                if not manager.active:
                    told = {"error_code": "not_cluster_master", "message": "no"}
                body = json.dumps(told).encode()
                self.send_response(200 if manager.active else 400)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def managers() -> Iterator[dict[str, Manager]]:
    made = {name: Manager() for name in ("n1", "n2")}
    yield made
    for one in made.values():
        one.close()


def config(home: Path, managers: dict[str, Manager], servers: list[Server]) -> str:
    lines = [
        f'cluster = "c"\nnode = "w1"\nlisten = "127.0.0.1:{free_port()}"',
        f'socket = "{home}/agent.sock"\nstate_dir = "{home}/state"',
    ]
    for (name, manager), server in zip(managers.items(), servers, strict=True):
        lines.append(
            f'[[nodes]]\nname = "{name}"\nmanager = "http://127.0.0.1:{manager.port}"\n'
            f'postgres = "host=127.0.0.1 port={server.port} dbname=postgres'
            f' user=postgres"\nlocal = false'
        )
    lines.append('[[witnesses]]\nname = "w1"\nagent = "http://127.0.0.1:1"')
    return "\n".join(lines) + "\n"


def test_a_manager_that_is_active_beside_a_standby_is_told_of(
    stage16: Stage, managers: dict[str, Manager], tmp_path: Path
):
    primary = stage16.server("n1", tcp=True).start()
    standby = stage16.server("n2", tcp=True)
    standby.follow(primary)
    standby.start()
    standby.caught_up(primary)
    managers["n1"].active = True
    file = tmp_path / "agent.toml"
    file.write_text(config(tmp_path, managers, [primary, standby]))
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(
            [SPLITGUARD, "run", "--config", file],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        play(tmp_path / "agent.sock", managers)
    finally:
        agent.terminate()
        agent.wait(ENDS_S)


def play(socket: Path, managers: dict[str, Manager]) -> None:
    """Move the managers' idea of the active node away from the primary, and back."""
    says(socket, "healthy", "cluster")
    managers["n1"].active, managers["n2"].active = False, True
    found = says(socket, "role-mismatch", "n2")
    assert found["severity"] == "critical"
    assert found["sentence"].startswith(
        "The manager on n2 says that it is active, but its PostgreSQL is a standby: "
        "the primary is n1, whose manager says that it is not active."
    )
    assert "Make the manager beside n1 the active one" in found["next_step"]
    managers["n1"].active, managers["n2"].active = True, False
    says(socket, "healthy", "cluster")


def says(socket: Path, verdict: str, subject: str) -> Any:
    """Wait until the agent says so."""

    def told() -> Any:
        ran = subprocess.run(
            [SPLITGUARD, "status", "--output", "json", "--socket", socket],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = json.loads(ran.stdout)["verdicts"] if ran.stdout else []
        return [
            one
            for one in found
            if (one["verdict"], one["subject"]) == (verdict, subject)
        ]

    return eventually(f"it says {verdict} of {subject}", told, WITHIN_S)[0]
