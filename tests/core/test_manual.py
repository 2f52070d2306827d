"""The table of verdicts that people read is the one that the rules use."""

from collections.abc import Mapping

import pytest

from agent.core.counsel import MEANINGS
from agent.core.manual import entry, markdown
from agent.core.nextstep import general_step
from agent.core.rules import TABLE
from agent.core.verdict import VerdictCode


def rows_of_the_table() -> Mapping[str, list[str]]:
    head, rule, *rows = markdown().splitlines()
    assert head == "| verdict | meaning | severity | rule rows | what to do next |"
    assert rule == "|---|---|---|---|---|"
    cells = [row.strip("| ").split(" | ", 4) for row in rows]
    return {code.strip("`"): [code, *rest] for code, *rest in cells}


def test_every_verdict_has_its_line():
    assert list(rows_of_the_table()) == [code.value for code in VerdictCode]


@pytest.mark.parametrize("code", VerdictCode)
def test_a_line_holds_what_the_rules_say(code):
    _, meaning, severity, numbers, steps = rows_of_the_table()[code.value]
    own = [row for row in TABLE if row.code is code]
    assert meaning == MEANINGS[code]
    assert numbers == ", ".join(str(row.number) for row in own)
    assert set(severity.split(", ")) == {row.severity.value for row in own}
    assert steps.startswith(general_step(code))


def test_the_gravest_severity_stands_first():
    assert entry(VerdictCode.FAILOVER).severity == "critical, info"


def test_a_row_that_needs_another_step_has_it_beside_the_verdict_s_own():
    found = entry(VerdictCode.STANDBY_LAGGING)
    ((number, step),) = found.row_steps
    assert (number, step) == (809, general_step(VerdictCode.STANDBY_LAGGING, 809))
    assert step != found.next_step == general_step(VerdictCode.STANDBY_LAGGING)
    line = rows_of_the_table()["standby-lagging"][-1]
    assert line == f"{found.next_step} Row 809: {step}"


@pytest.mark.parametrize("code", VerdictCode)
def test_no_general_step_leaves_a_brace_or_an_empty_name(code):
    for row in (0, *(one.number for one in TABLE if one.code is code)):
        step = general_step(code, row)
        assert step.endswith((".", "?", "`", ")"))
        assert not set("{}") & set(step)


def test_where_no_evidence_names_anybody_a_word_in_capitals_stands():
    step = general_step(VerdictCode.SPLIT_BRAIN)
    assert "`splitguard resync NODE` on it where no HA software runs" in step
    shared = general_step(VerdictCode.ARCHIVE_CONFLICT)
    assert "what that side archived past FORK LSN, history files first" in shared
