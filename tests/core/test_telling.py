"""One trouble pages once, whoever sees it."""

from dataclasses import replace

import pytest

from agent.core import telling
from agent.core.action import Tell
from agent.core.incident import Status
from agent.core.incidents import Change
from agent.core.notice import NoticeReason, notice_id
from agent.core.observation import Outcome, Told
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given

INCIDENT = given.incident()
FIRST = Change(INCIDENT, NoticeReason.FIRST)


def seeing(*peers, incident=INCIDENT, now=100.0):
    heard = {peer: given.heard(peer, given.report(peer), now) for peer in peers}
    latest = {f"{peer}/agent": seen for peer, seen in heard.items()}
    return given.state(incidents=(incident,), latest=latest, reports=heard)


def tell(state, changes, seconds, me):
    after, actions = telling.advance(
        state, changes, given.at(seconds), given.policy(me)
    )
    assert all(isinstance(action, Tell) for action in actions)
    tells = [action for action in actions if isinstance(action, Tell)]
    return after, tuple(action.notice.id for action in tells)


def test_the_first_reachable_agent_tells_at_once():
    _, told = tell(seeing("n2", "n3"), (FIRST,), 100, "n1")
    assert told == (notice_id(INCIDENT.id, NoticeReason.FIRST, 1),)


def test_the_second_waits_for_the_first_and_then_stands_in():
    state, told = tell(seeing("n1", "n3"), (FIRST,), 100, "n2")
    assert told == ()
    state = replace(state, view=seeing("n1", now=109).view)
    state, told = tell(state, (), 109, "n2")
    assert told == ()
    state, told = tell(state, (), 111, "n2")
    assert len(told) == 1
    _, again = tell(state, (), 112, "n2")
    assert again == ()


@pytest.mark.parametrize(
    ("me", "seconds", "told"),
    [("n2", 109.9, 0), ("n2", 110, 1), ("n3", 119.9, 0), ("n3", 120, 1)],
)
def test_each_further_agent_waits_one_span_longer(me, seconds, told):
    state, now = tell(seeing("n1", "n2", "n3"), (FIRST,), 100, me)
    assert now == ()
    state = replace(state, view=seeing("n1", "n2", "n3", now=seconds).view)
    assert len(tell(state, (), seconds, me)[1]) == told


def test_an_elder_counts_as_long_as_its_report_is_fresh():
    _, fresh = tell(seeing("n1", now=96.999), (FIRST,), 100, "n2")
    _, old = tell(seeing("n1", now=96.998), (FIRST,), 100, "n2")
    assert (len(fresh), len(old)) == (0, 1)


@pytest.mark.parametrize(("misses", "told"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_one_question_that_is_lost_makes_no_elder_silent(misses, told):
    state = seeing("n1", "n3", now=98)
    lost = replace(
        state.view.latest["n1/agent"], outcome=Outcome.TIMED_OUT, report=None
    )
    view = replace(
        state.view,
        latest={**state.view.latest, "n1/agent": lost},
        missed={"n1/agent": misses},
    )
    assert len(tell(replace(state, view=view), (FIRST,), 100, "n2")[1]) == told


def test_where_one_miss_accuses_an_elder_that_was_never_missed_is_heard():
    policy = replace(given.policy("n2"), missed_to_accuse=1)
    _, actions = telling.advance(seeing("n1"), (FIRST,), given.at(100), policy)
    assert actions == ()


def test_a_node_without_an_agent_is_nobodys_elder():
    nodes = tuple(
        replace(one, has_agent=one.name != "n1") for one in given.policy().nodes
    )
    policy = replace(given.policy("n2"), nodes=nodes, order={})
    _, actions = telling.advance(seeing("n1"), (FIRST,), given.at(100), policy)
    assert len(actions) == 1


def test_what_this_agent_tells_itself_stays_its_own_until_it_is_delivered():
    state, _ = tell(seeing("n2"), (FIRST,), 100, "n1")
    (entry,) = state.ledger.told
    assert (entry.mine, entry.told.delivered, entry.wall_s) == (
        True,
        False,
        given.at(100).wall_s,
    )
    news = Told(INCIDENT.id, "first", 1, delivered=True)
    peer = given.heard("n2", given.report("n2", told=(news,)), 101)
    assert telling.heard_of(state, peer) is state


def test_only_the_latest_news_is_remembered():
    state = seeing("n2")
    for number in range(telling.TOLD_KEPT + 5):
        moved = replace(given.verdict(), rule=number)
        change = Change(replace(INCIDENT, verdict=moved), NoticeReason.CHANGED)
        state, _ = tell(state, (change,), 100, "n1")
    kept = [entry.told.revision for entry in state.ledger.told]
    assert kept == list(range(5, telling.TOLD_KEPT + 5))


@pytest.mark.parametrize(
    "calm",
    [
        {"opened_wall_s": None},
        {"verdict": given.verdict(severity=Severity.WARNING)},
        {"status": Status.PENDING},
    ],
)
def test_only_what_is_open_and_critical_is_told_again(calm):
    assert (
        tell(seeing("n2", incident=replace(INCIDENT, **calm)), (), 7200, "n1")[1] == ()
    )


def test_an_agent_whose_elders_are_gone_tells_at_once():
    _, told = tell(seeing("n1", now=90), (FIRST,), 100, "n2")
    assert len(told) == 1


def test_news_that_a_peer_has_delivered_is_not_told_again():
    state, _ = tell(seeing("n1"), (FIRST,), 100, "n2")
    news = Told(INCIDENT.id, "first", 1, delivered=True)
    peer = given.heard("n1", given.report("n1", told=(news,)), 101)
    state = telling.heard_of(state, peer)
    assert tell(state, (), 200, "n2")[1] == ()


def test_who_comes_back_does_not_tell_what_others_have_delivered_meanwhile():
    news = Told(INCIDENT.id, "first", 1, delivered=True)
    peer = given.heard("n2", given.report("n2", told=(news,)), 100)
    state = seeing("n2")
    state = replace(state, view=replace(state.view, reports={"n2": peer}))
    state, told = tell(state, (FIRST,), 100, "n1")
    assert told == ()
    assert state.ledger.told[0].told.delivered


def test_news_that_a_peer_only_means_to_tell_is_told_after_the_wait():
    state, _ = tell(seeing("n1"), (FIRST,), 100, "n2")
    news = Told(INCIDENT.id, "first", 1, delivered=False)
    peer = given.heard("n1", given.report("n1", told=(news,)), 101)
    state = telling.heard_of(state, peer)
    assert len(tell(state, (), 200, "n2")[1]) == 1


def test_a_failed_probe_of_a_peer_says_nothing_about_news():
    state, _ = tell(seeing("n1"), (FIRST,), 100, "n2")
    sql = given.postgres("n1", given.sight(), 101)
    assert telling.heard_of(state, sql) is state


def test_only_this_agent_knows_of_its_own_isolation_and_tells_it():
    alone = given.verdict(
        VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n3", Severity.CRITICAL
    )
    incident = given.incident(alone)
    state = seeing("n1", "n2", incident=incident)
    _, told = tell(state, (Change(incident, NoticeReason.FIRST),), 100, "n3")
    assert len(told) == 1


def test_what_everybody_can_see_of_this_node_is_told_by_the_eldest():
    down = given.verdict(VerdictCode.POSTGRES_DOWN, Family.REACH, "n3")
    incident = given.incident(down)
    state = seeing("n1", "n2", incident=incident)
    _, told = tell(state, (Change(incident, NoticeReason.FIRST),), 100, "n3")
    assert told == ()


def test_a_wall_clock_that_went_back_delays_nobody():
    state, told = tell(seeing("n1"), (FIRST,), 100, "n2")
    assert told == ()
    state = replace(state, view=seeing("n1", now=50).view)
    assert len(tell(state, (), 50, "n2")[1]) == 1


@pytest.mark.parametrize(
    ("reason", "revision"),
    [
        (NoticeReason.FIRST, 1),
        (NoticeReason.RESOLVED, 0),
        (NoticeReason.WORSE, 501),
        (NoticeReason.CHANGED, 501),
    ],
)
def test_the_revision_is_one_that_all_agents_derive_alike(reason, revision):
    odd = replace(INCIDENT, revision=77)
    _, told = tell(seeing("n2"), (Change(odd, reason),), 100, "n1")
    assert told == (notice_id(INCIDENT.id, reason, revision),)


def after_the_end(reason):
    """What a stand-in tells, late, of news of an incident that is over by then."""
    state, told = tell(seeing("n1"), (Change(INCIDENT, reason),), 100, "n2")
    assert told == ()
    over = replace(INCIDENT, status=Status.RESOLVED)
    ledger = replace(state.ledger, incidents=(over,))
    return tell(replace(state, ledger=ledger), (), 200, "n2")[1]


@pytest.mark.parametrize("reason", [NoticeReason.WORSE, NoticeReason.CHANGED])
def test_a_stage_of_what_is_over_is_not_told_by_who_stands_in(reason):
    assert after_the_end(reason) == ()


def test_a_trouble_that_nobody_has_told_of_is_told_even_after_its_end():
    assert len(after_the_end(NoticeReason.FIRST)) == 1


def test_a_second_failover_is_other_news_than_the_first():
    ids = set()
    for timeline in (2, 3):
        moved = replace(given.verdict(), rule=401, evidence={"to_timeline": timeline})
        change = Change(replace(INCIDENT, verdict=moved), NoticeReason.CHANGED)
        ids |= set(tell(seeing("n2"), (change,), 100, "n1")[1])
    assert ids == {
        notice_id(INCIDENT.id, NoticeReason.CHANGED, revision)
        for revision in (2401, 3401)
    }


def test_the_same_news_twice_is_told_once():
    state, _ = tell(seeing("n2"), (FIRST,), 100, "n1")
    assert tell(state, (FIRST,), 101, "n1")[1] == ()


def test_a_critical_incident_that_nobody_takes_is_told_again_each_hour():
    state, _ = tell(seeing("n2"), (FIRST,), 1, "n1")
    assert tell(state, (), 3599, "n1")[1] == ()
    state, first = tell(state, (), 3600, "n1")
    state, second = tell(state, (), 3602, "n1")
    state, third = tell(state, (), 7201, "n1")
    assert first == (notice_id(INCIDENT.id, NoticeReason.REMINDER, 1),)
    assert second == ()
    assert third == (notice_id(INCIDENT.id, NoticeReason.REMINDER, 2),)


def test_a_taken_incident_is_not_told_again():
    taken = replace(INCIDENT, status=Status.ACKNOWLEDGED)
    assert tell(seeing("n2", incident=taken), (), 7200, "n1")[1] == ()


def test_a_delivery_is_remembered():
    state, told = tell(seeing("n2"), (FIRST,), 100, "n1")
    after = telling.delivered(state, told[0])
    assert after.ledger.told[0].told.delivered
    assert telling.delivered(after, told[0]) is after


def test_news_of_an_incident_that_is_forgotten_is_kept_but_not_told():
    state, _ = tell(seeing("n1"), (FIRST,), 100, "n2")
    state = replace(state, ledger=replace(state.ledger, incidents=()))
    after, told = tell(state, (), 200, "n2")
    assert told == ()
    assert after.ledger.told == state.ledger.told


GIVES_WAY = (
    Change(
        replace(INCIDENT, status=Status.RESOLVED), NoticeReason.RESOLVED, gives_way=True
    ),
    Change(replace(INCIDENT, id="at-peer"), NoticeReason.FIRST),
)


def merged(state):
    """The same trouble goes on under the id that a peer holds it under."""
    both = tuple(one.incident for one in GIVES_WAY)
    return replace(state, ledger=replace(state.ledger, incidents=both))


def test_what_nobody_told_of_gives_way_to_another_id_in_silence():
    state, told = tell(seeing("n1", "n3"), (FIRST,), 100, "n2")
    assert told == ()
    state, told = tell(merged(state), GIVES_WAY, 101, "n2")
    assert told == ()
    left = [(entry.told.incident_id, entry.told.reason) for entry in state.ledger.told]
    assert left == [("at-peer", "first")]
    assert tell(state, (), 111, "n2")[1] == (
        notice_id("at-peer", NoticeReason.FIRST, 1),
    )


def test_what_people_were_told_of_ends_before_it_goes_on_under_another_id():
    state, _ = tell(seeing("n2"), (FIRST,), 100, "n1")
    _, told = tell(merged(state), GIVES_WAY, 101, "n1")
    assert told == (
        notice_id(INCIDENT.id, NoticeReason.RESOLVED, 0),
        notice_id("at-peer", NoticeReason.FIRST, 1),
    )
