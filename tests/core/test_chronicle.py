"""Who saw what, when: only what is new, dated by when it was seen."""

from dataclasses import replace

import pytest

from agent.core.capture import Phase
from agent.core.care import ManagerSight
from agent.core.chronicle import Memory, Seen, concerns, fold, grouped
from agent.core.event import (
    Acknowledged,
    CaptureAsked,
    CaptureReported,
    MaintenanceBegun,
    MaintenanceEnded,
    NoticeDelivered,
    Observed,
    PermitAsked,
    PermitReleased,
    ServerRead,
    Ticked,
    WinnerDecided,
)
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    ReadFailure,
    SelfHealth,
    Sight,
)
from agent.core.verdict import Family
from tests.core import given
from tests.core.given import at


def texts(*events, memory=None):
    """What each event in turn brings, as `observer>node/channel: what`."""
    found = []
    memory = memory or Memory()
    for event in events:
        memory, new = fold(memory, event, "n1")
        found += [f"{s.observer}>{s.node}/{s.channel}: {s.what}" for s in new]
    return found


def observed(seen, when=10.0):
    return Observed(at(when), seen)


def failed(outcome, reason="", channel=Channel.POSTGRES):
    return observed(Observation("n2", channel, outcome, reason, 9.0, 9.5))


def sql(**more):
    return observed(given.postgres("n2", given.sight(**more), 9.0))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (sql(), "n1>n2/postgres: accepts writes on timeline 1"),
        (sql(timeline=None), "n1>n2/postgres: accepts writes"),
        (
            sql(in_recovery=True, upstream="n1:5432"),
            "n1>n2/postgres: is a standby on timeline 1",
        ),
        (
            sql(in_recovery=True),
            "n1>n2/postgres: is a standby on timeline 1 and receives from nobody",
        ),
        (failed(Outcome.TIMED_OUT), "n1>n2/postgres: does not answer"),
        (
            failed(Outcome.UNREACHABLE, "connection refused"),
            "n1>n2/postgres: cannot be reached: connection refused",
        ),
        (
            failed(Outcome.REFUSED, "53300"),
            "n1>n2/postgres: refuses: 53300",
        ),
        (
            observed(
                replace(
                    given.postgres("n2", given.sight(), 9.0),
                    channel=Channel.MANAGER,
                    postgres=None,
                    manager=ManagerSight(active=False, version=None),
                )
            ),
            "n1>n2/manager: says that it is not active",
        ),
        (ServerRead(at(1), given.facts()), "n1>n1/disk: runs on timeline 1"),
        (
            ServerRead(at(1), given.facts(running=False)),
            "n1>n1/disk: is stopped on timeline 1 (shut down)",
        ),
        (
            ServerRead(at(1), ReadFailure("permission denied", "")),
            "n1>n1/disk: cannot be read: permission denied",
        ),
        (
            CaptureReported(at(1), given.capture().status),
            "n1>n1/copy: copy n1-1: following, complete",
        ),
        (
            CaptureReported(
                at(1), given.capture(phase=Phase.COPYING, reached_lsn=None).status
            ),
            "n1>n1/copy: copy n1-1: copying",
        ),
        (
            Ticked(at(1), SelfHealth(0.0, 0.0, 7.0)),
            "n1>n1/clock: the machine was suspended for 7 s",
        ),
        (
            Ticked(at(1), SelfHealth(0.0, -3600.0, 0.0)),
            "n1>n1/clock: the wall clock jumped by -3600 s",
        ),
        (
            Ticked(at(1), SelfHealth(4.0, 0.0, 0.0)),
            "n1>n1/clock: the agent was held up for 4 s",
        ),
        (
            PermitAsked(at(1), "p", "pg_rewind"),
            "n1>n1/request: somebody is about to resync it (pg_rewind)",
        ),
        (
            PermitReleased(at(1), "ann", "known"),
            "n1>n1/request: ann lets the resync pass: known",
        ),
        (
            CaptureAsked(at(1), "n1-x", "before work"),
            "n1>n1/request: a copy is asked for: before work",
        ),
        (Acknowledged(at(1), "inc-1", "ann"), "n1>n1/request: ann takes inc-1"),
        (
            observed(
                replace(
                    given.postgres("n2", given.sight(), 9.0),
                    channel=Channel.MANAGER,
                    postgres=None,
                    manager=ManagerSight(active=True, version=None),
                )
            ),
            "n1>n2/manager: says that it is active",
        ),
        (failed(Outcome.TIMED_OUT, "no answer"), "n1>n2/postgres: does not answer"),
        (
            failed(Outcome.GARBLED, "x" * 150),
            f"n1>n2/postgres: answers what nobody understands: {'x' * 100}",
        ),
        (
            ServerRead(at(1), ReadFailure("x" * 150, "")),
            f"n1>n1/disk: cannot be read: {'x' * 100}",
        ),
        (
            Ticked(at(1), SelfHealth(0.0, 0.0, 1.0)),
            "n1>n1/clock: the machine was suspended for 1 s",
        ),
        (
            Ticked(at(1), SelfHealth(0.0, 1.0, 0.9)),
            "n1>n1/clock: the wall clock jumped by +1 s",
        ),
        (
            Ticked(at(1), SelfHealth(3.0, 0.9, 0.9)),
            "n1>n1/clock: the agent was held up for 3 s",
        ),
        (
            MaintenanceBegun(at(1), "mnt-1", "n2", "ann", "patch", 600.0),
            "n1>n1/request: ann announces a switchover: patch",
        ),
        (
            MaintenanceEnded(at(1), "mnt-1", "bob"),
            "n1>n1/request: bob ends the announcement mnt-1",
        ),
        (
            WinnerDecided(at(1), "n2", "ann", "orders"),
            "n1>n1/request: ann pins n2 as the winner: orders",
        ),
        (
            WinnerDecided(at(1), None, "ann", ""),
            "n1>n1/request: ann takes the pin of the winner back",
        ),
    ],
)
def test_each_thing_is_said_once_in_words(event, text):
    assert texts(event) == [text]


@pytest.mark.parametrize(
    "event",
    [
        Ticked(at(1), SelfHealth(2.9, -0.9, 0.9)),
        NoticeDelivered(at(1), "msg-1"),
    ],
)
def test_what_nobody_needs_to_know_is_no_line(event):
    memory = Memory({"n1>n2/agent": "answers"})
    after, new = fold(memory, event, "n1")
    assert after is memory
    assert new == ()


def test_what_is_new_of_one_is_remembered_beside_what_is_known_of_others():
    memory, _ = fold(Memory({"n1>n3/agent": "answers"}), sql(), "n1")
    assert set(memory.last) == {"n1>n3/agent", "n1>n2/postgres"}
    assert fold(memory, sql(), "n1") == (memory, ())


def test_one_report_that_says_the_same_twice_makes_one_line():
    sight = Sight("n3", Channel.AGENT, Outcome.TIMED_OUT, "", 1.0, 3, None, None)
    told = given.report("n2", sights=(sight, replace(sight, age_s=2.0)))
    assert texts(observed(given.heard("n2", told, 9.0))) == [
        "n1>n2/agent: answers",
        "n2>n3/agent: does not answer",
    ]


def test_what_the_agent_itself_notes_is_dated_now():
    _, (found,) = fold(Memory(), ServerRead(at(7), given.facts()), "n1")
    assert (found.wall_s, found.learnt_wall_s) == (at(7).wall_s, at(7).wall_s)


def test_the_same_again_is_no_line_and_another_thing_is():
    stands, writes = sql(in_recovery=True), sql()
    assert texts(stands, stands, writes, writes, stands) == [
        *texts(stands),
        *texts(writes),
        *texts(stands),
    ]


def test_a_server_that_was_restarted_between_two_looks_is_a_line():
    assert len(texts(sql(), sql(postmaster_started="later"))) == 2


def test_another_reason_of_the_same_failure_is_none():
    one, two = (failed(Outcome.UNREACHABLE, reason) for reason in ("a", "b"))
    assert len(texts(one, two)) == 1


def test_every_request_is_a_line_of_its_own():
    assert len(texts(PermitAsked(at(1), "p", "x"), PermitAsked(at(2), "q", "x"))) == 2


def test_what_a_peer_saw_is_dated_by_its_age_and_by_when_it_was_learnt():
    sight = Sight("n3", Channel.POSTGRES, Outcome.TIMED_OUT, "", 20.0, 3, None, None)
    told = given.report("n2", sights=(sight,), server=given.facts(), server_age_s=1.0)
    seen_s = at(9.001).wall_s
    _, found = fold(Memory(), observed(given.heard("n2", told, 9.0)), "n1")
    answered, sights, disk = found
    assert (answered.observer, answered.node, answered.what) == ("n1", "n2", "answers")
    assert answered.wall_s == pytest.approx(seen_s, abs=0.01)
    assert (sights.observer, sights.node) == ("n2", "n3")
    assert sights.wall_s == pytest.approx(seen_s - 20, abs=0.01)
    assert sights.learnt_wall_s == pytest.approx(seen_s, abs=0.01)
    assert (disk.observer, disk.channel) == ("n2", "disk")
    assert disk.wall_s == pytest.approx(seen_s - 1, abs=0.01)


def test_a_peer_in_doubt_says_so():
    told = given.report("n2", doubt="it sees no majority")
    assert texts(observed(given.heard("n2", told, 9.0))) == [
        "n1>n2/agent: answers, in doubt: it sees no majority"
    ]


def seen(second, node="n2", channel="agent", what="answers", observer="n1", late=0.0):
    return Seen(second, second + late, observer, node, channel, what)


def test_what_belongs_together_is_one_line():
    (line,) = grouped(
        [
            seen(1.0, channel="postgres"),
            seen(0.5),
            seen(1.1, "n3", late=4.0),
            seen(1.2, channel="postgres"),
        ]
    )
    assert line.about == ("n2 (agent, postgres)", "n3 (agent)")
    assert (line.wall_s, line.learnt_wall_s) == (0.5, 5.1)


@pytest.mark.parametrize(
    "other",
    [seen(2.1), seen(1.0, what="does not answer"), seen(1.0, observer="n2")],
)
def test_what_does_not_is_not(other):
    assert len(grouped([seen(0.5), other])) == 2


def test_what_is_seen_a_second_and_a_half_later_still_belongs_to_it():
    assert len(grouped([seen(0.5), seen(2.0)])) == 1


def test_lines_come_in_order_of_time_and_look_back_past_sixteen_others():
    others = [seen(0.6, what=str(number)) for number in range(16)]
    assert [one.wall_s for one in grouped([seen(1.0), seen(0.5, what="x")])] == [0.5, 1]
    assert len(grouped([seen(0.5), *others[:15], seen(0.7)])) == 16
    assert len(grouped([seen(0.5), *others, seen(0.7)])) == 18


@pytest.mark.parametrize(
    ("family", "subject", "told"),
    [
        (Family.SPLIT, "cluster", True),
        (Family.REACH, "n2", True),
        (Family.LINK, "n1|n2", True),
        (Family.REACH, "n3", False),
        (Family.SELF, "n1", True),
        (Family.SELF, "n2", False),
    ],
)
def test_a_trouble_is_told_with_what_is_about_it(family, subject, told):
    verdict = given.verdict(family=family, subject=subject)
    assert concerns(seen(1.0), verdict) is told
