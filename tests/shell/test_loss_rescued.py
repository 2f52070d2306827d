"""What was rescued stands in the report, and whether the counts have it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api.models_loss import LossReport
from agent.daemon.lossmaker import loss_of
from agent.divergence import report as reports
from agent.divergence import rescue_journal, rescued
from agent.divergence.headline_of_loss import next_step
from agent.divergence.report import Report, Winner
from agent.divergence.report_plain import plain
from agent.divergence.rescue_apply import Result
from agent.divergence.rescue_journal import Act
from agent.web.loss import render_loss
from tests.fix_losses import NIGHT_S, SNAPSHOT, shop_report

COMPARED_S = NIGHT_S + 190


def act(wall_s: float, database: str = "shop") -> Act:
    return Act(
        rescue_journal.instant(wall_s), "mira", "split of the 23rd", database,
        "10.0.0.2:5432", {},
    )  # fmt: skip


def written(**counts: int) -> Result:
    return Result({"public.orders": Counter({k.replace("_", "-"): n
                                             for k, n in counts.items()})})  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder of losses with a report."""
    reports.save(shop_report(), tmp_path)
    return tmp_path


def load(folder: Path) -> Report:
    found = rescued.load(folder)
    assert found is not None
    return found


def test_a_rescue_after_the_comparison_is_told_with_what_it_wrote(kept: Path):
    for one in (act(COMPARED_S + 60), act(COMPARED_S + 61, "bank")):
        rescue_journal.note(kept, one, "begun")
        rescue_journal.note(
            kept, one, "done", written(inserted=5, renumbered=2, skipped=9, left_out=1)
        )
    given = plain(load(kept))
    LossReport.model_validate(given)
    assert [(one["database"], one["rows"], one["counted"], one["who"])
            for one in given["rescues"]] == [
        ("shop", 7, False, "mira"), ("bank", 7, False, "mira"),
    ]  # fmt: skip
    assert "counts are from before that" in given["next_step"]
    assert f"`splitguard loss report {SNAPSHOT} --against n2`" in given["next_step"]
    assert loss_of(load(kept)).sentence.endswith("; since then 14 rows rescued by mira")
    page = render_loss(given, "1.2.3")
    assert "Rows were rescued after this comparison" in page
    assert "7 rows put into database shop of 10.0.0.2:5432" in page


def test_a_rescue_that_the_comparison_saw_changes_no_count(kept: Path):
    rescue_journal.note(kept, act(COMPARED_S - 60), "done", written(inserted=1))
    given = plain(load(kept))
    assert [(one["rows"], one["counted"]) for one in given["rescues"]] == [(1, True)]
    assert "loss rescue" in given["next_step"]
    assert loss_of(load(kept)).sentence == shop_report().headline
    page = render_loss(given, "1.2.3")
    assert "Rows were rescued after" not in page
    assert "1 row put into database shop" in page


def test_a_rescue_that_failed_wrote_nothing_and_one_cut_off_is_not_known(kept: Path):
    failed, cut = act(COMPARED_S + 60), act(COMPARED_S + 90)
    rescue_journal.note(kept, failed, "begun")
    rescue_journal.note(kept, failed, "failed", error="a lock")
    rescue_journal.note(kept, cut, "begun")
    given = plain(load(kept))
    assert [(one["at"], one["rows"]) for one in given["rescues"]] == [
        (cut.at.replace("Z", ".000Z"), None)
    ]
    assert "not known how many rows" in render_loss(given, "1.2.3")


def test_a_line_that_was_cut_or_is_not_ours_is_passed_over(kept: Path):
    rescue_journal.note(kept, act(COMPARED_S + 60), "done", written(inserted=3))
    with (kept / rescued.NAME).open("ab") as file:
        file.write(b'[1]\n{"at": "yesterday"}\n\xff\n{"at": "2026-11-23T')
    assert [one.rows for one in load(kept).rescues] == [3]


def test_the_record_is_found_where_a_rescue_writes_it_and_never_copied(kept: Path):
    assert rescued.NAME == rescue_journal.JOURNAL
    assert rescued.written_ns(kept) == 0
    rescue_journal.note(kept, act(COMPARED_S + 60), "done", written(inserted=3))
    assert rescued.written_ns(kept) > 0
    reports.save(load(kept), kept)
    found = reports.load(kept)
    assert found is not None
    assert found.rescues == ()
    assert len(load(kept).rescues) == 1


def test_a_winner_without_a_name_is_named_by_the_way_to_it(kept: Path):
    rescue_journal.note(kept, act(COMPARED_S + 60), "done", written(inserted=3))
    way = "host=10.0.0.2 port=5432 user=postgres"
    there = Winner("10.0.0.2:5432/shop", None, COMPARED_S, dsn=way)
    assert f'--against "{way}"`' in next_step(replace(load(kept), winner=there))
