"""The README says what the program says."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from agent.cli.main import make_app
from agent.core import explain
from agent.core.verdict import VerdictCode

README = Path(__file__).parents[2].joinpath("README.md").read_text()


@pytest.mark.parametrize("code", list(VerdictCode))
def test_each_verdict_has_its_row_with_its_meaning(code):
    assert f"| `{code.value}` | {explain.meaning(code)} |" in README


def test_each_command_that_it_names_exists():
    named = set(re.findall(r"splitguard ([a-z]+)", README))
    commands = set(getattr(get_command(make_app([])), "commands", {}))
    assert commands
    assert named - {"and", "has", "says"} <= commands


def test_nothing_in_it_is_left_to_be_filled_in():
    assert "@@" not in README
