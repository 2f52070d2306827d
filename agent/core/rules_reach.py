"""Rows about this agent itself, about nodes that do not answer, and about links.

Theory of operation. The agent doubts itself first: who sees no majority of the
voters says so and accuses nobody. A node is down when a majority confirms that (see
`death`). Whoever answers on another channel is not down; whoever is seen by others but
not by us has a broken link and nothing else.
"""

from collections.abc import Collection

from agent.core import death
from agent.core.detector import Look, replication_lives
from agent.core.inhibition import (
    first_miss_s,
    link_follows,
    stopped_as_announced,
    stopped_in_split,
)
from agent.core.observation import Channel
from agent.core.quorum import Tally, Vote
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import CHANNELS, Place, Scene
from agent.core.standing import local_facts, local_sight, local_writable
from agent.core.verdict import Fact, Family, Severity, VerdictCode

TWO_VOTERS = 2


def beside_primary(scene: Scene) -> bool:
    """Whether the local server accepts writes, or did when it was last known."""
    state, policy = scene.state, scene.policy
    if local_sight(state, policy) is None and local_facts(state) is None:
        primary = state.knowledge.primary
        return primary is not None and primary.node == scene.me
    return local_writable(state, policy)


def isolated_primary(scene: Scene, _: str) -> Finding | None:
    """Cut off, and the local server accepts writes."""
    if not scene.isolated or not beside_primary(scene):
        return None
    return Finding({**_cut_off(scene), "writable": True})


def isolated(scene: Scene, _: str) -> Finding | None:
    """Cut off, and the local server accepts no writes."""
    if not scene.isolated:
        return None
    return Finding({**_cut_off(scene), "writable": False})


def _cut_off(scene: Scene) -> dict[str, Fact]:
    voters = scene.policy.voters
    missing = tuple(name for name in voters if name not in scene.reachable)
    return {
        "reachable": len(scene.reachable),
        "voters": len(voters),
        "missing": ",".join(missing),
        "since_age_s": _youngest_sign_s(scene, missing),
    }


def _youngest_sign_s(scene: Scene, nodes: tuple[str, ...]) -> float | None:
    """Return how long ago the last sign of life of any of these nodes came."""
    ages = [scene.last_alive_age_s(node) for node in nodes]
    return min((age for age in ages if age is not None), default=None)


def node_down(scene: Scene, node: str) -> Finding | None:
    """Confirm a death by a majority of all voters."""
    votes = death.confirmed(scene, node)
    return None if votes is None else Finding(_votes(scene, node, votes))


def node_unreachable(scene: Scene, node: str) -> Finding | None:
    """Nobody whom I hear sees it, and no majority can confirm its death."""
    two_voters = len(scene.policy.voters) <= TWO_VOTERS
    if (scene.isolated and not two_voters) or not death.silent(scene, node):
        return None
    votes = death.vote_on(scene, node)
    return Finding(_votes(scene, node, votes)) if votes.vote is Vote.LOST else None


def _votes(scene: Scene, node: str, votes: Tally) -> dict[str, Fact]:
    return {
        "confirmed_by": votes.ayes,
        "voters": votes.voters,
        "since_age_s": scene.last_alive_age_s(node),
    }


def postgres_down(scene: Scene, node: str) -> Finding | None:
    """Find PostgreSQL silent for everybody while the node answers otherwise."""
    lives = replication_lives(scene.state.view, node, scene.at, scene.policy)
    if lives is not None:
        return None
    return _channel_down(scene, node, Channel.POSTGRES)


def postgres_stopped(scene: Scene, node: str) -> Finding | None:
    """Find PostgreSQL silent, unless that follows from what is on record already."""
    found = postgres_down(scene, node)
    if found is None or stopped_in_split(scene, node):
        return None
    return None if stopped_as_announced(scene, node) else found


def agent_down(scene: Scene, node: str) -> Finding | None:
    """Find the agent silent for everybody while the node answers otherwise."""
    return _channel_down(scene, node, Channel.AGENT)


def manager_down(scene: Scene, node: str) -> Finding | None:
    """Find the manager silent for everybody while the node answers otherwise."""
    found = _channel_down(scene, node, Channel.MANAGER)
    care = scene.state.view.care
    own = scene.looks.get((scene.me, Channel.MANAGER)) is Look.SEEN
    if found is None or care is None or node == scene.me or not own:
        return found
    if not care.away:
        return found
    return Finding({**found.evidence, "cluster_says": care.away, "said_by": scene.me})


def _channel_down(scene: Scene, node: str, channel: Channel) -> Finding | None:
    place = (node, channel)
    if scene.looks.get(place) is not Look.UNSEEN or place in scene.seen_by:
        return None
    missed_s = first_miss_s(scene, scene.me, place)
    answers = [
        other.value
        for other in CHANNELS
        if other is not channel and _seen_after(scene, (node, other), missed_s)
    ]
    if node == scene.me:
        answers = ["this agent"]
    if not answers:
        return None
    seen = scene.state.view.latest[f"{node}/{channel.value}"]
    dark_s = scene.state.view.dark.get(node)
    if dark_s is not None and seen.sent_s < dark_s + scene.policy.round_s:
        return None  # the node has just come back; this channel was not asked since
    return Finding({"answers_on": ",".join(answers), "reason": seen.reason})


def node_suspect(scene: Scene, node: str) -> Finding | None:
    """Missed, and nobody says that it is alive; too early or too few to say more."""
    if scene.nodes.get(node) not in (Look.SUSPECT, Look.UNSEEN):
        return None
    if scene.seen_alive(node):
        return None
    witness = replication_lives(scene.state.view, node, scene.at, scene.policy)
    return Finding(
        {
            "replication_seen_by": witness,
            "since_age_s": scene.last_alive_age_s(node),
        }
    )


def _unseen_nodes(scene: Scene) -> Collection[str]:
    """Return the nodes of which this agent sees some channel not at all."""
    return {node for (node, _), look in scene.looks.items() if look is Look.UNSEEN}


def _missed_nodes(scene: Scene) -> Collection[str]:
    """Return the nodes that this agent has missed on all channels that it knows of."""
    missed = (Look.SUSPECT, Look.UNSEEN)
    return {node for node, look in scene.nodes.items() if look in missed}


def _parted(scene: Scene) -> Collection[str]:
    """Return the pairs of which one misses a channel of the other."""
    return {
        f"{min(seer, node)}|{max(seer, node)}"
        for (node, _), seers in scene.unseen_by.items()
        for seer in seers
    }


def link_down(scene: Scene, pair: str) -> Finding | None:
    """One of the two cannot see the other, which somebody else sees."""
    if not scene.unseen_by:
        return None
    first, second = pair.split("|")
    broken = {
        f"{seer}>{node}": channels
        for seer, node in ((first, second), (second, first))
        if (channels := _blocked(scene, seer, node))
    }
    if not broken:
        return None
    return Finding(
        {
            "direction": ",".join(broken),
            "channels": ",".join(
                dict.fromkeys(c for cs in broken.values() for c in cs)
            ),
        }
    )


def _blocked(scene: Scene, seer: str, node: str) -> tuple[str, ...]:
    """Return the channels on which `seer` misses what others see."""
    missed = [
        channel
        for channel in CHANNELS
        if seer in scene.unseen_by.get((node, channel), ())
    ]
    return tuple(
        channel.value
        for channel in missed
        if _is_seen_since(scene, seer, (node, channel))
        and not _held_up(scene, seer, (node, channel))
        and not link_follows(scene, (seer, node), channel)
    )


def _held_up(scene: Scene, seer: str, place: Place) -> bool:
    """Whether a peer missed this agent while it was held up, and has not looked since.

    A question of its that was open then has ended within a round.
    """
    doubt = scene.state.view.self_doubt
    if doubt is None or place != (scene.me, Channel.AGENT):
        return False
    return scene.last_look(seer, place)[1] < doubt.since_s + scene.policy.round_s


def _is_seen_since(scene: Scene, seer: str, place: Place) -> bool:
    """Whether anybody has seen the channel since this seer began to miss it.

    What was seen before that is the old news of a node that has died since.
    """
    others = scene.seen_by.get(place, ())
    return bool(others) and _seen_after(scene, place, first_miss_s(scene, seer, place))


def _seen_after(scene: Scene, place: Place, since_s: float) -> bool:
    """Whether anybody has seen the channel since.

    Who has just been cut off misses one channel before the other, and knows of this one
    by answers, and by reports of others, from before the cut.
    """
    seers = scene.seen_by.get(place, ())
    return any(scene.last_look(seer, place)[1] >= since_s for seer in seers)


ROWS = (
    Rule(
        101,
        VerdictCode.OBSERVER_ISOLATED,
        Family.SELF,
        Severity.CRITICAL,
        Scope.SELF,
        "This agent sees no majority of the voters, and its server accepts writes.",
        isolated_primary,
        accuses=False,
    ),
    Rule(
        103,
        VerdictCode.OBSERVER_ISOLATED,
        Family.SELF,
        Severity.WARNING,
        Scope.SELF,
        "This agent sees no majority of the voters.",
        isolated,
        hold=Hold.WARNING,
        accuses=False,
    ),
    Rule(
        201,
        VerdictCode.NODE_DOWN,
        Family.REACH,
        Severity.CRITICAL,
        Scope.NODES,
        "More than half of all voters looked and saw the node on no channel.",
        node_down,
        about=_missed_nodes,
    ),
    Rule(
        203,
        VerdictCode.NODE_UNREACHABLE,
        Family.REACH,
        Severity.CRITICAL,
        Scope.NODES,
        "Nobody who can be heard sees the node, and no majority can confirm it.",
        node_unreachable,
        accuses=False,
        about=_missed_nodes,
    ),
    Rule(
        205,
        VerdictCode.POSTGRES_DOWN,
        Family.REACH,
        Severity.CRITICAL,
        Scope.NODES,
        "PostgreSQL answers nobody while the node answers on another channel.",
        postgres_stopped,
        about=_unseen_nodes,
    ),
    Rule(
        207,
        VerdictCode.AGENT_DOWN,
        Family.REACH,
        Severity.WARNING,
        Scope.NODES,
        "The agent answers nobody while the node answers on another channel.",
        agent_down,
        hold=Hold.WARNING,
        about=_unseen_nodes,
    ),
    Rule(
        209,
        VerdictCode.MANAGER_DOWN,
        Family.REACH,
        Severity.CRITICAL,
        Scope.NODES,
        "The manager answers nobody while the node answers on another channel.",
        manager_down,
        about=_unseen_nodes,
    ),
    Rule(
        211,
        VerdictCode.NODE_SUSPECT,
        Family.REACH,
        Severity.WARNING,
        Scope.NODES,
        "The node missed probes, and nobody says that it is alive.",
        node_suspect,
        hold=Hold.WARNING,
        about=_missed_nodes,
    ),
    Rule(
        301,
        VerdictCode.LINK_DOWN,
        Family.LINK,
        Severity.WARNING,
        Scope.PAIRS,
        "One node cannot see the other on a channel on which somebody else does.",
        link_down,
        hold=Hold.WARNING,
        about=_parted,
    ),
)
