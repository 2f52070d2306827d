"""What every answer is made from, and the small words that all of them share.

A frame is read once per request, so that one answer never mixes two instants. Here also
stand the questions that several answers ask of it: the latest sight of a channel, the
report of a peer with its age, the disk facts of a node.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    PostgresSight,
    Report,
    ServerFacts,
)
from agent.core.policy import Policy
from agent.core.state import State
from agent.ports import OutboxCounts


@dataclass(frozen=True, slots=True)
class Frame:
    """The agent at one instant."""

    state: State
    policy: Policy
    at: Moment
    outbox: OutboxCounts = field(default_factory=lambda: OutboxCounts(0, 0))

    def latest(self, node: str, channel: Channel) -> Observation | None:
        """Return this agent's latest probe of a channel."""
        return self.state.view.latest.get(f"{node}/{channel}")

    def missed(self, node: str, channel: Channel) -> int:
        """Return how many probes in a row found nobody alive."""
        return self.state.view.missed.get(f"{node}/{channel}", 0)

    def age_s(self, seen: Observation) -> float:
        """Return how old a probe's result is."""
        return max(0.0, self.at.monotonic_s - seen.received_s)

    def report(self, node: str) -> tuple[Report, float] | None:
        """Return the last report of a peer that arrived, and its age in seconds."""
        seen = self.state.view.alive.get(f"{node}/{Channel.AGENT}")
        if seen is None or seen.report is None:
            return None
        return seen.report, self.age_s(seen)

    def facts(self, node: str) -> tuple[ServerFacts, float] | None:
        """Return what was last read from a node's disk, and its age in seconds."""
        view = self.state.view
        if node == self.policy.me:
            if isinstance(view.server, ServerFacts):
                age_s = max(0.0, self.at.monotonic_s - view.server_read_s)
                return view.server, age_s
            return None
        heard = self.report(node)
        if heard is None or heard[0].server is None:
            return None
        return heard[0].server, heard[1] + heard[0].server_age_s

    def sight(self, node: str) -> tuple[PostgresSight, float] | None:
        """Return the freshest SQL answer of a node's server, and its age in seconds.

        An agent that cannot reach the server itself knows of it through its peers.
        """
        found: list[tuple[PostgresSight, float]] = []
        own = self.state.view.alive.get(f"{node}/{Channel.POSTGRES}")
        if own is not None and own.postgres is not None:
            found.append((own.postgres, self.age_s(own)))
        reports = (self.report(peer.name) for peer in self.policy.nodes)
        found += [
            (sight.postgres, sight.age_s + age_s)
            for report, age_s in filter(None, reports)
            for sight in report.sights
            if sight.node == node and sight.postgres is not None
        ]
        return min(found, key=lambda pair: pair[1], default=None)

    def lineage(self, node: str) -> Lineage | None:
        """Return the last lineage that was read from a node's disk."""
        facts = self.facts(node)
        if facts is not None:
            return facts[0].lineage
        return self.state.knowledge.lineages.get(node)

    def fresh(self, age_s: float) -> bool:
        """Whether a sight of this age still means something."""
        return age_s <= self.policy.fresh_s


def rfc3339(wall_s: float) -> str:
    """Return an instant in UTC with milliseconds, such as 2026-11-22T23:00:00.000Z."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def rfc3339_or_none(wall_s: float | None) -> str | None:
    """Return the instant as `rfc3339` does, or None."""
    return None if wall_s is None else rfc3339(wall_s)


def lsn_text(lsn: Lsn | None) -> str | None:
    """Return an LSN as PostgreSQL prints it, or None."""
    return None if lsn is None else str(lsn)


def short(age_s: float) -> float:
    """Return a duration to the millisecond: more digits tell nobody anything."""
    return round(age_s, 3)


def alive(outcome: Outcome) -> bool:
    """Whether this outcome proves that the far end runs."""
    return outcome.alive
