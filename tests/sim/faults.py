"""What goes wrong in the world, drawn by the seed, and put right again.

Theory of operation. Each kind of fault is one method that does harm and says how it is
undone; None when it passes by itself. A cycle uses a few kinds only (swarm testing:
a fault that is always there hides what another one would show). Healing undoes them
one by one, in any order, over a while.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from agent.core import event as events
from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.incident import Status
from agent.core.observation import Channel
from agent.core.readiness import Obstacle, Readiness
from tests.sim.ha import Software
from tests.sim.harness import SETTINGS, Agent, Simulation
from tests.sim.people import People

Undo = Callable[[], None]
APART = (
    "configure an agent otherwise",
    "mislead the managers",
    "pin a winner",
    "promote two to one number",
)
APART_SHARE = 0.25
ENOUGH = Readiness(1 << 30, 1 << 35, 10.0, "", None)
"""What a look before a capture finds when all is well."""
LACKING = Readiness(
    1 << 30, 1 << 20, 10.0, "", None, (Obstacle("no room", "Make room."),)
)


class Faults:
    """Does harm to a simulation."""

    pause_s = 8.0
    """An agent or a server stands still for no longer than this."""

    def __init__(
        self, sim: Simulation, software: Software, dice: random.Random
    ) -> None:
        self.sim = sim
        self.world = sim.world
        self.network = sim.world.network
        self.software = software
        self.dice = dice
        self.count: Counter[str] = Counter()
        self.active: list[tuple[str, Undo]] = []
        self.say: Callable[[str], None] = lambda _: None
        self._rows = 0
        self.apart = random.Random(str(dice.getstate()[1][:8]))
        """Draws the kinds that no story knew at first: the others stay as they were."""
        self.people = People(sim, self.apart)
        self.kinds: dict[str, Callable[[], tuple[str, Undo | None] | None]] = {
            "isolate": self._isolate,
            "partition": self._partition,
            "cut a pair": self._cut_pair,
            "block one way": self._block,
            "mute a channel": self._mute,
            "slow a link": self._slow,
            "lose questions": self._lose,
            "jitter": self._jitter,
            "freeze an agent": self._freeze,
            "pause a server": self._pause,
            "suspend a machine": self._suspend,
            "step a wall clock": self._step,
            "kill an agent": self._kill_agent,
            "kill an agent before its commit": partial(self._arm, "before"),
            "kill an agent after its commit": partial(self._arm, "after"),
            "fill a journal": self._fill,
            "lose the receiver": self._deafen,
            "switch a machine off": self._switch_off,
            "crash a server": self._crash,
            "stop a server": self._stop,
            "crash a backend": self._backend,
            "refuse connections": self._refuse,
            "hide a disk": self._hide,
            "stop a manager": self._stop_manager,
            "promote wrongly": self._promote,
            "fail captures": self._fail,
            "stall captures": self._stall,
            "slow captures": self._drag,
            "delay a standby": self._delay,
            "misdirect a standby": self._misdirect,
            "write a lot": self._burst,
            "order a capture": self._order,
            "ask for a permit in vain": self._ask,
            "acknowledge": self._acknowledge,
            "release": self._release,
            "send the HA software to sleep": self._sleep,
            "take an address for another": self._alias,
            "answer as another system": self._foreign,
            "lack room for a capture": self._survey,
            "set the HA software to wipe": self._wipe,
            "announce a switchover": self._announce,
            "configure an agent otherwise": self._drift,
            "mislead the managers": self._mislead,
            "pin a winner": self.people.pin,
            "promote two to one number": self._promote_twins,
        }

    def palette(self) -> tuple[str, ...]:
        """The kinds of one cycle."""
        names = tuple(kind for kind in self.kinds if kind not in APART)
        drawn = tuple(self.dice.sample(names, self.dice.randint(2, 9)))
        further = self.apart.random() < APART_SHARE
        return (*drawn, self.apart.choice(APART)) if further else drawn

    def harm(self, palette: Iterable[str]) -> None:
        """Do one more of these."""
        kind = self.dice.choice(tuple(palette))
        done = self.kinds[kind]()
        if done is None:
            return
        what, undo = done
        self.count[kind] += 1
        self.say(f"{kind}: {what}")
        if undo is None:
            return
        self.active.append((f"{kind}: {what}", undo))
        if self.dice.random() < 0.6:
            after_s = self.dice.choice((1.0, 3.0, 10.0, 30.0)) * self.dice.random()
            self.sim.at(self.world.now_s + after_s, partial(self._end, undo))

    def heal(self, within_s: float) -> None:
        """Undo everything, in pieces."""
        for _, undo in self.active:
            when_s = self.world.now_s + self.dice.random() * within_s
            self.sim.at(when_s, partial(self._end, undo))

    def _end(self, undo: Undo) -> None:
        for entry in self.active:
            if entry[1] is undo:
                self.active.remove(entry)
                self.say(f"over: {entry[0]}")
                undo()
                return

    # --- the network ---------------------------------------------------------------

    def _machine(self) -> str:
        return self.dice.choice(self.world.names)

    def _agent(self) -> Agent:
        return self.sim.agents[self._machine()]

    def _two(self) -> tuple[str, str]:
        first, second = self.dice.sample(self.world.names, 2)
        return first, second

    def _heal_pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Heal links one after the other, within a few seconds."""
        for first, second in pairs:
            later_s = self.dice.choice((0.0, 0.0, 1.0, 5.0)) * self.dice.random()
            heal = partial(self._heal_pair, first, second)
            self.sim.at(self.world.now_s + later_s, heal)

    def _heal_pair(self, first: str, second: str) -> None:
        self.network.heal(first, second, self.world.now_s)

    def _apart(self, group: Iterable[str]) -> Undo:
        inside = set(group)
        pairs = [
            (one, other)
            for one in inside
            for other in self.world.names
            if other not in inside
        ]
        for one, other in pairs:
            self.world.cut(one, other)
        return partial(self._heal_pairs, sorted(pairs))

    def _isolate(self):
        name = self._machine()
        return name, self._apart([name])

    def _partition(self):
        size = self.dice.randint(1, len(self.world.names) - 1)
        group = sorted(self.dice.sample(self.world.names, size))
        return ",".join(group), self._apart(group)

    def _cut_pair(self):
        first, second = self._two()
        self.world.cut(first, second)
        return f"{first} and {second}", partial(self._heal_pairs, [(first, second)])

    def _block(self):
        first, second = self._two()
        self.network.blocked.add((first, second))
        self.network.touch(first, second, self.world.now_s)
        return f"{first} to {second}", partial(self._heal_pairs, [(first, second)])

    def _mute(self):
        first, second = self._two()
        channel = self.dice.choice(tuple(Channel))
        self.network.mute.add((first, second, channel))
        self.network.touch(first, second, self.world.now_s)
        undo = partial(self._heal_pairs, [(first, second)])
        return f"{first} to {second}/{channel}", undo

    def _slow(self):
        first, second = self._two()
        self.network.slow[first, second] = seconds = self.dice.uniform(0.05, 1.0)
        self.network.touch(first, second, self.world.now_s)
        undo = partial(self._heal_pairs, [(first, second)])
        return f"{first} to {second} by {seconds:.2f} s", undo

    def _lose(self):
        self.network.loss = self.dice.uniform(0.05, 0.3)
        return f"{self.network.loss:.2f}", partial(setattr, self.network, "loss", 0.0)

    def _jitter(self):
        self.network.jitter_s = self.dice.uniform(0.05, 0.7)
        undo = partial(setattr, self.network, "jitter_s", 0.0)
        return f"{self.network.jitter_s:.2f} s", undo

    # --- agents and machines -------------------------------------------------------

    def _freeze(self):
        name, seconds = self._machine(), self.dice.uniform(0.3, self.pause_s)
        self.sim.freeze(name, seconds)
        return f"{name} for {seconds:.1f} s", None

    def _suspend(self):
        name, seconds = self._machine(), self.dice.uniform(0.5, 60.0)
        self.sim.freeze(name, seconds, machine=True)
        return f"{name} for {seconds:.1f} s", None

    def _step(self):
        agent = self._agent()
        by_s = self.dice.choice((-1, 1)) * self.dice.choice((0.5, 10.0, 3600.0))
        agent.clock.step_s += by_s * self.dice.random()
        return f"{agent.name} by up to {by_s} s", None

    def _kill_agent(self):
        name = self._machine()
        if not self.sim.runs(name):
            return None
        self.sim.crash(name)
        return name, partial(self._boot, name)

    def _boot(self, name: str) -> None:
        if not self.sim.agents[name].alive and name not in self.world.dead:
            self.sim.boot(name)

    def _arm(self, where: str):
        agent = self._agent()
        agent.armed = where
        return agent.name, partial(self._disarm, agent)

    def _disarm(self, agent: Agent) -> None:
        agent.armed = ""
        self._boot(agent.name)

    def _fill(self):
        agent = self._agent()
        agent.journal.full = True
        return agent.name, partial(setattr, agent.journal, "full", False)

    def _deafen(self):
        agent = self._agent()
        agent.receiver_down = True
        return agent.name, partial(setattr, agent, "receiver_down", False)

    def _switch_off(self):
        name = self._machine()
        if name in self.world.dead:
            return None
        self.sim.rouse(name)
        self.world.kill(name)
        self.sim.crash(name)
        return name, partial(self._switch_on, name)

    def _switch_on(self, name: str) -> None:
        self.world.start(name)
        self._boot(name)

    # --- servers ---------------------------------------------------------------------

    def _server(self):
        return self.dice.choice(tuple(self.world.servers.values()))

    def _pause(self):
        server = self._server()
        if not server.running or server.paused:
            return None
        server.paused = True
        server.moved_s = self.world.now_s
        return server.name, partial(self._unpause, server)

    def _unpause(self, server) -> None:
        if not self.sim.suspended(server.name):
            server.paused = False

    def _crash(self):
        server = self._server()
        if not server.running:
            return None
        self.world.crash(server.name)
        return server.name, partial(self._launch, server.name)

    def _stop(self):
        server = self._server()
        if not server.running:
            return None
        self.world.stop(server.name)
        return server.name, partial(self._launch, server.name)

    def _launch(self, name: str) -> None:
        if name not in self.software.resyncs:
            self.world.launch(name)

    def _backend(self):
        server = self._server()
        server.recovers_until_s = self.world.now_s + self.dice.uniform(0.3, 4.0)
        server.moved_s = self.world.now_s
        return server.name, None

    def _refuse(self):
        server = self._server()
        server.refusing = True
        return server.name, partial(setattr, server, "refusing", False)

    def _hide(self):
        server = self._server()
        server.unreadable = True
        return server.name, partial(setattr, server, "unreadable", False)

    def _stop_manager(self):
        name = self._server().name
        self.world.managers_down.add(name)
        return name, partial(self.world.managers_down.discard, name)

    def _promote(self):
        server = self._server()
        if not server.running or not server.in_recovery or server.paused:
            return None
        self.software.promote(server.name)
        return server.name, None

    def _delay(self):
        server, seconds = self._server(), self.dice.uniform(1.0, 20.0)
        server.delay_s = seconds
        undo = partial(setattr, server, "delay_s", 0.0)
        return f"{server.name} by {seconds:.1f} s", undo

    def _misdirect(self):
        server, other = self._server(), self._server()
        if server is other or not server.in_recovery:
            return None
        server.upstream, server.streams = other.name, False
        return f"{server.name} to {other.name}", None

    # --- captures, people, programs ------------------------------------------------

    def _fail(self):
        agent = self._agent()
        how = self.apart.choice(("fails", "short"))
        setattr(agent.trouble, how, True)
        return f"{agent.name} {how}", partial(setattr, agent.trouble, how, False)

    def _stall(self):
        agent = self._agent()
        agent.trouble.stalls = True
        return agent.name, partial(setattr, agent.trouble, "stalls", False)

    def _drag(self):
        agent = self._agent()
        agent.trouble.seconds = (1.0, 60.0)
        return agent.name, partial(setattr, agent.trouble, "seconds", (0.3, 0.3))

    def _burst(self):
        server = self._server()
        for _ in range(self.dice.randint(5, 40)):
            self._rows += 1
            self.world.write(server.name, f"burst {self._rows} on {server.name}")
        return server.name, None

    def _order(self):
        name = self._server().name
        self._rows += 1
        asked = events.CaptureAsked(
            self.sim.moment(name), f"{name}-demand-{self._rows}", "somebody asked"
        )
        self.sim.submit(name, asked)
        return name, None

    def _ask(self):
        name = self._server().name
        self._rows += 1
        permit_id = f"vain-{self._rows}"
        asked = events.PermitAsked(self.sim.moment(name), permit_id, "nobody waits")
        self.sim.submit(name, asked)
        return name, None

    def _release(self):
        name = self._server().name
        event = events.PermitReleased(self.sim.moment(name), "ada", "I know better")
        self.sim.submit(name, event)
        return name, None

    def _acknowledge(self):
        name = self._machine()
        for incident in self.sim.incidents(name):
            if incident.status is Status.OPEN and self.dice.random() < 0.5:
                moment = self.sim.moment(name)
                event = events.Acknowledged(moment, incident.id, "ada")
                self.sim.submit(name, event)
        return name, None

    def _sleep(self):
        self.software.asleep = True
        return "", partial(setattr, self.software, "asleep", False)

    def _alias(self):
        server, other = self._server(), self._server()
        if server is other or self.world.aliases:
            return None
        self.world.aliases[server.name] = other.name
        undo = partial(self.world.aliases.pop, server.name, None)
        return f"{server.name} leads to {other.name}", undo

    def _foreign(self):
        server = self._server()
        server.system_id = "7300000000000000999"
        return server.name, partial(setattr, server, "system_id", "")

    def _survey(self):
        name = self._server().name
        self._seen(name, events.Surveyed(self.sim.moment(name), LACKING))
        return name, partial(self._room_again, name)

    def _room_again(self, name: str) -> None:
        self._seen(name, events.Surveyed(self.sim.moment(name), ENOUGH))

    def _wipe(self):
        name = self._server().name
        harsh = HaSoftware(
            "Patroni", "patroni.yml", Wired.NOT_WIRED, ("remove_data_directory",)
        )
        self._seen(name, events.GateSeen(self.sim.moment(name), Gate((harsh,))))
        return name, partial(self._tame, name)

    def _tame(self, name: str) -> None:
        self._seen(name, events.GateSeen(self.sim.moment(name), Gate()))

    def _seen(self, name: str, event: events.Event) -> None:
        if self.sim.runs(name):
            self.sim.submit(name, event)

    def _drift(self):
        agent = self._agent()
        if not self.sim.runs(agent.name):
            return None
        self._set_up(agent, {"probe.round_s": "otherwise"})
        return agent.name, partial(self._set_up, agent, SETTINGS)

    def _set_up(self, agent: Agent, settings: dict[str, str]) -> None:
        """Give an agent another configuration, which takes a restart if it runs."""
        runs = self.sim.runs(agent.name)
        if runs:
            self.sim.crash(agent.name)
        agent.policy = replace(agent.policy, settings=settings)
        if runs:
            self.sim.boot(agent.name)

    def _mislead(self):
        server = self._server()
        managed = self.sim.agents[server.name].policy.spec(server.name).has_manager
        if not managed or not server.in_recovery or self.world.misled:
            return None
        self.world.misled = server.name
        return server.name, partial(setattr, self.world, "misled", "")

    def set_back(self, dice: random.Random) -> None:
        """Put an old image of a machine in place, by dice of its own.

        It is no kind of harm like the others: seeds that failed once go on as they did.
        """
        name = dice.choice(tuple(self.world.servers))
        if self.world.set_back(name, dice.randint(1, 60)):
            self.count["set a machine back"] += 1
            self.say(f"set a machine back: {name}")

    def _announce(self):
        return self.people.announce(self._machine())

    def _promote_twins(self):
        """Promote two standbys to one timeline, one later than the other.

        Until this is over the HA software takes equal numbers for one history.
        """
        able = [one for one in self.world.servers.values() if self._promotable(one)]
        if len(able) < 2 or self.software.by_number:
            return None
        first, second = self.dice.sample(able, 2)
        number = self.world.timeline_max + 1
        self.software.by_number = True
        self._promote_to(first.name, number)
        after_s = self.dice.choice((0.0, 3.0, 8.0)) * self.dice.random()
        later = partial(self._promote_to, second.name, number)
        self.sim.at(self.world.now_s + after_s, later)
        undo = partial(setattr, self.software, "by_number", False)
        return f"{first.name} and {second.name} to {number}", undo

    def _promotable(self, server) -> bool:
        return server.running and server.in_recovery and not server.paused

    def _promote_to(self, name: str, number: int) -> None:
        server = self.world.servers[name]
        if self._promotable(server) and server.timeline < number:
            self.world.promote(name, f"{self.world.now_s:.3f}", number)
