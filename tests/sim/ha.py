"""The HA software in front of the simulated servers; it may be wrong.

Theory of operation. Once a second it looks at the machines that can reach each other
and do what such software does: promote a standby when nobody accepts writes, fence a
primary that is cut off (or not), let standbys follow, settle for one of two primaries
and resync the others. It waits for a permit first, as the shim does, and compares the
position once more before it overwrites anything; or it goes around the gate. How
patient and how often wrong it is was drawn for the seed. To bring a cluster back it is
made sure of itself: then it is always right and always asks.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core import event as events
from agent.core.permit import Permit, PermitState
from tests.sim import wal
from tests.sim.harness import Simulation
from tests.sim.server import Server

PASSES = (PermitState.GRANTED, PermitState.RELEASED)


@dataclass(frozen=True)
class Style:
    """How the software behaves, each as a chance or in seconds."""

    patience_s: float = 10.0
    wrong: float = 0.0
    """Promotes or starts what it should not."""
    around: float = 0.0
    """Resyncs without asking."""
    fences: float = 0.5
    """A primary that is cut off is stopped."""
    crashes: float = 0.2
    """A loser is killed instead of stopped."""
    clones: float = 0.3
    """A resync is a new copy instead of a rewind."""


SURE = Style(patience_s=2.0, fences=0.0, crashes=0.0)


@dataclass
class Resync:
    """One server on its way to become a standby of another."""

    node: str
    source: str
    around: bool
    permit: str = ""
    """The id under which was asked; empty before that."""
    ends_s: float | None = None
    """When the overwriting is over, once it has begun."""
    how: str = ""


class Software:
    """Promotes, fences, follows and resyncs."""

    def __init__(self, sim: Simulation, style: Style, dice: random.Random) -> None:
        self.sim = sim
        self.world = sim.world
        self.style = style
        self.dice = dice
        self.asleep = False
        self.by_number = False
        """Takes equal timeline numbers for one history, and resyncs nothing then."""
        self.count: Counter[str] = Counter()
        self.resyncs: dict[str, Resync] = {}
        self.say: Callable[[str], None] = lambda _: None
        self.before_resync: Callable[[Resync], None] = lambda _: None
        self._since: dict[str, float] = {}
        self._asked = 0

    def step(self) -> None:
        """Do what is due; once a second."""
        for resync in tuple(self.resyncs.values()):
            self._advance(resync)
        if self.asleep:
            return
        group = self._group()
        servers = [self.world.servers[n] for n in group if n in self.world.servers]
        here = [one for one in servers if one.name not in self.resyncs]
        writable = [one for one in here if one.writable and not one.paused]
        self._fence(group)
        if len(writable) > 1:
            self._settle(writable)
        elif writable:
            self._lead(writable[0], here)
        else:
            self._elect(here)

    # --- who is there --------------------------------------------------------------

    def _group(self) -> list[str]:
        """The largest set of machines that reach each other."""
        best: list[str] = []
        alive = [name for name in self.world.names if name not in self.world.dead]
        for first in alive:
            group = [first]
            for name in alive:
                if name != first and all(self._meet(name, one) for one in group):
                    group.append(name)
            if len(group) > len(best):
                best = group
        return best

    def _meet(self, one: str, other: str) -> bool:
        return self.world.passes(one, other) and self.world.passes(other, one)

    def _lasts(self, what: str, seconds: float) -> bool:
        """Whether this has been asked every second for so long."""
        now_s = self.world.now_s
        since_s, last_s = self._since.get(what, now_s), self._since.get(f"{what}*", 0.0)
        if now_s - last_s > 1.5:
            since_s = now_s
        self._since[what], self._since[f"{what}*"] = since_s, now_s
        return now_s - since_s >= seconds

    def _errs(self) -> bool:
        return self.dice.random() < self.style.wrong

    # --- what it does ----------------------------------------------------------------

    def _fence(self, group: list[str]) -> None:
        for server in self.world.servers.values():
            if not server.writable or server.name in group:
                continue
            lasts = self._lasts(f"fence {server.name}", self.style.patience_s)
            if lasts and self.dice.random() < self.style.fences / 4:
                self._do("fence", server.name)
                self.world.stop(server.name)

    def _settle(self, writable: list[Server]) -> None:
        """Keep one of several primaries and resync the others."""
        if not self._lasts("settle", self.style.patience_s):
            return
        kept = max(writable, key=lambda one: (one.timeline, one.lsn))
        if self._errs():
            kept = self.dice.choice(writable)
        for server in writable:
            if server is kept:
                continue
            if self.by_number and server.timeline == kept.timeline:
                self.world.stop(server.name)
                self._follow(server, kept)
            else:
                self.begin(server.name, kept.name)

    def _elect(self, here: list[Server]) -> None:
        """Nobody accepts writes: start who did, or promote the best standby."""
        if self.resyncs and self.style is SURE:
            return
        down = [one for one in here if not one.running and not one.in_recovery]
        if down and self._lasts("restart", self.style.patience_s):
            self._do("restart", down[0].name)
            self.world.launch(down[0].name)
            return
        able = [one for one in here if one.running and not one.paused]
        if not able or not self._lasts("elect", self.style.patience_s):
            for one in here:
                if not one.running and self.style is SURE:
                    self.world.launch(one.name)
            return
        best = max(able, key=lambda one: (one.timeline, one.lsn))
        if self._errs():
            best = self.dice.choice(able)
        self.promote(best.name)

    def promote(self, name: str) -> None:
        """Promote a standby, with the next number or one from the archive."""
        self._do("promote", name)
        timeline = None
        if self.dice.random() < 0.3:
            timeline = self.world.timeline_max + 1
        self.world.promote(name, f"{self.world.now_s:.3f}", timeline)

    def _lead(self, primary: Server, here: list[Server]) -> None:
        """Let everybody else follow the primary."""
        for server in here:
            if server is primary or server.paused:
                continue
            what = f"follow {server.name}"
            if self._follows(server, primary):
                continue
            if self._lasts(what, min(self.style.patience_s, 5.0)):
                self._correct(server, primary)

    def _follows(self, server: Server, primary: Server) -> bool:
        if not server.running or not server.in_recovery:
            return False
        if self.by_number and server.timeline == primary.timeline:
            return server.upstream == primary.name
        if self.world.diverged(server.name, primary.name):
            return False
        return server.upstream == primary.name or (
            server.streams and self.style is not SURE
        )

    def _correct(self, server: Server, primary: Server) -> None:
        lost = self.world.diverged(server.name, primary.name)
        equal = self.by_number and server.timeline == primary.timeline
        if lost and not equal and not self._errs():
            self.begin(server.name, primary.name)
            return
        self._follow(server, primary)

    def _follow(self, server: Server, primary: Server) -> None:
        """Let it stream from the primary, as far as that works."""
        self._do("follow", server.name)
        server.in_recovery = True
        server.upstream, server.streams = primary.name, False
        self.world.launch(server.name)

    # --- resyncs -------------------------------------------------------------------

    def begin(self, node: str, source: str) -> None:
        """Stop a loser; it will be overwritten."""
        if node in self.resyncs:
            return
        self._do("resync", f"{node} from {source}")
        if self.dice.random() < self.style.crashes:
            self.world.crash(node)
        else:
            self.world.stop(node)
        around = self.dice.random() < self.style.around
        self.resyncs[node] = Resync(node, source, around)

    def _advance(self, resync: Resync) -> None:
        node, world = resync.node, self.world
        server, source = world.servers[node], world.servers[resync.source]
        if node in world.dead:
            return
        if resync.ends_s is not None:
            if world.now_s >= resync.ends_s:
                self._finish(resync)
            return
        if server.running or not source.writable:
            self.say(f"resync of {node} given up")
            del self.resyncs[node]
            return
        if source.name in world.dead or not self._meet(node, source.name):
            return
        if resync.around:
            self._overwrite(resync, "around the gate")
        elif self.sim.runs(node) and not self.sim.frozen(node):
            self._ask(resync)

    def _ask(self, resync: Resync) -> None:
        """Ask for a permit, or use the one that was given."""
        found = self.permit(resync)
        if found is None or found.state is PermitState.VOID:
            self._asked += 1
            resync.permit = f"permit-{resync.node}-{self._asked}"
            moment = self.sim.moment(resync.node)
            asked = events.PermitAsked(moment, resync.permit, "pg_rewind")
            self.sim.submit(resync.node, asked)
        elif found.state in PASSES and self._unmoved(resync, found):
            self._overwrite(resync, found.state.value)

    def permit(self, resync: Resync) -> Permit | None:
        """What the agent says of the permit that was asked for."""
        for one in self.sim.agents[resync.node].state.ledger.permits:
            if one.id == resync.permit:
                return one
        return None

    def _unmoved(self, resync: Resync, permit: Permit) -> bool:
        """Look once more, as the shim does before it hands over."""
        server = self.world.servers[resync.node]
        if permit.state is PermitState.RELEASED:
            return True
        moved = permit.final_lsn != server.lsn or permit.timeline != server.timeline
        if moved:
            resync.permit = ""
        return not moved

    def _overwrite(self, resync: Resync, how: str) -> None:
        resync.how = how
        self.before_resync(resync)
        self.count[f"resync {how}"] += 1
        self.say(f"resync of {resync.node} begins: {how}")
        server = self.world.servers[resync.node]
        if server.crashed:
            server.single_user = True
            server.tip = wal.append(
                server.tip, "", self.world.now_s, wal.CHECKPOINT_BYTES
            )
        resync.ends_s = self.world.now_s + self.dice.uniform(0.3, 3.0)

    def _finish(self, resync: Resync) -> None:
        cloned = self.dice.random() < self.style.clones
        del self.resyncs[resync.node]
        server = self.world.servers[resync.node]
        if server.running:
            return
        self.world.replace(resync.node, resync.source, cloned=cloned)
        self.world.launch(resync.node)
        self.say(f"resync of {resync.node} is over")

    def _do(self, what: str, whom: str) -> None:
        self.count[what] += 1
        self._since = {}
        self.say(f"HA: {what} {whom}")

    def be_sure(self) -> None:
        """From now on do what is right."""
        self.style, self.asleep, self._since = SURE, False, {}
        self.by_number = False
        for node, resync in self.resyncs.items():
            self.resyncs[node] = replace(resync, around=False)


def drawn(dice: random.Random) -> Style:
    """The style of a seed."""
    return Style(
        patience_s=dice.choice((2.0, 4.0, 10.0, 20.0)),
        wrong=dice.choice((0.0, 0.1, 0.4)),
        around=dice.choice((0.0, 0.0, 0.3)),
        fences=dice.choice((0.0, 0.5, 1.0)),
        crashes=dice.choice((0.0, 0.3)),
        clones=dice.choice((0.0, 0.5)),
    )
