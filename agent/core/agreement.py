"""How agents that cannot talk to each other come to one incident id.

Theory of operation. An id is made of the key, which everybody derives alike from what
is so, and the occurrence, which counts on from the highest one that anybody has seen
resolved. Agents that were apart may still hold one trouble open under two
occurrences. When they meet they end with one: an occurrence that somebody has
resolved is spent and gives way; of several that are not, the lowest one stays.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from agent.core.incident import Status
from agent.core.moment import Moment
from agent.core.observation import Channel, ServerFacts
from agent.core.policy import Policy
from agent.core.state import State

NO_SYSTEM = "-"
"""Stands in a key for a system id that nobody has read yet."""


def system_id(state: State, policy: Policy) -> str:
    """Return the cluster's system id, which stands in every key; `-` when unknown."""
    primary = state.knowledge.primary
    if primary is not None:
        return primary.system_id
    server = state.view.server
    if isinstance(server, ServerFacts):
        return server.lineage.system_id
    for node in policy.nodes:
        seen = state.view.latest.get(f"{node.name}/{Channel.POSTGRES}")
        if seen is not None and seen.postgres is not None:
            return seen.postgres.system_id
        lineage = state.knowledge.lineages.get(node.name)
        if lineage is not None:
            return lineage.system_id
    return NO_SYSTEM


def standing_at_peers(
    key: str, state: State, at: Moment, policy: Policy
) -> AbstractSet[int]:
    """Return under which occurrences peers hold this trouble open at present."""
    return {
        brief.occurrence
        for seen in state.view.reports.values()
        if seen.report is not None
        and at.monotonic_s - seen.received_s <= policy.fresh_s
        for brief in seen.report.incidents
        if brief.key == key
        and brief.status in (Status.OPEN, Status.ACKNOWLEDGED)
        and brief.occurrence > 0
    }


def preferred(occurrences: Iterable[int], spent: int) -> int:
    """Return the lowest occurrence that is not spent, else the lowest."""
    return min(occurrences, key=lambda number: (number <= spent, number))
