"""The plan of one lab: who is where, and with which secrets.

Written once, when the lab is set up, to `lab.json` in the state folder (0600), and
read by the machine processes and by every command. Paths are derived, ports and
secrets are stored.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.codec import from_json, to_json
from agent.errors import LabError
from agent.lab.account import Account

NODES = ("n1", "n2", "n3")
SERVICES = ("agent", "postgres", "replication", "manager")
"""What one node may want of another; each ordered pair has a relay for each."""
HOST = "127.0.0.1"
DATABASE = "cloudify_db"
MANAGER_ROLE = "cloudify"
TENANT = "default_tenant"
SOCKET_PATH_MAX = 100
"""A unix socket's path has room for 107 bytes; servers add some names of theirs."""


def default_state_dir() -> Path:
    """Return the state folder of this user's lab."""
    return Path(tempfile.gettempdir(), f"splitguard-lab-{os.getuid()}")


@dataclass(frozen=True, slots=True)
class Options:
    """What the person who starts a lab may choose."""

    pg: str = "16"
    """`16` or `18` (the wheel's), or the folder of an installation or its bin."""
    agents: bool = True
    """Whether the machines run an agent."""
    capture: bool = True
    """Whether the agents capture, and the managers ask before they resync."""
    settle_s: float = 3.0
    """How long managers that meet look at each other before one wins."""
    manager: str = "4.5.5"
    """The version of Cloudify Manager that the stand-ins follow: 4.5.5 or 7.0.5."""
    crash_at: tuple[str, ...] = ()
    """`node:point`: crash points handed to that node's agent, for tests."""

    @property
    def all_active(self) -> bool:
        """Whether every manager is active: from 5.0.5 on."""
        return not self.manager.startswith("4.")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: its name and the ports that it listens on."""

    name: str
    postgres_port: int
    agent_port: int
    manager_port: int

    def port(self, service: str) -> int:
        """Return the port behind a service's relays."""
        return {
            "agent": self.agent_port,
            "manager": self.manager_port,
            "postgres": self.postgres_port,
            "replication": self.postgres_port,
        }[service]


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """The way by which `source` reaches a service of `target`."""

    source: str
    target: str
    service: str
    port: int


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords and tokens of this lab; drawn when it is set up."""

    probe: str
    loss: str
    """Of the role that reads the winner for a loss report."""
    replicator: str
    manager: str
    """The manager's role in the database, and its user `admin` over HTTP."""
    peer: str
    read: str
    operate: str
    data: str
    internal: str
    """Between the lab's own parts."""
    webhook: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the parts of one lab must agree on."""

    state_dir: str
    bin_dir: str
    version_num: int
    account: Account
    nodes: tuple[NodePlan, ...]
    relays: tuple[RelayPlan, ...]
    receiver_port: int
    secrets: Secrets
    options: Options

    @property
    def layout(self) -> "Layout":
        """Where the files of this lab are."""
        return Layout(Path(self.state_dir))

    def node(self, name: str) -> NodePlan:
        """Return the node called `name`. Raises LabError."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise LabError(f"there is no node {name!r}", f"the nodes are {known}")

    def others(self, name: str) -> tuple[NodePlan, ...]:
        """Return every node but this one."""
        return tuple(node for node in self.nodes if node.name != name)

    def way(self, source: str, target: str, service: str) -> int:
        """Return the port by which `source` reaches a service of `target`.

        Its own services a node reaches directly.
        """
        if source == target:
            return self.node(target).port(service)
        for relay in self.relays:
            if (relay.source, relay.target, relay.service) == (source, target, service):
                return relay.port
        raise LabError(f"there is no relay {source} -> {target} for {service}")

    def manager_url(self, name: str) -> str:
        """Return the direct address of a node's manager."""
        return f"http://{HOST}:{self.node(name).manager_port}"

    def agent_url(self, name: str) -> str:
        """Return the direct address of a node's agent."""
        return f"http://{HOST}:{self.node(name).agent_port}"

    def postgres_dsn(self, name: str) -> str:
        """Return a connection string for the manager's database on a node."""
        return (
            f"host={HOST} port={self.node(name).postgres_port} dbname={DATABASE} "
            f"user={MANAGER_ROLE} password={self.secrets.manager}"
        )

    def owner_dsn(self, name: str) -> str:
        """Return the same without the password, which a passfile has."""
        return (
            f"host={HOST} port={self.node(name).postgres_port} dbname={DATABASE} "
            f"user={MANAGER_ROLE} passfile={self.layout.passfile}"
        )

    @property
    def receiver_url(self) -> str:
        """The webhook receiver's address."""
        return f"http://{HOST}:{self.receiver_port}/webhook"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one lab are."""

    state_dir: Path

    @property
    def plan(self) -> Path:
        """The plan, with its secrets."""
        return self.state_dir / "lab.json"

    @property
    def mark(self) -> Path:
        """Says that this folder is a lab's, and may be removed as such."""
        return self.state_dir / ".splitguard-lab"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.state_dir / "control"

    @property
    def pids(self) -> Path:
        """A file for each process that the lab has started."""
        return self.state_dir / "pids"

    @property
    def template(self) -> Path:
        """The database cluster that all nodes begin with."""
        return self.state_dir / "template"

    @property
    def notices(self) -> Path:
        """What the receiver has received, one JSON object a line."""
        return self.state_dir / "notices.jsonl"

    @property
    def acknowledged(self) -> Path:
        """What clients were promised, one JSON object a line."""
        return self.state_dir / "acknowledged.jsonl"

    @property
    def edited(self) -> Path:
        """What clients changed and deleted, one JSON object a line."""
        return self.state_dir / "edited.jsonl"

    @property
    def rescued(self) -> Path:
        """Pages and files of what the losing side wrote."""
        return self.state_dir / "rescued"

    @property
    def secrets(self) -> Path:
        """Files with secrets for the agents."""
        return self.state_dir / "secrets"

    @property
    def manager_password(self) -> Path:
        """The managers' password, as the agents have it."""
        return self.secrets / "manager-password"

    @property
    def passfile(self) -> Path:
        """The passwords of the agents' roles and of the manager's, for libpq."""
        return self.secrets / "pgpass"

    def node(self, name: str) -> "NodeLayout":
        """Return where a node's files are."""
        return NodeLayout(self.state_dir / name)


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """Where the files of one node are."""

    root: Path

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "pgdata"

    @property
    def socket_dir(self) -> Path:
        """Where PostgreSQL's unix socket is."""
        return self.root / "s"

    @property
    def server_home(self) -> Path:
        """What the server's user may read and write besides its data."""
        return self.root / "home"

    @property
    def agent_config(self) -> Path:
        """The agent's configuration file."""
        return self.root / "agent.toml"

    @property
    def agent_socket(self) -> Path:
        """The agent's unix socket."""
        return self.root / "agent.sock"

    @property
    def agent_state(self) -> Path:
        """The agent's state folder."""
        return self.root / "state"

    @property
    def captures(self) -> Path:
        """Where the agent keeps its snapshots."""
        return self.root / "snapshots"

    @property
    def manager_files(self) -> Path:
        """Where the stand-in manager keeps its own snapshots' archives."""
        return self.root / "manager"

    @property
    def membership(self) -> Path:
        """Which nodes belong to the manager's cluster."""
        return self.root / "cluster.json"

    @property
    def certificates(self) -> tuple[Path, Path]:
        """The folders that the guide names: the administrator's, the manager's."""
        disk = self.root / "disk"
        return (disk / "home/admin/files/ssl", disk / "etc/cloudify/ssl")

    @property
    def manager_snapshots(self) -> Path:
        """Where the agent keeps the manager's snapshots."""
        return self.root / "manager-snapshots"

    @property
    def hands(self) -> Path:
        """The machine's socket, for what an operator does to it."""
        return self.root / "hands"

    @property
    def resync_mark(self) -> Path:
        """Says that a resync has begun to change the data folder."""
        return self.root / "resync"

    @property
    def permits(self) -> Path:
        """When permits were asked for and granted, one JSON object a line."""
        return self.root / "permits.jsonl"

    def log(self, program: str) -> Path:
        """Return where a program of this node logs to."""
        return self.root / f"{program}.log"


def save_plan(plan: Plan) -> None:
    """Write the plan so that only this user can read it."""
    path = plan.layout.plan
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(to_json(plan))
    fresh.replace(path)


def load_plan(state_dir: Path) -> Plan:
    """Read the plan of the lab in `state_dir`. Raises LabError."""
    try:
        text = Layout(state_dir).plan.read_text("utf-8")
    except OSError as error:
        raise LabError(
            f"there is no lab in {state_dir}",
            "start one with: splitguard lab up --detach",
        ) from error
    return from_json(text, Plan)
