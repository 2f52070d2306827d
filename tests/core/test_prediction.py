"""Who will probably be kept, and by which rule."""

from dataclasses import replace

from agent.core.observation import Channel, Outcome, Sender, Sight
from agent.core.policy import WinnerRule
from agent.core.prediction import candidates, winner
from agent.core.state import Ledger, SplitProof, State
from agent.core.verdict import Family, VerdictCode
from tests.core import given
from tests.core.test_view import fold

POLICY = given.policy("n1")
FOLLOWER = Sender("n3", "streaming", "async", None, "")


def two(*, first=None, second=None):
    return fold(
        State(),
        given.postgres("n1", given.sight(**(first or {})), 1),
        given.postgres("n2", given.sight(**(second or {})), 1),
    )


def test_nobody_is_predicted_when_nobody_accepts_writes():
    assert winner(State(), POLICY).node is None


def test_the_only_writable_node_is_kept():
    state = fold(State(), given.postgres("n2", given.sight(), 1))
    found = winner(state, POLICY)
    assert (found.node, found.rule) == ("n2", "only")


def test_the_highest_timeline_wins():
    found = winner(two(second={"timeline": 2}), POLICY)
    assert (found.node, found.rule) == ("n2", "highest-timeline")
    assert winner(two(first={"timeline": None}), POLICY).node == "n2"


def test_ties_go_to_the_followers_and_then_to_the_order_of_the_list():
    assert winner(two(second={"senders": (FOLLOWER,)}), POLICY).node == "n2"
    assert winner(two(), POLICY).node == "n1"


def test_no_reading_tells_who_has_the_newest_commit():
    policy = replace(POLICY, winner_rule=WinnerRule.NEWEST_COMMIT)
    found = winner(two(second={"timeline": 2}), policy)
    assert (found.node, found.rule) == (None, "newest-commit")


def frozen(node):
    verdict = replace(given.verdict(), evidence={"winner": node})
    return Ledger(incidents=(given.incident(verdict),))


def cut_off(state: State) -> State:
    """This agent has just called itself isolated."""
    alone = given.verdict(VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1")
    return replace(state, view=replace(state.view, verdicts=(alone,)))


def test_who_is_cut_off_names_nobody_the_winner_and_says_that_it_cannot_know():
    last_seen = {"in_recovery": True}
    found = winner(cut_off(two(second=last_seen)), POLICY)
    assert (found.node, found.rule) == (None, "none")
    assert found.reason.startswith("this agent is isolated: it cannot know who else")
    assert winner(cut_off(two(second={"timeline": 2})), POLICY).node is None


def test_who_was_predicted_before_a_cut_stays_predicted():
    state = replace(two(second={"timeline": 2}), ledger=frozen("n2"))
    assert winner(cut_off(state), POLICY).node == "n2"


def proven(state: State, proven_s: float) -> State:
    """n1 and n2 are proven to have been writable at once."""
    proof = SplitProof("n1", "n2", "overlapping intervals", proven_s, {})
    return replace(state, view=replace(state.view, proofs=(proof,)))


def test_nobody_is_predicted_while_the_other_proven_side_is_unread():
    alone = fold(State(), given.postgres("n1", given.sight(), 1))
    assert winner(alone, POLICY).node == "n1"
    assert winner(proven(alone, 2), POLICY).node is None


def test_a_proven_side_that_went_back_into_recovery_leaves_the_other():
    state = two(second={"in_recovery": True})
    assert winner(proven(state, 0.5), POLICY).node == "n1"
    assert winner(proven(state, 5), POLICY).node is None


def test_who_was_predicted_first_stays_predicted():
    state = replace(two(second={"timeline": 2}), ledger=frozen("n1"))
    found = winner(state, POLICY)
    assert (found.node, found.rule) == ("n1", "frozen")


def test_a_prediction_that_does_not_hold_is_given_up():
    for node in ("n3", None):
        state = replace(two(second={"timeline": 2}), ledger=frozen(node))
        assert winner(state, POLICY).node == "n2"


def test_a_node_that_nobody_can_see_may_still_be_kept():
    state = two(second={"timeline": 2})
    missed = replace(
        given.postgres("n2", given.sight(), 2), outcome=Outcome.TIMED_OUT, postgres=None
    )
    assert winner(fold(state, missed), POLICY).node == "n2"


def test_a_stopped_server_is_no_candidate():
    stopped = given.facts(running=False)
    by_peer = fold(two(), given.heard("n2", given.report("n2", server=stopped), 2))
    assert list(candidates(by_peer, POLICY)) == ["n1"]
    by_disk = replace(two(), view=replace(two().view, server=stopped))
    assert list(candidates(by_disk, POLICY)) == ["n2"]


def test_what_this_agent_cannot_read_its_peers_may():
    def told(sight, age_s):
        return Sight(
            "n2", Channel.POSTGRES, Outcome.ANSWERED, "", age_s, 0, sight, None
        )

    old = told(given.sight(in_recovery=True), 2.0)
    new = told(given.sight(), 0.5)
    other = replace(new, node="n1")
    older = given.heard("n3", given.report("n3", sights=(other, old)), 2)
    newer = given.heard("n2", given.report("n2", sights=(new,)), 2)
    for seen in ((older, newer), (newer, older)):
        state = fold(State(), *seen)
        assert list(candidates(state, POLICY)) == ["n1", "n2"]
