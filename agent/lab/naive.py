"""The naive HA behaviour of the stand-in managers, as the vendor's guide tells it.

"When there is no connectivity between managers, each of them thinks that the other
managers are unhealthy and becomes master. After connectivity is back, the master
becomes the only one; it is chosen by the newest version of the PostgreSQL
database. All data from the other managers is lost."

Theory of operation. `Naive.decide` is given this manager's standing and those that
it sees, and returns one move. A manager that sees no other becomes active. In a
group without an active one, the one that received most promotes. When several are
active, the one with the lowest name notes whose database is the newest at that
moment, waits for a settle time, and names that one the winner; the others give up.
A manager that follows what is not its own line has lost as well. From 5 on Patroni
decides, which asks for a majority: who sees none neither becomes nor stays active. No
clock is read here and nothing is done.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.lab.standing import Decision, Meeting, ServerStanding, Standing, contains


@dataclass(frozen=True, slots=True)
class Stay:
    """Go on as before."""


@dataclass(frozen=True, slots=True)
class BecomeActive:
    """Promote the server and take writes."""

    why: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Stream from another node from now on."""

    leader: str


@dataclass(frozen=True, slots=True)
class StepDown:
    """Take no more writes: no majority of the cluster is in sight."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This node has lost: stop its server and resync it from the winner."""

    winner: str
    why: str


Move = Stay | BecomeActive | Follow | StepDown | GiveUp


@dataclass(frozen=True, slots=True)
class Habits:
    """The managers' times, in seconds."""

    poll_s: float = 0.5
    lost_after_s: float = 2.0
    """Without an active manager for so long, another one becomes active."""
    settle_s: float = 3.0


class Naive:
    """One manager's mind."""

    def __init__(self, me: str, upstreams: Mapping[int, str], habits: Habits) -> None:
        self.decision: Decision | None = None
        self.meeting: Meeting | None = None
        self._me = me
        self._upstreams = upstreams
        self._habits = habits
        self._leaderless_since: float | None = None
        self._minor_since: float | None = None

    def decide(
        self,
        mine: Standing,
        others: Mapping[str, Standing],
        now_s: float,
        voters: int = 0,
    ) -> Move:
        """Return the move for now. `others` are those that answered lately.

        `voters`: how many a majority is counted of, as from 5 on; 0: none is needed.
        """
        if 2 * (len(others) + 1) <= voters:
            return self._as_minority(mine, now_s)
        self._minor_since = None
        active = {name: other for name, other in others.items() if other.active}
        if mine.active:
            self._leaderless_since = None
            return self._as_active(mine, active, now_s)
        self._part()
        if not active:
            return self._without_leader(mine, others, now_s)
        self._leaderless_since = None
        leader = self._leader(active)
        return Stay() if leader is None else self._as_standby(mine, leader)

    def _as_minority(self, mine: Standing, now_s: float) -> Move:
        if self._minor_since is None:
            self._minor_since = now_s
        patient = now_s - self._minor_since < self._habits.lost_after_s / 2
        return Stay() if patient or not mine.active else StepDown()

    def _as_active(
        self, mine: Standing, active: Mapping[str, Standing], now_s: float
    ) -> Move:
        named = self._named(active.values())
        if named is not None and named.winner != self._me:
            return GiveUp(named.winner, "its database is the newest")
        if not active:
            self._part()
            return Stay()
        if self._me == min(self._me, *active):
            self._meet(mine, active, now_s)
            if self.decision is not None and self.decision.winner != self._me:
                return GiveUp(self.decision.winner, "its database is the newest")
        return Stay()

    def _meet(
        self, mine: Standing, active: Mapping[str, Standing], now_s: float
    ) -> None:
        if self.meeting is None:
            newest = _newest((mine, *active.values()))
            self.meeting = Meeting(now_s, newest) if newest else None
            return
        settled = now_s - self.meeting.since_s >= self._habits.settle_s
        if settled and self.decision is None:
            winner = self.meeting.newest
            identity = f"{self._me}-{winner}-{now_s:.3f}"
            self.decision = Decision(identity, winner)

    def _part(self) -> None:
        """End the meeting; what was decided in it binds nobody in the next one."""
        self.meeting = self.decision = None

    def _named(self, active: Iterable[Standing]) -> Decision | None:
        """Return the decision that an active manager has made, if it concerns us."""
        for other in active:
            if other.decision is not None:
                return other.decision
        return None

    def _without_leader(
        self, mine: Standing, others: Mapping[str, Standing], now_s: float
    ) -> Move:
        if self._leaderless_since is None:
            self._leaderless_since = now_s
        waited_s = now_s - self._leaderless_since
        if waited_s < self._habits.lost_after_s or mine.server is None:
            return Stay()
        if not others:
            return BecomeActive("it sees no other manager")
        ready = [other for other in others.values() if other.server and not other.busy]
        best = min((mine, *ready), key=_rank)
        if best.name == self._me:
            return BecomeActive("it received most of those that see each other")
        return Stay()

    def _leader(self, active: Mapping[str, Standing]) -> Standing | None:
        """Return whom a standby believes: the only active one, or the winner."""
        if len(active) == 1:
            return next(iter(active.values()))
        named = self._named(active.values())
        return active.get(named.winner) if named is not None else None

    def _as_standby(self, mine: Standing, leader: Standing) -> Move:
        if mine.server is None or leader.server is None:
            return Stay()
        if not contains(leader.server, mine.server):
            return GiveUp(leader.name, "this node followed another line")
        if self._upstreams.get(mine.server.upstream_port or 0) != leader.name:
            return Follow(leader.name)
        return Stay()


def _rank(standing: Standing) -> tuple[int, str]:
    """Order candidates: who received most first, then by name."""
    lsn = standing.server.lsn if standing.server else 0
    return (-int(lsn), standing.name)


def _newest(standings: Iterable[Standing]) -> str | None:
    """Return whose database is the newest: by its last row, then by its LSN."""
    with_server = [(s.server, s.name) for s in standings if s.server is not None]
    if len(with_server) < 2:  # noqa: PLR2004 - one alone has met nobody
        return None

    def age(item: tuple[ServerStanding, str]) -> tuple[float, int]:
        return (item[0].last_row_at, int(item[0].lsn))

    return max(with_server, key=age)[1]
