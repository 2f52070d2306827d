"""Which side of a split will probably be kept.

Theory of operation. The HA software in front decides, not this agent; so this is a
prediction, it says by which rule, and it only orders the work. Whoever is the only one
that accepts writes is the winner. Among several it is the one that an operator has
pinned, who and why is shown with it; else the one that was predicted when the fork was
first seen (a third node that follows the loser after the heal must not flip it), else
the one on the highest timeline, ties by the number of followers and then by the order
of the list. An agent that is cut off knows of no other side, so it predicts nobody
unless somebody was predicted before. Where the software takes the newest commit, no
reading tells which that is: then nobody is named, and every side is kept in full. The
managers of the 4.x line choose so: a minority that is cut off turns active ("active
minority mode"), and when the sides meet the most recently updated database stays,
whichever side has it.
"""

from dataclasses import dataclass

from agent.core.detector import key
from agent.core.observation import Channel, PostgresSight, ServerFacts
from agent.core.pinning import decision
from agent.core.plan import Pin
from agent.core.policy import Policy, WinnerRule
from agent.core.standing import standing
from agent.core.state import State
from agent.core.verdict import Fact, Family, VerdictCode

PINNED = "pinned"
"""The rule of a prediction that an operator decided."""
CUT_OFF = (
    "this agent is isolated: it cannot know who else accepts writes, or was promoted"
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Who will probably be kept, by which rule, and why in words."""

    node: str | None
    rule: str
    reason: str
    pin: Pin | None = None
    """The operator's decision that it follows, if it does."""
    otherwise: str | None = None
    """Who would be predicted without that decision."""


def winner(state: State, policy: Policy) -> Prediction:
    """Return the node whose writes will probably be kept; None when nobody knows."""
    sides = candidates(state, policy)
    if not sides:
        return Prediction(None, "none", "no node is known to accept writes")
    rival = _unread_rival(state, sides)
    plain = _unpinned(state, policy, sides, rival)
    pin = decision(state).pin
    if pin is None or pin.node not in _in_question(sides, rival):
        return plain
    reason = f"pinned by {pin.who} because {pin.reason}"
    return Prediction(pin.node, PINNED, reason, pin, plain.node)


def decided(state: State, predicted: Prediction) -> dict[str, Fact]:
    """Return as evidence what people decided, as far as it counts or clashes."""
    disputed = decision(state).disputed
    if disputed:
        said = (f"{pin.who}: {pin.node or 'no pin'}" for pin in disputed)
        return {"pins_disputed": "; ".join(said)}
    if predicted.pin is None:
        return {}
    return {
        "pinned_by": predicted.pin.who,
        "pinned_because": predicted.pin.reason,
        "winner_otherwise": predicted.otherwise,
    }


def _unpinned(
    state: State, policy: Policy, sides: dict[str, PostgresSight], rival: str | None
) -> Prediction:
    """Return who would be kept if nobody had decided anything."""
    if rival is not None:
        reason = f"{rival} accepted writes too, and was not read since"
        return Prediction(None, "none", reason)
    frozen = _frozen(state)
    if _cut_off(state) and frozen not in sides:
        return Prediction(None, "none", CUT_OFF)
    if len(sides) == 1:
        node = next(iter(sides))
        return Prediction(node, "only", f"only {node} is known to accept writes")
    if frozen in sides:
        reason = f"{frozen} was predicted when the fork was first seen"
        return Prediction(frozen, "frozen", reason)
    if policy.winner_rule is WinnerRule.NEWEST_COMMIT:
        reason = (
            "the newest commit wins, be it on the smaller side, and no reading tells"
            " which side has it"
        )
        return Prediction(None, policy.winner_rule.value, reason)
    return _highest(sides, policy)


def _cut_off(state: State) -> bool:
    """Whether this agent has just called itself isolated."""
    isolated = VerdictCode.OBSERVER_ISOLATED
    return any(one.code is isolated for one in state.view.verdicts)


def _in_question(sides: dict[str, PostgresSight], rival: str | None) -> tuple[str, ...]:
    """Return between whom there is a question; a single side leaves none."""
    known = (*sides, *(() if rival is None else (rival,)))
    return known if len(known) > 1 else ()


def _unread_rival(state: State, sides: dict[str, PostgresSight]) -> str | None:
    """Return a node that is proven to have been writable and was not read since.

    Who has just come back from a cut may know of the other side by proof only.
    """
    for proof in state.view.proofs:
        for node in (proof.first, proof.second):
            if node not in sides and _last_sight(state, node) is None:
                return node
            own = state.view.alive.get(key(node, Channel.POSTGRES))
            late = own is not None and own.received_s >= proof.proven_s
            if node not in sides and not late:
                return node
    return None


def candidates(state: State, policy: Policy) -> dict[str, PostgresSight]:
    """Return the nodes that accepted writes when they were last read.

    A node that nobody can see stays one; a node whose server is stopped does not.
    """
    found: dict[str, PostgresSight] = {}
    for node in policy.nodes:
        sight = _last_sight(state, node.name)
        if sight is None or sight.in_recovery or _stopped(state, node.name, policy):
            continue
        found[node.name] = sight
    return found


def _highest(sides: dict[str, PostgresSight], policy: Policy) -> Prediction:
    def worth(node: str) -> tuple[int, int, int]:
        sight = sides[node]
        return (sight.timeline or 0, len(sight.senders), -policy.order[node])

    node = max(sides, key=worth)
    timeline = sides[node].timeline
    return Prediction(
        node,
        WinnerRule.HIGHEST_TIMELINE.value,
        f"{node} is on the highest timeline ({timeline}) with "
        f"{len(sides[node].senders)} followers",
    )


def _frozen(state: State) -> str | None:
    """Return who was predicted when the standing split was first seen.

    What an operator pinned since stands beside it and does not replace it.
    """
    for incident in standing(state):
        if incident.verdict.family is Family.SPLIT:
            evidence = incident.verdict.evidence
            pinned = evidence.get("winner_rule") == PINNED
            frozen = evidence.get("winner_otherwise" if pinned else "winner")
            return frozen if isinstance(frozen, str) else None
    return None


def _last_sight(state: State, node: str) -> PostgresSight | None:
    """Return what was last read of a server: by this agent, else by a peer."""
    own = state.view.alive.get(key(node, Channel.POSTGRES))
    if own is not None and own.postgres is not None:
        return own.postgres
    told = [
        (seen.received_s - sight.age_s, sight.postgres)
        for seen in state.view.reports.values()
        if seen.report is not None
        for sight in seen.report.sights
        if sight.node == node and sight.postgres is not None
    ]
    return max(told, key=lambda one: one[0])[1] if told else None


def _stopped(state: State, node: str, policy: Policy) -> bool:
    """Whether the agent beside the server has read that it does not run."""
    if node == policy.me:
        server = state.view.server
    else:
        heard = state.view.reports.get(node)
        report = heard.report if heard is not None else None
        server = report.server if report is not None else None
    return isinstance(server, ServerFacts) and not server.running
