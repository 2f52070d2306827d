"""How data looks: numbers, durations, strange texts, and changes between two pages."""

import pytest

from agent.cli.check import judge
from agent.cli.config import shares_file_system
from agent.cli.console import bytes_text, duration_text, safe
from agent.cli.status_view import age_text
from agent.cli.watch import flip_lines, flips


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (2048 << 40, "2048.0 TiB"),
    ],
)
def test_bytes_are_counted_in_the_unit_that_fits(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"),
     (172_800, "2 d")],
)  # fmt: skip
def test_durations_are_told_in_the_unit_that_fits(seconds, text):
    assert duration_text(seconds) == text


def test_an_age_is_counted_by_the_agents_clock_and_never_below_zero():
    now = "2026-11-22T23:00:10.000Z"
    assert age_text("2026-11-22T23:00:00.000Z", now) == "10 s"
    assert age_text("2026-11-22T23:00:20.000Z", now) == "0 s"
    assert age_text(None, now) == "-"


def test_what_could_steer_a_terminal_is_taken_out():
    assert safe("n1\x1b[2J\r\nx") == "n1 [2J  x"


def verdict(code: str, severity: str = "warning") -> dict[str, str]:
    return {
        "verdict": code,
        "subject": "n1",
        "severity": severity,
        "sentence": "a sentence",
    }


def test_a_watch_tells_what_went_what_came_and_what_got_worse():
    before = flips({"verdicts": [verdict("link-down"), verdict("standby-detached")]})
    now = flips({"verdicts": [verdict("link-down", "critical"), verdict("failover")]})
    assert list(flip_lines(before, now, "T")) == [
        "T over standby-detached n1",
        "T critical link-down n1: a sentence",
        "T warning failover n1: a sentence",
    ]
    assert list(flip_lines(now, now, "T")) == []


def test_check_calls_an_unknown_severity_unknown():
    headline = {"severity": "new", "verdict": "x", "subject": "n1", "sentence": "y"}
    status = {"data_age_s": 1.0, "cluster": "c", "headline": headline}
    assert judge(status, 15) == (3, "c: x n1: y")
    assert judge({"data_age_s": None}, 15)[0] == 3


def test_captures_beside_the_data_are_noticed(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    assert shares_file_system(tmp_path / "not" / "there", data)
    assert not shares_file_system(tmp_path, None)
    assert not shares_file_system(tmp_path, tmp_path / "absent")
