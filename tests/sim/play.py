"""One seed: a cluster, its dice, and cycles of harm, healing and judgement.

Theory of operation. The seed draws the cluster (2 to 7 servers, up to 2 witnesses,
clocks, synchronous or not, who the HA software is). Then cycle after cycle: a calm
while, a few kinds of faults for some minutes, healing in pieces, and the wait until all
agents say `healthy` again with nothing left to tell. Everything random comes from the
seed, so a seed is a whole story.
"""

import random
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core import event as events
from agent.core.capture import Phase
from agent.core.incident import Status
from agent.core.permit import PermitState
from agent.core.verdict import Family
from tests.sim.checkers import Oracles, Score, ViolatedError
from tests.sim.faults import Faults
from tests.sim.ha import Software, drawn
from tests.sim.harness import BEGIN_S, Agent, Simulation, Watcher
from tests.sim.outages import Outages
from tests.sim.pledges import Pledges
from tests.sim.truth import Truth

HEAL_S = 15.0
WELL_S = 300.0
"""So long after the last fault all must be well."""
CLIENT_S = 0.5
SET_BACK = 0.02
"""How often a machine is set back to an old image, beside each other harm."""
LINES = 60
RAISED = "the_core_never_raises"
"""The oracle that is violated by an exception."""


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    oracle: str = ""
    words: str = ""
    at_s: float = 0.0
    lines: tuple[str, ...] = ()
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    score: Score = field(default_factory=Score)

    @property
    def failed(self) -> bool:
        """Whether it was ended by an oracle."""
        return bool(self.oracle)

    @property
    def found(self) -> tuple[str, ...]:
        """All that was wrong, also what is only counted in bad weather."""
        ended = (self.words,) if self.failed else ()
        return (*self.score.broken, *self.score.words, *ended)


class Teller(Watcher):
    """Writes down what a reader of a trace wants to know."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._codes: dict[str, tuple[str, ...]] = {}
        self._permits: dict[str, str] = {}

    def stepped(self, agent: Agent, event, before, made) -> None:
        codes = tuple(f"{one.code}({one.subject})" for one in made.state.view.verdicts)
        if self._codes.get(agent.name) != codes:
            self._codes[agent.name] = codes
            self.say(f"{agent.name} says {', '.join(codes)}")
        if made.state.ledger.permits is before.ledger.permits:
            return
        for permit in made.state.ledger.permits:
            if self._permits.get(permit.id) != permit.state:
                self._permits[permit.id] = permit.state
                self.say(f"{agent.name} {permit.id} {permit.state}: {permit.reason}")

    def noticed(self, agent: Agent, notice) -> None:
        self.say(f"{agent.name} tells {notice.reason} of {notice.incident_id}")

    def booted(self, agent: Agent) -> None:
        self.say(f"{agent.name} boots")


class Play:
    """A seed, played."""

    sizes: tuple[int, ...] = (2, 2, 2, *[3] * 14, 4, 4, 4, 5, 5, 6, 7)
    """How many servers a cluster may have, each as likely as the others."""
    focus: tuple[str, ...] = ()
    """The only kinds of faults; none: drawn for each cycle."""
    recorded = True
    """Whether some of what happens is recorded and played once more."""

    def __init__(
        self, seed: int, *, trace: bool = False, sizes: tuple[int, ...] = ()
    ) -> None:
        self.seed = seed
        self.dice = dice = random.Random(seed)
        self.trace = trace
        self.lines: deque[str] = deque(maxlen=LINES)
        servers = dice.choice(sizes or self.sizes)
        self.sim = Simulation(
            servers,
            witnesses=dice.choice((0, 0, 0, 1, 1, 2)),
            managers=dice.random() < 0.3,
            upstreams=dice.random() < 0.7,
            dice=random.Random(seed + 1),
        )
        world = self.sim.world
        world.synchronous = dice.random() < 0.25
        world.lag = random.Random(seed + 2) if dice.random() < 0.7 else None
        for agent in self.sim.agents.values():
            agent.clock.rate = 1.0 + dice.uniform(-0.004, 0.004)
            agent.clock.begin_s = dice.uniform(0.0, 1e6)
        self.software = Software(self.sim, drawn(dice), random.Random(seed + 3))
        self.style = self.software.style
        self.busy = dice.choice((0.05, 0.5, 0.9))
        self.rare = random.Random(seed + 4)
        self.faults = Faults(self.sim, self.software, dice)
        self.truth = Truth(self.sim)
        self.oracles = Oracles(self.sim, self.truth)
        self.outages = Outages(self.oracles)
        self.software.say = self.faults.say = self.say
        self.software.before_resync = self.oracles.no_acknowledged_write_is_lost
        pledges = Pledges(self.sim, self.faults.people)
        self.sim.watchers = [Teller(self.say), self.oracles, pledges]
        self._row = 0
        self._clients()
        self._look()

    def say(self, words: str) -> None:
        line = f"{self.sim.now_s - BEGIN_S:9.2f}  {words}"
        self.lines.append(line)
        if self.trace:
            print(line)

    def play(self, hours: float) -> Outcome:
        """Play for so long, or until an oracle is violated."""
        end_s = self.sim.now_s + hours * 3600
        oracle = words = ""
        try:
            while self.sim.now_s < end_s:
                self.cycle()
        except ViolatedError as violated:
            oracle, words = violated.oracle, str(violated)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            oracle = RAISED
            where = traceback.format_exc(limit=-3)
            words = f"{oracle}: {type(error).__name__}: {error}\n{where}"
        return Outcome(
            seed=self.seed,
            oracle=oracle,
            words=words,
            at_s=self.sim.now_s - BEGIN_S,
            lines=tuple(self.lines),
            rounds=self.sim.rounds,
            faults=self.faults.count + self.software.count,
            score=self.oracles.score,
        )

    def cycle(self) -> None:
        """A calm while, harm, healing, and all well again."""
        dice, sim = self.dice, self.sim
        self.software.style = self.style
        sim.run(dice.uniform(3.0, 20.0))
        self.await_well(WELL_S)
        palette = self.focus or self.faults.palette()
        self.say(f"--- harm: {', '.join(palette)}")
        recorded = dice.choice(tuple(sim.agents))
        if self.recorded:
            self.oracles.record(recorded)
        pace_s = dice.choice((2.0, 6.0, 15.0))
        for _ in range(dice.randint(4, 16)):
            self.faults.harm(palette)
            if not self.focus and self.rare.random() < SET_BACK:
                self.faults.set_back(self.rare)
            sim.run(dice.expovariate(1 / pace_s))
            if self.recorded and dice.random() < 0.2:
                self.oracles.replay_gives_the_same_state(recorded)
                self.oracles.record(recorded)
        self.oracles.replay_gives_the_same_state(recorded)
        self.heal()

    def heal(self) -> None:
        """Undo all harm in pieces, and let the HA software mend the rest."""
        self.say("--- heal")
        self.faults.heal(HEAL_S)
        sim, world = self.sim, self.sim.world
        sim.run(HEAL_S + 6.0)
        world.heal()
        world.network.loss = world.network.jitter_s = 0.0
        world.aliases.clear()
        for name, agent in sim.agents.items():
            agent.armed = ""
            if name in world.dead:
                world.start(name)
            if not agent.alive:
                sim.boot(name)
        self.software.be_sure()
        self.await_well(WELL_S)

    def await_well(self, limit_s: float) -> None:
        """Wait until all is well and nothing is left to do or to tell."""
        begin_s = self.sim.now_s
        while wrong := self.not_well():
            if self.sim.now_s - begin_s > limit_s:
                raise ViolatedError("after_healing_all_is_well", "; ".join(wrong[:6]))
            self.sim.run(5.0)
            self._acknowledge()
        self.say("--- well")

    def not_well(self) -> list[str]:
        """What keeps the cluster from being well."""
        found = []
        for name, agent in self.sim.agents.items():
            ledger = agent.state.ledger
            if self.sim.codes(name) != {"healthy"}:
                found.append(f"{name} says {sorted(self.sim.codes(name))}")
            found += [
                f"{name}: {one.id} {one.verdict.code} is {one.status}"
                for one in ledger.incidents
                if one.status is not Status.RESOLVED
            ]
            found += [
                f"{name}: {one.order.capture_id} is {one.status.phase}"
                for one in ledger.captures
                if one.status.phase is not Phase.CLOSED
            ]
            found += [
                f"{name}: {one.told.reason} of {one.told.incident_id} is not told"
                for one in ledger.told
                if not one.told.delivered
            ]
            if agent.journal.outbox:
                found.append(f"{name}: {len(agent.journal.outbox)} in its outbox")
        return found

    def _acknowledge(self) -> None:
        """A person takes what is open, somewhere; and withdraws vain requests."""
        name = self.dice.choice(tuple(self.sim.agents))
        for incident in self.sim.incidents(name):
            waits = incident.verdict.family is Family.PRIMARY
            if incident.status is Status.OPEN and waits:
                event = events.Acknowledged(self.sim.moment(name), incident.id, "ada")
                self.sim.submit(name, event)
        for other, agent in self.sim.agents.items():
            pending = [
                one
                for one in agent.state.ledger.permits
                if one.state is PermitState.PENDING
            ]
            if pending and other not in self.software.resyncs:
                moment = self.sim.moment(other)
                self.sim.submit(other, events.PermitReleased(moment, "ada", "in vain"))

    def _clients(self) -> None:
        """Whoever takes writes gets some."""
        sim = self.sim
        sim.at(sim.now_s + CLIENT_S, self._clients)
        for name in sim.world.writable:
            if self.dice.random() < self.busy:
                self._row += 1
                sim.world.write(name, f"row {self._row} on {name}")

    def _look(self) -> None:
        """The HA software, the truth and the oracles have their turn."""
        sim = self.sim
        sim.at(sim.now_s + 0.5, self._look)
        self.truth.look()
        if round(sim.now_s * 2) % 2 == 0:
            self.software.step()
            self.oracles.look()
            if self.oracles.loud:
                self.outages.look()


def play(
    seed: int,
    hours: float,
    *,
    trace: bool = False,
    focus: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (),
) -> Outcome:
    """Play a seed for so many hours of its world."""
    made = Play(seed, trace=trace, sizes=sizes)
    made.focus = focus
    return made.play(hours)
