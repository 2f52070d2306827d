"""Actions: what the core wants done, as data.

The shell persists the step's ledger first, then carries the actions out in
order, and reports their outcomes as events. Each may be carried out twice (after
a crash) without harm.
"""

from dataclasses import dataclass

from agent.core.capture import CaptureOrder
from agent.core.notice import Notice
from agent.core.observation import Channel


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Probe this channel of this node at once, out of turn."""

    node: str
    channel: Channel


@dataclass(frozen=True, slots=True)
class RunCapture:
    """Start this capture, or widen the running one of the same id to this order."""

    order: CaptureOrder


@dataclass(frozen=True, slots=True)
class CloseCapture:
    """Stop following; write the final manifest."""

    capture_id: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Put this notice into the outbox, in the transaction of this step's ledger."""

    notice: Notice


Action = AskAgain | RunCapture | CloseCapture | Tell
