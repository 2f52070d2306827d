"""Everything that the rules ask, gathered once per judgement.

Theory of operation. A rule is a short condition, so the questions behind it are
answered here: who sees whom on which channel (this agent's own looks, and those of
the peers whose reports are fresh), which server was last read as what and by whom,
who accepts writes, and whether this agent is cut off or has only just started. The
scene is built from the state and one instant, and nothing in it changes.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from agent.core import pageprint, positions
from agent.core.detector import Look, channels, judge, key, together
from agent.core.lineage import Lineage
from agent.core.memo import kept
from agent.core.moment import Moment
from agent.core.observation import (
    Channel,
    PostgresSight,
    ReadFailure,
    Report,
    ServerFacts,
)
from agent.core.policy import Policy
from agent.core.quorum import majority
from agent.core.selfdoubt import misses_to_accuse
from agent.core.state import Position, Received, State
from agent.core.testimony import Line, testimony

Place = tuple[str, Channel]
T = TypeVar("T")
CHANNELS = tuple(Channel)


class ServerSight(NamedTuple):
    """The freshest successful reading of one node's PostgreSQL."""

    node: str
    sight: PostgresSight
    by: str
    """Who read it."""
    read_s: float
    """The earliest instant at which it can have been read, on our own clock."""


class Told(NamedTuple):
    """A peer's fresh report, and its age."""

    report: Report
    sent_s: float
    """When it was asked for, on our own clock."""
    age_s: float
    answers: bool
    """Whether the peer is still seen to answer. Of itself it may speak only so long:
    its own sign of life is else the old news that the silence is about."""

    def lines(self, wanted: Look) -> tuple[Line, ...]:
        """Return the lines that may tell of this look."""
        told = testimony(self.report)
        return told.missed if wanted is Look.UNSEEN else told.lines


def same_run(one: PostgresSight, other: PostgresSight) -> bool:
    """Whether two answers are of one server: its start is told to the microsecond."""
    started = one.postmaster_started == other.postmaster_started
    return started and one.system_id == other.system_id


@dataclass(frozen=True)
class Scene:
    """What is known at one instant, in the form that rules ask for.

    Nothing in it changes, so what several rules ask for is worked out once: this
    class alone has no slots, because that is where such answers are kept.
    """

    state: State
    at: Moment
    policy: Policy
    looks: Mapping[Place, Look]
    """This agent's own looks."""
    nodes: Mapping[str, Look]
    """This agent's own look at each node, all channels together."""
    told: Mapping[str, Told]
    """The fresh reports of peers, with their age."""
    reports: Mapping[str, Report]
    """The fresh reports of peers."""
    sights: Mapping[str, ServerSight]
    starting: bool
    """Whether some voter has not been looked at yet since the agent started."""
    reachable: frozenset[str]
    """The voters that this agent does not miss, itself included."""
    isolated: bool
    """Whether this agent sees no majority of the voters."""

    @property
    def me(self) -> str:
        """The node that this agent stands on."""
        return self.policy.me

    @kept
    def seen_by(self) -> Mapping[Place, tuple[str, ...]]:
        """Who has seen a channel alive lately, this agent included."""
        return self._by(Look.SEEN)

    @kept
    def unseen_by(self) -> Mapping[Place, tuple[str, ...]]:
        """Who has looked lately and missed it as often as policy asks for."""
        return self._by(Look.UNSEEN)

    def _by(self, wanted: Look) -> Mapping[Place, tuple[str, ...]]:
        """Return for each channel of whom this is the look at it."""
        me, policy, looks = self.policy.me, self.policy, self.looks
        found = {place: (me,) for place, seen in looks.items() if seen is wanted}
        own, accuse = (me, Channel.AGENT), policy.missed_to_accuse
        for peer, told in self.told.items():
            for place, missed, age_s in told.lines(wanted):
                if judge(missed, age_s + told.age_s, policy, accuse) is not wanted:
                    continue
                if place not in looks and place != own:
                    continue
                if place[0] == peer and not told.answers:
                    continue
                found[place] = (*found.get(place, ()), peer)
        return found

    @kept
    def writable(self) -> tuple[str, ...]:
        """The nodes that were lately read out of recovery, in order of the list.

        Beside one of the cluster's own system, one of another is none of its primaries.
        """
        sights = self.sights
        found = tuple(
            name
            for name in self.policy.order
            if name in sights
            and not sights[name].sight.in_recovery
            and not self.stopped(name)
        )
        system = self.system_id if found else None
        return tuple(n for n in found if sights[n].sight.system_id == system) or found

    @kept
    def system_id(self) -> str | None:
        """The cluster's system: the last primary's, else of most answers and disks."""
        primary = self.state.knowledge.primary
        if primary is not None:
            return primary.system_id
        disks = [self.facts(node) for node in self.policy.order]
        counted = Counter(one.lineage.system_id for one in disks if one is not None)
        counted.update(one.sight.system_id for one in self.sights.values())
        ranked = [*counted.most_common(2), (None, 0), (None, 0)]
        return ranked[0][0] if ranked[0][1] > ranked[1][1] else None

    @kept
    def sole_primary(self) -> ServerSight | None:
        """The one node that accepts writes; None for none, several, or blindness.

        Who comes back from isolation has asked its own server before any other one:
        until all were asked, one that accepts writes may be unseen. Nor is there one
        while two names lead to it: which of them is its own, no answer tells.
        """
        writable = self.writable
        if self.isolated or self.starting or len(writable) != 1:
            return None
        if self.state.view.isolated_s is not None:
            servers = (node.name for node in self.policy.nodes if node.has_postgres)
            if not all(self._asked_since_return(n, Channel.POSTGRES) for n in servers):
                return None
        found = self.sights[writable[0]]
        others = (one for one in self.sights.values() if one is not found)
        if any(same_run(found.sight, one.sight) for one in others):
            return None
        return found

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` gives; it is called once for each name and scene."""
        answers = self._answers
        if name not in answers:
            answers[name] = make()
        made: T = answers[name]
        return made

    @kept
    def _answers(self) -> dict[str, Any]:
        """What `once` has given so far, by name."""
        return {}

    def facts(self, node: str) -> ServerFacts | None:
        """Return what was read from the node's disk, if it was lately."""
        if node == self.me:
            server = self.state.view.server
            return server if isinstance(server, ServerFacts) else None
        report = self.reports.get(node)
        return None if report is None else report.server

    def stopped(self, node: str) -> bool:
        """Whether the node's disk says that its server does not run.

        An answer that is younger than the reading says more, whatever was lost since.
        """
        facts = self.facts(node)
        if facts is None or facts.running:
            return False
        read = (self.sights.get(node), self.state.view.positions.get(node))
        answered_s = [one.read_s for one in read if one is not None]
        return not answered_s or max(answered_s) < self._disk_read_s(node)

    def _disk_read_s(self, node: str) -> float:
        """Return when the node's disk was read, on our own clock."""
        if node == self.me:
            return self.state.view.server_read_s
        seen = self.state.view.reports[node]
        age_s = self.reports[node].server_age_s
        return seen.received_s - age_s

    def read_failure(self) -> ReadFailure | None:
        """Return why the disk of the server beside this agent cannot be read."""
        server = self.state.view.server
        return server if isinstance(server, ReadFailure) else None

    def lineage(self, node: str) -> Lineage | None:
        """Return what was last read of a node; see `pageprint.current`."""
        return pageprint.current(self.state, node, self.sights, self.facts(node))

    def seen_alive(self, node: str) -> tuple[str, ...]:
        """Return who has lately seen the node alive on any channel."""
        seen: dict[str, None] = {}
        for channel in CHANNELS:
            seen.update(dict.fromkeys(self.seen_by.get((node, channel), ())))
        return tuple(seen)

    def unseen_on_all(self, node: str) -> frozenset[str]:
        """Return who has lately missed the node on every one of its channels."""
        ways = tuple(
            frozenset(self.unseen_by.get((node, channel), ()))
            for channel in channels(self.policy, node)
        )
        return frozenset.intersection(*ways) if ways else frozenset()

    def last_alive_age_s(self, node: str) -> float | None:
        """Return how long ago this agent last had a sign of life of the node."""
        signs = [
            seen.received_s
            for channel in CHANNELS
            if (seen := self.state.view.alive.get(key(node, channel))) is not None
        ]
        return self.at.monotonic_s - max(signs) if signs else None

    def last_look(self, seer: str, place: Place) -> tuple[int, float]:
        """Return how often in a row a seer has missed a channel, and when it looked.

        The instant is on our own clock. The seer must be one of those of `seen_by` or
        `unseen_by` at this place.
        """
        if seer == self.me:
            seen = self.state.view.latest[key(*place)]
            return self.state.view.missed.get(key(*place), 0), seen.received_s
        sight = testimony(self.reports[seer]).at[place]
        told = self.state.view.reports[seer]
        return sight.missed, told.received_s - sight.age_s

    def looked_since_return(self, node: str) -> bool:
        """Whether each channel was asked again since this agent was isolated.

        Who comes back has old misses of everybody; they accuse nobody.
        """
        if self.isolated:
            return True
        return all(
            self._asked_since_return(node, channel)
            for channel in channels(self.policy, node)
        )

    def _asked_since_return(self, node: str, channel: Channel) -> bool:
        since_s = self.state.view.isolated_s
        latest = self.state.view.latest
        return since_s is None or latest[key(node, channel)].sent_s > since_s

    def position(self, node: str) -> Position | None:
        """Return where the node's WAL is, with the timeline that this is known of."""
        view, facts = self.state.view, self.facts(node)
        if facts is None:
            return positions.unread(view, node, self.lineage(node))
        known = view.positions.get(node)
        answers = facts.running and node in self.sights
        held = view.received.get(node) if answers else None
        if answers and held is None:
            return known
        if held is not None and not self._settled(held, node, facts):
            held = None
        return positions.on_disk(facts, known, held, self.at)

    def _settled(self, held: Received, node: str, facts: ServerFacts) -> bool:
        """Whether the disk was read so long after it that it shows the timeline of it.

        Sooner where pg_control agrees with the disk. What two readings lack in
        precision, the hold time of the rules covers.
        """
        agrees = held.timeline == facts.lineage.timeline
        rounds = 0.5 if agrees else 1.5
        age_s = self._disk_read_s(node) - held.since_s
        return age_s >= rounds * self.policy.round_s


def build(state: State, at: Moment, policy: Policy) -> Scene:
    """Gather what is known at this instant."""
    looks = _looks(state, at, policy)
    told = {
        node: Told(
            seen.report,
            seen.sent_s,
            at.monotonic_s - seen.received_s,
            answers=looks.get((node, Channel.AGENT)) is Look.SEEN,
        )
        for node, seen in state.view.reports.items()
        if seen.report is not None
        and at.monotonic_s - seen.received_s <= policy.fresh_s
    }
    nodes = {
        name: together([looks[name, channel] for channel in ways])
        for name, ways in policy.channels.items()
        if name != policy.me
    }
    reachable = frozenset(
        name
        for name in policy.voters
        if name == policy.me or nodes[name] is not Look.UNSEEN
    )
    starting = not all(map(state.view.latest.__contains__, policy.asked_first))
    return Scene(
        state=state,
        at=at,
        policy=policy,
        looks=looks,
        nodes=nodes,
        told=told,
        reports={node: one.report for node, one in told.items()},
        sights=_sights(state, told, at, policy),
        starting=starting,
        reachable=reachable,
        isolated=not starting and len(reachable) < majority(len(policy.voters)),
    )


def _looks(state: State, at: Moment, policy: Policy) -> dict[Place, Look]:
    """Return what this agent itself can say of each channel."""
    view, now_s = state.view, at.monotonic_s
    latest, missed = view.latest, view.missed
    accuse = misses_to_accuse(view.self_doubt, at, policy)
    looks: dict[Place, Look] = {}
    for place, name in policy.places.items():
        seen = latest.get(name)
        if seen is None:
            looks[place] = Look.UNKNOWN
        else:
            age_s = now_s - seen.received_s
            looks[place] = judge(missed.get(name, 0), age_s, policy, accuse)
    return looks


def _sights(
    state: State, told: Mapping[str, Told], at: Moment, policy: Policy
) -> dict[str, ServerSight]:
    """Return the freshest successful reading of each server; our own goes first."""
    found: dict[str, ServerSight] = {}
    for node in policy.order:
        seen = state.view.latest.get(key(node, Channel.POSTGRES))
        if seen is None or seen.postgres is None:
            continue
        if at.monotonic_s - seen.received_s <= policy.fresh_s:
            found[node] = ServerSight(node, seen.postgres, policy.me, seen.sent_s)
    if len(found) < policy.servers:
        found.update(_told_sights(told, found, policy))
    return found


def _told_sights(
    told: Mapping[str, Told], own: Mapping[str, ServerSight], policy: Policy
) -> dict[str, ServerSight]:
    """Return what peers have read of servers that this agent itself has not."""
    found: dict[str, ServerSight] = {}
    for peer, one in told.items():
        for sight in testimony(one.report).readings:
            place = (sight.node, Channel.POSTGRES)
            if sight.node in own or place not in policy.places:
                continue
            if sight.node == peer and not one.answers:
                continue
            if sight.postgres is None or sight.age_s + one.age_s > policy.fresh_s:
                continue
            read_s = one.sent_s - sight.age_s
            known, node = found.get(sight.node), sight.node
            if known is None or known.read_s < read_s:
                found[node] = ServerSight(node, sight.postgres, peer, read_s)
    return found
