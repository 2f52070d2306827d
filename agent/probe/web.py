"""What a failed HTTP request says about the far end."""

from agent.core.observation import Outcome
from agent.probe.result import Result, failure
from agent.transport import DeadlineError, TransportError, UnreachableError


def of_transport(error: TransportError) -> Result:
    """Return the outcome: silence, nobody there, or something unreadable."""
    if isinstance(error, DeadlineError):
        return failure(Outcome.TIMED_OUT, error.message)
    if isinstance(error, UnreachableError):
        return failure(Outcome.UNREACHABLE, str(error))
    return failure(Outcome.GARBLED, str(error))
