"""What verdicts on protection, set-up and replication rest on, and how they read."""

from dataclasses import replace
from functools import partial

import pytest

from agent.core.capture import Grade, Phase
from agent.core.event import Surveyed
from agent.core.gate import Wired
from agent.core.readiness import LeftPin, Obstacle, Readiness
from tests.core.cluster import Cluster
from tests.core.test_evidence import hold
from tests.core.test_rows import PATRONI, WIPES, captured, looked, split
from tests.core.test_rows_agents import alone, set_up, tried
from tests.core.test_rows_manager import apart
from tests.core.test_rows_replication import ARCHIVER, LIMIT, parted, running, slow


def loser(**status):
    """A healed split, with a capture of n1 in this condition."""
    cluster = split(capture_stall_s=4.0)
    cluster.run(2)
    captured(cluster, **status)
    return cluster


def copy_failed():
    cluster = loser(phase=Phase.FAILED, reason="no space left", missing_bytes=7)
    cluster.run(1)
    return cluster


def copy_stands_still():
    moving = {"phase": Phase.COPYING, "bytes_done": 3, "bytes_total": 9}
    cluster = loser(grade=Grade.NONE, **moving)
    cluster.run(6)
    return cluster


def captures_are_off():
    cluster = split(capture_enabled=False)
    cluster.run(2)
    return cluster


def disk_is_unreadable():
    cluster = Cluster()
    cluster.run(2)
    cluster.unreadable = {"n1"}
    cluster.run(1)
    return cluster


def surveyed(**found):
    cluster = Cluster()
    cluster.run(2)
    outlook = replace(Readiness(100, 95, 1.0, "", None), **found)
    cluster.agents["n1"].step(Surveyed(cluster.at("n1", 0.9), outlook))
    cluster.run(1)
    return cluster


copy_would_fail = partial(
    surveyed, obstacles=(Obstacle("a", "do a"), Obstacle("b", "do b"))
)
only_a_pin_is_left = partial(surveyed, pins=(LeftPin("n1-aa", "/pg/pin"),))
wipes = partial(looked, replace(PATRONI, destructive=(*WIPES, "x")))
not_wired = partial(looked, PATRONI)
broken_guard = partial(looked, replace(PATRONI, wired=Wired.WIRED, broken="no exec"))


def one_server_twice():
    cluster = Cluster()
    cluster.servers["n2"] = cluster.servers["n1"]
    cluster.run(5)
    return cluster


def late(received, replayed):
    cluster = running()
    slow(cluster, received, replayed)
    cluster.run(1)
    return cluster


late_to_receive = partial(late, LIMIT + 1, 0)
late_to_replay = partial(late, 0, LIMIT + 1)
one_archive = partial(parted, n1=ARCHIVER, n2=ARCHIVER)


def refused_token():
    cluster = Cluster()
    cluster.run(3)
    cluster.strangers = alone("n3", "n1", "n2")
    cluster.run(3)
    return cluster


def drifted():
    cluster = Cluster()
    for name in ("n1", "n2", "n3"):
        set_up(cluster, name, **{"probe.round_s": "a" if name != "n3" else "b"})
    cluster.run(3)
    return cluster


def deaf(*failing):
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n1", *failing)
    cluster.run(2)
    return cluster


deaf_receiver = partial(deaf, "on-call")
deaf_receivers = partial(deaf, "on-call", "pager")


def active_beside_a_standby():
    cluster = apart()
    cluster.run(3)
    return cluster


TOLD = [
    (
        copy_failed,
        "n1",
        "unprotected",
        {
            "capture": "n1-1",
            "reason": "no space left",
            "missing_bytes": 7,
        },
        ("n1 holds writes that would be lost, and it is not captured: no space left."),
    ),
    (
        copy_stands_still,
        "n1",
        "unprotected",
        {
            "capture": "n1-1",
            "reason": "it makes no progress",
            "bytes_done": 3,
            "bytes_total": 9,
        },
        (
            "n1 holds writes that would be lost, and it is not captured: it makes "
            "no progress."
        ),
    ),
    (
        captures_are_off,
        "n1",
        "unprotected",
        {
            "capture": None,
            "reason": "captures are switched off",
        },
        (
            "n1 holds writes that would be lost, and it is not captured: captures "
            "are switched off."
        ),
    ),
    (
        only_a_pin_is_left,
        "n1",
        "unprotected",
        {
            "capture": "n1-aa",
            "place": "/pg/pin",
            "reason": "what it held is only in the hard links of /pg/pin",
        },
        (
            "n1 was wiped, cloned or rewound before a copy of it was complete "
            "(n1-aa); what it held is only in the hard links of /pg/pin, as far "
            "as nothing was written over them, and waits for a person."
        ),
    ),
    (
        disk_is_unreadable,
        "n1",
        "capture-not-ready",
        {
            "reason": "permission denied",
            "hint": "Run the agent as postgres.",
        },
        "The server on n1 could not be captured: permission denied.",
    ),
    (
        copy_would_fail,
        "n1",
        "capture-not-ready",
        {
            "reason": "a; b",
            "hint": "do a",
        },
        "The server on n1 could not be captured: a; b.",
    ),
    (
        wipes,
        "n1",
        "destructive-config",
        {
            "software": "Patroni",
            "file": "/etc/patroni.yml",
            "reason": "a rewind runs /x/pg_rewind",
            "settings": "remove_data_directory_on_rewind_failure,x",
        },
        (
            "Patroni on n1 deletes a losing side's data before anybody has kept "
            "it (remove_data_directory_on_rewind_failure and x in force, by "
            "/etc/patroni.yml or the cluster's own): a rewind runs /x/pg_rewind."
        ),
    ),
    (
        not_wired,
        "n1",
        "capture-not-ready",
        {
            "software": "Patroni",
            "file": "/etc/patroni.yml",
            "reason": "a rewind runs /x/pg_rewind",
            "guard": "is not wired",
            "hint": (
                "`splitguard guard install` prints what to change, and "
                "`splitguard guard check` what is still missing."
            ),
        },
        (
            "A resync of n1 would not wait until its data is kept: the guard is "
            "not wired (Patroni, /etc/patroni.yml): a rewind runs /x/pg_rewind."
        ),
    ),
    (
        broken_guard,
        "n1",
        "capture-not-ready",
        {
            "software": "Patroni",
            "file": "/etc/patroni.yml",
            "reason": "no exec",
            "guard": "is broken",
            "hint": (
                "`splitguard guard install` prints what to change, and "
                "`splitguard guard check` what is still missing."
            ),
        },
        (
            "A resync of n1 would not wait until its data is kept: the guard is "
            "broken (Patroni, /etc/patroni.yml): no exec."
        ),
    ),
    (
        one_server_twice,
        "n3",
        "config-error",
        {
            "reason": "one server under two names",
            "started": "n1 run 1",
        },
        "n1 and n2: one server under two names.",
    ),
    (
        late_to_receive,
        "n3",
        "standby-lagging",
        {
            "primary": "n1",
            "receive_lag_bytes": 16385,
            "replay_lag_bytes": 0,
            "limit_bytes": 16384,
            "replay_paused": False,
        },
        ("n2 has received 16385 bytes less than n1 has written; the limit is 16384."),
    ),
    (
        late_to_replay,
        "n3",
        "standby-lagging",
        {
            "primary": "n1",
            "receive_lag_bytes": 0,
            "replay_lag_bytes": 16385,
            "limit_bytes": 16384,
            "replay_paused": False,
        },
        ("n2 has replayed 16385 bytes less than it has received; the limit is 16384."),
    ),
    (
        one_archive,
        "n3",
        "archive-conflict",
        {
            "first": "n1",
            "second": "n2",
            "first_timeline": 1,
            "second_timeline": 2,
            "fork_timeline": "1",
            "fork_lsn": "0/1000",
            "setting": "archive_command",
            "failing": "",
        },
        (
            "n1 (timeline 1) and n2 (timeline 2) have parted at 0/1000 on "
            "timeline 1, and both archive by the same archive_command."
        ),
    ),
    (
        refused_token,
        "n1",
        "config-error",
        {
            "reason": "n3 refuses the peer token that n1 shows",
        },
        "n1 and n3: n3 refuses the peer token that n1 shows.",
    ),
    (
        drifted,
        "n1",
        "config-drift",
        {
            "settings": "probe.round_s",
            "nodes": "n1,n2,n3",
            "reason": "probe.round_s (n1 and n2 against n3)",
        },
        (
            "Settings that must be the same on all nodes differ: probe.round_s "
            "(n1 and n2 against n3)."
        ),
    ),
    (
        deaf_receiver,
        "n2",
        "cannot-alert",
        {
            "receivers": "on-call",
            "failing": 1,
            "configured": 2,
            "reason": "host.example answered HTTP 503",
            "since_age_s": 1.11,
        },
        ("n1 cannot tell on-call, 1 of 2 receivers: host.example answered HTTP 503."),
    ),
    (
        deaf_receivers,
        "n2",
        "cannot-alert",
        {
            "receivers": "on-call,pager",
            "failing": 2,
            "configured": 2,
            "reason": "host.example answered HTTP 503",
            "since_age_s": 1.11,
        },
        ("n1 cannot tell anybody (on-call and pager): host.example answered HTTP 503."),
    ),
    (
        active_beside_a_standby,
        "n1",
        "role-mismatch",
        {
            "primary": "n1",
            "version": "4.5.5",
            "primary_manager": "says that it is not active",
        },
        (
            "The manager on n2 says that it is active, but its PostgreSQL is a "
            "standby: the primary is n1, whose manager says that it is not "
            "active. What needs to write there fails."
        ),
    ),
]


@pytest.mark.parametrize(
    ("story", "name", "code", "evidence", "sentence"),
    TOLD,
    ids=[f"{one[2]} {number}" for number, one in enumerate(TOLD)],
)
def test_evidence_and_sentence(story, name, code, evidence, sentence):
    hold(story(), name, code, evidence, sentence)
