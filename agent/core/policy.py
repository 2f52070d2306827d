"""Limits and durations that the rules use, and who is who in the cluster.

Everything that bounds a decision stands here, with its unit in its name and with
what happens when it is lowered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.observation import Channel


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine of the configured list."""

    name: str
    has_postgres: bool
    has_manager: bool
    has_agent: bool = True
    upstreams: tuple[str, ...] = ()
    """`host:port` texts by which standbys name this node's PostgreSQL as the server
    that they stream from. Empty: replication cannot testify for its life."""
    local: bool = True
    """Whether the agent stands beside that PostgreSQL and reads its files."""

    @property
    def is_voter(self) -> bool:
        """Whether it counts in a majority: it has a PostgreSQL, or is a witness."""
        return self.has_postgres or not self.has_manager


class WinnerRule(StrEnum):
    """How the HA software in front is expected to choose after a split."""

    HIGHEST_TIMELINE = "highest-timeline"
    NEWEST_COMMIT = "newest-commit"


class Minimum(StrEnum):
    """What has to be kept before a permit is granted."""

    FULL = "full"
    """A full copy; rows only after a long wait, or where no copy fits."""
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Policy:
    """All that `step` needs to know besides the state and the event."""

    cluster: str
    me: str
    nodes: tuple[NodeSpec, ...]
    """In the order of the configuration; the first reachable agent tells."""
    round_s: float = 1.0
    """One probe round. Shorter finds faults sooner and costs more."""
    missed_to_suspect: int = 1
    """Readings in a row without a sign of life before `node-suspect`."""
    missed_to_accuse: int = 2
    """The same before a node counts as unseen by this agent. Lower: false alarms."""
    fresh_s: float = 3.0
    """A sight older than this proves nothing (two rounds and a probe's deadline)."""
    isolation_hold_s: float = 0.0
    """How long isolation must last before the capture begins."""
    open_hold_s: float = 0.0
    """How long a critical verdict must stand before its incident opens."""
    open_hold_warning_s: float = 3.0
    """The same for warnings."""
    no_primary_hold_s: float = 5.0
    """How long nobody must accept writes before `no-primary` opens. Lower: every
    promotion pages twice."""
    lineage_hold_s: float = 2.0
    """How long a divergence or a second primary that only the readings of several
    rounds show must stand before it opens. Lower: an honest promotion, whose history
    files and readings arrive one after the other, may look like a split."""
    lag_limit_bytes: int = 256 << 20
    """A standby that has received or replayed so much less is lagging; 0: none is."""
    lag_hold_s: float = 30.0
    """How long it must be so far behind. Lower: a burst of writes pages."""
    alert_hold_s: float = 15.0
    """How long a receiver must not take notices. Lower: its restart pages others."""
    settings_hold_s: float = 60.0
    """How long agents must disagree over tokens or settings, or a manager over who is
    the primary. Lower: a change that is rolled out node by node pages."""
    resolve_hold_s: float = 5.0
    """How long a trouble must be gone before its incident is resolved."""
    standin_s: float = 10.0
    """How long the next agent in order waits before it tells in another's stead."""
    capture_stall_s: float = 30.0
    """A capture of a loser without progress for so long is `unprotected`."""
    permit_valid_s: float = 600.0
    """A grant is void after this."""
    permit_wait_s: float = 900.0
    """A request that is still pending after this may rest on rows; where these do not
    reach the end it needs a person, and says so."""
    guard_minimum: Minimum = Minimum.FULL
    """What a permit rests on. With rows, what only a full copy keeps may be lost."""
    reminder_s: float = 3600.0
    """A standing critical incident that nobody acknowledged is told again."""
    sync_wait_s: float = 5.0
    """A commit that has waited for a synchronous standby for so long is blocked."""
    clock_drift: float = 0.01
    """The largest difference in speed assumed between two monotonic clocks."""
    winner_rule: WinnerRule = WinnerRule.HIGHEST_TIMELINE
    capture_enabled: bool = True
    history_limit: int = 50
    """Entries kept of an incident's history."""
    incidents_limit: int = 200
    """Resolved incidents kept in the state; older ones remain in the journal."""
    sent_limit: int = 3600
    """Own reports remembered for the after-the-fact proof."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """By setting that must be the same on all nodes: its digest here; an empty one
    cannot be compared."""
    order: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    voters: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    """The names that count in a majority, this agent's node included."""
    channels: dict[str, tuple[Channel, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """By node: on which channels this agent asks it; an agent does not ask itself."""
    places: dict[tuple[str, Channel], str] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Every node and channel that is asked, with the view's name for it."""
    asked_first: tuple[str, ...] = field(
        default=(), init=False, compare=False, repr=False
    )
    """The view's names for the channels of voters, managers aside: who has not asked
    each of them has only just started."""
    servers: int = field(default=0, init=False, compare=False, repr=False)
    """How many of the nodes have a PostgreSQL."""

    def __post_init__(self) -> None:
        self.order.update({node.name: rank for rank, node in enumerate(self.nodes)})
        voters = tuple(node.name for node in self.nodes if node.is_voter)
        object.__setattr__(self, "voters", voters)
        self.channels.update({one.name: self._channels(one) for one in self.nodes})
        self.places.update(
            {
                (name, channel): f"{name}/{channel}"
                for name, channels in self.channels.items()
                for channel in channels
            }
        )
        first = tuple(
            name
            for (node, channel), name in self.places.items()
            if node in voters and channel is not Channel.MANAGER
        )
        object.__setattr__(self, "asked_first", first)
        servers = sum(node.has_postgres for node in self.nodes)
        object.__setattr__(self, "servers", servers)

    def _channels(self, node: NodeSpec) -> tuple[Channel, ...]:
        there = (
            (Channel.AGENT, node.has_agent and node.name != self.me),
            (Channel.POSTGRES, node.has_postgres),
            (Channel.MANAGER, node.has_manager),
        )
        return tuple(channel for channel, has in there if has)

    @property
    def majority(self) -> int:
        """Return how many voters are more than half of all of them."""
        return len(self.voters) // 2 + 1

    @property
    def has_managers(self) -> bool:
        """Whether any node of the list has a manager."""
        return any(node.has_manager for node in self.nodes)

    def spec(self, name: str) -> NodeSpec:
        """Return the node called `name`; raises KeyError when there is none."""
        return self.nodes[self.order[name]]
