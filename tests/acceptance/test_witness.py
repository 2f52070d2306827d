"""Two databases and a witness, real processes: who may say that one is dead.

The agents of the databases have `local = false`: they stand, as it were, on other
machines than their servers, and know them by SQL alone. Every way from one member to
another leads through a relay, so that a part of the network can be taken away.
"""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab.relay import Relay
from tests.fix_cli import SPLITGUARD
from tests.fix_postgres import Server, Stage, free_port

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]

WITHIN_S = 60.0
ENDS_S = 20.0
HELD_UP_S = 6.0
"""Longer than a reading stays fresh, and than any question may take."""


class Trio:
    """Up to three members: n1 and n2 with a server each, and w1 without."""

    def __init__(self, folder: Path, members: tuple[str, ...]) -> None:
        self.folder = folder
        self.members = members
        self.token = folder / "peer.token"
        self.token.write_text("a-secret-of-all-three-agents-of-this-test")
        self.agent_ports = {name: free_port() for name in members}
        self.servers: dict[str, Server] = {}
        self.relays: dict[tuple[str, str, str], Relay] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def way(self, source: str, target: str, service: str, port: int) -> int:
        """Return the port by which `source` reaches what listens on `port`."""
        if source == target:
            return port
        relay = self.relays.get((source, target, service))
        if relay is None:
            relay = Relay(free_port(), port)
            relay.open()
            self.relays[source, target, service] = relay
        return relay.port

    def cut(self, one: str, *others: str) -> None:
        """Take away every way between one member and others, in both directions."""
        for (source, target, _), relay in self.relays.items():
            if {source, target} in [{one, other} for other in others]:
                relay.cut()

    def heal(self) -> None:
        for relay in self.relays.values():
            relay.open()

    async def serve(self, stage: Stage) -> None:
        """Start n1 as the primary and n2 as its standby."""
        primary = stage.server("n1", tcp=True).start()
        standby = stage.server("n2", tcp=True)
        standby.follow(primary)
        way = self.way("n2", "n1", "replication", primary.port)
        standby.configure(
            primary_conninfo=f"host=127.0.0.1 port={way} user=postgres"
            " application_name=n2"
        )
        standby.start()
        await asyncio.to_thread(standby.caught_up, primary)
        self.servers = {"n1": primary, "n2": standby}

    def start(self, name: str) -> None:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        config = home / "agent.toml"
        config.write_text(self.config(name, home))
        with (home / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [SPLITGUARD, "run", "--config", config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def config(self, me: str, home: Path) -> str:
        lines = [
            f'cluster = "acceptance"\nnode = "{me}"',
            f'listen = "127.0.0.1:{self.agent_ports[me]}"',
            f'state_dir = "{home}/state"\nsocket = "{home}/agent.sock"',
            f'[auth]\npeer_token_file = "{self.token}"',
        ]
        for name in self.members:
            agent = self.way(me, name, "agent", self.agent_ports[name])
            kind = "nodes" if name in self.servers else "witnesses"
            lines.append(
                f'[[{kind}]]\nname = "{name}"\nagent = "http://127.0.0.1:{agent}"'
            )
            if name in self.servers:
                port = self.way(me, name, "postgres", self.servers[name].port)
                lines.append(
                    f'postgres = "host=127.0.0.1 port={port} dbname=postgres'
                    f' user=postgres"\nlocal = false'
                )
        return "\n".join(lines) + "\n"

    async def status(self, name: str) -> Any:
        """What `splitguard status` says there; None while it says nothing."""
        asked = await asyncio.create_subprocess_exec(
            str(SPLITGUARD), "status", "--output", "json",
            "--socket", f"{self.folder / name}/agent.sock",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await asked.communicate()
        return json.loads(out) if out else None

    async def until(self, name: str, condition: Callable[[Any], bool]) -> Any:
        """Wait until the status there is so, and return it."""
        status: Any = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while status is None or not condition(status):
                    status = await self.status(name)
        except TimeoutError:
            log = (self.folder / name / "log").read_text()[-1500:]
            pytest.fail(f"{name}: {status and said(status)}\n{log}")
        return status

    async def until_healthy(self) -> None:
        for name in self.members:
            await self.until(name, lambda s: s["headline"]["verdict"] == "healthy")

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(ENDS_S)
        for relay in self.relays.values():
            relay.cut()


@asynccontextmanager
async def members(stage: Stage, folder: Path, *names: str) -> AsyncIterator[Trio]:
    """Agents that see a healthy cluster."""
    trio = Trio(folder, names)
    try:
        await trio.serve(stage)
        for name in names:
            trio.start(name)
        await trio.until_healthy()
        yield trio
    finally:
        trio.close()


def said(status: Any) -> set[tuple[str, str]]:
    return {(one["verdict"], one["subject"]) for one in status["verdicts"]}


def verdict(status: Any, code: str) -> Any:
    (found,) = [one for one in status["verdicts"] if one["verdict"] == code]
    return found


async def test_a_witness_gives_one_of_two_the_majority_to_confirm_a_death(
    stage16: Stage, tmp_path: Path
):
    async with members(stage16, tmp_path, "n1", "n2", "w1") as trio:
        healthy = await trio.status("w1")
        for name in ("n1", "n2"):
            assert "local = false" in healthy["protection"][name]["line"]
        roles = {n["name"]: n["role"] for n in healthy["nodes"]}
        assert roles == {"n1": "primary", "n2": "standby", "w1": "witness"}

        # n1 | n2 and w1: the two agree, n1 doubts itself and accuses nobody.
        trio.cut("n1", "n2", "w1")
        for name in ("n2", "w1"):
            status = await trio.until(name, lambda s: ("node-down", "n1") in said(s))
            down = verdict(status, "node-down")
            assert down["rule"] == 201
            assert (down["evidence"]["confirmed_by"], down["evidence"]["voters"]) == (
                2, 3,
            )  # fmt: skip
            assert "observer-isolated" not in {code for code, _ in said(status)}
        alone = await trio.until("n1", lambda s: ("observer-isolated", "n1") in said(s))
        cut_off = verdict(alone, "observer-isolated")
        assert (cut_off["rule"], cut_off["severity"]) == (101, "critical")
        assert cut_off["evidence"]["missing"] == "n2,w1"
        assert not {code for code, _ in said(alone)} & {"node-down", "agent-down"}
        trio.heal()
        await trio.until_healthy()

        # n1 and n2 miss each other, and both see the witness: nobody is dead.
        trio.cut("n1", "n2")
        for name in trio.members:
            status = await trio.until(
                name, lambda s: "link-down" in {code for code, _ in said(s)}
            )
            assert verdict(status, "link-down")["subject"] == "n1|n2"
            assert not {code for code, _ in said(status)} & {
                "node-down", "node-unreachable", "observer-isolated",
            }  # fmt: skip
        trio.heal()
        await trio.until_healthy()

        # Without the witness the two still are a majority, and say that it is gone.
        trio.processes["w1"].kill()
        trio.processes.pop("w1").wait(ENDS_S)
        for name in ("n1", "n2"):
            status = await trio.until(name, lambda s: ("node-down", "w1") in said(s))
            assert said(status) == {("node-down", "w1")}
        trio.start("w1")
        await trio.until_healthy()


async def test_two_without_a_witness_say_what_they_cannot_know(
    stage16: Stage, tmp_path: Path
):
    async with members(stage16, tmp_path, "n1", "n2") as pair:
        pair.cut("n1", "n2")
        for name, other in (("n1", "n2"), ("n2", "n1")):
            status = await pair.until(
                name, lambda s: "node-unreachable" in {code for code, _ in said(s)}
            )
            found = verdict(status, "node-unreachable")
            assert (found["rule"], found["subject"]) == (203, other)
            assert (
                "1 of 2 voters see it on no channel, and 2 would be"
                in found["sentence"]
            )
            assert "Look at" in found["next_step"]
            assert "node-down" not in {code for code, _ in said(status)}
        pair.heal()
        await pair.until_healthy()


def watching(socket: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Start `splitguard status --watch`, its lines going into a file."""
    with out.open("wb") as file:
        return subprocess.Popen(
            [SPLITGUARD, "status", "--watch", "--output", "jsonl", "--socket", socket],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL,
        )  # fmt: skip


async def test_an_agent_that_was_held_up_blames_itself_and_nobody_else(
    stage16: Stage, tmp_path: Path
):
    async with members(stage16, tmp_path, "n1", "n2", "w1") as trio:
        out = tmp_path / "watched"
        watch = await asyncio.to_thread(watching, tmp_path / "n2/agent.sock", out)

        async def shown(condition: Callable[[Any], bool]) -> list[Any]:
            """Wait until the latest status is so; return all from waking on."""
            async with asyncio.timeout(WITHIN_S):
                while True:
                    lines = out.read_text("utf-8").split("\n")[begun:-1]
                    found = [json.loads(line) for line in lines]
                    if found and condition(found[-1]):
                        return found
                    await asyncio.sleep(0.05)

        begun = 0
        try:
            await shown(lambda s: s["headline"]["verdict"] == "healthy")
            held_up = trio.processes["n2"]
            held_up.send_signal(signal.SIGSTOP)
            await asyncio.sleep(HELD_UP_S)
            begun = out.read_text("utf-8").count("\n")
            held_up.send_signal(signal.SIGCONT)
            doubting = await shown(lambda s: bool(own_doubt(s)))
            assert "its own loop was" in own_doubt(doubting[-1])
            after = await shown(
                lambda s: not own_doubt(s) and s["headline"]["verdict"] == "healthy"
            )
        finally:
            watch.terminate()
            watch.wait(ENDS_S)
        accused = [v for s in after for v in s["verdicts"] if v["verdict"] not in CALM]
        assert not accused, json.dumps(accused)


CALM = {"healthy", "unknown"}


def own_doubt(status: Any) -> str:
    (mine,) = [node for node in status["nodes"] if node["me"]]
    return str(mine["doubt"] or "")


async def spoken(folder: Path, name: str, *arguments: str) -> tuple[int, str]:
    """How a command ends that is given to one agent, and what it says."""
    asked = await asyncio.create_subprocess_exec(
        str(SPLITGUARD), *arguments, "--socket", f"{folder / name}/agent.sock",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asked.communicate()
    return asked.returncode or 0, " ".join(out.decode().split())


async def test_agents_on_other_machines_do_all_but_read_files(
    stage16: Stage, tmp_path: Path
):
    async with members(stage16, tmp_path, "n1", "n2", "w1") as trio:
        # What needs the files says why it cannot be, and leaves nothing begun.
        code, said_so = await spoken(tmp_path, "n1", "snapshots", "create")
        assert code == 1
        assert "on two machines (local = false)" in said_so
        healthy = await trio.status("n1")
        assert said(healthy) == {("healthy", "cluster")}

        # A failover is told with its timelines, though nobody sees a control file.
        old, new = trio.servers["n1"], trio.servers["n2"]
        old.stop()
        await trio.until("w1", lambda s: ("no-primary", "cluster") in said(s))
        new.promote()
        status = await trio.until(
            "w1", lambda s: "failover" in {code for code, _ in said(s)}
        )
        evidence = verdict(status, "failover")["evidence"]
        assert (evidence["from"], evidence["to"]) == ("n1", "n2")

        # The old primary comes back as it was: two take writes, all agents prove it.
        (old.data_dir / "standby.signal").unlink(missing_ok=True)
        old.start()
        for name in trio.members:
            status = await trio.until(
                name, lambda s: ("split-brain", "cluster") in said(s)
            )
            assert verdict(status, "split-brain")["evidence"]["tips"] == "n1,n2"
        loser = await trio.until("n1", lambda s: ("unprotected", "n1") in said(s))
        assert "local = false" in verdict(loser, "unprotected")["sentence"]
        begun = {one["id"] for one in loser["protection"]["n1"].get("captures", [])}
        assert not begun
        code, _ = await spoken(tmp_path, "w1", "check")
        assert code == 2
