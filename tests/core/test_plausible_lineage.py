"""Which lineages, disks and formats are believed: each bound, on both of its sides."""

import itertools
from dataclasses import replace

import pytest

from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.observation import MaintenanceBrief, PinBrief, WritableSpan
from agent.core.plausible import (
    REPORT_FORMAT,
    SWITCHES_MAX,
    TIMELINE_MAX,
    WALL_S_MAX,
    format_refused,
    impossible_facts,
    impossible_lineage,
    impossible_report,
)
from tests.core import given

MIB = 1 << 20


@pytest.mark.parametrize(
    ("lineage", "wrong"),
    [
        (given.lineage(1), ""),
        (given.lineage(3, (1, 9), (2, 9)), ""),
        (given.lineage(TIMELINE_MAX), ""),
        (given.lineage(0), "timeline 0"),
        (given.lineage(TIMELINE_MAX + 1), f"timeline {TIMELINE_MAX + 1}"),
        (given.lineage(2, (2, 9)), "timelines do not ascend"),
        (given.lineage(4, (2, 9), (2, 10)), "timelines do not ascend"),
        (given.lineage(4, (3, 9), (2, 10)), "timelines do not ascend"),
        (given.lineage(2, (3, 9)), "timelines do not ascend"),
        (given.lineage(3, (1, 10), (2, 9)), "switches do not ascend"),
        (given.lineage(3, (0, 9), (2, 10)), "switches do not ascend"),
    ],
)
def test_a_lineage_ascends(lineage, wrong):
    assert impossible_lineage(lineage).endswith(wrong)
    assert bool(impossible_lineage(lineage)) is bool(wrong)


def long_lineage(switches: int, prints: int) -> Lineage:
    made = given.lineage(SWITCHES_MAX + 5)
    return replace(
        made,
        switches=tuple(
            Switch(number, Lsn(number)) for number in range(1, switches + 1)
        ),
        fingerprints=tuple(itertools.repeat(Fingerprint(2, Lsn(9), "a"), prints)),
    )


@pytest.mark.parametrize(
    ("switches", "prints", "believed"),
    [
        (SWITCHES_MAX, SWITCHES_MAX, True),
        (SWITCHES_MAX + 1, 0, False),
        (0, SWITCHES_MAX + 1, False),
    ],
)
def test_a_lineage_has_so_many_timelines_and_no_more(switches, prints, believed):
    found = impossible_lineage(long_lineage(switches, prints))
    assert found == ("" if believed else "a lineage of more than 10000 timelines")


@pytest.mark.parametrize(
    ("size", "believed"),
    [
        (0, False),
        (MIB // 2, False),
        (MIB, True),
        (3 * MIB, False),
        (16 * MIB, True),
        (1024 * MIB, True),
        (2048 * MIB, False),
    ],
)
def test_a_wal_segment_is_a_power_of_two_from_a_mebibyte_to_a_gibibyte(size, believed):
    found = impossible_facts(given.facts(wal_segment_bytes=size))
    assert found == ("" if believed else f"WAL segments of {size} bytes")


@pytest.mark.parametrize(
    ("off", "says"),
    [
        (-2, "upgrade splitguard there, one version after the other"),
        (-1, ""),
        (0, ""),
        (1, ""),
        (2, "upgrade splitguard here, one version after the other"),
    ],
)
def test_one_format_older_or_newer_is_understood_and_no_other(off, says):
    found = format_refused(REPORT_FORMAT + off)
    assert found.endswith(says)
    assert bool(found) is bool(says)


def decision(**more) -> MaintenanceBrief:
    made = MaintenanceBrief("m1", "n2", "ada", "x", 5.0, 60.0, None, "")
    return replace(made, **more)


@pytest.mark.parametrize("seconds", [WALL_S_MAX, -WALL_S_MAX])
def test_a_decision_is_of_a_time_that_a_calendar_has(seconds):
    def wrong(**more):
        return impossible_report(given.report("n2", **more))

    pin = PinBrief("n2", "ada", "x", 1, seconds, None)
    assert wrong(pins=(pin,)) == ""
    too_far = replace(pin, age_s=seconds * 1.001)
    assert wrong(pins=(too_far,)) == "a decision of another century"
    for name in ("begun_age_s", "remaining_s", "ended_age_s"):
        assert wrong(maintenance=(decision(**{name: seconds}),)) == ""
        far = decision(**{name: seconds * 1.001})
        assert wrong(maintenance=(far,)) == "a decision of another century"


def test_a_time_of_writing_ends_after_it_began():
    at_once = given.report("n2", writable=(WritableSpan(1.0, 1.0),))
    assert impossible_report(at_once) == ""
    back = given.report("n2", writable=(WritableSpan(1.0, 2.0),))
    assert impossible_report(back) == "a time of writing that ended before it began"
