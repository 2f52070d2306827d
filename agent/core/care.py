"""What the agent beside a manager has learnt of it, and keeps of it.

Theory of operation. The shell asks the manager beside this agent, with a login, what it
says of itself and of its cluster, has it take snapshots and keeps them. Here stands the
outcome, as the rules and the deciders need it; each tale replaces the one before. The
machines that a manager names are no nodes of ours: brokers stand here and nowhere else.
What failed is counted for each incident that it was for, so that a manager that cannot
is asked again later and later, and then no more.
"""

from dataclasses import dataclass

from agent.core.frozen import replace

KEPT_MAX = 12
"""Snapshots told of, beside those of incidents."""
TEXT_MAX = 200
"""Characters of a text that peers are told."""
TROUBLE_MAX = 600
"""Characters of why the last snapshot failed: what hangs stands at its end."""
TRIED_MAX = 50
"""Incidents whose failed attempts are counted."""
_AWAY = ("fail", "offline")
"""The words of a member that does not do its work, in small letters."""


@dataclass(frozen=True, slots=True)
class ManagerSight:
    """What a node's manager says of itself."""

    active: bool
    """False also where it does not say; see `silent`."""
    version: str | None
    """`4.x` and `7.x` where no more than that shows."""
    silent: bool = False
    """Whether it lives, and wants a login before it says whether it is active."""

    @property
    def says(self) -> bool | None:
        """Whether it says that it is active; None where it does not say."""
        return None if self.silent else self.active


@dataclass(frozen=True, slots=True)
class ManagerMember:
    """One machine of the managers' cluster, as the manager beside this agent says."""

    kind: str
    """`manager`, `db` or `broker`."""
    name: str
    address: str
    status: str
    """`OK`, `Degraded`, `Fail`; of the 4.x line `leader`, `replica`, `offline`."""

    @property
    def works(self) -> bool:
        """Whether the manager counts it among those that do their work."""
        return self.status.lower() not in _AWAY


@dataclass(frozen=True, slots=True)
class KeptBrief:
    """One of the manager's snapshots that is kept beside this agent."""

    id: str
    reason: str
    incident_ids: tuple[str, ...]
    created_wall_s: float
    size_bytes: int
    good: bool
    """Whether it was fetched, opened and written down whole."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How often a snapshot for an incident has failed."""

    incident_id: str
    times: int
    last_wall_s: float


@dataclass(frozen=True, slots=True)
class ManagerOrder:
    """A snapshot that the manager beside this agent should take now."""

    incident_ids: tuple[str, ...]
    """What calls for it; never empty."""
    reason: str
    """The verdicts that call for it, for people."""


@dataclass(frozen=True, slots=True)
class CareBrief:
    """What peers tell each other about the manager beside them, with ages."""

    version: str
    active: bool | None
    cluster: str
    away: str
    """The members that do not do their work, in words; empty without any."""
    last_good_age_s: float | None
    """How old the newest good snapshot is; None while there is none."""
    running: str
    trouble: str
    """Why no snapshot can be relied on; empty where nothing is wrong."""


@dataclass(frozen=True, slots=True)
class ManagerCare:
    """All that is known of the manager beside this agent."""

    version: str = ""
    """As `GET /version` says; empty while nobody was told."""
    active: bool | None = None
    cluster: str = ""
    """`OK`, `Degraded` or `Fail`; empty while nobody was told."""
    members: tuple[ManagerMember, ...] = ()
    refused_login: str = ""
    """Why the login was refused; nothing more is asked until the configuration is read
    anew."""
    failed: str = ""
    """Why the last snapshot failed; empty after a good one."""
    failed_wall_s: float | None = None
    last_good_wall_s: float | None = None
    """When the newest good snapshot was made."""
    scheduled: bool = False
    """Whether a schedule is set, and it is this agent that follows it now."""
    alert_after_s: float = 0.0
    """So long without a good one is told of; 0: never."""
    running: str = ""
    """The id of the one that is being made."""
    kept: tuple[KeptBrief, ...] = ()
    """The newest few, and those of incidents; newest first."""
    tried: tuple[Tried, ...] = ()
    """What has failed, by incident."""
    since_wall_s: float | None = None
    """Since when this agent has looked after the manager: before the first good
    snapshot, the time without one counts from here."""

    def begun(self, snapshot_id: str) -> "ManagerCare":
        """Return it with this snapshot being made."""
        return replace(self, running=snapshot_id)

    def after_good(self, kept: KeptBrief) -> "ManagerCare":
        """Return it with a snapshot that is kept now."""
        others = tuple(one for one in self.kept if one.id != kept.id)
        newest = (kept, *others)
        bounded = tuple(
            one
            for place, one in enumerate(newest)
            if place < KEPT_MAX or one.incident_ids
        )
        return replace(
            self,
            running="",
            failed="",
            failed_wall_s=None,
            last_good_wall_s=max(kept.created_wall_s, self.last_good_wall_s or 0.0),
            kept=bounded[: KEPT_MAX + TRIED_MAX],
            tried=tuple(
                one for one in self.tried if one.incident_id not in kept.incident_ids
            ),
        )

    def after_failure(
        self, reason: str, incident_ids: tuple[str, ...], wall_s: float
    ) -> "ManagerCare":
        """Return it with a snapshot that has failed, and whom that was for."""
        before = {one.incident_id: one for one in self.tried}
        for name in incident_ids:
            times = before.pop(name).times if name in before else 0
            before[name] = Tried(name, times + 1, wall_s)
        return replace(
            self,
            running="",
            failed=reason,
            failed_wall_s=wall_s,
            tried=tuple(before.values())[-TRIED_MAX:],
        )

    def brief(self, wall_s: float) -> CareBrief:
        """Return what peers are told of it."""
        good_s = self.last_good_wall_s
        trouble = self.failed and f"the last snapshot failed: {self.failed}"
        if self.refused_login:
            trouble = f"it refuses the login: {self.refused_login}"
        return CareBrief(
            version=self.version,
            active=self.active,
            cluster=self.cluster,
            away=self.away[:TEXT_MAX],
            last_good_age_s=None if good_s is None else max(0.0, wall_s - good_s),
            running=self.running,
            trouble=_bounded(trouble),
        )

    @property
    def away(self) -> str:
        """Which members do not do their work, in words; empty without any."""
        return ", ".join(
            f"{one.kind} {one.name} {one.status}"
            for one in self.members
            if not one.works
        )

    def lacking(self, kind: str) -> tuple[ManagerMember, ...]:
        """Return the members of this kind that do not work, if they lack a quorum.

        Of brokers and databases more than half must work, of managers one.
        """
        members = tuple(one for one in self.members if one.kind == kind)
        away = tuple(one for one in members if not one.works)
        quorum = 1 if kind == "manager" else len(members) // 2 + 1
        return away if members and len(members) - len(away) < quorum else ()


def _bounded(text: str) -> str:
    """Return a long text without its middle: what to do about it stands at its end."""
    if len(text) <= TROUBLE_MAX:
        return text
    half = TROUBLE_MAX // 2 - 1
    return f"{text[:half]}…{text[-half:]}"
