"""The story's last count: what is missing, or overwritten, is never called well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.lab.client import Promise
from agent.lab.edits import Edit
from agent.lab.recovery import Promised, Recovery, counted_again
from agent.lab.split_brain import failed, truth
from agent.lab.tally import Object

ROWS = (
    Promise(1, "minority", "n1", "plugins", "lost", "content of lost", 0.0),
    Promise(2, "majority", "n2", "plugins", "own", "content of own", 0.0),
)
EDITS = (
    Edit("minority", "n1", "plugins", "shared", "as n1 says", 0.0),
    Edit("majority", "n2", "plugins", "shared", "as n2 says", 0.0),
    Edit("minority", "n1", "plugins", "changed", "as n1 says", 0.0),
    Edit("minority", "n1", "plugins", "gone", None, 0.0),
)
BEFORE = {
    ("plugins", "own"): Object(1, "content of own", ""),
    ("plugins", "shared"): Object(2, "content of shared", "as n2 says"),
    ("plugins", "changed"): Object(3, "content of changed", ""),
    ("plugins", "gone"): Object(4, "content of gone", ""),
}
AFTER = {
    ("plugins", "own"): BEFORE["plugins", "own"],
    ("plugins", "shared"): BEFORE["plugins", "shared"],
    ("plugins", "changed"): Object(3, "content of changed", "as n1 says"),
    ("plugins", "lost"): Object(9, "content of lost", ""),
}  # fmt: skip


@pytest.fixture
def recovery(tmp_path: Path) -> Recovery:
    (tmp_path / "cloudify_db").mkdir()
    (tmp_path / "cloudify_db" / "plugins.jsonl").write_text('{"said": "as n1 says"}\n')
    return Recovery(rows=3, files=[tmp_path])


def counted(recovery: Recovery, after: dict, *unanswered: str) -> dict[str, Any]:
    unsure = frozenset(("plugins", name) for name in unanswered)
    promised = Promised(ROWS, EDITS, unsure, "majority")
    return counted_again(recovery, promised, BEFORE, after)


def test_all_is_well_when_every_promise_is_kept(recovery: Recovery):
    assert counted(recovery, AFTER) == {
        "rows": 3, "in_winner_after": 2, "overwritten": 0, "renumbered": 0,
        "refused": 0, "missing": 0, "conflicts_left": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "now", "missing", "overwritten"),
    [
        ("lost", None, 1, 0),
        ("lost", Object(9, "another content", ""), 1, 0),
        ("changed", BEFORE["plugins", "changed"], 1, 0),
        ("changed", Object(3, "another content", "as n1 says"), 0, 1),
        ("gone", BEFORE["plugins", "gone"], 1, 0),
        ("own", Object(1, "another content", ""), 1, 1),
        ("own", Object(7, "content of own", ""), 0, 1),
        ("own", None, 1, 1),
        ("shared", Object(2, "content of shared", "as n1 says"), 0, 1),
    ],
)
def test_a_promise_that_is_broken_is_counted(
    recovery: Recovery, name: str, now: Object | None, missing: int, overwritten: int
):
    after = {**AFTER, ("plugins", name): now}
    found = counted(recovery, {key: made for key, made in after.items() if made})
    assert (found["missing"], found["overwritten"]) == (missing, overwritten)
    result = {
        "winner": "n2", "rescue": found, "without_splitguard": {"lost": 1},
        "writes": {"acknowledged": 2, "lost": 0},
    }  # fmt: skip
    assert failed(result)
    assert "The rescue is not whole" in truth(result)


def test_a_conflict_whose_other_version_is_in_no_file_is_missing(recovery: Recovery):
    found = counted(replace(recovery, files=[]), AFTER)
    assert (found["missing"], found["conflicts_left"]) == (1, 1)


def test_what_nobody_answered_is_held_against_nobody(recovery: Recovery):
    after = {**AFTER, ("plugins", "own"): Object(1, "content of own", "perhaps")}
    assert counted(recovery, after)["overwritten"] == 1
    assert counted(recovery, after, "own")["overwritten"] == 0
