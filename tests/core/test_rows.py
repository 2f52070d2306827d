"""Each row of the rule table fires in the situation that it is for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core import explain, rules, stages
from agent.core.capture import Grade, Phase
from agent.core.event import GateSeen, MaintenanceBegun, ServerRead, Surveyed
from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.incident import Status
from agent.core.lineage import Fingerprint, Switch
from agent.core.lsn import Lsn
from agent.core.nextstep import next_step
from agent.core.observation import Channel, Outcome, ReadFailure
from agent.core.policy import NodeSpec, Policy, WinnerRule
from agent.core.readiness import LeftPin, Obstacle, Readiness
from agent.core.rule import Hold
from agent.core.rules_protection import capture_stalled
from agent.core.scene import build
from agent.core.state import State
from agent.core.verdict import Family, Severity, Verdict, VerdictCode
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_view import fold, seen_by_all


def split(count=3, **policy) -> Cluster:
    """n1 was cut off and n2 was promoted; both took writes; the link is back."""
    cluster = Cluster(count, **policy)
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    for name in list(cluster.servers)[2:]:
        cluster.servers[name].follows = "n2"
    for _ in range(3):
        cluster.servers["n1"].write()
        cluster.servers["n2"].write(2)
        cluster.run()
    cluster.heal()
    return cluster


def rule(cluster, name, code):
    return cluster.verdict(name, code).rule


# --- the table proves itself -----------------------------------------------------


def test_the_numbers_ascend_and_are_odd():
    numbers = [row.number for row in rules.TABLE]
    assert numbers == sorted(set(numbers))
    assert all(number % 2 for number in numbers)


def test_a_familys_rows_share_a_hundred_or_from_850_on_ten():
    shared: dict[int, set[str]] = {}
    for row in rules.TABLE:
        small = 850 <= row.number < 900
        of = row.number // 10 * 10 if small else row.number // 100 * 100
        shared.setdefault(of, set()).add(row.family)
    assert all(len(families) == 1 for families in shared.values())


def test_every_verdict_has_a_row():
    assert {row.code for row in rules.TABLE} == set(VerdictCode)


def test_every_row_says_what_it_is_for():
    assert all(row.sentence.endswith(".") for row in rules.TABLE)
    assert len({row.sentence for row in rules.TABLE}) == len(rules.TABLE)


def test_every_row_has_a_test_that_is_named_after_it():
    named = {
        int(number)
        for path in Path(__file__).parent.glob("test_rows*.py")
        for number in re.findall(
            r"^def test_row_(\d+)_", path.read_text(), re.MULTILINE
        )
    }
    assert named == {row.number for row in rules.TABLE}


def test_every_hold_is_a_time_of_the_policy():
    policy = given.policy()
    times_s = [0.0, 3.0, 5.0, 2.0, 3.0, 30.0, 15.0, 60.0]
    assert [hold.seconds(policy) for hold in Hold] == times_s


def test_the_gravest_verdict_is_the_headline():
    cluster = split()
    cluster.run(2)
    cluster.managers_up["n3"] = False
    cluster.agents["n3"].up = False
    cluster.run(4)
    found = cluster.agents["n2"].state.view.verdicts
    assert found[0].code is VerdictCode.SPLIT_BRAIN
    ranks = [one.severity.rank for one in found]
    assert ranks == sorted(ranks, reverse=True)


# --- 1xx: this agent itself ------------------------------------------------------


def test_row_101_a_cut_off_agent_beside_a_primary_says_that_it_is_isolated():
    cluster = Cluster()
    cluster.run(2)
    cluster.cut("n1")
    cluster.run(3)
    found = cluster.verdict("n1", "observer-isolated")
    assert (found.rule, found.severity) == (101, Severity.CRITICAL)
    assert found.evidence["missing"] == "n2,n3"


def test_row_101_holds_when_the_primary_is_known_from_before_only():
    cluster = Cluster()
    cluster.run(2)
    cluster.cut("n1")
    cluster.run(3)
    cluster.start_agent("n1")
    agent = cluster.agents["n1"]
    cluster.deaf |= {("n1", "n1", Channel.POSTGRES)}
    cluster.unreadable = {"n1"}
    cluster.run(3)
    assert rule(cluster, "n1", "observer-isolated") == 101
    agent.state = replace(
        agent.state, knowledge=replace(agent.state.knowledge, primary=None)
    )
    cluster.run()
    assert rule(cluster, "n1", "observer-isolated") == 103


def test_row_103_a_cut_off_agent_beside_a_standby_only_warns():
    cluster = Cluster()
    cluster.run(2)
    cluster.cut("n3")
    cluster.run(3)
    found = cluster.verdict("n3", "observer-isolated")
    assert (found.rule, found.severity) == (103, Severity.WARNING)
    assert cluster.codes("n3") == {"observer-isolated"}


# --- 2xx, 3xx: who answers -------------------------------------------------------


def test_row_201_a_majority_calls_a_dead_node_down():
    cluster = Cluster()
    cluster.run(2)
    cluster.kill("n3")
    cluster.run(3)
    for name in ("n1", "n2"):
        found = cluster.verdict(name, "node-down")
        assert (found.rule, found.subject) == (201, "n3")
        assert found.evidence["confirmed_by"] == 2
        assert cluster.codes(name) == {"node-down"}


def test_row_203_two_voters_cannot_confirm_a_death():
    cluster = Cluster(2)
    cluster.run(2)
    cluster.kill("n2")
    cluster.run(5)
    assert rule(cluster, "n1", "node-unreachable") == 203
    assert "node-down" not in cluster.codes("n1")
    assert "split-brain-suspected" not in cluster.codes("n1")


def test_row_203_nobody_is_left_who_could_confirm():
    cluster = Cluster()
    cluster.run(2)
    cluster.agents["n3"].up = False
    cluster.kill("n2")
    cluster.run(5)
    assert cluster.verdict("n1", "node-unreachable").subject == "n2"
    assert cluster.verdict("n1", "agent-down").subject == "n3"


def test_who_is_being_cut_off_accuses_no_server_by_what_others_said_before():
    """It misses one channel for the second time a moment before the other."""
    policy = given.policy()
    state = fold(State(), *seen_by_all(10, n1=given.sight()))
    for sent_s in (11.0, 12.0):
        missed = replace(
            given.postgres("n2", given.sight(), sent_s),
            outcome=Outcome.TIMED_OUT, postgres=None, reason="no answer",
        )  # fmt: skip
        state = fold(state, missed)

    def said(state, seconds):
        return [one.code for one in rules.judge(state, given.at(seconds), policy)]

    assert "postgres-down" not in said(state, 12.1)
    answered = given.heard("n2", given.report("n2", sequence=2), 12.2)
    assert "postgres-down" in said(fold(state, answered), 12.3)


def test_row_205_a_stopped_server_is_not_a_dead_node():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].up = False
    cluster.run(3)
    for name in cluster.agents:
        assert rule(cluster, name, "postgres-down") == 205
    assert cluster.verdict("n3", "postgres-down").evidence["answers_on"] == "this agent"


def test_row_207_a_stopped_agent_is_not_a_dead_node():
    cluster = Cluster()
    cluster.run(2)
    cluster.agents["n3"].up = False
    cluster.run(4)
    found = cluster.verdict("n1", "agent-down")
    assert (found.rule, found.severity) == (207, Severity.WARNING)


def test_row_209_a_stopped_manager_is_not_a_dead_node():
    cluster = Cluster(managers=True)
    cluster.run(2)
    cluster.managers_up["n3"] = False
    cluster.run(3)
    assert rule(cluster, "n1", "manager-down") == 209


def test_row_211_a_lost_round_is_a_suspicion_and_no_more():
    cluster = Cluster()
    cluster.run(2)
    cluster.kill("n3")
    cluster.run(1)
    found = cluster.verdict("n2", "node-suspect")
    assert (found.rule, found.evidence["replication_seen_by"]) == (211, None)


def test_row_301_a_broken_link_between_two_is_nobodys_death():
    cluster = Cluster()
    cluster.run(2)
    cluster.cuts = {("n1", "n2")}
    cluster.run(4)
    for name in cluster.agents:
        found = cluster.verdict(name, "link-down")
        assert (found.rule, found.subject) == (301, "n1|n2")
        assert found.evidence["direction"] == "n1>n2"
        assert cluster.codes(name) <= {"link-down", "unknown"}


def test_row_301_what_was_seen_before_the_misses_is_old_news_and_no_broken_link():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n2"].up = False
    cluster.run_only("n1")
    cluster.run_only("n1")
    assert cluster.codes("n1") == {"healthy"}  # until a peer is heard, or too old
    cluster.run(1)
    assert "link-down" not in cluster.codes("n1")
    assert "postgres-down" in cluster.codes("n1")


# --- 4xx: who is primary ---------------------------------------------------------


def test_row_401_a_promotion_after_a_death_is_a_failover():
    cluster = Cluster()
    cluster.run(2)
    cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(1)
    found = cluster.verdict("n3", "failover")
    assert found.rule == 401
    assert (found.evidence["from"], found.evidence["to"]) == ("n1", "n2")
    assert (found.evidence["from_timeline"], found.evidence["to_timeline"]) == (1, 2)
    assert found.sticky


def test_row_407_a_switchover_that_was_announced_is_news():
    cluster = Cluster()
    cluster.run(2)
    for name, agent in cluster.agents.items():
        at = cluster.at(name, 0.9)
        agent.step(MaintenanceBegun(at, "mnt-1", "n2", "ann", "patch n1", 600.0))
    cluster.servers["n1"].up = False
    cluster.run(1)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(1)
    found = cluster.verdict("n3", "failover")
    assert (found.rule, found.severity) == (407, Severity.INFO)
    assert found.evidence["planned_by"] == "ann"


def test_row_409_a_machine_that_was_set_back_is_below_its_own_timeline():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].write(4)
    cluster.run(2)
    cluster.servers["n1"].lsn = 0x1000
    cluster.servers["n1"].restart(standby=False)
    cluster.run(1)
    found = cluster.verdict("n2", "stale-primary")
    assert (found.rule, found.subject, found.sticky) == (409, "n1", True)
    assert found.evidence["held_by"] == "n2,n3"


def test_row_411_a_restored_primary_left_its_timeline_too_early():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].write(4)
    cluster.run(2)
    cluster.servers["n1"].lsn = 0x1200
    cluster.servers["n1"].promote()
    cluster.servers["n1"].restart(standby=False)
    cluster.run(1)
    found = cluster.verdict("n2", "stale-primary")
    assert (found.rule, found.evidence["lacking_bytes"]) == (411, 0x200)


def test_row_403_nobody_accepts_writes():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].up = False
    cluster.run(3)
    found = cluster.verdict("n2", "no-primary")
    assert (found.rule, found.evidence["last_primary"]) == (403, "n1")
    assert found.evidence["standbys"] == "n2,n3"


def test_row_403_names_the_furthest_standby_whoever_reads_it():
    """n2 cannot read n3, which has most; n1 can, and its server is stopped."""
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n2"].follows = None
    cluster.servers["n1"].write(4)
    cluster.run(2)
    cluster.deaf = {("n2", "n3", Channel.POSTGRES)}
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(4)
    found = cluster.verdict("n2", "no-primary").evidence
    assert (found["standbys"], found["furthest"]) == ("n2,n3", "n3")
    cluster.servers["n3"].up = False
    cluster.run(4)
    found = cluster.verdict("n2", "no-primary").evidence
    assert (found["standbys"], found["furthest"]) == ("n2", "n2")


def test_row_403_tells_whom_to_promote_where_no_position_is_known():
    told = Verdict(
        *(VerdictCode.NO_PRIMARY, Family.PRIMARY, "cluster", Severity.CRITICAL, 403),
        evidence={"standbys": "", "furthest": None},
        discriminator="",
    )
    assert "promote the standby that has received most;" in next_step(told)


@pytest.mark.fact("strict-sync")
def test_row_405_commits_wait_for_a_synchronous_standby():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].waits_s = 4.9
    cluster.run(2)
    assert "writes-blocked" not in cluster.codes("n2")
    cluster.servers["n1"].waits_s = 6.0
    cluster.run(3)
    for name in cluster.agents:
        found = cluster.verdict(name, "writes-blocked")
        assert (found.rule, found.subject) == (405, "n1")
        assert found.evidence["waiting"] == 1
    assert cluster.incident("n2", "primary").status is Status.OPEN
    cluster.servers["n1"].waits_s = 0.0
    cluster.run(9)
    assert cluster.incident("n2", "primary").status is Status.RESOLVED


def test_row_405_is_a_trouble_of_its_own_beside_a_failover():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].up = False
    cluster.servers["n2"].promote()
    cluster.servers["n2"].waits_s = 6.0
    cluster.run(4)
    told = {(one.verdict.code.value, one.verdict.subject)
            for one in cluster.incidents("n3", "primary")}  # fmt: skip
    assert told == {("failover", "cluster"), ("writes-blocked", "n2")}


# --- 5xx: two histories ----------------------------------------------------------


def test_row_501_two_writable_nodes_are_proven_by_all():
    cluster = split()
    cluster.run(2)
    for name in cluster.agents:
        found = cluster.verdict(name, "split-brain")
        assert (found.rule, found.discriminator) == (501, "1")
        assert found.evidence["winner"] == "n2"
        assert found.evidence["losers"] == "n1"


def test_row_501_a_resynced_loser_that_is_cut_off_soon_after_is_no_split_again():
    cluster = split()
    cluster.run(2)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(3)
    assert not [n for n in cluster.agents if "split-brain" in cluster.codes(n)]
    cluster.cut("n1")
    for _ in range(8):
        cluster.run(1)
        for name in ("n2", "n3"):
            assert not {"split-brain", "split-brain-suspected"} & cluster.codes(name)
    assert "node-down" in cluster.codes("n2")


@pytest.mark.fact("P15")
def test_row_503_same_history_files_and_other_wal_are_twins():
    cluster = Cluster()
    cluster.run(2)
    one, two = cluster.servers["n2"], cluster.servers["n3"]
    cluster.servers["n1"].up = False
    one.promote()
    two.promote()
    two.restart(standby=True)
    one.fingerprints = (Fingerprint(2, Lsn(0x1000), "a" * 64),)
    two.fingerprints = (Fingerprint(2, Lsn(0x1000), "b" * 64),)
    one.write(2)
    two.write(1)
    cluster.run(3)
    found = cluster.verdict("n2", "lineage-twin")
    assert (found.rule, found.discriminator) == (503, "1")
    assert found.evidence["losers"] == "n3"


def test_row_505_a_stopped_loser_still_has_diverged():
    cluster = split()
    cluster.run(2)
    cluster.servers["n1"].up = False
    cluster.run(3)
    for name in cluster.agents:
        found = cluster.verdict(name, "lineage-diverged")
        assert (found.rule, found.evidence["losers"]) == (505, "n1")
        assert found.evidence["past_fork_bytes"] == 0x300


def test_row_507_a_split_that_ended_before_the_heal_is_proven_afterwards():
    cluster = Cluster()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(10)
    cluster.servers["n1"].restart(standby=True)
    cluster.run(5)
    cluster.heal()
    cluster.run(2)
    found = cluster.verdict("n1", "split-brain")
    assert found.rule == 507
    assert found.evidence["method"] == "overlapping intervals"
    cluster.run(35)
    assert "split-brain" not in cluster.codes("n1")


def test_row_509_a_cut_off_primary_suspects_a_split():
    cluster = Cluster()
    cluster.run(2)
    cluster.cut("n1")
    cluster.run(3)
    found = cluster.verdict("n1", "split-brain-suspected")
    assert (found.rule, found.discriminator) == (509, "1")
    assert found.evidence["cut_off_from"] == "n2,n3"


def test_row_511_two_primaries_through_other_eyes_are_a_suspicion():
    cluster = Cluster(4)
    cluster.run(3)
    cluster.deaf = {("n3", "n1", Channel.POSTGRES)}
    cluster.servers["n2"].promote()
    cluster.run(2)
    found = cluster.verdict("n3", "split-brain-suspected")
    assert found.rule == 511
    assert "split-brain" in cluster.codes("n4")


def test_row_513_a_manager_that_says_active_beside_a_silent_server_is_a_suspicion():
    cluster = Cluster(managers=True)
    cluster.run(3)
    cluster.agents["n1"].up = False
    cluster.deaf = {(n, "n1", Channel.POSTGRES) for n in cluster.agents}
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(5)
    found = cluster.verdict("n3", "split-brain-suspected")
    assert (found.rule, found.evidence["second"]) == (513, "n1")
    cluster.active["n1"] = False
    cluster.run(1)
    assert "split-brain-suspected" not in cluster.codes("n3")


def test_row_513_waits_for_a_server_that_only_refuses():
    cluster = Cluster(managers=True)
    cluster.run(3)
    cluster.agents["n1"].up = False
    cluster.refusing = {"n1"}
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(6)
    assert cluster.codes("n3") == {"agent-down", "config-error"}
    assert cluster.verdict("n3", "config-error").rule == 859


# --- 6xx, 7xx, 8xx: protection and the rest --------------------------------------


def captured(cluster, **status):
    """Give the agent of n1 a capture in this condition."""
    agent = cluster.agents["n1"]
    one = given.capture(**status)
    capture = replace(
        one,
        order=replace(one.order, incident_ids=(cluster.incident("n1", "split").id,)),
        progressed_s=cluster.at("n1").monotonic_s,
    )
    agent.state = replace(
        agent.state, ledger=replace(agent.state.ledger, captures=(capture,))
    )


def test_row_607_a_pin_that_is_all_there_is_waits_for_a_person():
    cluster = Cluster()
    cluster.run(2)
    agent = cluster.agents["n1"]
    pin = LeftPin("n1-aa", "/pg/.splitguard-pin-n1-aa@data")
    found = Readiness(
        method="copy", needed_bytes=1, free_bytes=2, seconds=1.0, no_pin="",
        opened_wall_s=None, pins=(pin,),
    )  # fmt: skip
    agent.step(Surveyed(cluster.at("n1", 0.9), found))
    cluster.run(1)
    verdict = cluster.verdict("n1", "unprotected")
    assert (verdict.rule, verdict.subject) == (607, "n1")
    told = explain.sentence(verdict, agent.policy)
    assert "is only in the hard links of /pg/.splitguard-pin-n1-aa@data" in told
    assert "waits for a person" in told
    step = next_step(verdict)
    assert step.startswith("Copy /pg/.splitguard-pin-n1-aa@data to where")
    assert "splitguard snapshots delete n1-aa" in step
    assert "unprotected" not in cluster.codes("n2")
    agent.step(Surveyed(cluster.at("n1", 0.95), replace(found, pins=())))
    cluster.run(1)
    assert "unprotected" not in cluster.codes("n1")


def test_row_601_a_loser_whose_capture_failed_is_unprotected():
    cluster = split()
    cluster.run(2)
    captured(cluster, phase=Phase.FAILED, reason="no space left", missing_bytes=7)
    cluster.run(1)
    found = cluster.verdict("n1", "unprotected")
    assert (found.rule, found.evidence["reason"]) == (601, "no space left")
    assert found.evidence["missing_bytes"] == 7
    assert "unprotected" not in cluster.codes("n2")


def test_a_capture_that_fails_without_a_split_is_no_lack_of_protection():
    cluster = Cluster()
    cluster.run(2)
    agent = cluster.agents["n1"]
    failed = given.capture(phase=Phase.FAILED)
    ledger = replace(agent.state.ledger, captures=(failed,))
    agent.state = replace(agent.state, ledger=ledger)
    cluster.run(1)
    assert "unprotected" not in cluster.codes("n1")


def test_a_closed_capture_of_another_incident_protects_nobody():
    cluster = split(capture_enabled=False)
    cluster.run(1)
    agent = cluster.agents["n1"]
    one = given.capture(phase=Phase.CLOSED)
    old = replace(one, order=replace(one.order, incident_ids=("inc-old",)))
    ledger = replace(agent.state.ledger, captures=(old,))
    agent.state = replace(agent.state, ledger=ledger)
    cluster.run(1)
    assert rule(cluster, "n1", "unprotected") == 603


def test_row_603_a_loser_that_nothing_captures_is_unprotected():
    cluster = split(capture_enabled=False)
    cluster.run(2)
    found = cluster.verdict("n1", "unprotected")
    assert (found.rule, found.evidence["reason"]) == (603, "captures are switched off")


def test_row_603_waits_some_rounds_for_a_capture_to_begin():
    cluster = split()
    cluster.run(2)
    agent = cluster.agents["n1"]
    agent.state = replace(agent.state, ledger=replace(agent.state.ledger, captures=()))
    failure = ReadFailure("permission denied: /data", "Run the agent as postgres.")
    agent.step(ServerRead(cluster.at("n1", 0.9), failure))
    cluster.unreadable = {"n1"}
    cluster.run(2)
    assert "unprotected" not in cluster.codes("n1")
    cluster.run(2)
    found = cluster.verdict("n1", "unprotected")
    assert found.rule == 603
    assert str(found.evidence["reason"]).startswith("no capture can begin: ")


def test_a_loser_whose_capture_is_just_being_ordered_is_not_called_unprotected():
    cluster = Cluster(winner_rule=WinnerRule.NEWEST_COMMIT)
    cluster.run(3)
    said = {name: set[str]() for name in cluster.agents}

    def listening(name, step):
        def stepped(event):
            step(event)
            said[name] |= cluster.codes(name)

        return stepped

    for name, agent in cluster.agents.items():
        agent.step = listening(name, agent.step)  # type: ignore[method-assign] # hear
    cluster.servers["n3"].promote()
    cluster.run(6)
    assert all("split-brain" in codes for codes in said.values())
    assert not any("unprotected" in codes for codes in said.values())


def test_row_605_a_loser_whose_capture_stands_still_is_unprotected():
    cluster = split(capture_stall_s=4.0)
    cluster.run(10)
    found = cluster.verdict("n1", "unprotected")
    assert (found.rule, found.evidence["reason"]) == (605, "it makes no progress")


@pytest.mark.parametrize(
    ("grade", "unprotected"),
    [(Grade.CAPTURED, True), (Grade.COMPLETE, False), (Grade.OPENED, False)],
)
def test_a_complete_copy_that_makes_no_more_progress_is_protection(grade, unprotected):
    cluster = split(capture_stall_s=2.0)
    cluster.run(2)
    captured(cluster, grade=grade)
    cluster.run(4)
    assert ("unprotected" in cluster.codes("n1")) is unprotected


def test_row_701_an_unreadable_disk_is_said_before_it_matters():
    cluster = Cluster()
    cluster.run(2)
    agent = cluster.agents["n1"]
    failure = ReadFailure("permission denied: /data", "Run the agent as postgres.")
    agent.step(ServerRead(cluster.at("n1", 0.9), failure))
    found = cluster.verdict("n1", "capture-not-ready")
    assert (found.rule, found.severity) == (701, Severity.WARNING)


def test_row_703_a_copy_that_would_fail_is_said_before_it_matters():
    cluster = Cluster()
    cluster.run(2)
    agent = cluster.agents["n1"]
    missing = Obstacle("role splitguard_local may not start a backup", "grant it")
    room = Obstacle("5 bytes are missing", "free space")
    outlook = Readiness(100, 95, 1.0, "", None, (missing, room))
    agent.step(Surveyed(cluster.at("n1", 0.9), outlook))
    found = cluster.verdict("n1", "capture-not-ready")
    assert (found.rule, found.severity) == (703, Severity.WARNING)
    assert found.evidence["reason"] == f"{missing.reason}; {room.reason}"
    assert found.evidence["hint"] == "grant it"
    agent.step(Surveyed(cluster.at("n1", 0.95), replace(outlook, obstacles=())))
    assert "capture-not-ready" not in cluster.codes("n1")


PATRONI = HaSoftware(
    "Patroni", "/etc/patroni.yml", Wired.NOT_WIRED, gaps=("a rewind runs /x/pg_rewind",)
)
WIPES = ("remove_data_directory_on_rewind_failure",)


def looked(*software: HaSoftware, **gate) -> Cluster:
    """Beside n1 the HA software was looked at, and this was found."""
    cluster = Cluster()
    cluster.run(2)
    found = Gate(tuple(software), **gate)
    cluster.agents["n1"].step(GateSeen(cluster.at("n1", 0.9), found))
    return cluster


def test_row_705_data_that_would_be_deleted_with_no_guard_in_front_is_said():
    cluster = looked(replace(PATRONI, destructive=WIPES))
    found = cluster.verdict("n1", "destructive-config")
    assert (found.rule, found.severity, found.subject) == (705, Severity.WARNING, "n1")
    assert found.evidence["settings"] == WIPES[0]
    assert "capture-not-ready" not in cluster.codes("n1")
    told = explain.sentence(found, cluster.agents["n1"].policy)
    assert "Patroni on n1 deletes a losing side's data" in told
    assert "/x/pg_rewind" in told


def test_row_705_the_second_flag_is_said_while_only_rewinds_are_held_back():
    half = replace(PATRONI, wired=Wired.BYPASSABLE, destructive=WIPES)
    assert rule(looked(half), "n1", "destructive-config") == 705


@pytest.mark.parametrize(
    ("software", "says"),
    [
        (PATRONI, "the guard is not wired (Patroni, /etc/patroni.yml): a rewind runs"),
        (
            replace(PATRONI, wired=Wired.WIRED, broken="/s/pg_rewind cannot be run"),
            "the guard is broken (Patroni, /etc/patroni.yml): /s/pg_rewind cannot be",
        ),
    ],
)
def test_row_707_a_resync_that_nothing_holds_back_is_said(software, says):
    cluster = looked(software)
    found = cluster.verdict("n1", "capture-not-ready")
    assert (found.rule, found.severity) == (707, Severity.WARNING)
    assert says in explain.sentence(found, cluster.agents["n1"].policy)
    assert "guard install" in next_step(found)


@pytest.mark.parametrize(
    "gate",
    [
        Gate(),
        Gate(unknown="/etc/patroni.yml cannot be read: Permission denied"),
        Gate(elsewhere="/etc/patroni.yml is of /other"),
        Gate((replace(PATRONI, wired=Wired.WIRED),)),
        Gate((replace(PATRONI, wired=Wired.BYPASSABLE, unknown="HTTP 401"),)),
    ],
)
def test_rows_705_and_707_say_nothing_of_what_is_well_or_not_known(gate):
    cluster = Cluster()
    cluster.run(2)
    cluster.agents["n1"].step(GateSeen(cluster.at("n1", 0.9), gate))
    assert cluster.codes("n1") == {"healthy"}


def test_rows_705_and_707_are_one_incident_that_is_graver_when_data_may_go():
    cluster = looked(PATRONI)
    agent = cluster.agents["n1"]
    worse = Gate((replace(PATRONI, destructive=WIPES),))
    cluster.run(8)
    agent.step(GateSeen(cluster.at("n1", 0.9), worse))
    cluster.run(8)
    (told,) = [
        one for one in agent.state.ledger.incidents if one.verdict.subject == "n1"
    ]
    assert {flip.verdict for flip in told.history} >= {
        VerdictCode.CAPTURE_NOT_READY,
        VerdictCode.DESTRUCTIVE_CONFIG,
    }
    assert told.verdict.code is VerdictCode.DESTRUCTIVE_CONFIG


def test_row_801_a_server_of_another_system_is_named():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].system_id = "42"
    cluster.run(1)
    found = cluster.verdict("n1", "foreign-system")
    assert (found.rule, found.subject) == (801, "n3")
    assert found.evidence["expected"] == given.SYSTEM


def test_row_803_one_server_under_two_names_is_no_split():
    cluster = Cluster()
    cluster.servers["n2"] = cluster.servers["n1"]
    cluster.run(5)
    for name in cluster.agents:
        found = cluster.verdict(name, "config-error")
        assert (found.rule, found.subject) == (803, "n1|n2")
        assert not cluster.codes(name) & {"split-brain", "split-brain-suspected"}


def test_row_805_a_standby_without_an_upstream_is_detached():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].follows = None
    cluster.run(1)
    found = cluster.verdict("n2", "standby-detached")
    assert (found.rule, found.subject) == (805, "n3")


# --- 9xx: nothing is wrong -------------------------------------------------------


def test_row_901_an_agent_that_has_just_started_does_not_know():
    cluster = Cluster()
    assert rule(cluster, "n1", "unknown") == 901


def test_row_901_a_server_that_was_not_read_for_long_leaves_it_open():
    cluster = Cluster()
    cluster.run(2)
    cluster.hanging = {("n3", Channel.POSTGRES)}
    cluster.run(6)
    found = cluster.verdict("n1", "unknown")
    assert found.evidence["not_read"] == "n3"
    assert found.evidence["not_seen"] == "n3/postgres"


def test_one_lost_probe_leaves_a_healthy_cluster_healthy():
    cluster = Cluster(managers=True)
    cluster.run(2)
    cluster.deaf = {("n1", "n3", Channel.AGENT), ("n1", "n2", Channel.MANAGER)}
    cluster.run(1)
    assert cluster.codes("n1") == {"healthy"}


def test_row_903_all_is_well():
    cluster = Cluster()
    cluster.run(2)
    for name in cluster.agents:
        found = cluster.verdict(name, "healthy")
        assert (found.rule, found.evidence["primary"]) == (903, "n1")


def test_row_903_a_cluster_without_postgresql_can_be_well():
    nodes = tuple(NodeSpec(n, has_postgres=False, has_manager=False) for n in "ab")
    policy = Policy("test", "a", nodes)
    seen = given.heard("b", given.report("b"), 10.0)
    state = given.state(latest={"b/agent": seen}, reports={"b": seen})
    (found,) = rules.judge(state, given.at(10.5), policy)
    assert (found.rule, found.evidence["primary"]) == (903, None)


@pytest.mark.parametrize("code", list(VerdictCode))
def test_gravity_is_known_of_every_verdict(code):
    assert stages.gravity(code) >= 0


def test_stages_of_a_split_grow_graver():
    names = (
        "split-brain-suspected",
        "lineage-diverged",
        "lineage-twin",
        "split-brain",
    )
    assert sorted(names, key=stages.gravity) == list(names)


def test_a_word_of_another_version_has_no_gravity():
    assert stages.gravity("split-soul") == 0


@pytest.mark.fact("P17")
def test_the_fork_is_measured_on_the_loser_and_not_by_lsn_order():
    cluster = split()
    cluster.servers["n1"].write(100)
    cluster.servers["n1"].up = False
    cluster.run(3)
    found = cluster.verdict("n2", "lineage-diverged")
    assert found.evidence["losers"] == "n1"
    assert found.evidence["fork_lsn"] == str(Lsn(0x1000))
    assert Switch(1, Lsn(0x1000)) in cluster.servers["n2"].switches


def test_row_603_each_of_two_losers_is_unprotected():
    cluster = split(capture_enabled=False)
    cluster.servers["n3"].promote(timeline=3)
    cluster.run(4)
    assert cluster.verdict("n1", "split-brain").evidence["losers"] == "n1,n3"
    assert rule(cluster, "n1", "unprotected") == 603
    assert rule(cluster, "n3", "unprotected") == 603
    assert "unprotected" not in cluster.codes("n2")


@pytest.mark.parametrize(("still_s", "told"), [(3.5, False), (4.0, True)])
def test_row_605_a_capture_stands_still_from_its_bound_on(still_s, told):
    cluster = split(capture_stall_s=4.0)
    cluster.run(2)
    captured(cluster, grade=Grade.CAPTURED)
    agent, moment = cluster.agents["n1"], cluster.at("n1", 0.9)
    now = replace(moment, monotonic_s=float(int(moment.monotonic_s) + 1))
    (held,) = agent.state.ledger.captures
    held = replace(held, progressed_s=now.monotonic_s - still_s)
    ledger = replace(agent.state.ledger, captures=(held,))
    scene = build(replace(agent.state, ledger=ledger), now, agent.policy)
    assert (capture_stalled(scene, "cluster") is not None) is told
