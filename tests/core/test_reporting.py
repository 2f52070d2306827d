"""What an agent tells its peers is bounded, aged and true."""

import json
from dataclasses import replace

import pytest

from agent.codec import from_json, to_json
from agent.core import reporting
from agent.core.capture import Grade, Phase
from agent.core.care import ManagerSight
from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.incident import Flip, Status
from agent.core.lsn import Lsn
from agent.core.observation import (
    CaptureBrief,
    Channel,
    IncidentBrief,
    Observation,
    Outcome,
    ReadFailure,
    Report,
    Told,
    WritableSpan,
)
from agent.core.policy import NodeSpec
from agent.core.readiness import Obstacle, Readiness
from agent.core.reporting import BRIEFS
from agent.core.selfdoubt import SelfDoubt
from agent.core.state import ToldEntry, WritableSince
from agent.core.verdict import Family, VerdictCode
from tests.core import given

POLICY = given.policy()


def made(seconds=10.0, policy=POLICY, **parts):
    return reporting.make_report(given.state(**parts), given.at(seconds), policy)


def test_a_report_tells_what_the_wall_clock_shows():
    assert made(seconds=7.0).wall_s == given.at(7.0).wall_s


def test_sights_carry_ages_and_misses_and_no_times():
    silent = Observation("n2", Channel.POSTGRES, Outcome.TIMED_OUT, "muted", 7.0, 8.0)
    report = made(latest={"n2/postgres": silent}, missed={"n2/postgres": 4})
    (sight,) = report.sights
    assert (sight.node, sight.age_s, sight.missed) == ("n2", 2.0, 4)
    assert sight.outcome is Outcome.TIMED_OUT


def test_the_last_report_heard_is_named_with_its_age_and_round_trip():
    peer = given.heard("n2", given.report("n2", sequence=9), 4.0)
    sql = given.postgres("n2", given.sight(), 4.0)
    (heard,) = made(latest={"n2/agent": peer, "n2/postgres": sql}).heard
    assert (heard.node, heard.boot_id, heard.sequence) == ("n2", "boot-n2", 9)
    assert heard.age_s == pytest.approx(5.999)
    assert heard.round_trip_s == pytest.approx(0.001)


def test_only_the_own_server_s_writable_spans_are_told():
    spans = (
        WritableSince("n1", "start", 2.0, 9.0),
        WritableSince("n2", "start", 2.0, 9.0),
    )
    (span,) = made(writable=spans).writable
    assert (span.started_age_s, span.ended_age_s) == (8.0, 1.0)


def test_a_sight_goes_along_whole():
    manager = ManagerSight(True, "6.2")
    active = Observation(
        "n3", Channel.MANAGER, Outcome.ANSWERED, "fine", 7.0, 8.0, manager=manager
    )
    sql = given.postgres("n2", given.sight(), 4.0)
    told = made(latest={"n3/manager": active, "n2/postgres": sql}).sights
    assert [(one.reason, one.missed, one.manager, one.postgres) for one in told] == [
        ("fine", 0, manager, None),
        ("", 0, None, sql.postgres),
    ]


def test_no_age_is_below_zero_whatever_came_between():
    later = given.heard("n2", given.report("n2"), 11.0)
    span = WritableSince("n1", "start", 12.0, 13.0)
    report = made(latest={"n2/agent": later}, writable=(span,), server_read_s=14.0)
    ages = (report.sights[0].age_s, report.heard[0].age_s, report.server_age_s)
    assert ages == (0.0, 0.0, 0.0)
    assert report.writable == (WritableSpan(0.0, 0.0),)


def test_the_report_says_whose_it_is_and_what_stands_on_the_disk():
    report = made(boot_id="b7", sequence=5, server=given.facts(), server_read_s=7.5)
    assert (report.cluster, report.node) == ("test", "n1")
    assert (report.boot_id, report.sequence) == ("b7", 5)
    assert (report.server, report.server_age_s) == (given.facts(), 2.5)


def test_what_is_told_is_bounded_and_the_latest_is_told():
    many = tuple(
        replace(given.incident(), id=f"i{number}") for number in range(BRIEFS + 5)
    )
    shots = tuple(
        replace(shot, order=replace(shot.order, capture_id=f"c{number}"))
        for number, shot in enumerate([given.capture()] * (BRIEFS + 5))
    )
    report = made(incidents=many, captures=shots)
    assert [one.id for one in report.incidents] == [one.id for one in many[5:]]
    assert [one.id for one in report.captures] == [
        f"c{n}" for n in range(5, BRIEFS + 5)
    ]


def test_what_stands_is_told_however_much_has_come_and_gone_since():
    old = replace(given.incident(), id="old", status=Status.ACKNOWLEDGED)
    gone = replace(given.incident(), status=Status.RESOLVED)
    later = tuple(replace(gone, id=f"i{number}") for number in range(BRIEFS + 5))
    news = tuple(
        ToldEntry(f"n{number}", Told(one.id, "first", 1, delivered=True), True, 1.0)
        for number, one in enumerate((old, *later))
    )
    running = given.capture()
    over = replace(running, status=replace(running.status, phase=Phase.CLOSED))
    shots = (
        running,
        *(
            replace(over, order=replace(over.order, capture_id=f"c{number}"))
            for number in range(BRIEFS + 5)
        ),
    )
    report = made(incidents=(old, *later), told=news, captures=shots)
    ids = ["old", *(one.id for one in later[6:])]
    assert [one.id for one in report.incidents] == ids
    assert [one.incident_id for one in report.told] == ids
    assert report.captures[0].id == running.order.capture_id
    assert len(report.captures) == BRIEFS


def test_of_too_much_that_stands_the_latest_is_told():
    many = tuple(replace(given.incident(), id=f"i{n}") for n in range(BRIEFS + 1))
    over = replace(given.incident(), id="over", status=Status.RESOLVED)
    report = made(incidents=(*many, over))
    assert [one.id for one in report.incidents] == [one.id for one in many[1:]]


def test_pending_incidents_stay_at_home():
    pending = given.incident(status=Status.PENDING)
    standing = given.incident()
    (brief,) = made(incidents=(pending, standing)).incidents
    assert brief == IncidentBrief(
        standing.id, standing.key, 1, "open", "split-brain", standing.since_wall_s
    )


def test_what_is_known_to_be_over_is_passed_on_with_what_stands():
    standing = replace(given.incident(), occurrence=3)
    (brief,) = made(incidents=(standing,), occurrences={standing.key: 2}).incidents
    assert (brief.occurrence, brief.spent) == (3, 2)


@pytest.mark.parametrize(
    ("stages", "moved"),
    [((), False), (("no-primary",), False), (("failover", "no-primary"), True)],
)
def test_a_move_is_told_whatever_came_after_it(stages, moved):
    flips = tuple(Flip(1.0, Status.OPEN, stage, 401, "") for stage in stages)
    incident = replace(given.incident(status=Status.RESOLVED), history=flips)
    (brief,) = made(incidents=(incident,)).incidents
    assert brief.moved is moved


@pytest.mark.parametrize(
    ("code", "timeline", "moved_to"),
    [
        (VerdictCode.FAILOVER, 7, 7),
        (VerdictCode.FAILOVER, None, 0),
        (VerdictCode.NO_PRIMARY, 7, 0),
    ],
)
def test_a_move_is_told_with_the_timeline_that_it_went_to(code, timeline, moved_to):
    said = replace(given.verdict(code), evidence={"to_timeline": timeline})
    (brief,) = made(incidents=(given.incident(said),)).incidents
    assert brief.moved_to == moved_to


def test_captures_are_told_with_phase_grade_and_reach():
    (brief,) = made(captures=(given.capture(),)).captures
    assert brief == CaptureBrief(
        id="n1-1",
        node="n1",
        phase="following",
        grade="complete",
        reached_lsn=Lsn(0x2000),
        incidents=(given.incident().id,),
        timeline=1,
        size_bytes=1,
        ordered_wall_s=given.at(0).wall_s,
    )


def test_an_isolated_or_late_agent_says_so():
    alone = given.verdict(VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1")
    late = SelfDoubt("its own loop was 2.5 s late", since_s=9.0, until_s=12.0)
    assert "no majority" in (made(verdicts=(given.verdict(), alone)).doubt or "")
    assert made(self_doubt=late).doubt == late.why
    assert made().doubt is None


def test_who_misses_all_others_at_once_doubts_itself():
    one = {"n2/postgres": 1, "n2/agent": 1}
    assert made(missed=one).doubt is None
    both = {**one, "n3/postgres": 1, "n3/agent": 1}
    assert made(missed=both).doubt == "it misses all 2 others at once"
    assert made(missed={**both, "n3/agent": 0}).doubt is None
    two = replace(POLICY, nodes=POLICY.nodes[:2])
    assert made(policy=two, missed=both).doubt is None, "one other says nothing"


OUTLOOK = Readiness(
    needed_bytes=9_000_000_000,
    free_bytes=41_200_000_000,
    seconds=38.2,
    no_pin="",
    opened_wall_s=given.at(0).wall_s,
)


def test_an_agent_on_another_machine_than_its_server_says_that_it_keeps_nothing():
    nodes = tuple(replace(node, local=False) for node in POLICY.nodes)
    line = made(policy=replace(POLICY, nodes=nodes)).protection
    assert line == (
        "not ready because its agent stands on another machine (local = false)"
    )


WIRED = HaSoftware("Patroni", "/etc/patroni.yml", Wired.WIRED)
HALF = replace(WIRED, wired=Wired.BYPASSABLE, unknown="what Patroni hides")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "not ready because its disk was not read yet"),
        (
            {"server": ReadFailure("no such folder", "x")},
            "not ready because no such folder",
        ),
        ({"server": given.facts()}, "ready"),
        (
            {"server": given.facts(), "readiness": OUTLOOK},
            f"ready ({OUTLOOK.copy_line}; {OUTLOOK.opened_line})",
        ),
        (
            {
                "server": given.facts(),
                "readiness": replace(
                    OUTLOOK,
                    needed_bytes=5,
                    seconds=0.0,
                    no_pin="PGDATA is a mount point",
                    opened_wall_s=None,
                ),
            },
            (
                "ready (full copy about 1 s, needs 5 B, free 41.2 GB,"
                " no pin: PGDATA is a mount point; no copy was opened yet)"
            ),
        ),
        (
            {
                "server": given.facts(),
                "readiness": replace(OUTLOOK, obstacles=(Obstacle("no room", "x"),)),
            },
            "not ready because no room",
        ),
        (
            {"server": given.facts(), "readiness": OUTLOOK, "gate": Gate((WIRED,))},
            f"ready ({OUTLOOK.copy_line}; guard wired; {OUTLOOK.opened_line})",
        ),
        (
            {
                "server": given.facts(),
                "readiness": replace(OUTLOOK, offsite="1 archive is not off-site"),
            },
            (
                f"ready ({OUTLOOK.copy_line}; last opened 2027-01-15 08:00 UTC;"
                " 1 archive is not off-site)"
            ),
        ),
        (
            {"server": given.facts(), "gate": Gate()},
            "ready (no HA software found here)",
        ),
        (
            {"server": given.facts(), "gate": Gate(elsewhere="/etc/p.yml is of /b")},
            "ready (no HA software of this server found here (/etc/p.yml is of /b))",
        ),
        (
            {"server": given.facts(), "gate": Gate(unknown="/etc/p.yml is not YAML")},
            "ready (guard not known: /etc/p.yml is not YAML)",
        ),
        (
            {"server": given.facts(), "gate": Gate((HALF,))},
            "ready (guard wired for rewinds only; not known: what Patroni hides)",
        ),
        (
            {
                "server": given.facts(),
                "readiness": replace(OUTLOOK, obstacles=(Obstacle("no room", "x"),)),
                "gate": Gate((replace(WIRED, wired=Wired.NOT_WIRED),)),
            },
            "not ready because no room; the guard is not wired into Patroni",
        ),
        (
            {
                "server": given.facts(),
                "gate": Gate((replace(HALF, destructive=("a", "b")),)),
            },
            (
                "not ready because Patroni is set to delete a loser's data (a and b)"
                " with no guard in front of it"
            ),
        ),
        (
            {
                "server": given.facts(),
                "gate": Gate((replace(WIRED, broken="it cannot be run"),)),
            },
            "not ready because the guard of Patroni is broken: it cannot be run",
        ),
        (
            {"server": given.facts(), "captures": (given.capture(),)},
            "capture n1-1 following; WAL kept to 0/2000; full copy complete to 0/2000",
        ),
    ],
)
def test_one_line_says_whether_a_split_would_be_survived(parts, said):
    assert made(**parts).protection == said


def test_the_gate_goes_along_so_that_every_node_s_can_be_shown():
    report = made(gate=Gate((HALF,)))
    assert report.gate == Gate((HALF,))
    text = to_json(report)
    assert from_json(text, Report) == report
    older = {k: v for k, v in json.loads(text).items() if k != "gate"}
    assert from_json(json.dumps(older), Report).gate is None


def test_the_outlook_says_how_long_how_much_and_what_was_proven():
    assert OUTLOOK.copy_line == "full copy about 38 s, needs 9.0 GB, free 41.2 GB"
    assert OUTLOOK.opened_line == "last opened 2027-01-15 08:00 UTC"
    small = replace(OUTLOOK, needed_bytes=5, seconds=0.0, opened_wall_s=None)
    assert small.copy_line == "full copy about 1 s, needs 5 B, free 41.2 GB"
    assert small.opened_line == "no copy was opened yet"
    assert "needs 3.0 PB" in replace(OUTLOOK, needed_bytes=3 * 10**15).copy_line
    assert "needs 9999.0 PB" in replace(OUTLOOK, needed_bytes=9999 * 10**15).copy_line


def test_a_failed_capture_shows_in_the_line_with_its_reason():
    failed = given.capture(
        phase=Phase.FAILED,
        grade=Grade.NONE,
        tail_lsn=None,
        reached_lsn=None,
        reason="no room: 5 MB missing",
    )
    line = made(server=given.facts(), captures=(failed,)).protection
    assert line == "capture n1-1 failed; no room: 5 MB missing"


def test_why_rows_are_not_kept_shows_until_there_is_a_full_copy():
    bare = given.capture(
        grade=Grade.NONE, reached_lsn=None, rows_reason="no publication"
    )
    line = made(server=given.facts(), captures=(bare,)).protection
    assert line == "capture n1-1 following; WAL kept to 0/2000; rows: no publication"
    copied = given.capture(rows_reason="no publication")
    line = made(server=given.facts(), captures=(copied,)).protection
    assert "rows" not in line


def test_a_node_without_postgres_and_one_with_captures_off_say_so():
    bare = replace(POLICY, nodes=(NodeSpec("n1", False, True),))
    off = replace(POLICY, capture_enabled=False)
    assert made(policy=bare).protection == (
        "nothing to protect: no PostgreSQL on this node"
    )
    assert (
        made(policy=off, server=given.facts()).protection
        == "not ready because captures are switched off"
    )
