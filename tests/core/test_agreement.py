"""How agents that were apart come to one id, one beginning and one end."""

from dataclasses import replace

import pytest

from agent.core import agreement
from agent.core.incident import Status, Taken
from agent.core.lsn import Lsn
from agent.core.observation import IncidentBrief
from agent.core.state import PrimarySeen
from agent.core.verdict import Family, VerdictCode
from tests.core import given
from tests.core.given import at

POLICY = given.policy()
OURS = given.incident()
SEEN_S = 10.0


def brief(**more):
    known = IncidentBrief(
        OURS.id, OURS.key, 1, Status.OPEN.value, "split-brain", OURS.since_wall_s
    )
    return replace(known, **more)


def told(*briefs, **parts):
    heard = given.heard("n2", given.report("n2", incidents=briefs), SEEN_S - 0.001)
    return given.state(reports={"n2": heard}, **parts)


@pytest.mark.parametrize(
    ("occurrences", "spent", "kept"),
    [({2}, 0, 2), ({3, 2}, 0, 2), ({1, 2}, 1, 2), ({1, 2, 3}, 1, 2), ({1, 2}, 2, 1)],
)
def test_the_lowest_that_is_not_spent_is_kept(occurrences, spent, kept):
    assert agreement.preferred(occurrences, spent) == kept


@pytest.mark.parametrize(
    ("occurrences", "ended", "kept"),
    [
        ({1, 2}, {1}, 2),
        ({1, 2}, {2}, 1),
        ({1, 2, 3}, {1, 3}, 2),
        ({1, 2, 3}, {3}, 1),
        ({1, 3}, {1, 2, 3}, 3),
        ({4, 9}, {4}, 9),
    ],
)
def test_what_ended_somewhere_gives_way_the_older_first(occurrences, ended, kept):
    assert agreement.preferred(occurrences, 3, ended) == kept


OWN = replace(OURS, id="own", occurrence=3)


@pytest.mark.parametrize(
    ("heard", "over", "spent", "kept"),
    [
        ((), (), 0, 3),
        ((1,), (), 0, 1),
        ((1,), (1,), 1, 3),
        # Somebody comes back who was away since the first one, and holds that open.
        ((1,), (1,), 3, 3),
        ((1, 2), (1,), 3, 2),
        ((5,), (1,), 3, 5),
    ],
)
def test_what_this_agent_called_over_is_not_taken_up_again(heard, over, spent, kept):
    past = tuple(
        replace(OURS, id=f"past-{number}", occurrence=number, status=Status.RESOLVED)
        for number in over
    )
    others = (
        replace(past[0], key="another", occurrence=5) if past else OURS,
        replace(OURS, id="peer", occurrence=5),
    )
    state = told(*(brief(id=f"at-{number}", occurrence=number) for number in heard))
    ledger = given.ledger(
        incidents=(*past, *others, OWN), occurrences={OURS.key: spent}
    )
    hearing = agreement.heard(state, at(SEEN_S), POLICY)
    assert agreement.agreed(OWN, ledger, hearing) == kept


@pytest.mark.parametrize(
    ("own", "kept"),
    [(1, 3), (3, 3), (2, 3)],
)
def test_who_was_away_goes_on_under_what_the_others_have_now(own, kept):
    """The others have called its occurrence over, and one of them the present one."""
    ours = replace(OURS, occurrence=own)
    state = told(
        brief(id="first", occurrence=1, status="resolved"),
        brief(id="second", occurrence=2, status="resolved"),
        brief(id="third", occurrence=3),
        brief(id="third too", occurrence=3, status="resolved"),
        brief(id="of another", key="another", occurrence=1),
    )
    ledger = given.ledger(incidents=(ours,), occurrences={OURS.key: 3})
    hearing = agreement.heard(state, at(SEEN_S), POLICY)
    assert agreement.agreed(ours, ledger, hearing) == kept


@pytest.mark.parametrize(
    ("status", "spent", "heard", "kept"),
    [
        ("pending", 2, {}, 3),
        ("pending", 3, {}, 4),
        ("pending", 5, {}, 6),
        ("pending", 3, {4: "pending"}, 4),
        ("pending", 3, {3: "resolved", 5: "open"}, 5),
        # A peer has told people of it, and stands by that.
        ("pending", 3, {3: "open"}, 3),
        ("pending", 3, {3: "acknowledged"}, 3),
        # So has this agent.
        ("open", 3, {3: "resolved"}, 3),
        ("acknowledged", 3, {}, 3),
    ],
)
def test_nothing_opens_under_an_occurrence_that_was_spent_while_it_waited(
    status, spent, heard, kept
):
    waiting = replace(OWN, status=Status(status))
    state = told(
        *(
            brief(id=f"at-{number}", occurrence=number, status=said)
            for number, said in heard.items()
        )
    )
    ledger = given.ledger(incidents=(waiting,), occurrences={OURS.key: spent})
    hearing = agreement.heard(state, at(SEEN_S), POLICY)
    assert agreement.agreed(waiting, ledger, hearing) == kept


@pytest.mark.parametrize(
    ("parts", "system"),
    [
        ({}, "-"),
        ({"lineages": {"n2": given.lineage()}}, given.SYSTEM),
        (
            {"latest": {"n2/postgres": given.postgres("n2", given.sight(), 1)}},
            given.SYSTEM,
        ),
        (
            {
                "latest": {
                    "n1/postgres": given.heard("n1", given.report("n1"), 1),
                    "n2/postgres": given.postgres(
                        "n2", given.sight(system_id="sql"), 1
                    ),
                },
                "lineages": {"n2": replace(given.lineage(), system_id="line")},
            },
            "sql",
        ),
        (
            {
                "server": given.facts(
                    lineage=replace(given.lineage(), system_id="disk")
                ),
                "lineages": {"n1": given.lineage()},
            },
            "disk",
        ),
        (
            {
                "primary": PrimarySeen("n1", 1, Lsn(1), "last"),
                "server": given.facts(),
            },
            "last",
        ),
    ],
)
def test_the_system_in_every_key_is_the_best_known_one(parts, system):
    assert agreement.system_id(given.state(**parts), POLICY) == system


@pytest.mark.parametrize(
    ("heard", "seconds", "standing"),
    [
        (brief(), SEEN_S + 3, {1}),
        (brief(), SEEN_S + 3.1, set()),
        (brief(status="acknowledged", occurrence=4), SEEN_S, {4}),
        (brief(status="resolved"), SEEN_S, set()),
        (brief(key="another"), SEEN_S, set()),
        (brief(occurrence=0), SEEN_S, set()),
    ],
)
def test_what_fresh_peers_hold_open_counts(heard, seconds, standing):
    found = agreement.standing_at_peers(
        OURS.key, agreement.heard(told(heard), at(seconds), POLICY)
    )
    assert found == standing


@pytest.mark.parametrize(
    ("earlier_s", "more", "believed"),
    [
        (60.0, {}, True),
        (agreement.EARLIER_MAX_S, {}, True),
        (agreement.EARLIER_MAX_S + 1, {}, False),
        (60.0, {"status": "acknowledged"}, True),
        (60.0, {"status": "resolved"}, False),
        (60.0, {"id": "another"}, False),
        (0.0, {}, False),
        (-60.0, {}, False),
    ],
)
def test_it_is_true_since_the_first_agent_saw_it(earlier_s, more, believed):
    since_s = OURS.since_wall_s - earlier_s
    state = told(brief(since_wall_s=since_s, **more))
    dated = agreement.dated_by_peers(OURS, agreement.heard(state, at(SEEN_S), POLICY))
    if believed:
        assert dated == replace(OURS, since_wall_s=since_s)
    else:
        assert dated is OURS


DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("ahead_s", "shifted"),
    [(30.0, False), (30.1, True), (-30.0, False), (-30.1, True), (3 * DAY_S, True)],
)
def test_dates_of_a_clock_far_off_are_put_on_this_agents_own(ahead_s, shifted):
    """A trouble of a minute ago, taken half a minute ago, by the clock of a peer."""
    now = at(100)
    begun, taken = now.wall_s - 60 + ahead_s, now.wall_s - 30 + ahead_s
    theirs = brief(since_wall_s=begun, taken=Taken("split-brain", "critical", taken))
    report = given.report("n2", incidents=(theirs,), wall_s=now.wall_s + ahead_s)
    heard = agreement.redated(report, now)
    assert (heard is not report) is shifted
    found = heard.incidents[0]
    off_s = 0.0 if shifted else ahead_s
    assert found.since_wall_s == pytest.approx(now.wall_s - 60 + off_s, abs=0.01)
    assert found.taken is not None
    assert found.taken.wall_s == pytest.approx(now.wall_s - 30 + off_s, abs=0.01)
    assert (found.id, found.taken.stage) == (theirs.id, "split-brain")


def test_no_date_lies_before_all_calendars_and_an_older_agent_tells_no_clock():
    early = brief(since_wall_s=5.0, taken=Taken("split-brain", "critical", 6.0))
    report = given.report("n2", incidents=(early, brief(taken=None)))
    assert agreement.redated(report, at(0)) is report
    ahead = replace(report, wall_s=at(0).wall_s + DAY_S)
    first, second = agreement.redated(ahead, at(0)).incidents
    assert first.taken is not None
    assert (first.since_wall_s, first.taken.wall_s, second.taken) == (0.0, 0.0, None)


LAST = PrimarySeen("n1", 1, Lsn(1), given.SYSTEM, at(0).wall_s)
OVER = brief(
    id="theirs", verdict="failover", status="resolved", since_wall_s=at(0).wall_s
)


@pytest.mark.parametrize(
    ("heard", "over"),
    [
        (OVER, True),
        (replace(OVER, since_wall_s=at(-1).wall_s), False),
        (replace(OVER, since_wall_s=at(-1).wall_s, moved_to=1), False),
        (replace(OVER, since_wall_s=at(-1).wall_s, moved_to=2), True),
        (replace(OVER, moved_to=1), True),
        (replace(OVER, status="open"), False),
        (replace(OVER, verdict="no-primary"), False),
        (replace(OVER, verdict="no-primary", moved=True), True),
        (replace(OVER, moved=True, status="acknowledged"), False),
        (replace(OVER, id=OURS.id), False),
    ],
)
def test_a_failover_that_a_peer_saw_end_is_not_told_again(heard, over):
    state = told(heard, incidents=(OURS,))
    assert agreement.failover_is_over(LAST, state, at(SEEN_S), POLICY) is over


@pytest.mark.parametrize(
    ("to", "code", "status", "stands"),
    [
        ("n2", VerdictCode.FAILOVER, Status.OPEN, True),
        ("n2", VerdictCode.FAILOVER, Status.ACKNOWLEDGED, True),
        ("n2", VerdictCode.FAILOVER, Status.PENDING, False),
        ("n2", VerdictCode.FAILOVER, Status.RESOLVED, False),
        ("n3", VerdictCode.FAILOVER, Status.OPEN, False),
        ("n2", VerdictCode.NO_PRIMARY, Status.OPEN, False),
    ],
)
def test_a_failover_stands_while_people_know_of_it(to, code, status, stands):
    verdict = replace(given.verdict(code, Family.PRIMARY), evidence={"to": to})
    one = given.incident(verdict, status)
    state = given.state(incidents=(OURS, one))
    assert agreement.standing_failover(state, "n2") == (one if stands else None)
