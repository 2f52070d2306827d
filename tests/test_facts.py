"""Every measured fact has a test that names it, and the other way round.

Theory of operation. tests/facts.toml lists the facts. A test says by the marker `fact`
which of them it holds. Both are read as text, nothing is collected or run.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.core.verdict import VerdictCode

ROOT = Path(__file__).resolve().parent.parent
FACTS: list[dict[str, Any]] = tomllib.loads(
    (ROOT / "tests/facts.toml").read_text("utf-8")
)["fact"]
OF_HA_SOFTWARE = {f"P{number}" for number in range(1, 20)}
NOTHING = "nothing of ours depends on it"
NOTHING_MAX = 6
"""So many facts at most may be held by no test."""
LINEAGES = "tests/postgres/test_lineages.py"
IN_WORDS = {"innocent", "running or stopped", *(code.value for code in VerdictCode)}
"""What a case on real servers holds that was not measured before but is asked for."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(path: Path) -> Iterator[Function]:
    """The functions of a module: a helper that bears a mark by mistake shows too."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, Function):
            yield node


def facts_named(test: Function) -> set[str]:
    """What the test's marker `fact` names."""
    return {
        str(argument.value)
        for mark in test.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fact"
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    }


NAMED = {
    f"{path.relative_to(ROOT)}::{test.name}": facts_named(test)
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for test in functions_of(path)
}


def test_every_fact_is_said_once_and_held_by_tests_or_by_nothing():
    ids = [fact["id"] for fact in FACTS]
    assert len(set(ids)) == len(ids)
    assert set(ids) >= OF_HA_SOFTWARE
    for fact in FACTS:
        assert fact["says"].strip().endswith("."), fact
        assert set(fact) in ({"id", "says", "tests"}, {"id", "says", "rests"}), fact
        assert fact.get("tests") or fact.get("rests") == NOTHING, fact


def test_few_facts_are_held_by_nothing():
    assert len([fact for fact in FACTS if "rests" in fact]) <= NOTHING_MAX


def test_every_listed_test_exists_and_names_the_fact():
    broken = [
        f"{fact['id']}: {test}"
        for fact in FACTS
        for test in fact.get("tests", [])
        if fact["id"] not in NAMED.get(test, set())
    ]
    assert not broken


def test_every_case_of_real_servers_names_a_fact_that_lists_its_test():
    text = (ROOT / LINEAGES).with_name("lineages.toml").read_text("utf-8")
    listed = {
        fact["id"]
        for fact in FACTS
        if any(test.startswith(f"{LINEAGES}::") for test in fact.get("tests", []))
    }
    named = {case["fact"] for case in tomllib.loads(text)["case"]}
    assert named <= listed | IN_WORDS
    assert named >= {"P10", "P11", "P15", "P16", "P17"}


def test_every_fact_that_a_test_names_lists_that_test():
    listed = {(fact["id"], test) for fact in FACTS for test in fact.get("tests", [])}
    broken = [
        f"{test}: {fact}"
        for test, facts in NAMED.items()
        for fact in facts
        if (fact, test) not in listed
    ]
    assert not broken


def test_a_name_with_a_fact_of_ha_software_is_marked_so():
    """`..._p5_p8` at the end of a test's name is a promise too."""
    for test, facts in NAMED.items():
        ending = re.search(r"((?:_p\d+)+)$", test)
        named = set(ending[1].upper().split("_")[1:]) if ending else set()
        assert named <= facts, test
