"""When a manager's scheduled snapshot is due, and by whom it is taken."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.care import ManagerCare, ManagerSight
from agent.core.moment import Moment
from agent.core.observation import Channel, Observation, Outcome
from agent.core.policy import NodeSpec, Policy
from agent.core.state import State
from agent.core.verdict import Family, Severity, Verdict, VerdictCode
from agent.daemon.calendar import next_after, put_off_s
from agent.daemon.managers_rota import (
    FORGIVEN_S,
    GRACE_S,
    RETRY_S,
    TRIES_MAX,
    Rota,
    Schedule,
)

HOUR = 3600.0
DAY = 24 * HOUR
NIGHT = datetime(2026, 3, 2, 2, 30, tzinfo=UTC).timestamp()
NIGHTLY = Schedule("30 2 * * *", "UTC", 0.0, "test")
POLICY = Policy(
    cluster="test",
    me="n1",
    nodes=tuple(
        NodeSpec(name, has_postgres=True, has_manager=True) for name in ("n1", "n2")
    ),
)


def at(wall_s: float) -> Moment:
    """An instant."""
    return Moment(monotonic_s=wall_s - NIGHT + 1e6, wall_s=wall_s)


def seeing(now: Moment, mine: bool | None, theirs: bool | None) -> State:
    """A healthy cluster in which the managers say this of themselves."""
    latest = {}
    for node, active in (("n1", mine), ("n2", theirs)):
        if active is not None:
            latest[f"{node}/manager"] = Observation(
                node,
                Channel.MANAGER,
                Outcome.ANSWERED,
                "",
                now.monotonic_s,
                now.monotonic_s,
                manager=ManagerSight(active, "4.5.5"),
            )
    well = Verdict(VerdictCode.HEALTHY, Family.OTHER, "cluster", Severity.OK, 999, {})
    state = State()
    care = ManagerCare(version="4.5.5")
    view = replace(state.view, latest=latest, verdicts=(well,), care=care)
    return replace(state, view=view)


class Agent:
    """One agent's rota, over restarts."""

    def __init__(self, folder: Path, begun: float) -> None:
        self.folder = folder
        self.rota = Rota(folder, NIGHTLY, begun)
        self.rota.save()

    def look(self, wall_s: float, mine: bool | None, theirs: bool | None) -> bool:
        now = at(wall_s)
        return self.rota.look(seeing(now, mine, theirs), POLICY, now)

    def restart(self, wall_s: float) -> None:
        self.rota.save()
        self.rota = Rota(self.folder, NIGHTLY, wall_s)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """One that first ran in the evening before."""
    return Agent(tmp_path, NIGHT - 5 * HOUR)


def test_the_active_managers_agent_takes_it_when_it_is_due_and_once(agent: Agent):
    assert not agent.look(NIGHT - 1, True, False)
    assert agent.look(NIGHT, True, False)
    agent.rota.succeeded(NIGHT + 60, scheduled=True)
    assert not agent.look(NIGHT + 61, True, False)
    assert agent.look(NIGHT + DAY, True, False)


def test_the_others_agent_never_does_not_even_when_it_becomes_active(agent: Agent):
    assert not agent.look(NIGHT, False, True)
    assert not agent.look(NIGHT + GRACE_S, False, True)
    assert not agent.look(NIGHT + HOUR, True, False)
    assert agent.look(NIGHT + DAY, True, False)


def test_what_was_missed_is_made_up_once_by_whoever_is_active_then(agent: Agent):
    assert not agent.look(NIGHT - 1, True, False)
    agent.restart(NIGHT + 3 * DAY + HOUR)
    assert agent.look(NIGHT + 3 * DAY + HOUR, True, False)
    agent.rota.succeeded(NIGHT + 3 * DAY + HOUR, scheduled=True)
    assert not agent.look(NIGHT + 3 * DAY + HOUR + 1, True, False)


def test_while_no_manager_is_active_the_run_waits(agent: Agent):
    for later in (0, GRACE_S, HOUR):
        assert not agent.look(NIGHT + later, None, None)
    assert agent.look(NIGHT + 2 * HOUR, True, None)


def test_of_two_that_say_active_neither_takes_it_and_it_stays_due(agent: Agent):
    assert not agent.look(NIGHT, True, True)
    assert not agent.look(NIGHT + HOUR, True, True)
    assert agent.look(NIGHT + 2 * HOUR, True, False)


def test_what_fails_is_tried_again_later_and_then_left_to_the_next_night(agent: Agent):
    now = NIGHT
    for _ in range(TRIES_MAX):
        assert agent.look(now, True, False)
        agent.rota.failed("no reply", now + 10, scheduled=True)
        assert not agent.look(now + 11, True, False)
        agent.restart(now + 12)
        assert not agent.look(now + 12, True, False)
        assert agent.rota.notes.failed == "no reply"
        now += 10 + RETRY_S
    assert not agent.look(now, True, False)
    assert agent.look(NIGHT + DAY, True, False)


def test_a_good_one_forgets_the_failure_and_a_restart_does_not(agent: Agent):
    agent.rota.failed("no reply", NIGHT, scheduled=False)
    agent.restart(NIGHT + 1)
    assert agent.rota.told(ManagerCare(), 60.0).failed == "no reply"
    agent.rota.succeeded(NIGHT + 2, scheduled=False)
    told = agent.rota.told(ManagerCare(), 60.0)
    assert (told.failed, told.failed_wall_s) == ("", None)


def test_a_failure_of_an_incident_is_past_with_it_and_one_of_the_clock_is_not(
    agent: Agent,
):
    agent.rota.failed("wiped", NIGHT - DAY, scheduled=False, incident_ids=("i-1",))
    agent.look(NIGHT - DAY + 1, True, False)
    assert agent.rota.notes.failed == ""
    agent.rota.failed("no such id", NIGHT - DAY, scheduled=False)
    agent.look(NIGHT - DAY + 1, True, False)
    assert agent.rota.notes.failed == "no such id"
    agent.look(NIGHT - DAY + FORGIVEN_S, True, False)
    assert agent.rota.notes.failed == ""
    agent.rota.failed("no reply", NIGHT - DAY, scheduled=True)
    agent.look(NIGHT - 1, True, False)
    assert agent.rota.notes.failed == "no reply"
    agent.look(NIGHT - 1, False, True)
    agent.look(NIGHT, False, True)
    assert agent.rota.notes.failed == ""


def test_the_time_without_a_good_one_counts_from_when_it_became_our_turn(agent: Agent):
    agent.look(NIGHT, False, True)
    assert not agent.rota.told(ManagerCare(), 60.0).scheduled
    agent.look(NIGHT + HOUR, True, False)
    told = agent.rota.told(ManagerCare(), 60.0)
    assert told.scheduled
    assert told.since_wall_s == NIGHT + HOUR
    agent.restart(NIGHT + 2 * HOUR)
    agent.look(NIGHT + 2 * HOUR, True, False)
    assert agent.rota.told(ManagerCare(), 60.0).since_wall_s == NIGHT + HOUR


def test_without_a_schedule_nothing_is_due_and_nobody_is_told_of_its_absence(
    tmp_path: Path,
):
    rota = Rota(tmp_path, None, NIGHT)
    now = at(NIGHT + 10 * DAY)
    assert not rota.look(seeing(now, True, False), POLICY, now)
    told = rota.told(ManagerCare(), 60.0)
    assert (told.scheduled, told.alert_after_s) == (False, 0.0)


def test_notes_that_cannot_be_read_or_of_a_wild_clock_begin_anew(
    agent: Agent, tmp_path: Path
):
    agent.rota.succeeded(NIGHT + 400 * DAY, scheduled=True)
    agent.restart(NIGHT - HOUR)
    assert agent.look(NIGHT, True, False)
    (tmp_path / "rota.json").write_text("{")
    assert Rota(tmp_path, NIGHTLY, NIGHT).notes.done_wall_s == NIGHT


def test_a_run_is_put_off_alike_by_all_agents_of_a_cluster_and_within_bounds():
    names = [f"cluster-{number}" for number in range(50)]
    found = [put_off_s(name, NIGHT, 300.0) for name in names]
    assert found == [put_off_s(name, NIGHT, 300.0) for name in names]
    assert all(0 <= one < 300 for one in found)
    assert len({round(one) // 30 for one in found}) > 5
    assert put_off_s("a", NIGHT, 300.0) != put_off_s("a", NIGHT + DAY, 300.0)
    late = Schedule("30 2 * * *", "UTC", 300.0, "a").due_s(NIGHT - HOUR)
    assert late == NIGHT + put_off_s("a", NIGHT, 300.0)


def test_a_schedule_follows_its_time_zone_through_a_change_of_clocks():
    zone = "Europe/Berlin"
    march = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
    runs = []
    for _ in range(3):
        march = next_after("30 3 * * *", march, zone) or 0.0
        runs.append(datetime.fromtimestamp(march, UTC).strftime("%d %H:%M"))
    assert runs == ["29 01:30", "30 01:30", "31 01:30"]
    before = datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp()
    first = next_after("30 3 * * *", before, zone)
    assert first is not None
    assert datetime.fromtimestamp(first, UTC).strftime("%d %H:%M") == "28 02:30"


def test_a_run_in_an_hour_that_is_left_out_or_repeated_is_due_once():
    def days(cron: str, start: datetime, count: int) -> list[str]:
        at, runs = start.timestamp(), []
        for _ in range(count):
            at = next_after(cron, at, "Europe/Berlin") or 0.0
            runs.append(datetime.fromtimestamp(at, UTC).strftime("%d %H:%M"))
        return runs

    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert days("30 2 * * *", spring, 2) == ["29 01:30", "30 00:30"]
    autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert days("30 2 * * *", autumn, 2) == ["25 00:30", "26 01:30"]
    # Whoever looks between the two, or after both, has nothing left to do that night.
    between = datetime(2026, 10, 25, 1, 5, tzinfo=UTC)
    assert days("30 2 * * *", between, 1) == ["26 01:30"]


@pytest.mark.parametrize(
    ("weekday", "names"),
    [
        ("0", "Sun"), ("7", "Sun"), ("1", "Mon"), ("6", "Sat"), ("sun", "Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"), ("5-7", "Sun Fri Sat"), ("0,3", "Sun Wed"),
        ("*/3", "Sun Wed Sat"), ("mon-wed", "Mon Tue Wed"),
    ],
)  # fmt: skip
def test_weekdays_are_counted_as_in_a_crontab(weekday: str, names: str):
    at = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()  # a Saturday
    found = []
    for _ in names.split():
        at = next_after(f"0 3 * * {weekday}", at) or 0.0
        found.append(datetime.fromtimestamp(at, UTC).strftime("%a"))
    assert found == names.split()


@pytest.mark.parametrize("cron", ["0 3 * * 8", "0 3 * * 5-1", "0 3 * *", "", "x"])
def test_a_weekday_that_is_none_is_an_error(cron: str):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is one line
        next_after(cron, 1e9)
