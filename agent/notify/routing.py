"""Which channels a verdict is told on.

Theory of operation. Every route that fits is used. Without routes, every channel
gets what is a warning or graver. A critical verdict that fits no route goes to
every channel as well: it should never be a gap in a table that keeps on-call from
hearing of a split brain.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from agent.core.verdict import Severity, Verdict, VerdictCode


class Route(Protocol):
    """One row of the configuration's `[[routes]]`; empty fields fit everything."""

    @property
    def severity(self) -> Severity | None:
        """This severity and graver ones."""

    @property
    def verdict(self) -> Sequence[VerdictCode]:
        """These verdicts only."""

    @property
    def node(self) -> Sequence[str]:
        """These subjects only."""

    @property
    def channels(self) -> Sequence[str]:
        """Who is told."""


def channels_for(
    verdict: Verdict,
    routes: Sequence[Route],
    channels: Iterable[str],
    worst: Severity | None = None,
) -> tuple[str, ...]:
    """Return the names of the channels that are told, in the channels' order.

    `worst` is the gravest severity that the incident ever had: who was told of it
    is told of its end too.
    """
    severity = max(verdict.severity, worst or verdict.severity, key=lambda s: s.rank)
    everybody = tuple(channels)
    fitting = [route for route in routes if _fits(route, verdict, severity)]
    if fitting:
        wanted = {name for route in fitting for name in route.channels}
        return tuple(name for name in everybody if name in wanted)
    least = Severity.CRITICAL if routes else Severity.WARNING
    return everybody if severity.rank >= least.rank else ()


def _fits(route: Route, verdict: Verdict, severity: Severity) -> bool:
    if route.severity is not None and severity.rank < route.severity.rank:
        return False
    if route.verdict and verdict.code not in route.verdict:
        return False
    return not route.node or bool(set(route.node) & set(verdict.subject.split("|")))
