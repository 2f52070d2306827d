"""Planted faults: decisions of the core and the shell made wrong, one at a time.

Theory of operation. Each plant replaces one function by a wrong one, as a careless
change would. The simulator must turn red within a bounded number of seeds; a plant that
stays green shows what the oracles cannot see. Replacing is done where the function is
looked up, and undone afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agent.core import (
    death,
    incidents,
    kinship,
    machine,
    permits,
    prediction,
    proof,
    protection,
    rowlevel,
    rules,
    rules_primary,
    rules_split,
    telling,
    view,
)
from agent.core.capture import Grade
from agent.core.lineage import Kinship, Relation
from agent.core.permit import PermitState
from agent.core.pinning import Decision
from agent.core.quorum import tally
from tests.sim import journal

Wrong = Callable[[Any], Any]
"""Takes the right function and returns the wrong one."""


@dataclass(frozen=True)
class Plant:
    """One planted fault."""

    name: str
    what: str
    """What a reader of the table should know of it."""
    places: tuple[tuple[object, str], ...]
    """Where the function is looked up: module (or class) and name."""
    wrong: Wrong
    focus: tuple[str, ...] = ()
    """Faults that bring it out; none: any."""
    sizes: tuple[int, ...] = ()
    """How many servers it needs; none: any number."""
    first: int = 0
    """A seed from which it is known to show soon."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the fault in place for a while."""
        right = [getattr(owner, name) for owner, name in self.places]
        made = self.wrong(right[0])
        try:
            for owner, name in self.places:
                setattr(owner, name, made)
            yield
        finally:
            for (owner, name), old in zip(self.places, right, strict=True):
                setattr(owner, name, old)


def _two_readings(right):
    def by_readings(state, node, at, policy):
        own = [one for one in state.view.readings if one.node == node]
        for other in state.view.readings:
            if own and other.node != node:
                yield proof._proof((own[-1], other), proof.THREE_READINGS, at, policy)

    return by_readings


def _counted_twice(right):
    def vote_on(scene, node):
        voters = frozenset(scene.policy.voters)
        ayes = set(scene.unseen_on_all(node)) - {node}
        again = {f"{one} again" for one in ayes if one == scene.me}
        return tally(voters | again, ayes | again, voters - {node})

    return vote_on


def _of_the_reachable(right):
    def vote_on(scene, node):
        ayes = frozenset(scene.unseen_on_all(node)) - {node}
        voters = frozenset(scene.reachable) - {node}
        return tally(voters, ayes, voters)

    return vote_on


def _stale(right):
    def build(state, at, policy):
        reports = {
            node: replace(seen, received_s=at.monotonic_s)
            for node, seen in state.view.reports.items()
        }
        fresh = replace(state, view=replace(state.view, reports=reports))
        return replace(right(fresh, at, policy), state=state)

    return build


def _never_isolated(right):
    return lambda state, at, policy: replace(right(state, at, policy), isolated=False)


def _unwritten(right):
    def commit(self, ledger, knowledge, notices):
        before = self.ledger
        done = right(self, ledger, knowledge, notices)
        if done and ledger.permits != before.permits:
            self.ledger = replace(ledger, permits=before.permits)
        return done

    return commit


def _no_occurrence(right):
    return lambda key, _: right(key, 1)


def _never_void(right):
    return lambda state, permit, at, policy: permit


def _any_grade(right):
    def protects(state, capture, permit):
        status = replace(
            capture.status,
            grade=Grade.COMPLETE,
            timeline=permit.timeline,
            reached_lsn=permit.final_lsn,
            final_lsn=permit.final_lsn,
        )
        return right(state, replace(capture, status=status), permit)

    return protects


def _rows_to_anywhere(right):
    def covers(state, capture, permit, policy):
        status = replace(capture.status, rows_lsn=permit.final_lsn)
        kept = capture.status.rows_lsn is not None
        capture = replace(capture, status=status) if kept else capture
        return right(state, capture, permit, policy)

    return covers


def _no_hold(right):
    def cleared(incident, clock):
        return right(
            incident,
            replace(clock, policy=replace(clock.policy, resolve_hold_s=0.0)),
        )

    return cleared


def _unfrozen(right):
    return lambda state: None


def _no_standin(right):
    return lambda state, at, policy: 1000 * policy.order[policy.me]


def _any_order(right):
    def match(state, permit, server, at, policy):
        """Take what was kept for another position."""
        found = right(state, permit, server, at, policy)
        capture = protection.unfinished(state, policy)
        if capture is None or capture.status.grade.rank < Grade.COMPLETE.rank:
            return found
        return replace(
            found,
            state=PermitState.GRANTED,
            granted_s=at.monotonic_s,
            granted_wall_s=at.wall_s,
            capture_id=capture.order.capture_id,
        )

    return match


def _ended_is_over(right):
    return lambda scene, proof, node, started: True


def _by_number(right):
    def relate(first, second):
        if first.system_id == second.system_id and first.timeline == second.timeline:
            return Relation(Kinship.SAME, None)
        return right(first, second)

    return relate


def _first_pin(right):
    def decision(state):
        found = right(state)
        return Decision(pin=found.disputed[0]) if found.disputed else found

    return decision


def _never_writable(right):
    return lambda scene, node: True


_BUILD = tuple((user, "build") for user in (rules, view, incidents, machine))

PLANTS = (
    Plant(
        "proof with two readings",
        "one sight of each of two primaries proves a split",
        ((proof, "_by_readings"),),
        _two_readings,
        ("stop a server", "crash a server", "isolate", "switch a machine off"),
        first=2,
    ),
    Plant(
        "own vote counted twice",
        "an agent confirms its own sight of a death",
        ((death, "vote_on"),),
        _counted_twice,
        (
            "switch a machine off",
            "kill an agent",
            "cut a pair",
            "isolate",
            "pause a server",
        ),
        first=1,
    ),
    Plant(
        "majority of the reachable",
        "who cannot be heard is not in the denominator",
        ((death, "vote_on"),),
        _of_the_reachable,
        (
            "switch a machine off",
            "kill an agent",
            "cut a pair",
            "isolate",
            "pause a server",
        ),
        first=1,
    ),
    Plant(
        "stale reports accepted",
        "a peer's last report counts for ever",
        _BUILD,
        _stale,
        ("switch a machine off", "kill an agent"),
        (5,),
        first=5,
    ),
    Plant(
        "observer-isolated suppressed",
        "who sees no majority goes on accusing",
        _BUILD,
        _never_isolated,
        (
            "switch a machine off",
            "kill an agent",
            "cut a pair",
            "isolate",
            "pause a server",
        ),
    ),
    Plant(
        "permit before the journal",
        "a grant is given that is not on disk",
        ((journal.Journal, "commit"),),
        _unwritten,
        (
            "crash a server",
            "stop a server",
            "ask for a permit in vain",
            "promote wrongly",
            "slow captures",
            "fill a journal",
        ),
        first=4,
    ),
    Plant(
        "id without occurrence",
        "the same trouble again gets the same id",
        ((incidents, "incident_id"),),
        _no_occurrence,
        ("kill an agent", "crash a server", "pause a server", "cut a pair"),
    ),
    Plant(
        "grant never void",
        "a grant stands when the server runs or has moved",
        ((permits, "_hold"),),
        _never_void,
        (
            "crash a server",
            "stop a server",
            "ask for a permit in vain",
            "promote wrongly",
            "slow captures",
            "fill a journal",
        ),
        first=2,
    ),
    Plant(
        "capture believed without a grade",
        "a copy that was begun counts as proven",
        ((permits, "_protects"),),
        _any_grade,
        (
            "crash a server",
            "stop a server",
            "ask for a permit in vain",
            "promote wrongly",
            "slow captures",
            "fill a journal",
        ),
    ),
    Plant(
        "copy of another position",
        "a proven copy counts for whatever came after it",
        ((permits, "_match"),),
        _any_order,
        (
            "crash a server",
            "stop a server",
            "ask for a permit in vain",
            "promote wrongly",
            "slow captures",
            "fill a journal",
        ),
        first=5,
    ),
    Plant(
        "permit on rows that end before",
        "rows count that were read before the last commit",
        ((rowlevel, "covers"),),
        _rows_to_anywhere,
        (
            "crash a server",
            "stop a server",
            "ask for a permit in vain",
            "promote wrongly",
            "fail captures",
            "slow captures",
            "write a lot",
        ),
        first=14,
    ),
    Plant(
        "flap opens a new incident",
        "a trouble is over the moment that it is not seen",
        ((incidents, "_cleared"),),
        _no_hold,
        ("isolate", "cut a pair", "freeze an agent", "pause a server", "kill an agent"),
    ),
    Plant(
        "winner not frozen",
        "the prediction follows what happens later",
        ((prediction, "_frozen"),),
        _unfrozen,
        (
            "promote wrongly",
            "slow captures",
            "isolate",
            "write a lot",
            "send the HA software to sleep",
        ),
        first=5,
    ),
    Plant(
        "nobody stands in",
        "only the first agent of the list ever tells",
        ((telling, "_rank"),),
        _no_standin,
        ("switch a machine off", "kill an agent", "isolate", "lose the receiver"),
    ),
    Plant(
        "split ends unseen",
        "a proven split counts as over at once",
        ((rules_split, "_ended"),),
        _ended_is_over,
        (
            "promote wrongly",
            "slow captures",
            "isolate",
            "write a lot",
            "send the HA software to sleep",
        ),
    ),
    Plant(
        "equal timeline number is one lineage",
        "two servers on one timeline number are taken for one history",
        ((kinship, "relate"), (rules_split, "relate")),
        _by_number,
        ("promote two to one number", "write a lot"),
        (3, 4),
        first=1,
    ),
    Plant(
        "contradictory pins count",
        "of two decisions that exclude each other the first one counts",
        ((prediction, "decision"),),
        _first_pin,
        ("pin a winner", "promote wrongly", "send the HA software to sleep"),
        first=3,
    ),
    Plant(
        "announcement covers a writer",
        "a planned move is no trouble while the former primary may still write",
        ((rules_primary, "_seen_not_writable"),),
        _never_writable,
        ("announce a switchover", "isolate"),
        first=5,
    ),
)
