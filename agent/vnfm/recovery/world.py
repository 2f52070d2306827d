"""What a run sees: the managers, and the nodes as an agent tells them.

Theory of operation. Values only, made of what managers and an agent answered; who did
not answer has a reason in place of an answer, and what nobody told is empty. The
judging of it is in `judging`, the asking in `looking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.core.lsn import Lsn
from agent.vnfm.records import Generation, Member

Plain = Mapping[str, Any]
COMPLETE = ("complete", "opened")
"""Grades of a snapshot that hold all that the node had."""


@dataclass(frozen=True, slots=True)
class ManagerSeen:
    """One manager, as it answered for itself."""

    node: str
    place: str
    """Host and port."""
    answers: bool
    active: bool = False
    version: str = ""
    word: str = ""
    """What it said, or why there is no answer."""
    cluster: str = ""
    """`OK`, `Degraded`, `Fail`; empty when it did not tell."""
    members: tuple[Member, ...] = ()
    holds: Mapping[str, int] | None = None
    """How many blueprints and so on; None when it was not asked or did not say."""

    @property
    def alone(self) -> bool:
        """Whether it belongs to no cluster: it lists itself, by its address only."""
        names = [one.name for one in self.members if one.kind == "manager"]
        return names == [self.place.rpartition(":")[0] or self.place]

    @property
    def empty(self) -> bool | None:
        """Whether it holds nothing that a person made; None when nobody knows."""
        return None if self.holds is None else not any(self.holds.values())


@dataclass(frozen=True, slots=True)
class NodeSight:
    """One node, as the agent that was asked has it."""

    name: str
    role: str
    """`primary`, `standby`, `stopped`, `witness`, `manager`, `unknown`."""
    timeline: int | None = None
    lsn: Lsn | None = None
    lsn_known: bool = False
    upstream: str = ""
    seen: bool = False
    """Whether anything of it answers: agent, PostgreSQL or manager."""
    stands: str = "unknown"
    """`on` the kept line, `past` the fork from it, or `unknown`."""


@dataclass(frozen=True, slots=True)
class VerdictSight:
    """One conclusion of the agent."""

    verdict: str
    family: str
    subject: str
    severity: str
    sentence: str
    next_step: str
    incident: str
    evidence: Plain = field(default_factory=dict)

    def names(self, key: str) -> tuple[str, ...]:
        """Return the names in a piece of evidence."""
        told = self.evidence.get(key)
        return tuple(told.split(",")) if isinstance(told, str) and told else ()


@dataclass(frozen=True, slots=True)
class CopySight:
    """One snapshot of a node's PostgreSQL."""

    id: str
    node: str
    grade: str
    incidents: tuple[str, ...]
    running: str = ""
    """How far it is, while it is taken."""
    side: str = ""
    """Of the split that it was taken for: `loser`, `winner`, `standby`, or empty."""

    @property
    def complete(self) -> bool:
        """Whether it holds all that the node had when it ended."""
        return self.grade in COMPLETE


@dataclass(frozen=True, slots=True)
class IncidentSight:
    """One incident that is open, or a split that is over and was taken by nobody."""

    id: str
    verdict: str
    subject: str
    over: bool
    taken_by: str
    """Empty: nobody."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a check looks at."""

    generation: Generation
    managers: tuple[ManagerSeen, ...]
    agent: str = ""
    """Why no agent could be asked; empty when one answered."""
    headline: str = ""
    nodes: tuple[NodeSight, ...] = ()
    verdicts: tuple[VerdictSight, ...] = ()
    copies: tuple[CopySight, ...] = ()
    """The latest first."""
    incidents: tuple[IncidentSight, ...] = ()
    told_managers: tuple[ManagerSeen, ...] = ()
    """The managers as the agent sees them, without a login."""

    @property
    def is_old(self) -> bool:
        """Whether one manager is active and the others wait."""
        return self.generation is Generation.ACTIVE_STANDBY

    def manager(self, node: str) -> ManagerSeen | None:
        """Return the manager of a node."""
        return next((one for one in self.managers if one.node == node), None)

    def node(self, name: str) -> NodeSight | None:
        """Return a node."""
        return next((one for one in self.nodes if one.name == name), None)

    @property
    def active(self) -> tuple[ManagerSeen, ...]:
        """Return the managers that say that they are active."""
        return tuple(one for one in self.managers if one.active)

    @property
    def primaries(self) -> tuple[str, ...]:
        """Return the nodes whose PostgreSQL takes writes."""
        return tuple(one.name for one in self.nodes if one.role == "primary")

    @property
    def split(self) -> VerdictSight | None:
        """Return the gravest verdict about a split."""
        order = {"split-brain": 0, "lineage-twin": 1, "lineage-diverged": 2}
        found = [one for one in self.verdicts if one.family == "split"]
        return min(found, key=lambda one: order.get(one.verdict, 3), default=None)


def with_incidents(world: World, incidents: Plain) -> World:
    """Return the world with the incidents that are not done with."""
    found = (
        IncidentSight(
            id=one["id"],
            verdict=one["verdict"],
            subject=one["subject"],
            over=one["resolved"] is not None,
            taken_by=one["acknowledged_by"] or "",
        )
        for one in incidents["incidents"]
        if one["status"] in ("open", "acknowledged")
        or (one["family"] == "split" and one["resolved"])
    )
    left = tuple(one for one in found if not (one.over and one.taken_by))
    return replace(world, incidents=left)


def told_by(bare: World, status: Plain, lineage: Plain, snapshots: Plain) -> World:
    """Return the world with what an agent answered."""
    stands = {one["node"]: str(one["stands"]) for one in lineage["places"]}
    head = status["headline"]
    return replace(
        bare,
        headline=f"{head['verdict']}: {head['sentence']}",
        nodes=tuple(_node(one, stands) for one in status["nodes"]),
        verdicts=tuple(_verdict(one) for one in status["verdicts"]),
        copies=(
            *(_copy(one, one["capture"]) for one in snapshots["snapshots"]),
            *(_copy(one, one) for one in snapshots["elsewhere"]),
        ),
        told_managers=tuple(
            _manager(one) for one in status["nodes"] if one["manager"]["configured"]
        ),
    )


def _node(plain: Plain, stands: Mapping[str, str]) -> NodeSight:
    channels = ("agent", "postgres", "manager")
    lsn = plain["lsn"]
    return NodeSight(
        name=plain["name"],
        role=plain["role"],
        timeline=plain["timeline"],
        lsn=Lsn.parse(lsn) if lsn else None,
        lsn_known=bool(plain["lsn_known"]),
        upstream=plain["upstream"] or "",
        seen=any(plain[name]["seen_by"] for name in channels),
        stands=stands.get(plain["name"], "unknown"),
    )


def _manager(plain: Plain) -> ManagerSeen:
    return ManagerSeen(
        node=plain["name"],
        place="",
        answers=bool(plain["manager"]["seen_by"]),
        active=plain["manager_active"] is True,
        version=plain["manager_version"] or "",
        word=plain.get("manager_line") or plain["manager"]["reason"],
        cluster=plain.get("manager_cluster") or "",
    )


def _verdict(plain: Plain) -> VerdictSight:
    return VerdictSight(
        verdict=plain["verdict"],
        family=plain["family"],
        subject=plain["subject"],
        severity=plain["severity"],
        sentence=plain["sentence"],
        next_step=plain["next_step"],
        incident=plain["incident"] or "",
        evidence=plain["evidence"],
    )


def _copy(plain: Plain, capture: Plain | None) -> CopySight:
    running = ""
    if capture is not None and capture["phase"] not in ("done", "failed"):
        running = str(capture["phase"])
    return CopySight(
        plain["id"],
        plain["node"],
        plain["grade"],
        tuple(plain["incidents"]),
        running,
        plain.get("side") or "",
    )
