"""Whether the network loses questions: what came back after a miss or two was alive.

Theory of operation. Who is dead stays silent, and who was restarted is silent for some
rounds. A question or two that were missed, and the next one answered, were lost on the
way. Where that happened in twenty rounds more often than on half of the channels to
others, one question in forty is lost, and more will be. Where one cause explains a part
of a silence, chance soon adds the rest: a server that is stopped while its agent's
answers are lost looks like a machine that died. So in bad weather a death takes more
misses (see `death`).
"""

from agent.core.event import Event, Observed
from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.policy import Policy
from agent.core.state import State, View

LOST_MAX = 2
"""So many misses in a row may have been lost; a longer silence was an outage."""
MEMORY_ROUNDS = 20
"""For so long what was lost tells of the weather."""


def noted(before: View, after: State, event: Event, policy: Policy) -> State:
    """Note that what was missed before this event was lost, if it was."""
    if not isinstance(event, Observed) or event.observation.node == policy.me:
        return after
    seen, view = event.observation, after.view
    name = policy.places.get((seen.node, seen.channel), "")
    missed = before.missed.get(name, 0)
    if not 0 < missed <= LOST_MAX or view.missed.get(name, 0) > 0:
        return after
    lost = (*view.lost, event.at.monotonic_s)[-_enough(policy) :]
    return replace(after, view=replace(view, lost=lost))


def is_bad(view: View, at: Moment, policy: Policy) -> bool:
    """Whether questions are being lost on their way."""
    since_s = at.monotonic_s - MEMORY_ROUNDS * policy.round_s
    return len(view.lost) >= _enough(policy) and view.lost[0] >= since_s


def _enough(policy: Policy) -> int:
    """Return how often something must have been lost: an outage hides the weather."""
    return sum(node != policy.me for node, _ in policy.places) // 2 + 1
