"""Signs of life, and how sure they are.

Theory of operation. A channel of a node is *seen* when its latest reading found
somebody alive, *suspect* after one reading without a sign of life, and *unseen*
after as many in a row as policy asks for. A reading that is older than the limit
says nothing at all: then our own loop was late, and the look is *unknown*. A
refusal is a sign of life.

Replication testifies for life only. A mark that *changed* between two of our own
readings, timed by our own clock, proves that the server behind it still sends; a
mark that stands still proves nothing, because a healthy idle pair is silent for
half a minute and a dead one still shows `streaming`.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import lru_cache

from agent.core.moment import Moment
from agent.core.observation import Channel, Observation
from agent.core.policy import Policy
from agent.core.selfdoubt import misses_to_accuse
from agent.core.state import Mark, View

REPLICATION_ROUNDS = 2
"""A changed mark vetoes a death for so many rounds after we saw it change."""


class Look(StrEnum):
    """What one observer can say of one channel, or of one node."""

    SEEN = "seen"
    SUSPECT = "suspect"
    UNSEEN = "unseen"
    UNKNOWN = "unknown"


@lru_cache(maxsize=1024)
def key(node: str, channel: Channel) -> str:
    """Return under which name the view keeps what it knows of a channel."""
    return f"{node}/{channel}"


def channels(policy: Policy, node: str) -> tuple[Channel, ...]:
    """Return the channels on which this agent asks `node`.

    An agent does not ask itself; raises KeyError when there is no such node.
    """
    return policy.channels[node]


def look(view: View, node: str, channel: Channel, at: Moment, policy: Policy) -> Look:
    """Return what this agent itself can say of a channel."""
    name = key(node, channel)
    seen = view.latest.get(name)
    if seen is None:
        return Look.UNKNOWN
    age_s = at.monotonic_s - seen.received_s
    accuse = misses_to_accuse(view.self_doubt, at, policy)
    return judge(view.missed.get(name, 0), age_s, policy, accuse)


def judge(missed: int, age_s: float, policy: Policy, accuse: int) -> Look:
    """Return what so many misses in a row, the last one so old, amount to.

    From `accuse` of them on the channel is unseen.
    """
    if age_s > policy.fresh_s:
        return Look.UNKNOWN
    if missed >= accuse:
        return Look.UNSEEN
    if missed >= policy.missed_to_suspect:
        return Look.SUSPECT
    return Look.SEEN


def together(looks: Collection[Look]) -> Look:
    """Return what the looks at a node's channels say of the node.

    One sign of life is enough; for `unseen` every channel must be.
    """
    if Look.SEEN in looks:
        return Look.SEEN
    if not looks or Look.UNKNOWN in looks:
        return Look.UNKNOWN
    return Look.SUSPECT if Look.SUSPECT in looks else Look.UNSEEN


def replication_lives(view: View, node: str, at: Moment, policy: Policy) -> str | None:
    """Return which witness has just seen `node` send; None when there is none."""
    window_s = REPLICATION_ROUNDS * policy.round_s
    for name, mark in view.marks.items():
        witness, _, subject = name.partition(">")
        if subject != node or mark.changed_s is None:
            continue
        if 0 <= at.monotonic_s - mark.changed_s <= window_s:
            return witness
    return None


def marks_after(view: View, seen: Observation, policy: Policy) -> Mapping[str, Mark]:
    """Return the replication marks after this reading of a server."""
    shown = _shown(seen, policy)
    if not shown:
        return view.marks
    marks = dict(view.marks)
    for subject, text in shown.items():
        name = f"{seen.node}>{subject}"
        marks[name] = _mark(marks.get(name), text, seen, policy)
    return marks


def _mark(old: Mark | None, text: str, seen: Observation, policy: Policy) -> Mark:
    """Date a change, if the two readings follow each other closely enough."""
    now_s = seen.received_s
    if old is None or now_s - old.read_s > policy.fresh_s:
        return Mark(text, None, now_s)
    return Mark(text, old.changed_s if text == old.text else now_s, now_s)


def _shown(seen: Observation, policy: Policy) -> dict[str, str]:
    """Return which nodes' replication this server shows, and its marks."""
    sight = seen.postgres
    if sight is None:
        return {}
    shown = {
        sender.name: sender.reply_mark
        for sender in sight.senders
        if sender.name in policy.order and sender.name != seen.node
    }
    if sight.upstream is None or sight.receiver_mark is None:
        return shown
    for node in policy.nodes:
        if sight.upstream in node.upstreams and node.name != seen.node:
            shown[node.name] = sight.receiver_mark
    return shown
