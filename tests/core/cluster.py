"""A small world of servers and agents on which the real core runs, round by round.

The truth stands in `Server` and `cuts`; every agent sees of it what its own probes
bring, on a clock of its own, through `machine.step`. Nothing is drawn by dice.
"""

from dataclasses import dataclass, field, replace

from agent.core import machine
from agent.core.action import AskAgain
from agent.core.care import ManagerSight
from agent.core.event import Acknowledged, Observed, ServerRead, Started, Ticked
from agent.core.lineage import Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import (
    Archiver,
    Channel,
    Observation,
    Outcome,
    ReadFailure,
    SelfHealth,
    Sender,
    ServerFacts,
)
from agent.core.policy import NodeSpec, Policy
from agent.core.reporting import make_report
from agent.core.rules_agents import STRANGER
from agent.core.state import State
from tests.core import given

FINE = SelfHealth(0.0, 0.0, 0.0)


@dataclass
class Server:
    """One PostgreSQL server as it really is."""

    node: str
    in_recovery: bool = True
    up: bool = True
    timeline: int = 1
    lsn: int = 0x1000
    switches: tuple[Switch, ...] = ()
    runs: int = 1
    next_xid: int = 100
    follows: str | None = None
    fingerprints: tuple = ()
    system_id: str = given.SYSTEM
    waits_s: float = 0.0
    """For how long a commit has waited for a synchronous standby."""
    late: int = 0
    """How much less a standby has received than its upstream wrote."""
    unreplayed: int = 0
    """How much a standby has received and not replayed."""
    apply_delay_s: float | None = 0.0
    replay_paused: bool = False
    archiver: Archiver | None = None
    hides_timeline: bool = False
    """A standby without a receiver does not say which timeline it is on."""

    @property
    def lineage(self) -> Lineage:
        return Lineage(self.system_id, self.timeline, self.switches, self.fingerprints)

    def promote(self, timeline: int | None = None) -> None:
        self.switches = (*self.switches, Switch(self.timeline, Lsn(self.lsn)))
        self.timeline = timeline or self.timeline + 1
        self.in_recovery, self.follows = False, None

    def write(self, count: int = 1) -> None:
        self.lsn += 0x100 * count
        self.next_xid += count

    def restart(self, *, standby: bool) -> None:
        self.up, self.in_recovery, self.runs = True, standby, self.runs + 1

    def rewind_to(self, winner: "Server") -> None:
        self.timeline, self.switches = winner.timeline, winner.switches
        self.lsn, self.fingerprints = winner.lsn, winner.fingerprints
        self.follows = winner.node


@dataclass
class Agent:
    """One agent: its state, its clock, and whether its process runs."""

    policy: Policy
    clock_s: float
    state: State = field(default_factory=State)
    up: bool = True
    boots: int = 0
    actions: list = field(default_factory=list)

    def step(self, event) -> None:
        step = machine.step(self.state, event, self.policy)
        self.state = step.state
        self.actions.extend(step.actions)


class Cluster:
    """Nodes n1 (primary), n2, n3, ... with their agents, healthy at the start.

    `apart` nodes m1, m2, ... come after them, each with a manager and no PostgreSQL;
    all of these managers are active.
    """

    def __init__(
        self, count: int = 3, *, managers: bool = False, apart: int = 0, **policy
    ) -> None:
        servers = tuple(f"n{i}" for i in range(1, count + 1))
        alone = tuple(f"m{i}" for i in range(1, apart + 1))
        names = (*servers, *alone)
        nodes = tuple(
            NodeSpec(n, has_postgres=n in servers, has_manager=managers or n in alone)
            for n in names
        )
        self.servers = {name: Server(name, follows="n1") for name in servers}
        self.servers["n1"].in_recovery, self.servers["n1"].follows = False, None
        self.agents = {
            name: Agent(Policy("test", name, nodes, **policy), 1000.0 * number)
            for number, name in enumerate(names, start=1)
        }
        self.active = {name: name == "n1" or name in alone for name in names}
        self.managers_up = dict.fromkeys(names, True)
        self.manager_version: str | None = "7.x" if alone else "4.5.5"
        self.managers_silent = False
        """Whether they want a login before they say whether they are active."""
        self.cuts: set[tuple[str, str]] = set()
        self.deaf: set[tuple[str, str, Channel]] = set()
        """Who cannot reach whom on one channel only."""
        self.unreadable: set[str] = set()
        """Whose disk the agent beside it cannot read."""
        self.leads: dict[str, str] = {}
        """Whose address leads everybody else to which other server, by mistake."""
        self.refusing: set[str] = set()
        """Whose PostgreSQL is alive and says no."""
        self.refusal = "53300"
        """What it says then."""
        self.hanging: set[tuple[str, Channel]] = set()
        """Where every question is still open."""
        self.strangers: set[tuple[str, str]] = set()
        """Whose peer token is not accepted by whom: seer and node."""
        self.babel: dict[tuple[str, str], tuple[Outcome, str]] = {}
        """By who asks whom: how an answer ends that is no report."""
        self.health: dict[str, SelfHealth] = {}
        """How an agent has fared, where that is not well."""
        self.now_s = 0.0
        for name in names:
            self.start_agent(name)

    def at(self, name: str, more_s: float = 0.0) -> Moment:
        now_s = self.now_s + more_s
        return Moment(now_s + self.agents[name].clock_s, 1_800_000_000.0 + now_s)

    def start_agent(self, name: str) -> None:
        agent = self.agents[name]
        agent.up, agent.boots = True, agent.boots + 1
        kept = State(agent.state.ledger, agent.state.knowledge)
        agent.state = kept
        agent.step(Started(self.at(name), f"{name}-boot-{agent.boots}"))

    def cut(self, name: str) -> None:
        for other in self.agents:
            if other != name:
                self.cuts |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cuts, self.deaf = set(), set()

    def heal_links(self) -> None:
        """Join what was cut; what is deaf stays so."""
        self.cuts = set()

    def kill(self, name: str) -> None:
        """The whole machine: server, agent and manager."""
        self.agents[name].up = self.managers_up[name] = False
        if name in self.servers:
            self.servers[name].up = False

    def run(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.now_s += 1.0
            self._replicate()
            for name, agent in self.agents.items():
                if agent.up:
                    self._round(name, agent)

    def run_only(self, name: str) -> None:
        """Let one agent look once more before the others have their turn."""
        self.now_s += 0.9
        self._round(name, self.agents[name])

    def codes(self, name: str) -> set[str]:
        return {str(one.code) for one in self.agents[name].state.view.verdicts}

    def verdict(self, name: str, code: str):
        for one in self.agents[name].state.view.verdicts:
            if one.code == code:
                return one
        raise AssertionError(f"{name} says {self.codes(name)}, not {code}")

    def incidents(self, name: str, family: str | None = None) -> list:
        return [
            one
            for one in self.agents[name].state.ledger.incidents
            if family in (None, one.verdict.family)
        ]

    def incident(self, name: str, family: str):
        (found,) = self.incidents(name, family)
        return found

    def acknowledge(self, name: str, family: str) -> None:
        wanted = self.incident(name, family).id
        self.agents[name].step(Acknowledged(self.at(name, 0.9), wanted, "ann"))

    def _replicate(self) -> None:
        for server in self.servers.values():
            source = self.servers.get(server.follows or "")
            if source is None or not server.up or not source.up:
                continue
            if (server.node, source.node) in self.cuts:
                continue
            if server.timeline == source.timeline or server.lsn <= _switch(
                source, server
            ):
                server.timeline, server.switches = source.timeline, source.switches
                server.lsn = max(server.lsn, source.lsn - server.late)

    def _round(self, name: str, agent: Agent) -> None:
        if name in self.servers:
            facts = self._facts(self.servers[name])
            if name in self.unreadable:
                facts = ReadFailure("permission denied", "Run the agent as postgres.")
            agent.step(ServerRead(self.at(name), facts))
        for node in self.agents:
            for channel in Channel:
                self._probe(name, node, channel, 0.01)
        agent.step(Ticked(self.at(name, 0.85), self.health.get(name, FINE)))

    def _probe(self, name: str, node: str, channel: Channel, sent_s: float) -> None:
        agent = self.agents[name]
        if channel is Channel.AGENT and node == name:
            return
        if channel is Channel.MANAGER and not agent.policy.spec(node).has_manager:
            return
        if (node, channel) in self.hanging:
            return
        if not agent.policy.spec(node).has_postgres and channel is Channel.POSTGRES:
            return
        seen = self._answer(name, node, channel, sent_s)
        before = len(agent.actions)
        agent.step(Observed(replace_at(self.at(name), seen.received_s), seen))
        for action in agent.actions[before:]:
            if isinstance(action, AskAgain) and sent_s < 0.1:
                self._probe(name, action.node, action.channel, sent_s + 0.2)

    def _answer(self, name, node, channel, sent_s) -> Observation:
        sent = self.at(name, sent_s).monotonic_s
        cut = (name, node) in self.cuts or (name, node, channel) in self.deaf
        seen = Observation(
            node, channel, Outcome.TIMED_OUT, "no answer", sent, sent + 0.8
        )
        if cut:
            return seen
        runs = {
            Channel.AGENT: self.agents[node].up,
            Channel.MANAGER: self.managers_up[node],
            Channel.POSTGRES: node in self.servers and self.servers[node].up,
        }
        if not runs[channel]:
            return replace(seen, outcome=Outcome.UNREACHABLE, received_s=sent + 0.001)
        answered = replace(
            seen, outcome=Outcome.ANSWERED, reason="", received_s=sent + 0.002
        )
        if channel is Channel.AGENT:
            return self._report(answered, name, sent_s)
        if channel is Channel.POSTGRES and node in self.refusing:
            return replace(answered, outcome=Outcome.REFUSED, reason=self.refusal)
        if channel is Channel.MANAGER:
            return replace(answered, manager=self._manager(node))
        there = node if node == name else self.leads.get(node, node)
        return replace(answered, postgres=self._sight(self.servers[there]))

    def _manager(self, node: str) -> ManagerSight:
        if self.managers_silent:
            return ManagerSight(False, None, silent=True)
        return ManagerSight(self.active[node], self.manager_version)

    def _report(self, answered: Observation, seer: str, sent_s: float) -> Observation:
        if (seer, answered.node) in self.strangers:
            reason = f"HTTP 401: {STRANGER}"
            return replace(answered, outcome=Outcome.REFUSED, reason=reason)
        if (seer, answered.node) in self.babel:
            outcome, reason = self.babel[seer, answered.node]
            return replace(answered, outcome=outcome, reason=reason)
        peer, at = self.agents[answered.node], self.at(answered.node, sent_s)
        return replace(answered, report=make_report(peer.state, at, peer.policy))

    def _sight(self, server: Server):
        followers = [
            other
            for other in self.servers.values()
            if other.follows == server.node
            and other.up
            and (other.node, server.node) not in self.cuts
        ]
        streams = server.follows is not None
        return given.sight(
            in_recovery=server.in_recovery,
            flush=server.lsn,
            timeline=None if server.hides_timeline else server.timeline,
            system_id=server.system_id,
            postmaster_started=f"{server.node} run {server.runs}",
            next_xid=None if server.in_recovery else server.next_xid,
            upstream=f"{server.follows}:5432" if streams else None,
            receiver_mark=str(server.lsn) if streams else None,
            senders=tuple(
                Sender(one.node, "streaming", "async", Lsn(one.lsn), str(one.lsn))
                for one in followers
            ),
            waiting_for_sync=1 if server.waits_s else 0,
            waiting_for_sync_s=server.waits_s,
            replay_lsn=Lsn(server.lsn - server.unreplayed)
            if server.in_recovery
            else None,
            apply_delay_s=server.apply_delay_s if server.in_recovery else None,
            replay_paused=server.replay_paused if server.in_recovery else None,
            archiver=server.archiver,
        )

    def _facts(self, server: Server) -> ServerFacts | ReadFailure:
        return given.facts(
            running=server.up,
            standby=server.in_recovery,
            end=None if server.up else server.lsn,
            identity=f"boot:{server.node}",
            lineage=server.lineage,
        )


def _switch(source: Server, server: Server) -> int:
    """Where the source left the server's timeline; -1 when it never was on it."""
    for switch in source.switches:
        if switch.timeline == server.timeline:
            return switch.lsn
    return -1


def replace_at(at: Moment, monotonic_s: float) -> Moment:
    """The same instant, seen a little later."""
    return Moment(monotonic_s, at.wall_s + monotonic_s - at.monotonic_s)
