"""The guide's four recoveries in the lab, by command: from broken to healthy.

The run tells a person what to type; here the test is that person, and types the lab's
word for it, nothing more and nothing sooner.
"""

import json
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fix_lab import NODES, SPLITGUARD, Cluster, Ran, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUN_S = 240
CONTENT = {"content": "made before the trouble"}


@dataclass
class Operator:
    """Somebody who does what the run says, at the lab's machines."""

    cluster: Cluster
    folder: Path
    at: str = "n1"
    """On whose machine the command is run."""
    mends: bool = False
    """Whether a machine that is down can be mended."""
    events: list[dict[str, Any]] = field(default_factory=list)
    did: set[tuple[str, str]] = field(default_factory=set)

    @property
    def to(self) -> Path:
        return self.folder / "safe"

    @property
    def home(self) -> Path:
        return self.cluster.command.state_dir

    def manager(self, node: str) -> httpx.Client:
        """The API of a node's manager, for an administrator."""
        password = (self.home / "secrets" / "manager-password").read_text().strip()
        return httpx.Client(
            base_url=f"{self.cluster.node(node)['manager_url']}/api/v3.1",
            auth=("admin", password), headers={"Tenant": "default_tenant"},
            timeout=20, trust_env=False,
        )  # fmt: skip

    def active(self) -> str | None:
        """Whose manager answers as active; None while it is not exactly one."""
        found = []
        for name in NODES:
            try:
                with self.manager(name) as client:
                    if client.get("/status").status_code == 200:
                        found.append(name)
            except httpx.HTTPError:
                continue
        return found[0] if len(found) == 1 else None

    def put(self, kind: str, *names: str) -> None:
        with self.manager(str(self.active())) as client:
            for name in names:
                assert client.put(f"/{kind}/{name}", json=CONTENT).is_success

    def ids(self, kind: str) -> list[str]:
        with self.manager(str(self.active())) as client:
            return sorted(one["id"] for one in client.get(f"/{kind}").json()["items"])

    @property
    def others(self) -> list[str]:
        """The nodes but the one that is stood at."""
        return [name for name in NODES if name != self.at]

    def argv(self, scenario: str, *words: str) -> list[str]:
        config = self.home / self.at / "agent.toml"
        return [
            str(SPLITGUARD), "recover", scenario, *words,
            "--config", str(config), "--to", str(self.to),
        ]  # fmt: skip

    def recover(self, scenario: str, *words: str, stop_at: str = "") -> Ran:
        """Run it to its end, or kill it when it waits at a step."""
        argv = self.argv(scenario, "--yes", "--output", "jsonl", *words)
        words_file = self.folder / "words"
        with words_file.open("a") as told:
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=told, text=True, cwd="/",
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        watch = threading.Timer(RUN_S, process.kill)
        watch.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                event = json.loads(line)
                self.events.append(event)
                if stop_at and event.get("step") == stop_at:
                    process.terminate()
                    stop_at = ""
                elif event.get("state") == "told":
                    self.does(event)
                elif event.get("step") == "kept" and self.mends:
                    self.starts(self.down)
            code = process.wait(30)
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        said = words_file.read_text()
        assert "Traceback" not in said, said
        return Ran(code, "", said)

    def does(self, event: dict[str, Any]) -> None:
        """Do what a step says; the lab has a word for each of the real commands."""
        step, node = event["step"], event["node"]
        if (step, node) not in self.did:
            # A run that goes on tells again what it had not seen done.
            self.did.add((step, node))
            hand = getattr(self, "does_" + step.replace("-", "_"))
            hand(node or self.down, event["commands"], event["title"])

    def does_save_other_certificates(self, node: str, typed: list[str], _: str) -> None:
        """Type it as it stands, on a machine whose paths are another's."""
        here = typed[-1].replace(f"{self.at}/disk", f"{node}/disk")
        there = f"{self.to}/{node}-certificates"
        words = shlex.split(here.replace(f"{node}-certificates", there))
        subprocess.run(words, check=True, cwd="/", timeout=20)

    def does_remove(self, _: str, typed: list[str], __: str) -> None:
        words = typed[-1].split()
        assert words[:4] == ["cfy", "cluster", "nodes", "remove"]
        self.cluster.command.done("manager", "drop", words[4])

    def starts(self, node: str) -> None:
        """Switch a machine on again, once."""
        if ("start", node) not in self.did:
            self.did.add(("start", node))
            self.cluster.command.done("start", node)

    def does_investigate(self, node: str, typed: list[str], title: str) -> None:
        """Mend it, or give it up as the step offers."""
        if not self.mends:
            self.does_remove(node, typed, title)

    def does_teardown(self, node: str, typed: list[str], _: str) -> None:
        assert typed == ["cfy_manager remove -f"]
        ran = self.cluster.command("manager", "remove", node)
        # A dead machine is deleted, as the step says: `install` makes a new one.
        assert ran.code == 0 or "does not run" in ran.words, ran.words

    def does_install(self, node: str, typed: list[str], _: str) -> None:
        assert typed == ["cfy_manager install"]
        self.cluster.command.done("manager", "install", node)

    def does_start_cluster(self, _: str, typed: list[str], __: str) -> None:
        assert typed[-1].startswith("cfy cluster start --cluster-node-name ")
        self.cluster.command.done("manager", "start", typed[-1].split()[-1])

    def does_join(self, node: str, typed: list[str], title: str) -> None:
        assert typed[-1].startswith("cfy cluster join --cluster-host-ip 127.0.0.1")
        self.cluster.command.done("manager", "join", node, title.rsplit(maxsplit=1)[-1])

    def does_heal(self, *_: object) -> None:
        self.cluster.command.done("heal")

    def does_way_back(self, *_: object) -> None:
        """Nothing: the lab's managers resync a loser by themselves."""

    def does_rescue(self, *_: object) -> None:
        """Nothing: it may be done later."""

    @property
    def down(self) -> str:
        """The node that the run calls down."""
        told = [
            event["told"]
            for event in self.events
            if event.get("step") == "which" and event["state"] == "done"
        ]
        return str(told[0]).split()[3] if told else ""

    def steps(self, state: str) -> list[str]:
        return [e["step"] for e in self.events if e.get("state") == state]


@pytest.fixture
def operator(lab_cluster: Cluster, tmp_path: Path) -> Iterator[Operator]:
    """Somebody at the machine of the active manager of a healthy lab."""
    made = Operator(lab_cluster, tmp_path)
    lab_cluster.until_healthy()
    made.at = until(60, made.active)
    yield made
    lab_cluster.until_healthy()


def test_a_whole_cluster_is_made_anew_with_what_it_held(operator: Operator) -> None:
    operator.put("deployments", "whole-1", "whole-2")
    operator.put("blueprints", "whole-b")
    held = [operator.ids(kind) for kind in ("deployments", "blueprints")]
    words = ("whole-cluster", "--manager", operator.at)
    # Killed while it waits for people, it goes on where it was.
    refused = operator.recover(*words)
    assert refused.code == 1, refused.words
    assert "stopped at wanted: nothing was begun" in refused.words
    broken = operator.recover(*words, "--though-healthy", stop_at="torn-down")
    assert broken.code == 130, broken.words
    assert "the same command goes on there" in broken.words
    before = len(operator.events)
    ran = operator.recover("whole-cluster")
    assert ran.code == 0, ran.words
    assert "snapshot" not in [e.get("step") for e in operator.events[before:]]
    assert "the cluster is healthy" in ran.words
    assert operator.active() == operator.at
    assert [operator.ids(kind) for kind in ("deployments", "blueprints")] == held
    saved = sorted(path.name for path in operator.to.glob("*-certificates.tar"))
    assert saved == [f"n{n}-certificates.tar" for n in (1, 2, 3)]


def test_a_node_that_is_down_is_replaced(operator: Operator) -> None:
    operator.put("deployments", "before-node-down")
    victim = operator.others[0]
    operator.cluster.command.done("kill", victim)
    found = ("node-down", victim)
    until(60, lambda: found in operator.cluster.verdicts(operator.at) or None)
    ran = operator.recover("node-down")
    assert ran.code == 0, ran.words
    assert "the cluster is healthy" in ran.words
    assert "before-node-down" in operator.ids("deployments")


def test_an_active_node_that_is_down_is_replaced(operator: Operator) -> None:
    operator.put("deployments", "before-active-down")
    victim = operator.at
    operator.cluster.command.done("kill", victim)
    operator.at = operator.others[0]
    until(60, operator.active)
    ran = operator.recover("active-down", "--lost", victim)
    assert ran.code == 0, ran.words
    assert "the cluster is healthy" in ran.words
    assert "before-active-down" in operator.ids("deployments")


def test_an_active_node_that_is_mended_comes_back_as_it_is(operator: Operator) -> None:
    operator.put("deployments", "before-mended")
    victim = operator.at
    operator.cluster.command.done("kill", victim)
    operator.at, operator.mends = operator.others[0], True
    until(60, operator.active)
    # Nobody can read what it had: the run waits until its machine is up again.
    ran = operator.recover("active-down")
    assert ran.code == 0, ran.words
    assert f"start its agent, or --lost {victim}" in ran.words
    assert "teardown" not in [event.get("step") for event in operator.events]
    assert "before-mended" in operator.ids("deployments")


def test_both_sides_of_a_split_are_kept_and_one_cluster_is_left(
    operator: Operator,
) -> None:
    lab, loser = operator.cluster.command, operator.at
    lab.done("partition", loser)
    lab.done("write", "--count", "20", "--node", loser)
    one, other = operator.others
    lab.done("write", "--count", "20", "--node", one, "--node", other)
    ran = operator.recover("split-brain")
    assert ran.code == 0, ran.words
    assert "the cluster is healthy" in ran.words
    losses = [
        event["told"]
        for event in operator.events
        if event.get("step") == "loss" and event["state"] == "done"
    ]
    assert len(losses) == 1, ran.words
    assert "transactions from" in losses[0], ran.words
    assert any(
        command.startswith(f"splitguard loss rescue {loser}-")
        for event in operator.events
        if event.get("step") == "rescue"
        for command in event["commands"]
    )
