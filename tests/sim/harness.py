"""The real core of every agent, run against the simulated world.

Theory of operation. One heap of timed events and no threads. Each round every agent
asks every node; answers come after a round trip, silence after a deadline. A step is
consumed as the shell consumes it: the ledger is committed first, with the notices of
the step, and only then are the actions carried out; a journal that is full keeps the
old ledger and lets captures begin all the same. An agent can be stopped by a signal,
suspended with its machine, or killed between any two of these, and comes back with
what its journal holds. Whoever watches is told of each step.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from agent import codec
from agent.core import event as events
from agent.core import machine, pageprint
from agent.core.action import Action, AskAgain, CloseCapture, RunCapture, Tell
from agent.core.capture import CaptureStatus
from agent.core.care import ManagerSight
from agent.core.frozen import replace
from agent.core.incident import Incident
from agent.core.machine import Step
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.observation import (
    Channel,
    Failing,
    Observation,
    Outcome,
    ReadFailure,
    Report,
    SelfHealth,
)
from agent.core.permit import PermitState
from agent.core.policy import Minimum, NodeSpec, Policy
from agent.core.reporting import make_report
from agent.core.state import State, View
from tests.sim.clock import WALL_S, Clock
from tests.sim.engine import Engine, Snapshot, Trouble
from tests.sim.journal import Journal
from tests.sim.world import World

__all__ = ["WALL_S", "Agent", "Simulation", "Watcher"]

DEADLINE_S = 0.8
BEAT_S = 0.25
SEND_S = 0.01
RESEND_S = 2.0
ENCODED = 64
"""One report in so many is encoded and decoded on its way."""
BEGIN_S = 1000.0
SETTINGS = {"probe.round_s": "as everywhere"}
LAG_BYTES = 0x800
"""A standby that lacks more is lagging; commits are small here."""
CALM = SelfHealth(0.0, 0.0, 0.0)
UNREADABLE = ReadFailure("permission denied", "Run the agent as postgres.")


@dataclass
class Agent:
    """One agent: its process, its clock, and what outlives it."""

    name: str
    policy: Policy
    state: State
    clock: Clock
    journal: Journal = field(default_factory=Journal)
    trouble: Trouble = field(default_factory=Trouble)
    engine: Engine | None = None
    alive: bool = True
    boots: int = 0
    frozen_until_s: float = -1.0
    asleep_until_s: float = -1.0
    """Until when its whole machine stands still."""
    armed: str = ""
    """Where it dies at its next commit: `before` it, or `after` it."""
    receiver_down: bool = False
    """Nobody takes its notices."""
    lag_s: float = 0.0
    clocks: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What monotonic, wall and boot-time clock showed at the last round."""
    asking: set[tuple[str, Channel]] = field(default_factory=set)
    again: set[tuple[str, Channel]] = field(default_factory=set)
    tape: list[events.Event] | None = None
    """What it was told, while somebody records that."""


class Watcher:
    """Somebody who looks at every step; does nothing by itself."""

    def stepped(
        self, agent: Agent, event: events.Event, before: State, made: Step
    ) -> None:
        """A step was made and committed, or could not be."""

    def noticed(self, agent: Agent, notice: Notice) -> None:
        """A receiver has got a notice."""

    def booted(self, agent: Agent) -> None:
        """An agent has started."""


class Simulation:
    """A cluster of agents over a world."""

    def __init__(
        self,
        count: int = 3,
        *,
        witnesses: int = 0,
        managers: bool = False,
        upstreams: bool = False,
        dice: random.Random | None = None,
    ) -> None:
        servers = tuple(f"n{i}" for i in range(1, count + 1))
        others = tuple(f"w{i}" for i in range(1, witnesses + 1))
        nodes = (
            *(
                NodeSpec(
                    name,
                    has_postgres=True,
                    has_manager=managers,
                    upstreams=(f"{name}:5432",) if upstreams else (),
                )
                for name in servers
            ),
            *(NodeSpec(name, has_postgres=False, has_manager=False) for name in others),
        )
        self.dice = dice or random.Random(0)
        apart = random.Random(str(self.dice.getstate()[1][:4]))
        minimum = apart.choice(tuple(Minimum))
        self.world = World((*servers, *others), servers, BEGIN_S)
        self.agents = {
            name: Agent(
                name,
                Policy(
                    "sim",
                    name,
                    nodes,
                    settings=SETTINGS,
                    lag_limit_bytes=LAG_BYTES,
                    guard_minimum=minimum,
                ),
                State(),
                Clock(),
            )
            for name in (*servers, *others)
        }
        self.notices: list[tuple[float, str, Notice]] = []
        self.kept: dict[str, Snapshot] = {}
        self.watchers: list[Watcher] = []
        self.rounds = 0
        """Finished rounds of all agents together."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        for offset, name in enumerate(self.agents):
            self.boot(name, 0.01 * offset)
        self.at(self.now_s, self._beat)

    # --- time --------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """World time, which nobody in the world can read."""
        return self.world.now_s

    @now_s.setter
    def now_s(self, now_s: float) -> None:
        """Let the clocks go on while everything else stands still."""
        self.world.now_s = now_s

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Do something at an instant."""
        heapq.heappush(self._heap, (when_s, next(self._count), act))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end_s = self.now_s + seconds
        heap, world, pop = self._heap, self.world, heapq.heappop
        while heap and heap[0][0] <= end_s:
            world.now_s, _, act = pop(heap)
            act()
        world.now_s = end_s

    def until(self, happened: Callable[[], bool], limit_s: float) -> float:
        """Run until something is so; return how long it took, or fail."""
        begin_s = self.now_s
        while not happened():
            assert self.now_s - begin_s <= limit_s, "it did not happen in time"
            self.run(0.05)
        return self.now_s - begin_s

    def moment(self, name: str | None = None) -> Moment:
        """What the clocks of a machine show; of the first one by default."""
        agent = self.agents[name] if name else next(iter(self.agents.values()))
        return agent.clock.moment(self.now_s)

    # --- processes ---------------------------------------------------------------

    def boot(self, name: str, offset_s: float = 0.0) -> None:
        """Start an agent with what its journal holds."""
        agent = self.agents[name]
        if self.suspended(name):  # no program starts on a machine that stands still
            self.at(agent.asleep_until_s, partial(self._boot_late, name, agent.boots))
            return
        agent.boots += 1
        agent.alive, agent.armed, agent.frozen_until_s = True, "", -1.0
        agent.asking, agent.again = set(), set()
        agent.clocks, agent.lag_s = self._clocks(agent), 0.0
        agent.state = State(*agent.journal.load(), View())
        if name in self.world.servers:
            agent.engine = Engine(
                self.world.servers[name],
                self.kept,
                agent.trouble,
                partial(self._reported, name, agent.boots),
                self.dice,
            )
        boot_id = f"{name}-boot-{agent.boots}"
        for watcher in self.watchers:
            watcher.booted(agent)
        self.submit(name, events.Started(self.moment(name), boot_id))
        for notice_id in agent.journal.outbox:
            self._send_later(name, notice_id)
        due_s = self.now_s + offset_s
        self.at(due_s, partial(self._round, name, agent.boots, due_s))

    def _boot_late(self, name: str, boots: int) -> None:
        agent = self.agents[name]
        if not agent.alive and agent.boots == boots and name not in self.world.dead:
            self.boot(name)

    def crash(self, name: str) -> None:
        """Kill an agent; its server goes on."""
        self.agents[name].alive = False
        self.agents[name].tape = None

    def freeze(self, name: str, seconds: float, *, machine: bool = False) -> None:
        """Stop an agent's process for so long, or its whole machine."""
        agent = self.agents[name]
        until_s = max(agent.frozen_until_s, self.now_s + seconds)
        agent.frozen_until_s = until_s
        if not machine:
            return
        agent.asleep_until_s = until_s
        agent.clock.suspend(self.now_s)
        self.world.suspended.add(name)
        server = self.world.servers.get(name)
        if server is not None:
            server.paused = True
        self.at(until_s, partial(self._wake, name))

    def set_back_unseen(self, name: str, seconds: float) -> None:
        """Set a primary back while no agent looks; it writes past where it was."""
        for number in range(100):
            self.world.write(name, f"row {number}")
        self.run(5)
        for agent in self.agents:
            self.freeze(agent, seconds)
        assert self.world.set_back(name, 60)
        for number in range(90):
            self.world.write(name, f"row {number} of another day")

    def frozen(self, name: str) -> bool:
        return self.now_s < self.agents[name].frozen_until_s

    def suspended(self, name: str) -> bool:
        """Whether a whole machine stands still."""
        return self.agents[name].clock.since_s is not None

    def runs(self, name: str) -> bool:
        """Whether an agent's process runs, frozen or not."""
        return self.agents[name].alive and name not in self.world.dead

    def _wake(self, name: str) -> None:
        if self.now_s >= self.agents[name].asleep_until_s:
            self.rouse(name)

    def rouse(self, name: str) -> None:
        """Let a machine go on, or be switched off, that stood still."""
        if not self.suspended(name):
            return
        self.agents[name].clock.resume(self.now_s)
        self.world.suspended.discard(name)
        server = self.world.servers.get(name)
        if server is not None:
            server.paused = False

    # --- what agents say ---------------------------------------------------------

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

    # --- rounds ------------------------------------------------------------------

    def _beat(self) -> None:
        """Let WAL flow and captures go on."""
        self.at(self.now_s + BEAT_S, self._beat)
        self.world.replicate()
        self.world.checkpoint()
        for name, agent in self.agents.items():
            engine = agent.engine
            if engine is None or not engine.jobs:
                continue
            if self.runs(name) and not self.frozen(name):
                engine.tick(self.now_s)

    def _round(self, name: str, boots: int, due_s: float) -> None:
        agent = self.agents[name]
        if agent.boots != boots or not agent.alive:
            return
        again = partial(self._round, name, boots)
        if self.frozen(name):
            self.at(agent.frozen_until_s, partial(again, due_s))
            return
        period_s = agent.policy.round_s / agent.clock.rate
        missed = int((self.now_s - due_s) // period_s)
        next_s = due_s + period_s * (missed + 1)
        self.at(next_s, partial(again, next_s))
        if name in self.world.dead:
            return
        self._ask_all(agent)
        health = self._health(agent, self.now_s - due_s)
        self.rounds += 1
        self._consume(agent, events.Ticked(self.moment(name), health))
        self._read_disk(name, boots)
        if any(one.state is PermitState.PENDING for one in agent.state.ledger.permits):
            for quarter in (0.25, 0.5, 0.75):
                self.at(self.now_s + quarter, partial(self._read_disk, name, boots))

    def _ask_all(self, agent: Agent) -> None:
        for spec in agent.policy.nodes:
            if spec.has_postgres:
                self._ask(agent, spec.name, Channel.POSTGRES)
            if spec.has_manager:
                self._ask(agent, spec.name, Channel.MANAGER)
            if spec.has_agent and spec.name != agent.name:
                self._ask(agent, spec.name, Channel.AGENT)

    def _health(self, agent: Agent, lag_s: float) -> SelfHealth:
        """What happened to the clocks since the last round, as the shell reads it."""
        now = self._clocks(agent)
        passed = [new - old for new, old in zip(now, agent.clocks, strict=True)]
        agent.clocks = now
        suspended_s, jump_s = passed[2] - passed[0], passed[1] - passed[2]
        if lag_s < 1e-6 and abs(suspended_s) < 1e-6 and abs(jump_s) < 1e-6:
            return CALM
        return SelfHealth(max(0.0, lag_s), jump_s, max(0.0, suspended_s))

    def _clocks(self, agent: Agent) -> tuple[float, float, float]:
        clock, now_s = agent.clock, self.now_s
        return clock.monotonic(now_s), clock.wall(now_s), clock.boot(now_s)

    def _read_disk(self, name: str, boots: int) -> None:
        agent = self.agents[name]
        server = self.world.servers.get(name)
        if server is None or agent.boots != boots or self.frozen(name):
            return
        pages = pageprint.wanted(agent.state, agent.policy)
        facts = UNREADABLE if server.unreadable else server.facts(pages)
        self._consume(agent, events.ServerRead(self.moment(name), facts))

    # --- questions ---------------------------------------------------------------

    def _ask(
        self, agent: Agent, node: str, channel: Channel, *, again: bool = False
    ) -> None:
        place, now_s = (node, channel), self.now_s
        open_ones = agent.again if again else agent.asking
        if place in open_ones:
            return
        open_ones.add(place)
        name, network = agent.name, self.world.network
        sent_s = agent.clock.monotonic(now_s)
        question = Observation(node, channel, Outcome.TIMED_OUT, "", sent_s, sent_s)
        asked = (name, agent.boots, again, question)
        lost = network.loses(name, node, self.dice)
        there_s = network.delay_s(name, node, self.dice) / 2
        if lost or there_s * 2 >= DEADLINE_S:
            self.at(now_s + DEADLINE_S, partial(self._answered, *asked))
        else:
            self.at(now_s + there_s, partial(self._serve, *asked, there_s))

    def _serve(
        self,
        name: str,
        boots: int,
        again: bool,
        question: Observation,
        back_s: float,
    ) -> None:
        """The question has arrived, if it can arrive."""
        node, channel = question.node, question.channel
        asked = (name, boots, again)
        made = None
        off = node in self.world.dead or self.suspended(node)
        if not off and (
            node == name or self.world.network.answers(name, node, channel)
        ):
            made = self._answer(name, question)
        if made is None:
            rest_s = DEADLINE_S - back_s
            self.at(self.now_s + rest_s, partial(self._answered, *asked, question))
        else:
            self.at(self.now_s + back_s, partial(self._answered, *asked, made))

    def _answer(self, asker: str, question: Observation) -> Observation | None:
        """What is answered over there; None: nothing at all."""
        node = question.node
        no = Outcome.UNREACHABLE
        match question.channel:
            case Channel.MANAGER if node in self.world.managers_down:
                return replace(question, outcome=no, reason="refused")
            case Channel.MANAGER:
                yes = Outcome.ANSWERED
                return replace(question, outcome=yes, manager=self._manager(node))
            case Channel.POSTGRES:
                there = node if node == asker else self.world.aliases.get(node, node)
                return self._by_sql(there, question)
            case _ if not self.agents[node].alive:
                return replace(question, outcome=no, reason="refused")
            case _ if self.frozen(node):
                return None
            case _:
                yes = Outcome.ANSWERED
                return replace(question, outcome=yes, report=self._report(node))

    def _manager(self, node: str) -> ManagerSight:
        return ManagerSight(self.world.active(node), "4.5.5")

    def _by_sql(self, node: str, question: Observation) -> Observation | None:
        server = self.world.servers[node]
        if node in self.world.dead or self.suspended(node):
            return None
        if not server.running:
            return replace(question, outcome=Outcome.UNREACHABLE, reason="refused")
        if server.paused:
            return None
        if server.refusing or self.now_s < server.recovers_until_s:
            return replace(question, outcome=Outcome.REFUSED, reason="57P03")
        sight = self.world.sight(node)
        return replace(question, outcome=Outcome.ANSWERED, postgres=sight)

    def _report(self, node: str) -> Report:
        peer = self.agents[node]
        report = make_report(peer.state, self.moment(node), peer.policy)
        if self.dice.randrange(ENCODED) == 0:
            return codec.from_json(codec.to_json(report), Report)
        return report

    def _answered(
        self,
        name: str,
        boots: int,
        again: bool,
        made: Observation,
    ) -> None:
        """An answer is here, or the deadline is over."""
        agent = self.agents[name]
        if agent.boots != boots or not self.runs(name):
            return
        if self.frozen(name):
            later = partial(self._answered, name, boots, again, made)
            self.at(agent.frozen_until_s, later)
            return
        now = self.moment(name)
        late = now.monotonic_s - made.sent_s > DEADLINE_S + 0.1
        if made.outcome is Outcome.TIMED_OUT or (late and self.dice.random() < 0.5):
            made = Observation(
                made.node, made.channel, Outcome.TIMED_OUT, "no answer", made.sent_s, 0
            )
        (agent.again if again else agent.asking).discard((made.node, made.channel))
        made = replace(made, received_s=now.monotonic_s)
        self._consume(agent, events.Observed(now, made))

    # --- steps -------------------------------------------------------------------

    def submit(self, name: str, event: events.Event) -> None:
        """Let an agent take in an event, if it runs."""
        if not self.runs(name):
            return
        agent = self.agents[name]
        if self.frozen(name):
            self.at(agent.frozen_until_s, partial(self.submit, name, event))
            return
        self._consume(agent, event)
        if isinstance(event, events.PermitAsked):
            self._read_disk(name, agent.boots)

    def _consume(self, agent: Agent, event: events.Event) -> None:
        """Step, commit, act: in this order."""
        if not self.runs(agent.name):
            return
        before = agent.state
        if agent.tape is not None:
            agent.tape.append(event)
        made = machine.step(before, event, agent.policy)
        actions = self._committed(agent, event, before, made)
        if agent.alive:
            taken = made
            if agent.state is not made.state or actions is not made.actions:
                taken = Step(agent.state, actions)
            for watcher in self.watchers:
                watcher.stepped(agent, event, before, taken)
        for action in actions:
            self._carry_out(agent, action)

    def _committed(
        self, agent: Agent, event: events.Event, before: State, made: Step
    ) -> tuple[Action, ...]:
        """Commit what the step has changed; return what may be carried out."""
        journal, state = agent.journal, made.state
        must = state.ledger is not before.ledger and state.ledger != before.ledger
        learnt = (
            isinstance(event, events.Ticked)
            and state.knowledge is not journal.knowledge
            and state.knowledge != journal.knowledge
        )
        agent.state = state
        if not must and not learnt:
            return made.actions
        if must and agent.armed == "before":
            self.crash(agent.name)
            return ()
        notices = tuple(a.notice for a in made.actions if isinstance(a, Tell))
        if not journal.commit(state.ledger, state.knowledge, notices):
            view = replace(state.view, in_hand=before.view.in_hand)
            agent.state = replace(state, ledger=before.ledger, view=view)
            agent.tape = None
            return tuple(a for a in made.actions if isinstance(a, RunCapture))
        if must and agent.armed == "after":
            self.crash(agent.name)
            return ()
        return made.actions

    def _carry_out(self, agent: Agent, action: Action) -> None:
        engine = agent.engine
        match action:
            case AskAgain():
                self._ask(agent, action.node, action.channel, again=True)
            case RunCapture() if engine is not None:
                engine.run(action.order)
            case CloseCapture() if engine is not None:
                engine.finish(action.capture_id)
            case Tell():
                self._send_later(agent.name, action.notice.id)
            case _:
                pass

    def _reported(self, name: str, boots: int, status: CaptureStatus) -> None:
        """A capture thread tells how far it is; the event waits in the queue."""

        def take() -> None:
            if self.agents[name].boots == boots:
                self.submit(name, events.CaptureReported(self.moment(name), status))

        self.at(self.now_s + 0.001, take)

    # --- notices -----------------------------------------------------------------

    def _send_later(self, name: str, notice_id: str, wait_s: float = SEND_S) -> None:
        boots = self.agents[name].boots
        self.at(self.now_s + wait_s, partial(self._send, name, boots, notice_id))

    def _tried(self, agent: Agent) -> None:
        """Tell the agent whether its receiver takes what it is about to get."""
        at, known = self.moment(agent.name), agent.state.view.failing
        if agent.receiver_down:
            since_s = known[0].since_s if known else at.monotonic_s
            failing = (Failing("on-call", "HTTP 503", since_s, at.monotonic_s),)
            self.submit(agent.name, events.ReceiversTried(at, 1, failing))
        elif known:
            self.submit(agent.name, events.ReceiversTried(at, 1, ()))

    def _send(self, name: str, boots: int, notice_id: str) -> None:
        """Hand a row of the outbox to the receiver; at least once."""
        agent = self.agents[name]
        journal = agent.journal
        if agent.boots != boots or not self.runs(name):
            return
        notice = journal.outbox.get(notice_id)
        if notice is None:
            return
        if self.frozen(name):
            self._send_later(name, notice_id, RESEND_S)
            return
        self._tried(agent)
        if agent.receiver_down:
            self._send_later(name, notice_id, RESEND_S)
            return
        self.notices.append((self.now_s, name, notice))
        for watcher in self.watchers:
            watcher.noticed(agent, notice)
        if journal.full:
            self._send_later(name, notice_id, RESEND_S)
            return
        journal.outbox.pop(notice_id)
        journal.sent.add(notice_id)
        self.submit(name, events.NoticeDelivered(self.moment(name), notice_id))
