"""Standbys that fall behind, and archives that both sides of a fork write into."""

from dataclasses import replace

import pytest

from agent.core import explain, rules
from agent.core.incident import Status
from agent.core.lineage import Fingerprint
from agent.core.lsn import Lsn
from agent.core.nextstep import next_step
from agent.core.observation import Archiver
from agent.core.verdict import Severity
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_incidents import said

LAGGING, CONFLICT = "standby-lagging", "archive-conflict"
LIMIT = 0x4000
ARCHIVER = Archiver("archive_command", "c0ffee", False, 7, "0001", False, None)
POLICY = given.policy()


def running(**policy) -> Cluster:
    cluster = Cluster(lag_limit_bytes=LIMIT, **policy)
    cluster.run(2)
    return cluster


def slow(cluster: Cluster, received: int, replayed: int = 0) -> None:
    """Let n2 stream, so far behind what n1 writes from now on."""
    server = cluster.servers["n2"]
    server.late, server.unreplayed = received, replayed
    cluster.servers["n1"].write(LIMIT // 0x100 * 2)


# --- 807, 809: lag ---------------------------------------------------------------


def test_row_807_a_standby_receives_less_than_is_written():
    cluster = running()
    slow(cluster, LIMIT + 1)
    cluster.run(1)
    found = cluster.verdict("n3", LAGGING)
    assert (found.rule, found.subject, found.severity) == (807, "n2", Severity.WARNING)
    assert found.evidence["receive_lag_bytes"] == LIMIT + 1
    assert found.evidence["primary"] == "n1"


def test_row_809_a_standby_replays_less_than_it_received():
    cluster = running()
    slow(cluster, 0, LIMIT + 1)
    cluster.servers["n2"].replay_paused = True
    cluster.run(1)
    found = cluster.verdict("n3", LAGGING)
    assert (found.rule, found.subject) == (809, "n2")
    assert found.evidence["replay_lag_bytes"] == LIMIT + 1
    assert found.evidence["replay_paused"] is True


@pytest.mark.parametrize(
    ("received", "replayed", "delay_s"),
    [
        (LIMIT, 0, 0.0),
        (0, LIMIT, 0.0),
        (LIMIT, LIMIT, 0.0),
        (0, LIMIT * 99, 3600.0),
        (0, LIMIT * 99, None),
    ],
    ids=["received", "replayed", "both", "delayed", "not known to be delayed"],
)
def test_at_the_limit_or_delayed_on_purpose_is_no_lag(received, replayed, delay_s):
    cluster = running()
    cluster.servers["n2"].apply_delay_s = delay_s
    slow(cluster, received, replayed)
    cluster.run(3)
    assert cluster.codes("n3") == {"healthy"}


def test_a_delayed_standby_that_receives_too_little_is_lagging():
    cluster = running()
    cluster.servers["n2"].apply_delay_s = 3600.0
    slow(cluster, LIMIT + 1, LIMIT * 99)
    cluster.run(1)
    assert cluster.verdict("n3", LAGGING).rule == 807


def test_without_a_limit_nobody_lags():
    cluster = Cluster(lag_limit_bytes=0)
    cluster.run(1)
    slow(cluster, LIMIT, LIMIT)
    cluster.run(2)
    assert cluster.codes("n3") == {"healthy"}


def test_a_burst_is_told_to_nobody_and_lasting_lag_is():
    cluster = running(lag_hold_s=5.0)
    slow(cluster, LIMIT + 1)
    cluster.run(4)
    assert [one.status for one in cluster.incidents("n3")] == [Status.PENDING]
    cluster.run(3)
    assert [one.status for one in cluster.incidents("n3")] == [Status.OPEN]
    slow(cluster, 0)
    cluster.run(8)
    assert [one.status for one in cluster.incidents("n3")] == [Status.RESOLVED]


# --- 811: archives ---------------------------------------------------------------


def parted(**archivers: Archiver | None) -> Cluster:
    """n2 was promoted beside n1; both write, and archive as said."""
    cluster = Cluster()
    for name, archiver in archivers.items():
        cluster.servers[name].archiver = archiver
    cluster.run(2)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    for name in ("n1", "n2"):
        cluster.servers[name].write(3)
    cluster.run(2)
    return cluster


def test_row_811_both_sides_of_a_fork_archive_by_one_setting():
    failing = replace(ARCHIVER, failing=True)
    cluster = parted(n1=ARCHIVER, n2=failing)
    found = cluster.verdict("n3", CONFLICT)
    assert (found.rule, found.subject, found.severity) == (
        811,
        "n1|n2",
        Severity.WARNING,
    )
    assert found.evidence == {
        "first": "n1",
        "second": "n2",
        "first_timeline": 1,
        "second_timeline": 2,
        "fork_timeline": "1",
        "fork_lsn": "0/1000",
        "setting": "archive_command",
        "failing": "n2",
    }


@pytest.mark.parametrize(
    "archivers",
    [
        {},
        {"n1": ARCHIVER},
        {"n1": ARCHIVER, "n2": replace(ARCHIVER, target="decaf0")},
        {"n1": ARCHIVER, "n3": ARCHIVER},
    ],
    ids=["none", "one side", "two places", "a standby that archives nothing"],
)
def test_other_archives_do_not_meet(archivers):
    assert CONFLICT not in parted(**archivers).codes("n3")


def test_a_standby_of_the_other_side_that_always_archives_is_one_too():
    always = replace(ARCHIVER, always=True)
    cluster = parted(n1=ARCHIVER, n3=always)
    assert cluster.verdict("n2", CONFLICT).subject == "n1|n3"


def test_twins_that_archive_to_one_place_are_found():
    cluster = Cluster()
    for name in ("n2", "n3"):
        cluster.servers[name].archiver = ARCHIVER
    cluster.run(2)
    for name in ("n2", "n3"):
        server = cluster.servers[name]
        server.promote()
        server.fingerprints = (Fingerprint(2, Lsn(0x1000), f"by {name}"),)
    cluster.run(2)
    assert cluster.verdict("n1", CONFLICT).subject == "n2|n3"


def test_a_clean_switchover_and_a_cluster_that_always_archives_are_innocent():
    always = replace(ARCHIVER, always=True)
    cluster = Cluster()
    for server in cluster.servers.values():
        server.archiver = always
    cluster.run(3)
    assert cluster.codes("n3") == {"healthy"}
    cluster.servers["n1"].up = False
    cluster.run(2)
    cluster.servers["n2"].promote()
    cluster.servers["n1"].restart(standby=True)
    cluster.servers["n1"].follows = cluster.servers["n3"].follows = "n2"
    for _ in range(8):
        cluster.servers["n2"].write()
        cluster.run()
        assert CONFLICT not in cluster.codes("n3")


def test_a_side_whose_history_is_not_read_is_accused_of_nothing():
    cluster = parted(n1=ARCHIVER, n2=ARCHIVER)
    state = cluster.agents["n3"].state
    known = replace(state.knowledge, lineages={})
    at, policy = cluster.at("n3", 0.9), cluster.agents["n3"].policy
    found = rules.judge(replace(state, knowledge=known), at, policy)
    assert CONFLICT not in {one.code for one in found}


# --- what people read ------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "evidence", "words"),
    [
        (
            807,
            {"primary": "n2", "receive_lag_bytes": 500, "limit_bytes": 400},
            (
                "n1 has received 500 bytes less than n2 has written; the limit is 400.",
                "the network between n2 and n1",
            ),
        ),
        (
            809,
            {"replay_lag_bytes": 500, "limit_bytes": 400, "replay_paused": True},
            (
                (
                    "n1 has replayed 500 bytes less than it has received; the limit is "
                    "400. Its replay is paused."
                ),
                "pg_wal_replay_resume()",
            ),
        ),
        (
            811,
            {
                "first": "n1",
                "second": "n2",
                "first_timeline": 1,
                "second_timeline": 2,
                "fork_timeline": "1",
                "fork_lsn": "0/1000",
                "setting": "archive_library",
                "failing": "n2",
            },
            (
                (
                    "n1 (timeline 1) and n2 (timeline 2) have parted at 0/1000 on "
                    "timeline 1, and both archive by the same archive_library. The "
                    "last attempt of n2 has failed."
                ),
                "past 0/1000",
            ),
        ),
    ],
)
def test_sentence_and_next_step_say_which_and_where(number, evidence, words):
    verdict = said(number, "n1", **evidence)
    assert explain.sentence(verdict, POLICY) == words[0]
    assert words[1] in next_step(verdict)
