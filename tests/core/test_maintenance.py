"""Announced switchovers: what they cover, what they never cover, who knows of them."""

from dataclasses import replace

import pytest

from agent.core import maintenance
from agent.core.action import Tell
from agent.core.event import MaintenanceBegun, MaintenanceEnded
from agent.core.explain import sentence
from agent.core.incident import Status
from agent.core.maintenance import KEPT_MAX, RUNNING_MAX, SPAN_S_MAX
from agent.core.nextstep import next_step
from agent.core.notice import NoticeReason
from agent.core.observation import MaintenanceBrief
from agent.core.plan import Maintenance
from agent.core.verdict import Severity, VerdictCode
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.given import at

POLICY = given.policy()


def plan(name="mnt-1", node=None, begun=0.0, end=1800.0, **more):
    return Maintenance(
        name, node, "ann", "patch n1", at(begun).wall_s, at(end).wall_s, **more
    )


def brief(name="mnt-1", node=None, **more):
    return replace(
        MaintenanceBrief(name, node, "ann", "patch", 10.0, 600.0, None, ""),
        **more,
    )


def announce(cluster, name="n1", node=None, span_s=600.0, mark="mnt-1"):
    event = MaintenanceBegun(
        cluster.at(name, 0.9), mark, node, "ann", "patch n1", span_s
    )
    cluster.agents[name].step(event)


def switch_over(cluster, to="n2", stopped_s=1):
    """Stop n1, promote another, and bring n1 back as its standby."""
    servers = cluster.servers
    servers["n1"].up = False
    cluster.run(1)
    servers[to].promote()
    for name in servers:
        if name != to:
            servers[name].follows = to
    cluster.run(stopped_s)
    servers["n1"].rewind_to(servers[to])
    servers["n1"].restart(standby=True)
    cluster.run(1)


def announced(**more):
    cluster = Cluster()
    cluster.run(3)
    announce(cluster, **more)
    cluster.run(2)
    return cluster


# --- when it is in force -------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "runs"), [(-1.0, False), (0.0, True), (1799.9, True), (1800.0, False)]
)
def test_it_runs_from_its_beginning_to_its_end(second, runs):
    assert plan().runs(at(second).wall_s) is runs


def test_what_a_person_ended_does_not_run():
    assert not plan(ended_wall_s=at(5).wall_s).runs(at(1).wall_s)


@pytest.mark.parametrize(
    ("wanted", "to", "covers"),
    [(None, "n2", True), ("n2", "n2", True), ("n3", "n2", False)],
)
def test_it_covers_the_switchover_that_it_names(wanted, to, covers):
    state = given.state(maintenance=(plan(node=wanted),))
    assert (maintenance.covering(state, to, at(1)) is not None) is covers
    assert maintenance.covering(state, to, at(1800)) is None


# --- what a person asks for ----------------------------------------------------------


def test_it_is_begun_and_ended():
    state = given.state()
    begun = MaintenanceBegun(at(1), "mnt-1", "n2", "ann", "patch", 60.0)
    state = maintenance.asked(state, begun)
    (made,) = maintenance.running(state, at(2))
    assert (made.node, made.owner, made.end_wall_s) == ("n2", "ann", at(61).wall_s)
    state = maintenance.asked(state, MaintenanceEnded(at(5), "mnt-1", "bob"))
    assert not maintenance.running(state, at(6))
    (over,) = state.ledger.maintenance
    assert (over.ended_wall_s, over.ended_by) == (at(5).wall_s, "bob")


def test_what_is_over_is_not_ended_once_more():
    over = plan(ended_wall_s=at(5).wall_s, ended_by="bob")
    state = given.state(maintenance=(over,))
    again = maintenance.asked(state, MaintenanceEnded(at(9), "mnt-1", "eve"))
    assert again is state


def test_nothing_is_announced_for_longer_than_a_day():
    begun = MaintenanceBegun(at(0), "mnt-1", None, "ann", "x", 1e9)
    (made,) = maintenance.asked(given.state(), begun).ledger.maintenance
    assert made.end_wall_s == at(SPAN_S_MAX).wall_s


def test_announcements_do_not_pile_up():
    state = given.state()
    for number in range(200):
        begun = MaintenanceBegun(
            at(10.0 * number), f"mnt-{number}", None, "ann", "x", 5.0
        )
        state = maintenance.asked(state, begun)
    assert len(state.ledger.maintenance) == KEPT_MAX
    assert state.ledger.maintenance[-1].id == "mnt-199"
    for number in range(200):
        begun = MaintenanceBegun(at(3000), f"more-{number}", None, "ann", "x", 5.0)
        state = maintenance.asked(state, begun)
    assert len(maintenance.running(state, at(3001))) == RUNNING_MAX


# --- how peers come to know ----------------------------------------------------------


def heard(*briefs, second=20.0, state=None):
    told = given.report("n2", maintenance=briefs)
    seen = given.heard("n2", told, second - 0.001)
    state = state or given.state()
    view = replace(state.view, reports={**state.view.reports, "n2": seen})
    return maintenance.heard_of(replace(state, view=view), seen, at(second), POLICY)


def test_a_peers_announcement_is_kept_on_this_agents_clock():
    (made,) = heard(brief()).ledger.maintenance
    assert made.begun_wall_s == pytest.approx(at(10).wall_s, abs=0.01)
    assert made.end_wall_s == pytest.approx(at(620).wall_s, abs=0.01)


def test_hearing_it_again_changes_nothing():
    state = heard(brief())
    later = heard(brief(begun_age_s=11.2, remaining_s=598.9), second=21.0, state=state)
    assert later.ledger is state.ledger


def test_what_ended_anywhere_has_ended():
    state = heard(brief())
    state = heard(brief(ended_age_s=2.0, ended_by="bob"), second=30.0, state=state)
    (over,) = state.ledger.maintenance
    assert (over.ended_by, over.ended_wall_s) == (
        "bob",
        pytest.approx(at(28).wall_s, abs=0.01),
    )
    still = heard(brief(remaining_s=580.0), second=40.0, state=state)
    assert still.ledger is state.ledger


@pytest.mark.parametrize(
    "absurd",
    [
        brief(node="n9"),
        brief(reason="x" * 501),
        brief(remaining_s=1e9),
        brief(begun_age_s=SPAN_S_MAX),
        brief(begun_age_s=-1e9, remaining_s=1e9),
    ],
)
def test_what_cannot_be_is_not_believed(absurd):
    assert heard(absurd).ledger.maintenance == ()


def test_a_broken_peer_cannot_make_it_more_than_the_limit():
    state = given.state()
    for second in range(40):
        made = (brief(f"mnt-{second}-{n}") for n in range(5))
        state = heard(*made, second=20.0 + second, state=state)
    assert len(state.ledger.maintenance) == RUNNING_MAX


def test_a_report_that_was_not_accepted_announces_nothing():
    told = given.report("n2", maintenance=(brief(),))
    seen = given.heard("n2", told, 1.0)
    state = maintenance.heard_of(given.state(), seen, at(2), POLICY)
    assert state.ledger.maintenance == ()


def test_what_is_told_is_what_is_known():
    state = given.state(maintenance=(plan(), plan("mnt-2", ended_wall_s=at(2).wall_s)))
    first, second = maintenance.briefs(state, at(10))
    assert (first.begun_age_s, first.remaining_s) == (10.0, 1790.0)
    assert (first.ended_age_s, second.ended_age_s) == (None, 8.0)


def test_all_agents_know_of_it_within_two_rounds():
    cluster = announced(node="n2")
    for name in ("n1", "n2", "n3"):
        (known,) = maintenance.running(cluster.agents[name].state, cluster.at(name))
        assert (known.id, known.node, known.owner) == ("mnt-1", "n2", "ann")
    cluster.agents["n3"].step(MaintenanceEnded(cluster.at("n3", 0.9), "mnt-1", "bob"))
    cluster.run(2)
    for name in ("n1", "n2"):
        agent = cluster.agents[name]
        assert not maintenance.running(agent.state, cluster.at(name))


# --- what it does --------------------------------------------------------------------


@pytest.mark.parametrize("node", [None, "n2"])
def test_an_announced_switchover_is_news_and_no_trouble(node):
    cluster = announced(node=node)
    switch_over(cluster)
    for name in ("n1", "n2", "n3"):
        one = cluster.incident(name, "primary")
        assert (one.verdict.rule, one.worst) == (407, Severity.INFO)
        assert one.acknowledged_by == "ann"
    cluster.run(12)
    for name in ("n1", "n2", "n3"):
        assert cluster.incident(name, "primary").status is Status.RESOLVED
        assert cluster.codes(name) == {"healthy"}


def test_it_says_who_announced_it_and_why():
    cluster = announced()
    switch_over(cluster)
    verdict = cluster.incident("n1", "primary").verdict
    policy = cluster.agents["n1"].policy
    told = sentence(verdict, policy)
    assert told.startswith("As ann announced (patch n1), the primary moved from n1 ")
    assert "maintenance end" in next_step(verdict)


def test_all_agents_derive_one_incident_and_tell_it_once():
    cluster = announced()
    switch_over(cluster)
    cluster.run(15)
    found = {cluster.incident(name, "primary").id for name in cluster.agents}
    assert len(found) == 1
    first = [
        action.notice.id
        for agent in cluster.agents.values()
        for action in agent.actions
        if isinstance(action, Tell)
        and action.notice.incident_id in found
        and action.notice.reason is NoticeReason.FIRST
    ]
    assert len(set(first)) == 1


def down(cluster):
    """Whose PostgreSQL is on record as down, as anybody says."""
    return {
        one.verdict.subject
        for name in cluster.agents
        for one in cluster.incidents(name, "reach")
        if one.verdict.code is VerdictCode.POSTGRES_DOWN
    }


@pytest.mark.parametrize("node", [None, "n2"])
def test_the_restart_that_it_takes_is_no_trouble_of_its_own(node):
    cluster = announced(node=node)
    switch_over(cluster, stopped_s=8)
    assert down(cluster) == set()
    assert cluster.incident("n3", "primary").verdict.rule == 407
    cluster.run(8)
    assert all(cluster.codes(name) == {"healthy"} for name in cluster.agents)
    assert down(cluster) == set()


def test_a_primary_that_does_not_come_back_from_it_pages():
    cluster = announced()
    switch_over(cluster)
    cluster.servers["n1"].up = False
    cluster.run(25)
    assert down(cluster) == set()
    cluster.run(10)
    assert down(cluster) == {"n1"}
    assert "postgres-down" in cluster.codes("n2")


@pytest.mark.parametrize(
    ("node", "stops"),
    [
        (None, "n3"),  # a standby, before the move
        ("n1", "n1"),  # the primary, which is to stay that
    ],
)
def test_the_stop_of_another_server_than_hands_over_pages(node, stops):
    cluster = announced(node=node)
    cluster.servers[stops].up = False
    cluster.run(4)
    assert down(cluster) == {stops}


def test_the_stop_of_the_new_primary_pages_when_the_move_was_made():
    cluster = announced()
    switch_over(cluster)
    cluster.run(12)
    cluster.servers["n2"].up = False
    cluster.run(4)
    assert down(cluster) == {"n2"}


def test_a_silence_from_before_the_announcement_goes_on():
    cluster = Cluster()
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(3)
    assert down(cluster) == {"n1"}
    announce(cluster)
    cluster.run(3)
    assert cluster.verdict("n2", "postgres-down").subject == "n1"


def test_a_restart_after_the_announcement_was_ended_pages():
    cluster = announced()
    cluster.agents["n1"].step(MaintenanceEnded(cluster.at("n1", 0.9), "mnt-1", "bob"))
    cluster.run(2)
    cluster.servers["n1"].up = False
    cluster.run(4)
    assert down(cluster) == {"n1"}


@pytest.mark.parametrize("early_s", [None, 1.0])
def test_without_an_announcement_in_force_it_is_critical(early_s):
    cluster = Cluster()
    cluster.run(3)
    if early_s is not None:
        announce(cluster, span_s=early_s)
        cluster.run(3)
    switch_over(cluster)
    one = cluster.incident("n3", "primary")
    assert (one.verdict.rule, one.worst) == (401, Severity.CRITICAL)
    assert one.status is Status.OPEN


def test_a_switchover_to_another_node_than_announced_is_critical():
    cluster = announced(node="n3")
    switch_over(cluster, to="n2")
    assert cluster.incident("n3", "primary").verdict.rule == 401


def test_an_announcement_after_the_fact_changes_nothing():
    cluster = Cluster()
    cluster.run(3)
    switch_over(cluster)
    announce(cluster)
    cluster.run(3)
    one = cluster.incident("n1", "primary")
    assert (one.verdict.rule, one.status) == (401, Status.OPEN)


def test_a_former_primary_that_is_merely_unseen_is_never_covered():
    cluster = announced()
    cluster.cut("n1")
    cluster.run(1)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(6)
    for name in ("n2", "n3"):
        one = cluster.incident(name, "primary")
        assert (one.verdict.rule, one.worst) == (401, Severity.CRITICAL)
        assert one.verdict.evidence["old_seen"] is False


def test_it_is_waited_for_the_word_that_the_former_primary_takes_no_writes():
    cluster = announced()
    cluster.cut("n1")
    cluster.servers["n1"].up = False
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(2)
    assert not cluster.incidents("n3", "primary")
    cluster.heal()
    cluster.run(2)
    one = cluster.incident("n3", "primary")
    assert (one.verdict.rule, one.worst) == (407, Severity.INFO)


def test_a_loser_that_is_stopped_for_its_resync_has_handed_nothing_over():
    cluster = announced()
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    for name in ("n1", "n2"):
        cluster.servers[name].write(5)
    cluster.run(8)
    cluster.heal()
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(3)
    for name in cluster.agents:
        rules = {one.verdict.rule for one in cluster.incidents(name, "primary")}
        assert 407 not in rules


def test_an_announced_switchover_that_loses_writes_is_critical():
    cluster = announced()
    cluster.servers["n2"].follows = cluster.servers["n3"].follows = None
    cluster.servers["n1"].write(5)
    cluster.run(2)
    switch_over(cluster)
    for name in ("n1", "n2", "n3"):
        one = cluster.incident(name, "primary")
        assert (one.verdict.rule, one.worst) == (401, Severity.CRITICAL)
        assert one.verdict.evidence["not_replicated_bytes"] == 0x500


def test_nothing_hides_a_split_brain():
    cluster = announced()
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.servers["n1"].write(5)
    cluster.servers["n2"].write(5)
    cluster.run(3)
    cluster.heal()
    cluster.run(3)
    for name in ("n1", "n2", "n3"):
        one = cluster.incident(name, "split")
        assert one.verdict.code == "split-brain"
        assert (one.worst, one.status) == (Severity.CRITICAL, Status.OPEN)
    assert all(cluster.incidents(name, "split") for name in cluster.agents)


def test_a_second_failover_that_nobody_announced_is_critical_again():
    cluster = announced(node="n2")
    switch_over(cluster)
    cluster.run(12)
    cluster.servers["n2"].up = False
    cluster.run(1)
    cluster.servers["n3"].promote()
    cluster.servers["n1"].follows = "n3"
    cluster.run(2)
    latest = cluster.incidents("n1", "primary")[-1]
    assert (latest.verdict.rule, latest.status) == (401, Status.OPEN)


def test_what_was_announced_survives_a_restart():
    cluster = announced()
    cluster.start_agent("n1")
    cluster.run(1)
    assert maintenance.running(cluster.agents["n1"].state, cluster.at("n1"))


def test_an_observation_without_a_report_announces_nothing():
    state = given.state(maintenance=(plan(),))
    seen = given.postgres("n2", given.sight(), 1.0)
    assert maintenance.heard_of(state, seen, at(2), POLICY) is state
