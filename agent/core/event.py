"""Events: everything that the shell tells the core.

Each carries the instant at which it became known. Outcomes of actions come back
as events too; the core never assumes that an action succeeded.
"""

from dataclasses import dataclass

from agent.core.capture import CaptureStatus
from agent.core.care import ManagerCare
from agent.core.gate import Gate
from agent.core.loss import Loss
from agent.core.moment import Moment
from agent.core.observation import (
    Failing,
    Observation,
    ReadFailure,
    SelfHealth,
    ServerFacts,
)
from agent.core.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Started:
    """The agent has started, with the journal's ledger and knowledge restored."""

    at: Moment
    boot_id: str


@dataclass(frozen=True, slots=True)
class Observed:
    """A probe has ended."""

    at: Moment
    observation: Observation


@dataclass(frozen=True, slots=True)
class ServerRead:
    """The disk of the server beside this agent was read, or could not be."""

    at: Moment
    facts: ServerFacts | ReadFailure


@dataclass(frozen=True, slots=True)
class Surveyed:
    """It was tried whether a full copy of the local server would succeed."""

    at: Moment
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class GateSeen:
    """It was read whether HA software on this machine is led through the gate."""

    at: Moment
    gate: Gate


@dataclass(frozen=True, slots=True)
class Ticked:
    """A round has passed: time moves on even when nothing else happens."""

    at: Moment
    health: SelfHealth


@dataclass(frozen=True, slots=True)
class CaptureReported:
    """The capture engine tells how far a capture is."""

    at: Moment
    status: CaptureStatus


@dataclass(frozen=True, slots=True)
class CaptureAsked:
    """A person, or the schedule, asked for a snapshot of the server here."""

    at: Moment
    capture_id: str
    reason: str
    joins: bool = True
    """Whether a capture that goes on already is widened; else there is no other one."""


@dataclass(frozen=True, slots=True)
class SnapshotsRemoved:
    """Snapshots beside this agent were removed for good, by whomever."""

    at: Moment
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LossTold:
    """It was found out what a losing side wrote, or what of that the winner lacks."""

    at: Moment
    loss: Loss


@dataclass(frozen=True, slots=True)
class PermitAsked:
    """Somebody is about to resync the server beside this agent."""

    at: Moment
    permit_id: str
    purpose: str
    source: str | None = None
    """The server that is to be copied from, `host:port`, where that is told."""


@dataclass(frozen=True, slots=True)
class PermitReleased:
    """A person lets a blocked resync pass."""

    at: Moment
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person has taken an incident."""

    at: Moment
    incident_id: str
    who: str


@dataclass(frozen=True, slots=True)
class MaintenanceBegun:
    """A person announces a switchover."""

    at: Moment
    maintenance_id: str
    node: str | None
    """Which node is to become the primary; None when any may."""
    owner: str
    reason: str
    span_s: float
    """After so long it ends by itself."""


@dataclass(frozen=True, slots=True)
class MaintenanceEnded:
    """A person says that an announced switchover is over, or off."""

    at: Moment
    maintenance_id: str
    who: str


@dataclass(frozen=True, slots=True)
class WinnerDecided:
    """A person says whose writes are to be kept after a split."""

    at: Moment
    node: str | None
    """None takes the decision back."""
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReceiversTried:
    """Something was sent to receivers of notices, and it is known who took it."""

    at: Moment
    receivers: int
    """How many are configured."""
    failing: tuple[Failing, ...]
    """Those that did not take what was last sent to them."""


@dataclass(frozen=True, slots=True)
class ManagerCareTold:
    """The manager beside this agent was asked, or a snapshot began or ended there."""

    at: Moment
    care: ManagerCare


@dataclass(frozen=True, slots=True)
class NoticeDelivered:
    """Every receiver of a notice has it."""

    at: Moment
    notice_id: str


Event = (
    Started
    | Observed
    | ServerRead
    | Surveyed
    | GateSeen
    | Ticked
    | CaptureReported
    | CaptureAsked
    | SnapshotsRemoved
    | LossTold
    | PermitAsked
    | PermitReleased
    | Acknowledged
    | MaintenanceBegun
    | MaintenanceEnded
    | WinnerDecided
    | ReceiversTried
    | ManagerCareTold
    | NoticeDelivered
)
Looked = Surveyed | GateSeen | ReceiversTried | ManagerCareTold
"""What the shell found out, each in place of what it told before."""
