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
