"""The world that the simulated agents look at: servers and the network between them.

Theory of operation. Ground truth only. Servers write, stream from each other, are
promoted, stop, crash, are rewound; what each holds is a chain of records (see `wal`),
so that "who has lost what" has an exact answer. A commit is acknowledged at once, or
with synchronous replication when a standby has it. A standby takes whatever its
upstream sends if position and timeline fit, as PostgreSQL does: one that comes from
a twin of the same length is spliced without a word. Nothing in here knows what an
agent believes.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

from agent.core.lsn import Lsn
from agent.core.observation import PostgresSight, Sender, ServerFacts
from tests.sim import wal
from tests.sim.network import Network, Way
from tests.sim.server import KEEPALIVE_S, STREAMING_S, Run, Server
from tests.sim.wal import SYSTEM, Record

__all__ = ["SYSTEM", "Server", "World"]

CHECKPOINT_S = 30.0


@dataclass
class Waiting:
    """A commit that waits for a synchronous standby."""

    record: Record
    since_s: float


@dataclass
class World:
    """Servers in a network that can be cut."""

    names: tuple[str, ...]
    """Every machine; those with a server come first."""
    server_names: tuple[str, ...] = ()
    """Machines with a PostgreSQL; empty: all of them."""
    now_s: float = 0.0
    synchronous: bool = False
    network: Network = field(default_factory=Network)
    dead: set[str] = field(default_factory=set)
    """Machines that are off."""
    suspended: set[str] = field(default_factory=set)
    """Machines that stand still: what is started there does nothing until they wake."""
    managers_down: set[str] = field(default_factory=set)
    misled: str = ""
    """Whose manager takes itself for the active one, whoever the primary is."""
    acknowledged: set[Record] = field(default_factory=set)
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    lag: random.Random | None = None
    """Dice for how late a disk shows a new timeline; None: at once."""
    timeline_max: int = 1
    promotions: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each server has begun a timeline of each number: what was begun is
    thrown away with its server's disk, and the number used once more."""
    promoted_s: dict[tuple[str, int], float] = field(default_factory=dict)
    """By server and timeline: when it was last promoted to that."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Whose address leads everybody else to which other server, by mistake."""

    def __post_init__(self) -> None:
        origin = wal.begin()
        names = self.server_names or self.names
        self.servers = {n: Server(n, origin, lambda: self.now_s) for n in names}
        first, *others = names
        self.servers[first].in_recovery = False
        for name in others:
            self.servers[name].upstream = first
        self.replicate()

    # --- the network, in the words of a story ---------------------------------

    @property
    def dark(self) -> set[Way]:
        return self.network.cut

    @dark.setter
    def dark(self, ways: set[Way]) -> None:
        self.network.cut = ways

    def passes(self, source: str, target: str) -> bool:
        """Whether a question of `source` reaches `target` and its answer returns."""
        if source in self.dead or target in self.dead:
            return False
        return self.network.passes(source, target)

    def cut_off(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.cut(name, other)

    def cut(self, first: str, second: str) -> None:
        self.network.cut |= {(first, second), (second, first)}
        self.network.touch(first, second, self.now_s)

    def heal(self) -> None:
        for first in self.names:
            for second in self.names:
                if first < second:
                    self.network.heal(first, second, self.now_s)

    # --- machines and processes -------------------------------------------------

    def kill(self, name: str) -> None:
        """Switch a machine off."""
        self.dead.add(name)
        if name in self.servers:
            self.crash(name)

    def start(self, name: str) -> None:
        """Switch a machine on; its server starts as it was."""
        self.dead.discard(name)
        if name in self.servers:
            self.launch(name)

    def launch(self, name: str) -> None:
        """Start the server as what its data directory says it is."""
        server = self.servers[name]
        if server.running or name in self.dead:
            return
        server.runs += 1
        server.paused = name in self.suspended
        server.streams = False
        if server.crashed and not server.in_recovery:
            server.put(wal.append(server.tip, "", self.now_s, wal.CHECKPOINT_BYTES))
            server.checkpoint = server.tip
        server.crashed = False
        server.running = True

    def crash(self, name: str) -> None:
        """End the server's processes without a word."""
        server = self.servers[name]
        if server.running:
            server.running, server.paused, server.crashed = False, False, True
            self.waiting.pop(name, None)

    def stop(self, name: str) -> None:
        """Stop the server cleanly; connected standbys get its last words."""
        server = self.servers[name]
        if not server.running:
            return
        if not server.in_recovery:
            server.put(wal.append(server.tip, "", self.now_s, wal.CHECKPOINT_BYTES))
            server.checkpoint = server.tip
            self.replicate()
        server.running, server.paused = False, False
        self.waiting.pop(name, None)

    def set_back(self, name: str, records: int) -> bool:
        """Put an old image of a primary's disk in place, of the same timeline.

        Returns whether there was one that lacks something.
        """
        server = self.servers[name]
        old = server.tip
        while records and old.before and old.before.lineage is server.lineage:
            old, records = old.before, records - 1
        if not server.writable or server.paused or old is server.tip:
            return False
        self.crash(name)
        server.tip = server.checkpoint = old
        self.launch(name)
        return True

    def elect(self, name: str, follower: str, *, rows: int, beside: str) -> None:
        """Promote a server beside a primary that goes on, and let both take writes."""
        self.promote(name)
        self.servers[follower].upstream = name
        for row in range(rows):
            self.write(beside, f"left {row}")
            self.write(name, f"right {row}")

    def promote(self, name: str, mark: str = "", timeline: int | None = None) -> None:
        """Promote a standby: the next number, from its own position."""
        server = self.servers[name]
        number = timeline or server.timeline + 1
        self.timeline_max = max(self.timeline_max, number)
        self.promotions[name, number] += 1
        self.promoted_s[name, number] = self.now_s
        old = server.lineage
        server.put(wal.switched(server.tip, number, f"{name}{mark}", self.now_s))
        if self.lag is not None:
            server.late = (self.now_s + self.lag.random() * 1.5, old)
        server.in_recovery = False
        server.upstream = None
        server.streams = False

    def rewind(self, loser: str, winner: str) -> None:
        """Make the loser a standby of the winner, and start it."""
        self.replace(loser, winner)
        server = self.servers[loser]
        server.runs += not server.running
        server.running = True

    def replace(self, loser: str, winner: str, *, cloned: bool = False) -> None:
        """Make the stopped loser's disk a standby's of the winner."""
        source, server = self.servers[winner], self.servers[loser]
        if server.running:
            server.running = False
            server.runs += 1
        server.crashed = server.single_user = False
        server.late = None
        server.tip = server.checkpoint = source.tip
        server.folders += 1
        server.moved_s = self.now_s
        server.prints_from = source.tip.lsn if cloned else source.prints_from
        server.in_recovery = True
        server.upstream = winner

    # --- writing and streaming --------------------------------------------------

    def write(self, name: str, row: str, size: int = wal.COMMIT_BYTES) -> bool:
        """Commit a row on a writable server; its standbys follow at once."""
        server = self.servers[name]
        if not server.writable or name in self.dead or server.paused:
            return False
        server.put(wal.append(server.tip, row, self.now_s, size))
        if self.synchronous:
            waiting = Waiting(server.tip, self.now_s)
            self.waiting.setdefault(name, []).append(waiting)
        else:
            self.acknowledged.add(server.tip)
        self.replicate()
        return True

    def replicate(self) -> None:
        """Let every standby that can be reached take over its upstream's WAL."""
        for server in self.servers.values():
            if server.in_recovery and server.upstream and server.answers:
                self._stream(server, self.servers[server.upstream])
        for name, waiting in self.waiting.items():
            if waiting:
                self._acknowledge(name, waiting)

    def checkpoint(self) -> None:
        """Let servers whose last checkpoint is old make one."""
        for server in self.servers.values():
            old = self.now_s - server.checkpoint.written_s >= CHECKPOINT_S
            if server.running and old:
                server.checkpoint = server.tip

    def _stream(self, server: Server, source: Server) -> None:
        if source.name in self.dead or not source.running:
            server.streams = False
            return
        way = (server.name, source.name)
        if source.paused or not self.network.passes(*way) or server.paused:
            if self.now_s - server.flowed_s > STREAMING_S:
                server.streams = False
            return
        tip = self._sent(server, source)
        server.streams = tip is not None
        if tip is None:
            return
        server.flowed_s = self.now_s
        if tip is not server.tip:
            self._take(server, tip)
        elif self.now_s - server.mark_s >= KEEPALIVE_S:
            server.mark_s = self.now_s

    def _take(self, server: Server, tip: Record) -> None:
        old = server.lineage
        server.put(tip)
        server.mark_s = self.now_s
        if self.lag is not None and tip.lineage is not old:
            server.late = (self.now_s + self.lag.random() * 1.5, old)

    def _sent(self, server: Server, source: Server) -> Record | None:
        """Up to where the standby takes what its upstream sends; None: nothing."""
        target = source.tip
        if target is server.tip:
            return target
        while server.delay_s and target.before is not None:
            if target.written_s <= self.now_s - server.delay_s:
                break
            target = target.before
        if wal.holds(target, server.tip):
            return target
        if wal.holds(server.tip, target):
            return server.tip if wal.holds(source.tip, server.tip) else None
        return self._spliced(server, source)

    def _spliced(self, server: Server, source: Server) -> Record | None:
        """What a twin of the same length takes over without noticing.

        PostgreSQL compares the numbers of timelines and positions, and that a record
        follows one that ended where its own last one ends.
        """
        own, theirs = server.tip, source.tip
        if own.timeline != theirs.timeline or own.lineage.switches != (
            theirs.lineage.switches
        ):
            return None
        missing: list[Record] = []
        for record in wal.back(theirs):
            if record.lsn <= own.lsn:
                break
            missing.append(record)
        meets = missing[-1].before if missing else theirs
        if meets is None or meets.lsn != own.lsn:
            return None
        for record in reversed(missing):
            own = wal.spliced(own, record)
        return own

    def _acknowledge(self, name: str, waiting: list[Waiting]) -> None:
        standbys = [
            one.tip
            for one in self.servers.values()
            if one.upstream == name and one.running and one.in_recovery and one.streams
        ]
        done = [w for w in waiting if any(wal.holds(t, w.record) for t in standbys)]
        for one in done:
            waiting.remove(one)
            self.acknowledged.add(one.record)

    # --- what is seen of a server -----------------------------------------------

    def sight(self, name: str) -> PostgresSight:
        """What a question by SQL tells of a running server."""
        senders = tuple(
            Sender(
                other.name,
                "streaming",
                "sync" if self.synchronous else "async",
                Lsn(other.tip.lsn),
                f"{other.mark_s:.1f}",
            )
            for other in self.servers.values()
            if other.upstream == name
            and other.in_recovery
            and other.streams
            and other.running
        )
        waits_s = tuple(self.now_s - one.since_s for one in self.waiting.get(name, ()))
        return self.servers[name].sight(senders, waits_s)

    def facts(self, name: str) -> ServerFacts:
        """What the disk tells the agent beside the server."""
        return self.servers[name].facts()

    def active(self, name: str) -> bool:
        """Whether the manager of this node takes itself for the active one."""
        if self.misled:
            return name == self.misled
        server = self.servers.get(name)
        return server is not None and server.writable

    # --- the truth, for those who judge -------------------------------------------

    @property
    def writable(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.servers.values() if one.writable)

    def overlapped(self, first: Run, second: Run) -> bool:
        """Whether two runs were ever writable at once; an empty start is any run."""
        return any(
            one.begin_s < other.reaches(self.now_s)
            and other.begin_s < one.reaches(self.now_s)
            for one in self._spans(first)
            for other in self._spans(second)
        )

    def _spans(self, run: Run):
        node, started = run
        server = self.servers.get(node)
        if server is None:
            return []
        if started:
            return server.spans_of(run)
        return [span for spans in server.spans.values() for span in spans]

    def diverged(self, name: str, primary: str) -> bool:
        """Whether a server holds a record that the primary's chain lacks."""
        ours, theirs = self.servers[name], self.servers[primary]
        return not wal.holds(theirs.tip, ours.tip)
