"""The life of an incident, told by verdicts that come and go."""

from dataclasses import replace

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agent.core import agreement, incidents, taking
from agent.core.incident import Status, Taken, incident_id, incident_key, stage_since
from agent.core.lsn import Lsn
from agent.core.notice import NoticeReason
from agent.core.observation import IncidentBrief, Outcome
from agent.core.rules import TABLE
from agent.core.state import Knowledge, Ledger, PrimarySeen, State
from agent.core.verdict import Severity, Verdict, VerdictCode
from tests.core import given
from tests.core.test_view import fold, seen_by_all

POLICY = given.policy()
ROWS = {row.number: row for row in TABLE}


def said(number, subject="cluster", discriminator="", **evidence) -> Verdict:
    """The verdict that the row of this number gives."""
    row = ROWS[number]
    return Verdict(
        row.code,
        row.family,
        subject,
        row.severity,
        number,
        evidence,
        discriminator,
        row.sticky,
    )


DOWN = said(201, "n3", confirmed_by=2)
SUSPECT = said(211, "n3")
SUSPECTED = said(509, "cluster", "1", winner=None)
SPLIT = said(501, "cluster", "1", winner="n2")
DIVERGED = said(505, "cluster", "1", winner="n2")
HEALTHY = said(903)


class Life:
    """A ledger through time, seen by an agent that sees everybody."""

    def __init__(self, ledger=None, policy=POLICY):
        self.ledger = ledger or Ledger()
        self.policy = policy
        self.peers = {}
        self.blind = False

    def at(self, seconds, *verdicts):
        """What is so at this second; returns what people are told."""
        state = State()
        if not self.blind:
            state = fold(state, *seen_by_all(seconds, n1=given.sight()))
            for node, briefs in self.peers.items():
                report = given.report(node, incidents=briefs, sequence=2)
                state = fold(state, given.heard(node, report, seconds))
        state = replace(state, knowledge=Knowledge(primary=PRIMARY))
        self.ledger, changes = incidents.advance(
            self.ledger, verdicts or (HEALTHY,), state, given.at(seconds), self.policy
        )
        return [(one.reason.value, one.incident.verdict.code.value) for one in changes]

    @property
    def only(self):
        (one,) = self.ledger.incidents
        return one


PRIMARY = PrimarySeen("n1", 1, Lsn(0x1000), given.SYSTEM)


def test_a_critical_trouble_opens_at_once_and_is_told_once():
    life = Life()
    assert life.at(1, DOWN) == [("first", "node-down")]
    assert life.at(2, DOWN) == []
    assert life.only.status is Status.OPEN
    assert life.only.id == incident_id(life.only.key, 1)
    assert life.only.key == incident_key(given.SYSTEM, "reach", "n3", "")
    assert [flip.status for flip in life.only.history] == [Status.PENDING, Status.OPEN]


def test_nothing_wrong_makes_no_incident():
    life = Life()
    assert life.at(1) == []
    assert life.at(2, said(901)) == []
    assert life.ledger == Ledger()


def test_a_warning_waits_for_its_hold():
    life = Life()
    assert life.at(1, SUSPECT) == []
    assert life.only.status is Status.PENDING
    assert life.at(3.9, SUSPECT) == []
    assert life.at(4, SUSPECT) == [("first", "node-suspect")]


def test_a_warning_that_goes_away_in_time_was_never_there():
    life = Life()
    life.at(1, SUSPECT)
    assert life.at(2) == []
    assert life.ledger.incidents == ()


def test_a_graver_stage_opens_what_was_pending():
    life = Life()
    life.at(1, SUSPECT)
    assert life.at(2, DOWN) == [("first", "node-down")]


def test_a_trouble_is_over_when_it_was_gone_for_long_enough():
    life = Life()
    life.at(1, DOWN)
    assert life.at(2) == []
    assert life.at(6.9) == []
    assert life.at(7) == [("resolved", "node-down")]
    assert life.only.resolved_wall_s == given.at(2).wall_s
    assert life.only.history[-1].wall_s == given.at(2).wall_s, "not when it was sure"
    assert life.ledger.occurrences == {life.only.key: 1}
    assert life.at(8) == []


def test_flapping_makes_one_incident():
    life = Life()
    told = []
    for second in range(1, 40):
        told += life.at(second, *((DOWN,) if second % 4 < 2 else ()))
    assert told == [("first", "node-down")]


def test_the_same_fault_next_week_gets_another_id():
    life = Life()
    life.at(1, DOWN)
    life.at(2)
    life.at(8)
    first = life.only.id
    assert life.at(100, DOWN) == [("first", "node-down")]
    second = life.ledger.incidents[-1]
    assert second.occurrence == 2
    assert second.id != first
    assert second.key == life.ledger.incidents[0].key


def test_nothing_moves_the_ledger_that_moves_every_second():
    life = Life()
    life.at(1, said(201, "n3", confirmed_by=2, since_age_s=1.0, fork_lsn="0/1"))
    before = life.ledger
    life.at(2, said(201, "n3", confirmed_by=1, since_age_s=2.0, fork_lsn="0/2"))
    assert life.ledger is before


def test_it_is_dated_when_it_became_true():
    life = Life()
    life.at(10, said(201, "n3", since_age_s=3.0))
    assert life.only.since_wall_s == given.at(7).wall_s
    assert life.only.opened_wall_s == given.at(10).wall_s


def test_a_later_stage_is_dated_when_it_became_true_itself():
    life = Life()
    life.at(10, said(207, "n3"))
    life.at(13, said(207, "n3"))
    assert life.at(90_000, said(201, "n3", since_age_s=4.0)) == [("worse", "node-down")]
    assert life.only.since_wall_s == given.at(10).wall_s, "the trouble as a whole"
    assert stage_since(life.only) == given.at(89_996).wall_s
    life.at(90_001, said(201, "n3", since_age_s=5.0, confirmed_by=3))
    assert stage_since(life.only) == given.at(89_996).wall_s


def test_a_split_is_one_event_through_all_its_stages():
    life = Life()
    life.at(10, SUSPECTED)
    life.at(60, SPLIT)
    assert stage_since(life.only) == given.at(10).wall_s
    assert stage_since(replace(life.only, stage_wall_s=None)) == given.at(10).wall_s


def dated(one, seconds, status=Status.OPEN):
    """What a peer tells of this incident, which it has known since then."""
    known = brief(one.occurrence, status, one.key)
    return replace(known, since_wall_s=given.at(seconds).wall_s)


def test_agents_that_meet_agree_since_when_it_has_been_true():
    life = Life()
    life.at(1000, SPLIT)
    week_s = agreement.EARLIER_MAX_S
    for seconds, status, wanted in (
        (400, Status.OPEN, 400),
        (900, Status.OPEN, 400),
        (300, Status.RESOLVED, 400),
        (399 - week_s, Status.OPEN, 400),
        (350, Status.ACKNOWLEDGED, 350),
    ):
        life.peers = {"n2": (dated(life.only, seconds, status),)}
        life.at(1001, SPLIT)
        assert life.only.since_wall_s == given.at(wanted).wall_s
    before = life.ledger
    life.at(1002, SPLIT)
    assert life.ledger is before


# --- stages ----------------------------------------------------------------------


def test_a_split_is_one_incident_through_all_its_stages():
    life = Life()
    assert life.at(1, SUSPECTED) == [("first", "split-brain-suspected")]
    assert life.at(2, SPLIT) == [("worse", "split-brain")]
    assert life.at(3, DIVERGED) == [("changed", "lineage-diverged")]
    assert life.at(4) == []
    assert life.at(9) == [("resolved", "lineage-diverged")]
    assert life.only.revision == 4
    assert life.only.worst is Severity.CRITICAL


def test_going_back_and_forth_is_told_to_nobody():
    life = Life()
    life.at(1, SPLIT)
    life.at(2, DIVERGED)
    told = [
        life.at(second, SPLIT if second % 2 else DIVERGED) for second in range(3, 9)
    ]
    assert not any(told)


def test_a_lesser_severity_is_no_news():
    life = Life()
    life.at(1, DOWN)
    assert life.at(2, SUSPECT) == []
    assert life.only.verdict.code is VerdictCode.NODE_SUSPECT
    assert life.only.worst is Severity.CRITICAL
    assert life.at(3, said(205, "n3")) == [("changed", "postgres-down")]


def test_a_greater_severity_is_worse():
    life = Life()
    life.at(1, SUSPECT)
    life.at(4, SUSPECT)
    assert life.at(5, DOWN) == [("worse", "node-down")]


def test_another_fork_found_later_goes_on_as_the_same_split():
    life = Life()
    life.at(1, said(509, "cluster", "3"))
    life.at(2, said(501, "cluster", "1"))
    assert life.only.key.endswith("/3")
    assert life.only.verdict.discriminator == "1"


def test_another_reason_under_the_same_code_is_taken_over_in_silence():
    life = Life()
    life.at(1, said(601, "n1", reason="no space"))
    assert life.at(2, said(601, "n1", reason="no permission")) == []
    assert life.only.verdict.evidence["reason"] == "no permission"
    assert len(life.only.history) == 2


def test_a_second_move_of_the_primary_is_told():
    life = Life()
    life.at(1, said(401, **{"from": "n1", "to": "n2"}))
    assert life.at(2, said(401, **{"from": "n2", "to": "n3"})) == [
        ("changed", "failover")
    ]
    assert life.at(3, said(401, **{"from": "n2", "to": "n3"}, old_seen=True)) == []
    assert life.at(4, said(401, **{"from": "n2", "to": "n1"})) == [
        ("changed", "failover")
    ]
    assert life.at(5, said(401, **{"from": "n3", "to": "n1"})) == [
        ("changed", "failover")
    ]


# --- people ----------------------------------------------------------------------


def test_a_failover_stays_until_somebody_has_taken_it():
    life = Life()
    life.at(1, said(401))
    assert life.at(2) == []
    assert life.at(100) == []
    assert life.only.status is Status.OPEN
    life.ledger = taking.acknowledge(
        life.ledger, life.only.id, "ann", given.at(101), POLICY
    )
    assert life.only.acknowledged_by == "ann"
    life.at(101)
    assert life.at(106) == [("resolved", "failover")]


def test_a_failover_that_nobody_took_outlives_the_lack_of_a_primary():
    life = Life()
    life.at(1, said(401))
    life.at(2, said(403))
    assert life.at(3) == []
    assert life.at(50) == []
    assert life.only.status is Status.OPEN


def take(life, who="ann", seconds=2):
    life.ledger = taking.acknowledge(
        life.ledger, life.only.id, who, given.at(seconds), POLICY
    )


def test_what_gets_graver_than_what_was_taken_is_open_again():
    life = Life()
    life.at(1, SUSPECTED)
    take(life)
    assert life.only.acknowledged_by == "ann"
    assert life.at(3, SPLIT) == [("worse", "split-brain")]
    assert (life.only.status, life.only.acknowledged_by) == (Status.OPEN, None)
    assert [flip.status for flip in life.only.history] == [
        Status.PENDING, Status.OPEN, Status.ACKNOWLEDGED, Status.OPEN,
    ]  # fmt: skip
    take(life, "bob", 4)
    assert life.at(5, DIVERGED) == [("changed", "lineage-diverged")]
    assert life.at(6, SPLIT) == []
    assert life.only.acknowledged_by == "bob", "no graver than what bob has taken"


def test_a_greater_severity_of_the_same_stage_is_open_again():
    planned = said(407, planned_by="ann", **{"from": "n1", "to": "n2"})
    life = Life()
    life.at(1, planned)
    assert life.only.acknowledged_by == "ann"
    assert life.at(2, said(401, **{"from": "n1", "to": "n2"})) == [
        ("worse", "failover")
    ]
    assert (life.only.status, life.only.acknowledged_by) == (Status.OPEN, None)
    assert life.only.history[-1].status is Status.OPEN


def taken_brief(life, stage, seconds, worst="critical"):
    """What a peer tells that has this incident taken."""
    one = life.only
    return replace(
        brief(one.occurrence, Status.ACKNOWLEDGED, one.key),
        verdict=stage,
        taken=Taken(stage, worst, given.at(seconds).wall_s),
    )


def test_what_was_taken_at_a_peer_before_it_got_graver_here_is_not_taken_here():
    life = Life()
    life.at(1, SUSPECTED)
    life.peers = {"n2": (taken_brief(life, "split-brain-suspected", 2),)}
    life.at(2, SUSPECTED)
    assert life.only.acknowledged_by == "somebody at n2"
    life.at(3, SPLIT)
    life.at(4, SPLIT)
    assert life.only.status is Status.OPEN, "n2 has not seen the proof yet"


@pytest.mark.parametrize(("worst", "taken"), [("odd", False), ("info", True)])
def test_a_severity_of_another_version_is_lower_than_all_that_are_known(worst, taken):
    life = Life()
    life.at(1, said(407))
    life.peers = {"n2": (taken_brief(life, "failover", 2, worst),)}
    life.at(3, said(407))
    assert (life.only.status is Status.ACKNOWLEDGED) is taken


def test_what_was_taken_at_a_peer_that_saw_it_earlier_is_taken_when_it_is_seen_here():
    life = Life()
    life.at(1, SUSPECTED)
    life.peers = {"n2": (taken_brief(life, "split-brain", 2),)}
    life.at(2, SUSPECTED)
    assert life.at(3, SPLIT) == [("worse", "split-brain")]
    assert life.only.acknowledged_by == "somebody at n2"


def test_what_was_taken_at_a_peer_after_it_got_graver_here_is_taken():
    """The peer has never seen the graver stage; the person can have heard of it."""
    life = Life()
    life.at(1, SPLIT)
    life.peers = {"n2": (taken_brief(life, "lineage-diverged", 2),)}
    life.at(3, SPLIT)
    assert life.only.status is Status.ACKNOWLEDGED
    life = Life()
    life.at(1, SPLIT)
    life.peers = {"n2": (taken_brief(life, "lineage-diverged", 2, "info"),)}
    life.at(3, SPLIT)
    assert life.only.status is Status.OPEN


def test_of_an_older_agent_the_present_stage_counts():
    life = Life()
    life.at(1, SUSPECTED)
    old = replace(taken_brief(life, "split-brain-suspected", 2), taken=None)
    life.peers = {"n2": (old,)}
    life.at(2, SUSPECTED)
    assert life.only.acknowledged_by == "somebody at n2"
    life.at(3, SPLIT)
    life.at(4, SPLIT)
    assert life.only.status is Status.OPEN


@pytest.mark.parametrize("status", [Status.PENDING, Status.ACKNOWLEDGED])
def test_what_has_not_opened_or_is_taken_cannot_be_taken(status):
    ledger = Ledger(incidents=(given.incident(status=status),))
    name = ledger.incidents[0].id
    assert taking.acknowledge(ledger, name, "ann", given.at(1), POLICY) == ledger
    assert taking.acknowledge(ledger, "no", "ann", given.at(1), POLICY) == ledger


def test_an_incident_that_is_over_is_taken_once_and_stays_over():
    ledger = Ledger(incidents=(given.incident(status=Status.RESOLVED),))
    name = ledger.incidents[0].id
    taken = taking.acknowledge(ledger, name, "ann", given.at(1), POLICY)
    assert taken.incidents[0].acknowledged_by == "ann"
    assert taken.incidents[0].status is Status.RESOLVED
    assert taking.acknowledge(taken, name, "bob", given.at(2), POLICY) == taken


# --- blindness -------------------------------------------------------------------


def test_nothing_ends_while_the_agent_cannot_see():
    life = Life()
    life.at(1, DOWN)
    life.blind = True
    assert life.at(2, said(901)) == []
    assert life.at(60, said(101, "n1")) == [("first", "observer-isolated")]
    assert life.at(90) == []
    life.blind = False
    life.at(91)
    assert ("resolved", "node-down") in life.at(96)


def isolated_at(seconds):
    """n1 has missed both others twice."""
    cluster_state = fold(State(), *seen_by_all(seconds - 2, n1=given.sight()))
    misses = [
        replace(one, postgres=None, report=None, sent_s=sent)
        for sent in (seconds - 1, seconds)
        for one in seen_by_all(sent)
        if one.node != "n1"
    ]
    misses = [
        replace(one, outcome=Outcome.TIMED_OUT, received_s=one.sent_s) for one in misses
    ]
    return fold(cluster_state, *misses)


def test_a_cut_off_agent_ends_its_own_troubles_and_nobody_elses():
    state = isolated_at(50)
    own = given.incident(said(601, "n1"))
    others = given.incident(DOWN)
    ledger = Ledger(incidents=(own, others))
    ledger, _ = incidents.advance(ledger, (HEALTHY,), state, given.at(50), POLICY)
    assert [one.clear_since_s for one in ledger.incidents] == [50, None]


def test_a_split_ends_only_beside_a_single_primary():
    both = fold(State(), *seen_by_all(5, n1=given.sight(), n2=given.sight()))
    one = fold(State(), *seen_by_all(5, n1=given.sight()))
    ledger = Ledger(incidents=(given.incident(SPLIT),))
    for state, since in ((both, None), (one, 5)):
        after, _ = incidents.advance(ledger, (HEALTHY,), state, given.at(5), POLICY)
        assert after.incidents[0].clear_since_s == since


def test_a_node_that_was_not_looked_at_lately_keeps_its_trouble():
    state = fold(State(), *seen_by_all(1, n1=given.sight()))
    state = fold(
        state, *(o for o in seen_by_all(9, n1=given.sight()) if o.node != "n3")
    )
    ledger = Ledger(incidents=(given.incident(DOWN),))
    after, _ = incidents.advance(ledger, (HEALTHY,), state, given.at(9), POLICY)
    assert after is ledger


def test_a_pairs_trouble_ends_when_both_are_seen():
    life = Life()
    life.at(1, said(301, "n1|n3"))
    life.at(5, said(301, "n1|n3"))
    life.at(6)
    assert life.at(12) == [("resolved", "link-down")]


# --- several agents --------------------------------------------------------------


def brief(occurrence, status=Status.OPEN, key=None):
    key = key or incident_key(given.SYSTEM, "reach", "n3", "")
    return IncidentBrief(
        incident_id(key, occurrence), key, occurrence, status.value, "node-down", 0.0
    )


def test_a_trouble_that_a_peer_holds_open_is_joined():
    life = Life()
    life.peers = {"n2": (brief(4),)}
    life.at(1, DOWN)
    assert life.only.occurrence == 4


def test_what_was_called_over_is_not_opened_again_because_a_peer_is_late():
    """People were told that it is over; of the same id they would hear no more."""
    life = Life(Ledger(occurrences={brief(1).key: 1}))
    life.peers = {"n2": (brief(1),)}
    life.at(1, DOWN)
    assert life.only.occurrence == 2


def test_of_two_occurrences_the_lower_one_stays():
    life = Life(Ledger(occurrences={brief(1).key: 1}))
    life.at(1, DOWN)
    assert life.only.occurrence == 2
    life.peers = {"n2": (brief(3),)}
    assert life.at(2, DOWN) == []
    assert life.only.occurrence == 2


GOES_ON = [("resolved", "node-down"), ("first", "node-down")]
"""The old id ends; the other one is told, if that peer does not get to it."""


def test_the_younger_one_merges_into_the_older_and_says_so():
    key = brief(1).key
    life = Life(Ledger(occurrences={key: 2}))
    life.at(1, DOWN)
    assert life.only.occurrence == 3
    life.ledger = replace(life.ledger, occurrences={key: 1})
    life.peers = {"n2": (brief(2),)}
    assert life.at(2, DOWN) == GOES_ON
    ended, living = life.ledger.incidents
    assert (ended.occurrence, ended.status) == (3, Status.RESOLVED)
    assert (living.occurrence, living.status) == (2, Status.OPEN)
    assert life.at(3, DOWN) == []


def test_a_pending_one_moves_over_in_silence():
    life = Life()
    life.at(1, SUSPECT)
    life.peers = {"n2": (brief(5),)}
    life.ledger = replace(life.ledger, occurrences={brief(1).key: 4})
    assert life.at(2, SUSPECT) == []
    assert life.only.occurrence == 5


def test_an_occurrence_that_a_peer_has_resolved_goes_on_here():
    life = Life()
    life.at(1, DOWN)
    life.ledger = replace(life.ledger, occurrences={life.only.key: 1})
    life.peers = {"n2": (brief(1, Status.RESOLVED),)}
    assert life.at(2, DOWN) == []
    assert life.only.status is Status.OPEN


def test_a_spent_occurrence_gives_way_to_a_peers_new_one():
    life = Life()
    life.at(1, DOWN)
    life.ledger = replace(life.ledger, occurrences={life.only.key: 1})
    life.peers = {"n2": (brief(1, Status.RESOLVED), brief(2))}
    assert life.at(2, DOWN) == GOES_ON
    assert life.ledger.incidents[-1].occurrence == 2


def test_what_goes_on_under_a_peers_id_has_to_be_gone_for_as_long_as_any_other():
    life = Life()
    life.at(1, DOWN)
    life.ledger = replace(life.ledger, occurrences={life.only.key: 1})
    life.at(2)
    life.peers = {"n2": (brief(1, Status.RESOLVED), brief(2))}
    assert life.at(3, DOWN) == GOES_ON
    life.peers = {}
    assert life.at(4) == []
    assert life.at(8.5) == []
    assert life.at(9) == [("resolved", "node-down")]


@over(st.sets(st.integers(1, 9), min_size=1), st.integers(0, 9))
def test_all_who_know_the_same_prefer_the_same_occurrence(occurrences, spent):
    chosen = agreement.preferred(occurrences, spent)
    unspent = {number for number in occurrences if number > spent}
    assert chosen == min(unspent or occurrences)
    assert agreement.preferred({chosen, *list(occurrences)[:1]}, spent) in occurrences


# --- keys ------------------------------------------------------------------------


def test_the_system_id_comes_from_whatever_knows_it():
    assert agreement.system_id(State(), POLICY) == agreement.NO_SYSTEM
    by_primary = given.state(primary=PRIMARY)
    by_disk = given.state(server=given.facts())
    by_sql = given.state(latest={"n2/postgres": given.postgres("n2", given.sight(), 1)})
    by_peer = given.state(lineages={"n3": given.lineage()})
    for state in (by_primary, by_disk, by_sql, by_peer):
        assert agreement.system_id(state, POLICY) == given.SYSTEM


# --- bounds ----------------------------------------------------------------------


def test_resolved_incidents_and_histories_are_bounded():
    policy = replace(POLICY, incidents_limit=2, history_limit=3)
    life = Life(policy=policy)
    for second in range(0, 100, 10):
        life.at(second, DOWN)
        life.at(second + 1)
        life.at(second + 7)
    assert [one.occurrence for one in life.ledger.incidents] == [9, 10]
    assert all(len(one.history) == 3 for one in life.ledger.incidents)


VERDICTS = st.lists(
    st.sampled_from([DOWN, SUSPECT, SUSPECTED, SPLIT, DIVERGED, said(401), said(403)]),
    max_size=3,
    unique_by=lambda one: (one.family, one.subject),
)


@over(st.lists(VERDICTS, max_size=25))
def test_news_of_an_incident_begins_with_its_first_and_ends_with_its_end(rounds):
    life = Life()
    told: dict[str, list] = {}
    for second, verdicts in enumerate(rounds):
        before = {one.id: one for one in life.ledger.incidents}
        state = replace(
            fold(State(), *seen_by_all(second, n1=given.sight())),
            knowledge=Knowledge(primary=PRIMARY),
        )
        life.ledger, changes = incidents.advance(
            life.ledger, tuple(verdicts), state, given.at(second), POLICY
        )
        for change in changes:
            told.setdefault(change.incident.id, []).append(change)
            assert change.incident.status is not Status.PENDING
        living = [o for o in life.ledger.incidents if o.status is not Status.RESOLVED]
        subjects = [(o.verdict.family, o.verdict.subject) for o in living]
        assert len(subjects) == len(set(subjects))
        for one in life.ledger.incidents:
            if before.get(one.id, one).status is Status.RESOLVED:
                assert before.get(one.id, one) == one
    for news in told.values():
        reasons = [one.reason for one in news]
        assert reasons[0] is NoticeReason.FIRST
        assert reasons.count(NoticeReason.FIRST) == 1
        assert NoticeReason.RESOLVED not in reasons[:-1]
        revisions = [one.incident.revision for one in news]
        assert revisions == sorted(set(revisions))


def test_an_end_of_no_primary_waits_where_a_peer_has_seen_the_primary_move():
    life = Life()
    life.at(1, said(403))
    assert life.at(6, said(403)) == [("first", "no-primary")]
    one = life.only
    told = IncidentBrief(one.id, one.key, 1, "open", "no-primary", 0.0, moved=True)
    life.peers = {"n2": (told,)}
    for second in (7, 13):
        assert life.at(second) == []
    life.peers = {"n2": (replace(told, status="acknowledged"),)}
    assert life.at(14) == []
    assert life.at(19) == [("resolved", "no-primary")]
