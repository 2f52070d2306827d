"""Which trouble is named first, when what is seen at present is not all.

Theory of operation. The headline is the gravest verdict of now. But nothing may be seen
for a moment: right after a heal, after a restart of the agent, while a node was not
asked yet. An incident that is critical and not known to be over stays the headline
then; that its cause is not seen is no news of its end. One that is over and only waits
for a person to take it does not. Who is cut off speaks of that, and of nobody else.
"""

from agent.core.ending import waits_for_person
from agent.core.incident import Incident
from agent.core.rules import HEADLINES
from agent.core.standing import standing
from agent.core.state import State
from agent.core.verdict import Severity, VerdictCode


def unsettled(state: State) -> Incident | None:
    """Return the critical incident that goes before the present verdicts, if any."""
    codes = {one.code for one in state.view.verdicts}
    first = next(iter(state.view.verdicts), None)
    if first is not None and first.severity is Severity.CRITICAL:
        return None
    if VerdictCode.OBSERVER_ISOLATED in codes:
        return None
    blind = first is None or first.code is VerdictCode.UNKNOWN
    told = {(one.family, one.subject) for one in state.view.verdicts}
    found = [
        one
        for one in standing(state)
        if one.verdict.severity is Severity.CRITICAL
        and not one.verdict.sticky
        and (blind or not (waits_for_person(one) or one.clear_since_s is not None))
        and (one.verdict.family, one.verdict.subject) not in told
    ]
    order = HEADLINES.index
    return min(found, key=lambda one: order(one.verdict.family), default=None)
