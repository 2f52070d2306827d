"""The real core of every agent, run against the simulated world.

Theory of operation. One heap of timed events and no threads. Each round every
agent asks every node; answers come after a round trip, silence after a deadline.
Actions are carried out as the shell would: captures copy the world's server,
notices go to one list. An agent can be killed and come back with its ledger and
knowledge, as from a journal.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from agent import codec
from agent.core import event as events
from agent.core.action import AskAgain, CloseCapture, RunCapture, Tell
from agent.core.capture import CaptureOrder, CaptureStatus, Grade, Level, Phase
from agent.core.incident import Incident
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    SelfHealth,
)
from agent.core.policy import NodeSpec, Policy
from agent.core.reporting import make_report
from agent.core.state import Knowledge, Ledger, State, View
from tests.sim.world import Server, World

DEADLINE_S = 0.8
ROUND_TRIP_S = 0.004
CALM = SelfHealth(0.0, 0.0, 0.0)
WALL_S = 1_800_000_000.0


@dataclass
class Agent:
    """One agent: its state, its policy, and what its engine keeps."""

    policy: Policy
    state: State
    alive: bool = True
    boots: int = 0


class Simulation:
    """A cluster of agents over a world."""

    def __init__(self, count: int = 3) -> None:
        names = tuple(f"n{i}" for i in range(1, count + 1))
        nodes = tuple(
            NodeSpec(name, has_postgres=True, has_manager=False) for name in names
        )
        self.world = World(names)
        self.now_s = 1000.0
        self.agents = {
            name: Agent(Policy("sim", name, nodes), State()) for name in names
        }
        self.notices: list[tuple[float, str, Notice]] = []
        self.kept: dict[str, Server] = {}
        self.orders: dict[str, CaptureOrder] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        for offset, name in enumerate(names):
            self.boot(name)
            self._at(self.now_s + 0.01 * offset, partial(self._round, name))

    def boot(self, name: str) -> None:
        """Start an agent with what its journal would have kept."""
        agent = self.agents[name]
        agent.boots += 1
        agent.alive = True
        agent.state = State(
            codec.from_json(codec.to_json(agent.state.ledger), Ledger),
            codec.from_json(codec.to_json(agent.state.knowledge), Knowledge),
            View(),
        )
        boot_id = f"{name}-boot-{agent.boots}"
        self._feed(name, events.Started(self._moment(), boot_id))

    def crash(self, name: str) -> None:
        """Kill an agent; its server goes on."""
        self.agents[name].alive = False

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()
        self.now_s = end_s

    def until(self, happened: Callable[[], bool], limit_s: float) -> float:
        """Run until something is so; return how long it took, or fail."""
        begin_s = self.now_s
        while not happened():
            assert self.now_s - begin_s <= limit_s, "it did not happen in time"
            self.run(0.05)
        return self.now_s - begin_s

    def codes(self, name: str) -> set[str]:
        """The verdicts that an agent holds now."""
        return {v.code.value for v in self.agents[name].state.view.verdicts}

    def incidents(self, name: str) -> tuple[Incident, ...]:
        return self.agents[name].state.ledger.incidents

    def standing(self) -> set[tuple[str, str]]:
        """(id, verdict) of every standing incident of any agent."""
        return {
            (incident.id, incident.verdict.code.value)
            for name in self.agents
            for incident in self.incidents(name)
            if incident.status.standing
        }

    def submit(self, name: str, event: events.Event) -> None:
        self._feed(name, event)

    def moment(self) -> Moment:
        return self._moment()

    def _moment(self) -> Moment:
        return Moment(self.now_s, WALL_S + self.now_s)

    def _at(self, when_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._count), act))

    def _round(self, name: str) -> None:
        self._at(self.now_s + 1.0, lambda: self._round(name))
        self.world.replicate()
        agent = self.agents[name]
        if name in self.world.dead or not agent.alive:
            return
        self._feed(name, events.Ticked(self._moment(), CALM))
        facts = self.world.facts(name)
        self._feed(name, events.ServerRead(self._moment(), facts))
        for node in self.agents:
            self._ask(name, node, Channel.POSTGRES)
            if node != name:
                self._ask(name, node, Channel.AGENT)

    def _ask(self, name: str, node: str, channel: Channel) -> None:
        sent_s, boots = self.now_s, self.agents[name].boots
        wait_s = ROUND_TRIP_S
        if node != name and not self.world.passes(name, node):
            wait_s = DEADLINE_S
        self._at(
            self.now_s + wait_s,
            lambda: self._answer(name, boots, node, channel, sent_s),
        )

    def _answer(
        self, name: str, boots: int, node: str, channel: Channel, sent_s: float
    ) -> None:
        if self.agents[name].boots != boots:
            return
        made = Observation(
            node, channel, Outcome.TIMED_OUT, "no answer", sent_s, self.now_s
        )
        if node == name or self.world.passes(name, node):
            if channel is Channel.POSTGRES and self.world.servers[node].running:
                made = replace(
                    made,
                    outcome=Outcome.ANSWERED,
                    reason="",
                    postgres=self.world.sight(node),
                )
            elif channel is Channel.AGENT and self.agents[node].alive:
                peer = self.agents[node]
                report = make_report(peer.state, self._moment(), peer.policy)
                made = replace(made, outcome=Outcome.ANSWERED, reason="", report=report)
            else:
                made = replace(made, outcome=Outcome.UNREACHABLE, reason="refused")
        self._feed(name, events.Observed(self._moment(), made))

    def _feed(self, name: str, event: events.Event) -> None:
        agent = self.agents[name]
        if not agent.alive or name in self.world.dead:
            return
        made = step(agent.state, event, agent.policy)
        agent.state = made.state
        for action in made.actions:
            match action:
                case AskAgain():
                    self._ask(name, action.node, action.channel)
                case RunCapture():
                    self.orders[action.order.capture_id] = action.order
                    self._at(self.now_s + 0.3, partial(self._copy, action.order))
                case CloseCapture():
                    self._close(name, action.capture_id)
                case Tell():
                    self.notices.append((self.now_s, name, action.notice))
                    told = events.NoticeDelivered(self._moment(), action.notice.id)
                    self._at(self.now_s + 0.01, partial(self._feed, name, told))

    def _copy(self, order: CaptureOrder) -> None:
        """Copy the server as it is and say what that proves."""
        if self.orders.get(order.capture_id) != order:
            return
        server = self.world.copy(order.node)
        kept = self.kept.get(order.capture_id)
        if kept is not None and kept.timeline != server.timeline:
            return
        self.kept[order.capture_id] = server
        full = Level.FULL in order.levels
        here = Lsn(server.lsn)
        status = CaptureStatus(
            capture_id=order.capture_id,
            phase=Phase.FOLLOWING,
            grade=Grade.COMPLETE if full else Grade.NONE,
            method="copy" if full else "",
            timeline=server.timeline,
            start_lsn=Lsn(0),
            tail_lsn=here,
            reached_lsn=here if full else None,
            pin="held",
            bytes_done=1,
            bytes_total=1,
            seconds_left=0.0,
            reason="",
            final_lsn=order.final_lsn,
        )
        self._feed(order.node, events.CaptureReported(self._moment(), status))
        if order.final_lsn is None:
            self._at(self.now_s + 0.5, lambda: self._copy(order))

    def _close(self, name: str, wanted: str) -> None:
        self.orders.pop(wanted, None)
        for capture in self.agents[name].state.ledger.captures:
            if capture.order.capture_id == wanted:
                closed = replace(capture.status, phase=Phase.CLOSED)
                told = events.CaptureReported(self._moment(), closed)
                self._at(self.now_s + 0.01, partial(self._feed, name, told))
