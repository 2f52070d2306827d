"""The README says what the program says."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from agent.cli.main import make_app
from agent.core import manual
from agent.core.verdict import VerdictCode

README = Path(__file__).parents[2].joinpath("README.md").read_text()


def test_its_table_of_verdicts_is_what_the_rules_say():
    table = README.partition("`make readme` from the rule table. -->\n")[2]
    assert table.partition("\n<!-- End of the table. -->")[0] == manual.markdown(), (
        "run `make readme`"
    )


@pytest.mark.parametrize("code", list(VerdictCode))
def test_each_verdict_has_meaning_severity_rules_and_next_step(code):
    known = manual.entry(code)
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{code}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == known.meaning
    assert cells[2] == known.severity
    assert cells[3] == ", ".join(str(row.number) for row in known.rules)
    assert cells[4].startswith(known.next_step)
    assert known.rules


def test_each_command_that_it_names_exists():
    named = set(re.findall(r"splitguard ([a-z]+)", README))
    commands = set(getattr(get_command(make_app([])), "commands", {}))
    assert commands
    assert named - {"and", "has", "says"} <= commands


def test_nothing_in_it_is_left_to_be_filled_in():
    assert "@@" not in README
