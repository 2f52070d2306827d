"""What each verdict rests on, and the sentence that people read, in one story each.

The evidence is in the API, in webhooks and in what peers are told, and every sentence
is made of it. Keys may be added.
"""

from functools import partial

import pytest

from agent.core import explain
from agent.core.event import MaintenanceBegun
from agent.core.lineage import Fingerprint
from agent.core.lsn import Lsn
from agent.core.observation import Channel
from tests.core.cluster import Cluster
from tests.core.test_rows import split


def dead_standby():
    cluster = Cluster()
    cluster.run(2)
    cluster.kill("n3")
    cluster.run(3)
    return cluster


def dead_standby_of_two():
    cluster = Cluster(2)
    cluster.run(2)
    cluster.kill("n2")
    cluster.run(5)
    return cluster


def lost_round():
    cluster = Cluster()
    cluster.run(2)
    cluster.kill("n3")
    cluster.run(1)
    return cluster


def cut_off(node):
    cluster = Cluster()
    cluster.run(2)
    cluster.cut(node)
    cluster.run(3)
    return cluster


cut_off_primary = partial(cut_off, "n1")
cut_off_standby = partial(cut_off, "n3")


def stopped_server():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].up = False
    cluster.run(3)
    return cluster


def stopped_agent_and_manager():
    cluster = Cluster(managers=True)
    cluster.run(2)
    cluster.agents["n3"].up = False
    cluster.managers_up["n2"] = False
    cluster.run(4)
    return cluster


def broken_links():
    cluster = Cluster()
    cluster.run(2)
    cluster.cuts = {("n1", "n2"), ("n2", "n1")}
    cluster.run(4)
    return cluster


def promoted_after_a_death(announced=False):
    cluster = Cluster()
    cluster.run(2)
    for name, agent in cluster.agents.items():
        if announced:
            at = cluster.at(name, 0.9)
            agent.step(MaintenanceBegun(at, "mnt-1", "n2", "ann", "patch n1", 600.0))
    cluster.servers["n1"].write(3)
    cluster.run_only("n1")
    if announced:
        cluster.servers["n1"].up = False
    else:
        cluster.kill("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(1)
    return cluster


promoted_as_announced = partial(promoted_after_a_death, announced=True)


def lower(lsn, promoted):
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].write(4)
    cluster.run(2)
    cluster.servers["n1"].lsn = lsn
    if promoted:
        cluster.servers["n1"].promote()
    cluster.servers["n1"].restart(standby=False)
    cluster.run(1)
    return cluster


set_back = partial(lower, 0x1000, promoted=False)
left_early = partial(lower, 0x1200, promoted=True)


def blocked():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n1"].waits_s = 6.0
    cluster.run(3)
    return cluster


def healed():
    cluster = split()
    cluster.run(2)
    return cluster


def healed_and_stopped():
    cluster = healed()
    cluster.servers["n1"].up = False
    cluster.run(3)
    return cluster


def healed_after_the_end():
    cluster = cut_off("n1")
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(10)
    cluster.servers["n1"].restart(standby=True)
    cluster.run(5)
    cluster.heal()
    cluster.run(2)
    return cluster


def twins():
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
    return cluster


def two_primaries_through_other_eyes():
    cluster = Cluster(4)
    cluster.run(3)
    cluster.deaf = {("n3", "n1", Channel.POSTGRES)}
    cluster.servers["n2"].promote()
    cluster.run(2)
    return cluster


def silent_and_active():
    cluster = Cluster(managers=True)
    cluster.run(3)
    cluster.agents["n1"].up = False
    cluster.deaf = {(n, "n1", Channel.POSTGRES) for n in cluster.agents}
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(5)
    return cluster


def detached():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].follows = None
    cluster.run(4)
    return cluster


def foreign():
    cluster = Cluster()
    cluster.run(2)
    cluster.servers["n3"].system_id = "99"
    cluster.servers["n3"].follows = None
    cluster.run(4)
    return cluster


def just_begun():
    cluster = Cluster()
    cluster.deaf = {("n1", "n3", channel) for channel in Channel}
    cluster.run_only("n1")
    return cluster


def not_seen():
    cluster = Cluster(4)
    cluster.run(3)
    cluster.hanging = {("n4", Channel.POSTGRES)}
    cluster.run(6)
    return cluster


def at_rest():
    cluster = Cluster()
    cluster.run(3)
    return cluster


def hold(cluster, name, code, evidence, sentence):
    """Hold one agent's verdict to its evidence, key by key, and to its sentence."""
    found = cluster.verdict(name, code)
    for key, value in evidence.items():
        exact = pytest.approx(value) if isinstance(value, float) else value
        assert found.evidence[key] == exact, key
        assert isinstance(found.evidence[key], bool) is isinstance(value, bool), key
    assert explain.sentence(found, cluster.agents[name].policy) == sentence


TOLD = [
    (
        dead_standby,
        "n1",
        "node-down",
        {"confirmed_by": 2, "voters": 3, "since_age_s": 3.838},
        (
            "n3 is down: 2 of 3 voters have looked and see it on no channel; the "
            "last sign of life came 4 s before."
        ),
    ),
    (
        dead_standby_of_two,
        "n1",
        "node-unreachable",
        {"confirmed_by": 1, "voters": 2, "since_age_s": 5.838},
        (
            "n2 cannot be reached: 1 of 2 voters see it on no channel, and 2 would "
            "be needed to call it down; the last sign of life came 6 s before. It "
            "may be cut off and still accept writes."
        ),
    ),
    (
        lost_round,
        "n2",
        "node-suspect",
        {"replication_seen_by": None, "since_age_s": 1.838},
        ("n3 missed its last probe; the last sign of life came 2 s before."),
    ),
    (
        cut_off_primary,
        "n1",
        "split-brain-suspected",
        {
            "first": "n1",
            "second": None,
            "first_timeline": 1,
            "cut_off_from": "n2,n3",
            "tips": "n1",
            "winner": None,
        },
        (
            "n1 (timeline 1) accepts writes and is cut off from n2 and n3, where "
            "there may be another primary."
        ),
    ),
    (
        cut_off_primary,
        "n1",
        "observer-isolated",
        {
            "reachable": 1,
            "voters": 3,
            "missing": "n2,n3",
            "since_age_s": 3.838,
            "writable": True,
        },
        (
            "The agent on n1 sees 1 of 3 voters, itself included, which is no "
            "majority; it misses n2 and n3; the last sign of life came 4 s before. "
            "Its server accepts writes."
        ),
    ),
    (
        cut_off_primary,
        "n2",
        "no-primary",
        {"last_primary": "n1", "standbys": "n2,n3", "furthest": "n3"},
        ("No node that can be seen accepts writes; the last primary was n1."),
    ),
    (
        cut_off_standby,
        "n3",
        "observer-isolated",
        {
            "reachable": 1,
            "voters": 3,
            "missing": "n1,n2",
            "since_age_s": 3.838,
            "writable": False,
        },
        (
            "The agent on n3 sees 1 of 3 voters, itself included, which is no "
            "majority; it misses n1 and n2; the last sign of life came 4 s before."
        ),
    ),
    (
        stopped_server,
        "n1",
        "postgres-down",
        {"answers_on": "agent", "reason": "no answer"},
        ("PostgreSQL on n3 answers nobody (no answer); the node answers on agent."),
    ),
    (
        stopped_agent_and_manager,
        "n1",
        "manager-down",
        {"answers_on": "agent,postgres", "reason": "no answer"},
        (
            "The manager on n2 answers nobody (no answer); the node answers on "
            "agent and postgres."
        ),
    ),
    (
        stopped_agent_and_manager,
        "n1",
        "agent-down",
        {"answers_on": "postgres,manager", "reason": "no answer"},
        (
            "The agent on n3 answers nobody (no answer); the node answers on "
            "postgres and manager."
        ),
    ),
    (
        broken_links,
        "n1",
        "link-down",
        {"direction": "n1>n2", "channels": "agent,postgres"},
        (
            "The link between n1 and n2 is down: n1 does not see n2 (on agent and "
            "postgres); others see both."
        ),
    ),
    (
        broken_links,
        "n3",
        "link-down",
        {"direction": "n1>n2,n2>n1", "channels": "agent,postgres"},
        (
            "The link between n1 and n2 is down: n1 and n2 do not see each other "
            "(on agent and postgres); others see both."
        ),
    ),
    (
        promoted_after_a_death,
        "n3",
        "failover",
        {
            "from": "n1",
            "to": "n2",
            "from_timeline": 1,
            "to_timeline": 2,
            "switch_lsn": "0/1000",
            "not_replicated_bytes": 0,
            "old_seen": False,
        },
        (
            "The primary moved from n1 (timeline 1) to n2 (timeline 2) at 0/1000. "
            "If n1 is only cut off, it may still accept writes."
        ),
    ),
    (
        promoted_as_announced,
        "n2",
        "failover",
        {
            "from": "n1",
            "to": "n2",
            "from_timeline": 1,
            "to_timeline": 2,
            "switch_lsn": "0/1000",
            "not_replicated_bytes": 0,
            "old_seen": True,
            "planned_by": "ann",
            "planned_because": "patch n1",
        },
        (
            "As ann announced (patch n1), the primary moved from n1 (timeline 1) to "
            "n2 (timeline 2) at 0/1000."
        ),
    ),
    (
        promoted_as_announced,
        "n2",
        "lineage-diverged",
        {
            "first": "n2",
            "second": "n1",
            "first_timeline": 2,
            "second_timeline": 1,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
            "past_fork_bytes": 768,
            "tips": "n2,n1",
            "winner": "n2",
            "winner_rule": "only",
            "losers": "n1",
        },
        (
            "n1 holds writes that n2 does not have: up to 768 bytes of WAL past the "
            "fork at 0/1000 on timeline 1."
        ),
    ),
    (
        set_back,
        "n1",
        "stale-primary",
        {
            "timeline": 1,
            "end_lsn": "0/1000",
            "reached_timeline": 1,
            "reached_lsn": "0/1400",
            "seen_on": "n1",
            "lacking_bytes": 1024,
            "held_by": "n2,n3",
        },
        (
            "n1 accepts writes on timeline 1 at 0/1000, as if it was set back: that "
            "timeline was seen to reach 0/1400 on n1. 1024 bytes of WAL are "
            "missing. n2 and n3 held them last."
        ),
    ),
    (
        left_early,
        "n1",
        "stale-primary",
        {
            "timeline": 2,
            "end_lsn": "0/1200",
            "reached_timeline": 1,
            "reached_lsn": "0/1400",
            "seen_on": "n1",
            "lacking_bytes": 512,
            "held_by": "n2,n3",
        },
        (
            "n1 accepts writes on timeline 2, which left timeline 1 at 0/1200: that "
            "one was seen to reach 0/1400 on n1. 512 bytes of WAL are missing. n2 "
            "and n3 held them last."
        ),
    ),
    (
        left_early,
        "n1",
        "lineage-diverged",
        {
            "first": "n1",
            "second": "n2",
            "first_timeline": 2,
            "second_timeline": 1,
            "fork_timeline": "1",
            "fork_lsn": "0/1200",
            "past_fork_bytes": 512,
            "tips": "n1,n2,n3",
            "winner": "n1",
            "winner_rule": "only",
            "losers": "n2,n3",
        },
        (
            "n2 and n3 hold writes that n1 does not have: up to 512 bytes of WAL "
            "past the fork at 0/1200 on timeline 1."
        ),
    ),
    (
        blocked,
        "n2",
        "writes-blocked",
        {"waiting": 1, "limit_s": 5.0, "connected": "n2,n3"},
        (
            "1 commits on n1 have waited for a synchronous standby for more than "
            "5.0 s; nobody has been told that they are done."
        ),
    ),
    (
        healed,
        "n1",
        "split-brain",
        {
            "first": "n1",
            "second": "n2",
            "method": "three readings",
            "overlap_s": None,
            "tips": "n1,n2",
            "winner": "n2",
            "winner_rule": "frozen",
            "losers": "n1",
            "first_timeline": 1,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
        },
        (
            "n1 (timeline 1) and n2 (timeline 2) accepted writes at once, proven by "
            "three readings; they parted on timeline 1 at 0/1000. n2 will probably "
            "be kept."
        ),
    ),
    (
        healed,
        "n2",
        "split-brain",
        {
            "first": "n1",
            "second": "n2",
            "method": "overlapping intervals",
            "overlap_s": 2.0,
            "tips": "n1,n2",
            "winner": "n2",
            "winner_rule": "frozen",
            "losers": "n1",
            "first_timeline": 1,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
        },
        (
            "n1 (timeline 1) and n2 (timeline 2) accepted writes at once, proven by "
            "overlapping intervals; they parted on timeline 1 at 0/1000. n2 will "
            "probably be kept."
        ),
    ),
    (
        healed_and_stopped,
        "n3",
        "lineage-diverged",
        {
            "first": "n2",
            "second": "n1",
            "first_timeline": 2,
            "second_timeline": 1,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
            "past_fork_bytes": 768,
            "tips": "n2,n1",
            "winner": "n2",
            "winner_rule": "only",
            "losers": "n1",
        },
        (
            "n1 holds writes that n2 does not have: up to 768 bytes of WAL past the "
            "fork at 0/1000 on timeline 1."
        ),
    ),
    (
        healed_after_the_end,
        "n2",
        "split-brain",
        {
            "first": "n1",
            "second": "n2",
            "method": "overlapping intervals",
            "overlap_s": 8.8,
            "tips": "n1,n2",
            "winner": "n2",
            "winner_rule": "only",
            "losers": "n1",
            "first_timeline": 1,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
        },
        (
            "n1 (timeline 1) and n2 (timeline 2) accepted writes at once, proven by "
            "overlapping intervals; they parted on timeline 1 at 0/1000. n2 will "
            "probably be kept."
        ),
    ),
    (
        twins,
        "n2",
        "lineage-twin",
        {
            "first": "n2",
            "second": "n3",
            "first_timeline": 2,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
            "past_fork_bytes": 256,
            "tips": "n2,n3",
            "winner": "n2",
            "winner_rule": "only",
            "losers": "n3",
        },
        (
            "Timeline 2 on n3 is not the one on n2: they parted on timeline 1 at "
            "0/1000. No tool will notice; each keeps its own rows."
        ),
    ),
    (
        two_primaries_through_other_eyes,
        "n3",
        "split-brain-suspected",
        {
            "first": "n1",
            "second": "n2",
            "read_by": "n1,n3",
            "tips": "n1,n2",
            "winner": None,
            "first_timeline": 1,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
        },
        (
            "n1 and n2 were both read as accepting writes (by n1 and n3); the proof "
            "is still missing."
        ),
    ),
    (
        silent_and_active,
        "n3",
        "split-brain-suspected",
        {
            "first": "n2",
            "second": "n1",
            "manager_says": "active",
            "tips": "n2,n1",
            "winner": None,
            "first_timeline": 2,
            "second_timeline": None,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
        },
        (
            "n2 is the primary, but the manager on n1 says that it is active, and "
            "nobody can read the PostgreSQL beside it."
        ),
    ),
    (
        detached,
        "n1",
        "standby-detached",
        {"timeline": 1, "replay_lsn": "0/1000"},
        ("The standby n3 receives from nobody; it has replayed up to 0/1000."),
    ),
    (
        foreign,
        "n1",
        "foreign-system",
        {
            "reason": "its system id is 99",
            "system_id": "99",
            "expected": "7300000000000000001",
        },
        ("What answers at n3 does not belong here: its system id is 99."),
    ),
    (
        just_begun,
        "n2",
        "unknown",
        {
            "starting": True,
            "not_seen": "n1/agent,n1/postgres,n2/postgres,n3/agent,n3/postgres",
            "not_read": "n1,n2,n3",
            "primaries": 0,
        },
        ("This agent has just started and has not looked at every node yet."),
    ),
    (
        not_seen,
        "n1",
        "unknown",
        {
            "starting": False,
            "not_seen": "n4/postgres",
            "not_read": "n4",
            "primaries": 1,
        },
        (
            "Not everything is known: no fresh answer from n4/postgres; PostgreSQL"
            " could not be read on n4."
        ),
    ),
    (
        at_rest,
        "n3",
        "healthy",
        {"primary": "n1", "nodes": 3},
        ("All 3 nodes answer, and n1 is the primary."),
    ),
]


@pytest.mark.parametrize(
    ("story", "name", "code", "evidence", "sentence"),
    TOLD,
    ids=[f"{one[2]} on {one[1]} {number}" for number, one in enumerate(TOLD)],
)
def test_evidence_and_sentence(story, name, code, evidence, sentence):
    hold(story(), name, code, evidence, sentence)
