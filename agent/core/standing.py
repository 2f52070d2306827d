"""Small questions about the state that several deciders ask.

One place for "is my server writable", "what do I know of it from its disk" and
"which troubles stand", so that the answers cannot drift apart.
"""

from agent.core.incident import Incident, Status
from agent.core.memo import remembered
from agent.core.observation import Channel, Outcome, PostgresSight, ServerFacts
from agent.core.policy import Policy
from agent.core.state import Ledger, State

ELSEWHERE = "its agent stands on another machine (local = false)"
"""Why nobody reads or keeps a server's files."""


def local_sight(state: State, policy: Policy) -> PostgresSight | None:
    """Return the latest answer of the server beside this agent, if it answers."""
    seen = state.view.latest.get(f"{policy.me}/{Channel.POSTGRES}")
    if seen is None or seen.outcome is not Outcome.ANSWERED:
        return None
    return seen.postgres


def local_facts(state: State) -> ServerFacts | None:
    """Return what was last read from the local server's disk, if it can be read."""
    server = state.view.server
    return server if isinstance(server, ServerFacts) else None


def local_writable(state: State, policy: Policy) -> bool:
    """Whether the server beside this agent accepts writes, as far as is known.

    SQL tells it best. When SQL does not answer, a running postmaster without a
    standby signal is taken for writable: the careful side for a capture. In
    single-user mode nobody can connect to it.
    """
    sight = local_sight(state, policy)
    if sight is not None:
        return not sight.in_recovery
    facts = local_facts(state)
    if facts is None or facts.single_user:
        return False
    return facts.running and not facts.standby_signal


def standing(state: State) -> tuple[Incident, ...]:
    """Return the incidents that people know of and that are not over."""
    return _standing(state.ledger.incidents)


def living(state: State) -> tuple[Incident, ...]:
    """Return the incidents that are not over, those that wait to open included."""
    return living_of(state.ledger)


def living_of(ledger: Ledger) -> tuple[Incident, ...]:
    """Return the same of a ledger."""
    return _living(ledger.incidents)


@remembered
def _standing(incidents: tuple[Incident, ...]) -> tuple[Incident, ...]:
    return tuple(one for one in incidents if one.status.standing)


@remembered
def _living(incidents: tuple[Incident, ...]) -> tuple[Incident, ...]:
    return tuple(one for one in incidents if one.status is not Status.RESOLVED)
