"""A real cluster: etcd, three Patroni nodes with PostgreSQL 15, three agents.

Theory of operation. Patroni makes the cluster as it does for its users: the first node
runs initdb, the others clone it. The agents are an installation as deploy/README.md
makes it, run as the owner of the data directories, with one configuration for all.
Patroni is asked through its REST API from inside the network, PostgreSQL and the
agents through their unix sockets, which a cut network does not cut.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from agent.postgres.owner import give
from tests.fix_postgres import eventually
from tests.system import texts
from tests.system.ledger import (
    TABLE,
    Client,
    Count,
    Ledger,
    count,
    rows_by_psql,
    rows_in_archive,
)
from tests.system.node import Node
from tests.system.world import Program, World

NODES = ("n1", "n2", "n3")
UP_S = 60.0
PROMOTED_S = 60.0
WELL = {"healthy", "destructive-config", "capture-not-ready"}
"""Headlines without a trouble now; the gate may be missing, which agents say too."""
ASK = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=3).read().decode())
"""
CTL = "from patroni.ctl import ctl; ctl(prog_name='patronictl')"


@dataclass(frozen=True)
class Kit:
    """What is installed once for all clusters of a session."""

    splitguard: Path
    """The folder of the agents' virtual environment."""
    python: str
    """An interpreter that the servers' user may run."""
    patroni: Path
    """The folder of Patroni's packages."""
    grants: str


@dataclass
class Cluster:
    """All of it."""

    world: World
    kit: Kit
    ledger: Ledger
    nodes: dict[str, Node] = field(default_factory=dict)
    etcd: Program | None = None
    clients: list[Client] = field(default_factory=list)
    made_clients: int = 0
    names: tuple[str, ...] = NODES
    guarded: bool = True
    """Whether the shim stands in front of pg_rewind."""
    watched: bool = True
    """Whether there are agents."""

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def here(self) -> Path:
        return self.world.folder / "here"

    # -- making it ---------------------------------------------------------------

    def build(self) -> None:
        """Make the boxes and all files, and start nothing yet."""
        for name in self.names:
            self.nodes[name] = Node(self.world.box(name))
        self.world.box("etcd")
        secrets = self.world.folder / "secrets"
        secrets.mkdir()
        authority = trustme.CA()
        addresses = {name: node.box.address for name, node in self.nodes.items()}
        issued = authority.issue_cert(*addresses.values())
        authority.cert_pem.write_to_path(secrets / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(secrets / "agent.pem")
        issued.private_key_pem.write_to_path(secrets / "agent.key")
        (secrets / "peer.token").write_text("a-word-that-all-agents-share-0123456789\n")
        (secrets / "tokens.jsonl").write_text("")
        for path in secrets.iterdir():
            path.chmod(0o600)
        give(secrets, self.world.owner)
        for node in self.nodes.values():
            config = texts.agent(addresses, self.here, secrets)
            (node.box.folder / "agent.toml").write_text(config)
            for name in ("pg", "keep", "state"):
                (node.box.folder / name).mkdir(mode=0o700)
            (node.box.folder / "pg").chmod(0o755)
            give(node.box.folder, self.world.owner)
            self.configure(node, {})

    def wire(self, *, replica: bool = False) -> None:
        """Put the shim in front of every pg_rewind, as its user would, and reload.

        With `replica` also in front of every clone.
        """
        beside = self.shim.with_name("replica") if replica else None
        for name, node in self.nodes.items():
            self.splitguard(name, "guard", "install", "--to", self.shim)
            self.configure(node, texts.wiring(self.shim, beside))
        self.patronictl("n1", "reload", "--force", texts.SCOPE)

    @property
    def shim(self) -> Path:
        return self.here / "guard/pg_rewind"

    def shim_pid(self, node: Node) -> str:
        """The number of the shim that waits on a node; empty when none does.

        What Patroni runs with `--help` beforehand ends at once, and is not meant.
        """
        words = ("pgrep", "-o", "-f", f"/bin/sh {self.shim} -D")
        pids = node.box.run(*words, check=False).stdout.split()
        return pids[0] if pids else ""

    def configure(self, node: Node, added: dict[str, Any]) -> None:
        """Write its patroni.yml; `added` goes into its section `postgresql`."""
        etcd = self.world.boxes["etcd"].address
        path = node.box.folder / "patroni.yml"
        path.write_text(
            texts.patroni(node.name, node.box.address, etcd, self.here, added)
        )
        give(path, self.world.owner)

    def start(self) -> None:
        """Start etcd, the database, the agents, and wait until all is well."""
        self.start_etcd()
        self.start_patroni("n1")
        eventually("n1 becomes primary", self["n1"].writable, UP_S)
        self["n1"].query(TABLE)
        self.grant(self["n1"])
        for name in self.names[1:]:
            self.start_patroni(name)
        for name in self.names if self.watched else ():
            self.start_agent(name)
        self.until_healthy()
        if self.guarded:
            self.wire()

    def grant(self, primary: Node) -> None:
        """Make the agents' two roles."""
        primary.box.run(
            texts.BIN_DIR / "psql", "-X", "-q", "-h", self.here / "pg",
            "-U", "postgres", "-d", "postgres", stdin=self.kit.grants,
        )  # fmt: skip

    def start_etcd(self) -> None:
        box = self.world.boxes["etcd"]
        client = f"http://{box.address}:{texts.ETCD_PORT}"
        self.etcd = box.spawn(
            "etcd", "etcd", "--name=etcd", f"--data-dir={self.here}/etcd",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=etcd=http://127.0.0.1:2380", "--log-level=warn",
            "--logger=zap",
        )  # fmt: skip

    def start_patroni(self, name: str) -> None:
        """Start a node's Patroni, which starts its PostgreSQL."""
        node = self[name]
        node.programs["patroni"] = node.box.spawn(
            "patroni", self.kit.python, "-m", "patroni", self.here / "patroni.yml",
            environ={"PYTHONPATH": str(self.kit.patroni)},
        )  # fmt: skip

    def splitguard(self, name: str, *words: str | Path, check: bool = True) -> str:
        """Run the installed command on a node; return what it prints."""
        command = self.kit.splitguard / "bin/splitguard"
        environ = {"SPLITGUARD_CONFIG": str(self.here / "agent.toml")}
        ran = self[name].box.run(command, *words, environ=environ, check=check)
        return ran.stdout

    def start_agent(self, name: str, crash_at: str = "") -> None:
        """Start a node's agent; at `crash_at`, a crash point, it dies once."""
        node = self[name]
        dies = {
            "SPLITGUARD_CRASH_AT": crash_at,
            "SPLITGUARD_CRASH_MARK": str(self.here / f"crashed-{crash_at}"),
        }
        node.programs["agent"] = node.box.spawn(
            "agent", self.kit.splitguard / "bin/splitguard", "run",
            "--config", self.here / "agent.toml", environ=dies if crash_at else {},
        )  # fmt: skip

    # -- looking at it -----------------------------------------------------------

    def healthy(self) -> bool:
        """Whether one is primary, two stream from it, and all agents call it well.

        What waits for a person is taken.
        """
        primaries = [node for node in self.nodes.values() if node.writable()]
        if len(primaries) != 1:
            return False
        others = [node for node in self.nodes.values() if node is not primaries[0]]
        if not all(node.follows(primaries[0]) for node in others):
            return False
        if not self.watched:
            return True
        for node in self.nodes.values():
            node.acknowledge_all()
        told = [node.ask("/v1/status") for node in self.nodes.values()]
        return all(one and one["headline"]["verdict"] in WELL for one in told)

    def until_healthy(self, within_s: float = UP_S) -> None:
        eventually("the cluster is healthy", self.healthy, within_s)

    def until_primary(self, *names: str, within_s: float = PROMOTED_S) -> Node:
        """Wait until one of these nodes takes writes; return it."""
        candidates = [self[name] for name in names]
        eventually(
            f"one of {names} is promoted",
            lambda: any(node.writable() for node in candidates),
            within_s,
        )
        return next(node for node in candidates if node.writable())

    def primary(self) -> Node:
        """Return the one node that accepts writes."""
        (found,) = [node for node in self.nodes.values() if node.writable()]
        return found

    def patroni_says(self, name: str) -> Any:
        """What Patroni's REST API calls the cluster, asked on that node."""
        url = f"http://{self[name].box.address}:{texts.PATRONI_PORT}/cluster"
        box = self[name].box
        return json.loads(box.run("python3", "-c", ASK, url).stdout)

    def member(self, name: str) -> Any:
        """What Patroni calls a node, asked there."""
        members = self.patroni_says(name)["members"]
        return next(one for one in members if one["name"] == name)

    def patronictl(self, name: str, *words: str, check: bool = True) -> str:
        """Run patronictl on a node; return all that it says."""
        ran = self[name].box.run(
            self.kit.python, "-c", CTL, "-c", self.here / "patroni.yml", *words,
            environ={"PYTHONPATH": str(self.kit.patroni)}, check=check,
        )  # fmt: skip
        return ran.stdout + ran.stderr

    # -- writing and counting ----------------------------------------------------

    def client(self, name: str, word: str) -> Client:
        """Start a client that writes on this node."""
        self.made_clients += 1
        client = Client(self.ledger, self[name].box, f"{word}{self.made_clients}")
        self.clients.append(client)
        client.start()
        return client

    def stop_clients(self) -> None:
        for client in self.clients:
            client.stop()
        self.clients.clear()

    def stop_client(self, name: str) -> None:
        """Stop the clients that write on one node."""
        for client in self.clients:
            if client.box.name == name:
                client.stop()

    def archives(self, name: str) -> list[Path]:
        """Archive each of a node's snapshots; paths as the box sees them."""
        made = []
        for one in self.snapshots(name):
            archive = self.here / f"{one['id']}.tar"
            if one["grade"] != "none":
                words = ("snapshots", "archive", one["id"], "--no-compress")
                self.splitguard(name, *words, "--file", archive)
                made.append(archive)
        return made

    def snapshots(self, name: str) -> list[Any]:
        """What a node's capture folder holds."""
        words = ("snapshots", "list", "--output", "json", "--dir", self.here / "keep")
        listed: list[Any] = json.loads(self.splitguard(name, *words))["snapshots"]
        return listed

    def rows(self, name: str) -> set[str]:
        """All rows of a running server."""
        return rows_by_psql(self[name].box, self.here / "pg")

    def kept(self, *names: str) -> set[str]:
        """All rows in the snapshots of these nodes, or of all."""
        found: set[str] = set()
        for name in names or self.names:
            for archive in self.archives(name):
                found |= rows_in_archive(self[name].box, archive)
                self[name].box.run("rm", archive)
        return found

    def count(self, winner: Node) -> Count:
        """Count every acknowledged write; the clients have to be stopped."""
        return count(self.ledger.promised(), self.rows(winner.name), self.kept())


@contextlib.contextmanager
def running(made: Cluster) -> Iterator[Cluster]:
    """Build and start a cluster; end its clients whatever happens."""
    try:
        made.build()
        made.start()
        yield made
    finally:
        for client in made.clients:
            client.over.set()
        for client in made.clients:
            client.join(10)
