"""When a node counts as dead: what a majority has missed, and that it was no chance.

Theory of operation. A node is down when more than half of all voters have looked
themselves and seen it on no channel, nobody has seen it alive lately, and replication
does not testify for its life.

A bad network loses questions, and now and then some in a row. Two voters that have each
missed two on two channels is as good as sure. But whoever was cut off from the node
before another one still saw it would miss it if it were well: only what began to be
missed together counts. Where that is less, such as of a witness, which has one channel,
or of a node that one voter alone could see, it takes some rounds more; and so it does
when a voter has only begun to look. Where questions are being lost, what was missed
together is no proof either: a server that is stopped explains a half of it, a cut or an
agent that stands still another part, and what is left has then soon been lost by
chance. There each of a majority must have missed the node on every channel some rounds
longer. What people were told once needs no new proof.
"""

from collections.abc import Mapping

from agent.core import weather
from agent.core.detector import Look, channels, replication_lives
from agent.core.observation import Channel
from agent.core.quorum import Tally, Vote, tally
from agent.core.scene import Scene
from agent.core.standing import standing
from agent.core.verdict import Family, VerdictCode

Streak = tuple[float, int]
"""When it began, on our own clock, and how many misses in a row it has."""

CHANNELS_THAT_COUNT = 4
"""As many as two voters ask of a node with an agent and a server: so many times what
one of them has to miss must have been missed in all."""
TOGETHER_ROUNDS = 3
"""Misses that began within so many rounds are of one trouble."""
MISSED_BY_ALL = 5
"""What everybody has missed so often in a row is gone, whenever they began."""
MISSED_IN_BAD_WEATHER = 7
"""The same where questions are being lost; of one in five, so many in a row are lost
once in 78 000 times."""


def silent(scene: Scene, node: str) -> bool:
    """Whether neither this agent, nor a peer, nor replication sees the node."""
    return (
        scene.nodes.get(node) is Look.UNSEEN
        and scene.looked_since_return(node)
        and not scene.seen_alive(node)
        and replication_lives(scene.state.view, node, scene.at, scene.policy) is None
    )


def vote_on(scene: Scene, node: str) -> Tally:
    """Count the voters that have looked themselves and seen the node nowhere."""
    voters = frozenset(scene.policy.voters)
    able = {name for name in voters if _may_speak(scene, name)}
    return tally(voters, scene.unseen_on_all(node) - {node}, able - {node})


def _may_speak(scene: Scene, name: str) -> bool:
    """Whether a voter's testimony is here, or may still come."""
    if name == scene.me or name in scene.reports:
        return True
    return scene.looks.get((name, Channel.AGENT)) in (Look.SUSPECT, Look.UNKNOWN)


def confirmed(scene: Scene, node: str) -> Tally | None:
    """Return the votes of a majority that has seen the node nowhere; None without."""
    if not silent(scene, node):
        return None
    votes = vote_on(scene, node)
    return votes if votes.vote is Vote.WON and _no_chance(scene, node) else None


def is_down(scene: Scene, node: str) -> bool:
    """Whether a majority confirms that the node is seen on no channel."""
    return confirmed(scene, node) is not None


def _no_chance(scene: Scene, node: str) -> bool:
    """Whether so much was missed at once that a bad network alone does not explain it.

    Who began to miss the node while another one still saw it is cut off from it, and
    would miss it if it were well: of a death that tells nothing.
    """
    if _is_told(scene, node):
        return True
    seers = scene.unseen_on_all(node) - {node}
    begun = {seer: _streaks(scene, seer, node) for seer in seers}
    if weather.is_bad(scene.state.view, scene.at, scene.policy):
        return _by_patience(scene, begun)
    return _together(scene, [one for streaks in begun.values() for one in streaks])


def _streaks(scene: Scene, seer: str, node: str) -> list[Streak]:
    """Return for each channel since when, and how often, a seer has missed a node."""
    policy = scene.policy
    looks = (scene.last_look(seer, (node, way)) for way in channels(policy, node))
    return [(last_s - (n - 1) * policy.round_s, n) for n, last_s in looks]


def _together(scene: Scene, begun: list[Streak]) -> bool:
    """Whether enough began to be missed at once, or all has been missed for long."""
    if not begun:
        return False
    since_s = max(begun)[0] - TOGETHER_ROUNDS * scene.policy.round_s
    missed = sum(n for begin_s, n in begun if begin_s >= since_s)
    enough = missed >= CHANNELS_THAT_COUNT * scene.policy.missed_to_accuse
    return enough or min(n for _, n in begun) >= MISSED_BY_ALL


def _by_patience(scene: Scene, begun: Mapping[str, list[Streak]]) -> bool:
    """Whether a majority has missed the node on every channel for long."""
    long = MISSED_IN_BAD_WEATHER
    sure = {who for who, all_of in begun.items() if min(n for _, n in all_of) >= long}
    return len(sure.intersection(scene.policy.voters)) >= scene.policy.majority


def _is_told(scene: Scene, node: str) -> bool:
    """Whether people know that the node is down, whatever else was said of it since."""
    down = VerdictCode.NODE_DOWN
    return any(
        one.verdict.family is Family.REACH
        and one.verdict.subject == node
        and down in (one.verdict.code, *(flip.verdict for flip in one.history))
        for one in standing(scene.state)
    )
