"""The world that the simulated agents look at: servers, links, and one clock.

Theory of operation. Ground truth only: what each server is and what the network
lets through. Nothing in here knows what an agent believes. Positions are bytes,
time is seconds; nobody sleeps.
"""

from dataclasses import dataclass, field, replace

from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.observation import PostgresSight, Sender, ServerFacts

SYSTEM = "7300000000000000001"
SEGMENT_BYTES = 1 << 24


@dataclass
class Server:
    """One PostgreSQL server, as it really is."""

    name: str
    running: bool = True
    in_recovery: bool = True
    timeline: int = 1
    switches: tuple[Switch, ...] = ()
    fingerprints: tuple[Fingerprint, ...] = ()
    lsn: int = 0x3000000
    next_xid: int = 700
    started: int = 1
    upstream: str | None = None
    rows: set[str] = field(default_factory=set)

    @property
    def writable(self) -> bool:
        return self.running and not self.in_recovery

    @property
    def lineage(self) -> Lineage:
        return Lineage(SYSTEM, self.timeline, self.switches, self.fingerprints)


class World:
    """Three or more servers in a network that can be cut."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.servers = {name: Server(name) for name in names}
        first, *others = names
        self.servers[first].in_recovery = False
        for name in others:
            self.servers[name].upstream = first
        self.dark: set[tuple[str, str]] = set()
        self.dead: set[str] = set()

    def passes(self, source: str, target: str) -> bool:
        """Whether a question of `source` reaches `target` and its answer returns."""
        if source == target:
            return source not in self.dead
        pair_open = not {(source, target), (target, source)} & self.dark
        return pair_open and not {source, target} & self.dead

    def cut_off(self, name: str) -> None:
        for other in self.servers:
            if other != name:
                self.dark |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.dark.clear()

    def kill(self, name: str) -> None:
        self.dead.add(name)
        self.servers[name].running = False

    def start(self, name: str) -> None:
        self.dead.discard(name)
        server = self.servers[name]
        server.running = True
        server.started += 1

    def promote(self, name: str, mark: str = "") -> None:
        """Promote a standby: the next number, from its own position."""
        server = self.servers[name]
        here = Lsn(server.lsn)
        server.switches = (*server.switches, Switch(server.timeline, here))
        server.timeline += 1
        server.fingerprints = (
            *server.fingerprints,
            Fingerprint(server.timeline, here, f"{name}{mark}"),
        )
        server.in_recovery = False
        server.upstream = None
        server.lsn += 0x60

    def write(self, name: str, row: str) -> bool:
        """Commit a row on a writable server; its standbys follow at once."""
        server = self.servers[name]
        if not server.writable or name in self.dead:
            return False
        server.rows.add(row)
        server.lsn += 0x100
        server.next_xid += 1
        self.replicate()
        return True

    def replicate(self) -> None:
        """Let every standby that can be reached take over its upstream's WAL."""
        for server in self.servers.values():
            if not (server.running and server.in_recovery and server.upstream):
                continue
            source = self.servers[server.upstream]
            if not (source.running and self.passes(source.name, server.name)):
                continue
            if self._streams(source, server):
                server.timeline = source.timeline
                server.switches = source.switches
                server.fingerprints = source.fingerprints
                server.lsn = source.lsn
                server.next_xid = source.next_xid
                server.rows = set(source.rows)

    def _streams(self, source: Server, server: Server) -> bool:
        """A standby follows when its own position lies on the source's line."""
        if source.timeline == server.timeline:
            return source.switches == server.switches and source.lsn >= server.lsn
        left = {switch.timeline: switch.lsn for switch in source.switches}
        return left.get(server.timeline, -1) >= server.lsn

    def rewind(self, loser: str, winner: str) -> None:
        """Make the loser a standby of the winner: what it held alone is gone."""
        source, server = self.servers[winner], self.servers[loser]
        server.timeline = source.timeline
        server.switches = source.switches
        server.fingerprints = source.fingerprints
        server.lsn = source.lsn
        server.next_xid = source.next_xid
        server.rows = set(source.rows)
        server.in_recovery = True
        server.upstream = winner
        server.running = True
        server.started += 1

    def sight(self, name: str) -> PostgresSight:
        """What a question by SQL tells of a running server."""
        server = self.servers[name]
        senders = tuple(
            Sender(other.name, "streaming", "async", Lsn(other.lsn), f"{other.lsn}")
            for other in self.servers.values()
            if other.upstream == name
            and other.running
            and self.passes(name, other.name)
        )
        here = Lsn(server.lsn)
        return PostgresSight(
            system_id=SYSTEM,
            version_num=160014,
            in_recovery=server.in_recovery,
            timeline=server.timeline,
            write_lsn=here,
            flush_lsn=here,
            replay_lsn=here if server.in_recovery else None,
            postmaster_started=f"{name} start {server.started}",
            next_xid=server.next_xid,
            upstream=server.upstream,
            receiver_mark=f"{here}" if server.in_recovery else None,
            senders=senders,
            waiting_for_sync=0,
            waiting_for_sync_s=0.0,
        )

    def facts(self, name: str) -> ServerFacts:
        """What the disk tells the agent beside the server."""
        server = self.servers[name]
        here = Lsn(server.lsn)
        return ServerFacts(
            identity=f"machine-{name}",
            data_dir=f"/{name}",
            lineage=server.lineage,
            control_state="in production" if server.running else "shut down",
            checkpoint_lsn=Lsn(here - 0x78),
            redo_lsn=Lsn(here - 0x78),
            running=server.running,
            standby_signal=server.in_recovery,
            end_lsn=None if server.running else here,
            wal_segment_bytes=SEGMENT_BYTES,
            version_num=160014,
        )

    def copy(self, name: str) -> Server:
        """A protective copy of the server as it is now."""
        server = self.servers[name]
        return replace(server, rows=set(server.rows))
