"""Retention: by count, age and size, and never what something needs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from agent.core.incident import Status
from agent.core.state import Ledger, State
from agent.daemon.upkeep import Upkeep
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.marks import Kept
from agent.snapshot.removal import RECORD
from agent.snapshot.retention import Item, Limits, surplus
from agent.store.memory import MemoryJournal
from tests.fix_desk import resynced
from tests.shell.test_runtime import running
from tests.shell.test_scheduled import kept

DAY_S = 86_400.0
NO_LIMITS = Limits(scheduled=1000)


def items(*names: str, **changes) -> list[Item]:
    """Snapshots from the oldest to the newest; s… were taken by the clock."""
    return [
        replace(
            Item(name, name.startswith("s"), True, number * DAY_S, 10, held=False),
            **changes,
        )
        for number, name in enumerate(names)
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def going(found: list[Item], limits: Limits, days: float = 10) -> list[str]:
    return [one.id for one in surplus(found, limits, days * DAY_S)]


def test_the_oldest_of_each_kind_beyond_its_number_go():
    found = items("s1", "o1", "s2", "o2", "s3", "o3")
    assert going(found, Limits(scheduled=1)) == ["s1", "s2"]
    assert going(found, Limits(scheduled=1000, others=2)) == ["o1"]
    assert going(found, NO_LIMITS) == []


def test_what_is_too_old_goes_but_the_newest_complete_one():
    found = items("o1", "s1", "o2")
    assert going(found, replace(NO_LIMITS, age_s=8.5 * DAY_S)) == ["s1", "o1"]
    assert going(found, replace(NO_LIMITS, age_s=DAY_S), days=9999) == ["s1", "o1"]
    half = [*found[:2], replace(found[2], complete=False)]
    assert going(half, replace(NO_LIMITS, age_s=DAY_S), days=9999) == ["o1", "o2"]


def test_when_all_is_too_large_the_scheduled_go_before_the_others():
    found = items("o1", "s1", "o2", "s2", "o3")
    for size, expected in (
        (50, []),
        (49, ["s1"]),
        (30, ["s1", "s2"]),
        (20, ["s1", "s2", "o1"]),
        (0, ["s1", "s2", "o1", "o2"]),
    ):
        assert going(found, replace(NO_LIMITS, size_bytes=size)) == expected


def test_what_goes_for_its_number_is_not_counted_for_the_size():
    found = items("s1", "s2", "s3", "o1")
    limits = Limits(scheduled=2, size_bytes=30)
    assert going(found, limits) == ["s1"]


def test_a_clock_that_went_back_takes_nothing():
    assert going(items("s1", "s2"), replace(NO_LIMITS, age_s=1.0), days=-5) == []


@for_all(
    st.lists(
        st.tuples(
            st.booleans(), st.booleans(), st.floats(0, 100), st.integers(0, 100),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
    st.none() | st.integers(1, 5),
    st.none() | st.floats(0.1, 50),
    st.none() | st.integers(0, 500),
)  # fmt: skip
def test_what_is_held_and_the_newest_complete_one_always_stay(
    drawn, scheduled, others, age_s, size
):
    found = [
        Item(str(number), clock, complete, created, size_bytes, held)
        for number, (clock, complete, created, size_bytes, held) in enumerate(drawn)
    ]
    limits = Limits(scheduled, others, age_s, size)
    gone = {one.id for one in surplus(found, limits, 90)}
    assert not gone & {one.id for one in found if one.held}
    complete = [one for one in found if one.complete]
    if complete:
        assert max(complete, key=lambda o: (o.created_wall_s, o.id)).id not in gone


SETTLED = replace(
    next(
        one
        for one in resynced().agents["n1"].state.ledger.incidents
        if one.verdict.subject == "cluster"
    ),
    status=Status.RESOLVED,
    acknowledged_by="ann",
)


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({"status": Status.OPEN, "acknowledged_by": None}, True),
        ({"status": Status.ACKNOWLEDGED}, True),
        ({"acknowledged_by": None}, True),
        ({}, False),
    ],
)
async def test_an_incident_s_snapshot_goes_only_when_that_is_settled(
    tmp_path: Path, changes, stays
):
    incident = replace(SETTLED, **changes)
    kept(tmp_path, "n1-old", 0.0, incident_ids=(incident.id,))
    kept(tmp_path, "n1-new", 5.0)
    ledger = Ledger(incidents=(incident,))
    async with running(MemoryJournal(), State(ledger)) as (runtime, _):
        limits = Limits(scheduled=1, others=1)
        await Upkeep(runtime, Catalogue(tmp_path), limits).run()
    assert (tmp_path / "n1-old").exists() is stays
    assert (tmp_path / "n1-new").exists()


async def test_what_was_settled_once_goes_after_the_journal_has_forgotten_it(
    tmp_path: Path,
):
    kept(tmp_path, "n1-old", 0.0, incident_ids=(SETTLED.id,))
    kept(tmp_path, "n1-unknown", 0.0, incident_ids=("inc-never-heard-of",))
    kept(tmp_path, "n1-new", 5.0)
    known, forgotten = State(Ledger(incidents=(SETTLED,))), State()
    for state, limits in (
        (known, NO_LIMITS),
        (forgotten, Limits(scheduled=1, others=1)),
    ):
        async with running(MemoryJournal(), state) as (runtime, _):
            await Upkeep(runtime, Catalogue(tmp_path), limits).run()
    assert names(tmp_path) == {
        "n1-unknown",
        "n1-new",
        RECORD,
    }
    line = json.loads((tmp_path / RECORD).read_text())
    assert (line["id"], line["who"]) == ("n1-old", "splitguard")
    assert line["reason"] == "more than 1 other snapshots"


async def test_what_is_pinned_or_unfinished_stays(tmp_path: Path):
    kept(tmp_path, "n1-pinned", 0.0)
    marks.keep(tmp_path / "n1-pinned", Kept("ann", "an audit", 1.0))
    kept(tmp_path, "n1-running", 0.0, closed=False)
    kept(tmp_path, "n1-old", 0.0)
    kept(tmp_path, "n1-new", 5.0)
    async with running(MemoryJournal(), State()) as (runtime, _):
        limits = Limits(scheduled=1, others=1, age_s=1.0, size_bytes=0)
        await Upkeep(runtime, Catalogue(tmp_path), limits).run()
    assert names(tmp_path) == {
        "n1-pinned",
        "n1-running",
        "n1-new",
        RECORD,
    }


async def test_a_capture_folder_that_is_gone_is_no_crash(tmp_path: Path, caplog):
    async with running(MemoryJournal(), State()) as (runtime, _):
        await Upkeep(runtime, Catalogue(tmp_path / "none"), NO_LIMITS).run()
    assert "there is no capture folder" in caplog.text
