"""The shapes of what people announce and decide."""

from typing import Annotated, Literal

from pydantic import Field

from agent.api.models import Answer, Question, Sentence, Word

SpanS = Annotated[float, Field(ge=1, le=86_400)]


class MaintenanceOut(Answer):
    """One announced switchover."""

    id: str
    kind: Literal["switchover"] = "switchover"
    node: str | None
    """Which node is to become the primary; null when any may."""
    owner: str
    reason: str
    begun: str
    ends: str
    """When it ends, or has ended, by itself."""
    ended: str | None
    """When a person ended it before that."""
    ended_by: str | None
    in_force: bool
    sentence: str


class MaintenancesOut(Answer):
    """Announced switchovers, the latest first."""

    maintenance: list[MaintenanceOut]


class MaintenanceIn(Question):
    """Announce a switchover."""

    kind: Literal["switchover"]
    node: Word | None = None
    """Which node is to become the primary; any may, when it is not given."""
    reason: Sentence
    seconds: SpanS
    """After so long it ends by itself."""
    owner: Word | None = None
    """Defaults to the name of the token."""


class WinnerPinOut(Answer):
    """What an operator decided about who is to be kept."""

    node: str | None
    """Null: that no pin is to count."""
    who: str
    reason: str
    since: str
    incident: str | None
    """The split that it was made in, and ends with; null when made before one."""


class WinnerOut(Answer):
    """Who would be kept after a split, and why."""

    node: str | None
    """Null while nobody can tell."""
    rule: str
    """`pinned`, `only`, `frozen`, `highest-timeline`, `newest-commit` or `none`."""
    reason: str
    otherwise: str | None
    """Who would be predicted without the pin that counts; null without one."""
    pin: WinnerPinOut | None
    """What is decided. It counts between sides of a split that it names one of."""
    disputed: list[WinnerPinOut]
    """Decisions that exclude each other; none of them counts."""


class WinnerIn(Question):
    """Decide whose writes are to be kept after a split."""

    node: Word
    reason: Sentence
    who: Word | None = None
    """Defaults to the name of the token."""
