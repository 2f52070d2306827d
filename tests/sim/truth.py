"""What an all-seeing eye would say of the world: who could see what, since when.

Theory of operation. Each second everything is looked at as it is, and for each fact
that an oracle asks for it is noted since when it has been so without a break: that an
agent was able to watch, that a machine was silent, that a link was open. What was
disturbed a moment ago counts as not so, so that no oracle blames an agent for what it
could not have known yet.
"""

from collections.abc import Iterable

from agent.core.observation import Channel
from tests.sim.harness import Simulation

Fact = tuple[str, ...]
PERIOD_S = 0.25


class Truth:
    """Since when facts of the world have been so."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.world = sim.world
        self.since: dict[Fact, float] = {}
        self.voters = next(iter(sim.agents.values())).policy.voters
        self.majority = len(self.voters) // 2 + 1

    def look(self) -> None:
        """Look at everything once more."""
        now_s, since = self.world.now_s, self.since
        found = set(self._facts())
        for fact in tuple(since):
            if fact not in found:
                del since[fact]
        for fact in found:
            since.setdefault(fact, now_s)

    def lasted_s(self, *fact: str) -> float:
        """For how long this has been so; 0 when it is not."""
        since_s = self.since.get(fact)
        return 0.0 if since_s is None else self.world.now_s - since_s

    def _facts(self) -> Iterable[Fact]:
        network, names = self.world.network, self.world.names
        if not network.loss and not network.jitter_s:
            yield ("calm",)
        yield ("writable", *self.world.writable)
        for name in names:
            yield from self._of(name)
        for one in names:
            for other in names:
                if one != other:
                    yield self._link(one, other)

    def _link(self, one: str, other: str) -> Fact:
        """What a way is: `open` when everything passes at once."""
        network = self.world.network
        if not network.passes(one, other):
            return ("shut", one, other)
        mute = any((one, other, channel) in network.mute for channel in Channel)
        slow = network.slow.get((one, other), 0.0) > 0.0
        return ("odd" if mute or slow else "open", one, other)

    def _of(self, name: str) -> Iterable[Fact]:
        world = self.world
        agent, server = self.sim.agents[name], world.servers.get(name)
        if name in world.dead or self.sim.suspended(name):
            yield ("off", name)
            return
        manages = agent.policy.spec(name).has_manager
        up = manages and name not in world.managers_down
        yield ("manager" if up else "mute manager", name)
        watches = agent.alive and not self.sim.frozen(name)
        if watches:
            yield ("watches", name, str(agent.boots))
            yield ("agent", name)
            if not agent.journal.full and not agent.armed:
                yield ("remembers", name)
        else:
            yield ("mute agent", name)
        if server is not None and not server.unreadable and watches:
            yield ("readable", name, str(server.running))
        yield from self._by_sql(name)

    def _by_sql(self, name: str) -> Iterable[Fact]:
        """What a question by SQL finds at a machine's address."""
        world, server = self.world, self.world.servers.get(name)
        if server is None or not server.answers:
            yield (
                "another server" if self._answered_for(name) else "mute server",
                name,
            )
            return
        yield ("server", name)
        accepts = not server.refusing and world.now_s >= server.recovers_until_s
        if accepts and not world.aliases and not server.system_id:
            yield ("answers", name, server.started, str(server.in_recovery))

    def _answered_for(self, name: str) -> bool:
        """Whether its address leads to a server that answers in its place."""
        other = self.world.aliases.get(name)
        return other is not None and self.world.servers[other].answers

    # --- what oracles ask ----------------------------------------------------------

    def watching(self, name: str, seconds: float) -> bool:
        """Whether an agent has watched without a break for so long."""
        boots = str(self.sim.agents[name].boots)
        return self.lasted_s("watches", name, boots) >= seconds

    def open(self, one: str, other: str, seconds: float) -> bool:
        """Whether both ways between two machines have been open for so long."""
        if one == other:
            return True
        return (
            self.lasted_s("open", one, other) >= seconds
            and self.lasted_s("open", other, one) >= seconds
        )

    def shut(self, one: str, other: str, seconds: float) -> bool:
        """Whether neither way has worked for so long."""
        return (
            self.lasted_s("shut", one, other) >= seconds
            and self.lasted_s("shut", other, one) >= seconds
        )

    def calm(self, seconds: float) -> bool:
        return self.lasted_s("calm") >= seconds

    def court(self, seconds: float) -> tuple[str, ...]:
        """Voters that have watched, and all seen each other, for so long.

        Empty when they are no majority.
        """
        found: list[str] = []
        for name in self.voters:
            if self.watching(name, seconds) and all(
                self.open(name, one, seconds) for one in found
            ):
                found.append(name)
        return tuple(found) if len(found) >= self.majority else ()

    def silent(self, name: str, seconds: float) -> bool:
        """Whether nothing on a machine has answered for so long."""
        if self.lasted_s("off", name) >= seconds:
            return True
        return (
            self.lasted_s("mute manager", name) >= seconds
            and self.lasted_s("mute agent", name) >= seconds
            and self.lasted_s("mute server", name) >= seconds
        )

    def silent_since(self, name: str) -> float:
        """Since when it was noticed that nothing answers there."""
        facts = (("off", name), ("mute agent", name), ("mute server", name))
        return max(self.since.get(fact, 0.0) for fact in facts)

    def witnesses(self, name: str, seconds: float) -> tuple[str, ...]:
        """Voters that could ask a machine, which answered, for so long."""
        lives = max(
            self.lasted_s("agent", name),
            self.lasted_s("server", name),
            self.lasted_s("manager", name),
        )
        if lives < seconds:
            return ()
        return tuple(
            one
            for one in self.voters
            if one != name and self.lasted_s("open", one, name) >= seconds
        )

    def reachable(self, name: str, seconds: float) -> tuple[str, ...]:
        """Voters of which an agent can have missed nothing but a question or two."""
        return tuple(
            one
            for one in self.voters
            if one == name
            or not (self.shut_from(name, one, seconds) or self.silent(one, seconds))
        )

    def shut_from(self, name: str, other: str, seconds: float) -> bool:
        return self.lasted_s("shut", name, other) >= seconds
