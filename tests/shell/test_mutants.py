"""The faults that `make mutants` plants: each operator, and what it leaves alone."""

import subprocess
import sys

import pytest

from tests.mutants.__main__ import EXPLAINED, ROOT, entry, explained, stale
from tests.mutants.mutate import mutants_of


def planted(text, module="agent/core/some.py"):
    return {
        (one.operator, " ".join(one.applied(text).split()))
        for one in mutants_of(module, text)
    }


@pytest.mark.parametrize(
    ("before", "operator", "after"),
    [
        ("a < b", "comparison", ["a <= b", "a >= b"]),
        ("a is not b", "comparison", ["a is b"]),
        ("a < b <= c", "comparison", ["a <= b <= c", "a >= b <= c", "a < b < c",
                                      "a < b > c"]),
        ("a and b", "boolean", ["a or b"]),
        ("a // 2", "arithmetic", ["a * 2"]),
        ("not a", "negation", ["a"]),
        ("a[3]", "constant", ["a[4]"]),
        ("f(True)", "constant", ["f(False)"]),
        ("f('lag')", "constant", ['f("XXlag")']),
        ("a if b else c", "condition", ["a if not (b) else c"]),
        ("replace(a, b=c, d=e)", "replace keyword", ["replace(a, d=e)",
                                                     "replace(a, b=c)"]),
    ],
)  # fmt: skip
def test_each_operator_plants_its_faults(before, operator, after):
    found = {text for name, text in planted(f"x = {before}\n") if name == operator}
    assert found == {f"x = {text}" for text in after}


def test_a_statement_is_dropped_and_a_result_withheld():
    text = "def f(a):\n    g(a)\n    return a\n"
    assert planted(text) == {
        ("dropped statement", "def f(a): pass return a"),
        ("return value", "def f(a): g(a) return None"),
    }


@pytest.mark.parametrize(
    "text",
    [
        '"""What it is for."""\n',
        "class A:\n    __slots__ = ('a',)\n",
        "def f(a: Literal['x'] | None) -> int | None: ...\n",
        "Fact = str | int | float | bool | None\n",
        "x = 'a sentence for a person'\n",
        "x = f'{a}-{b}'\n",
    ],
)
def test_what_no_behaviour_hangs_on_is_left_alone(text):
    assert planted(text) == set()


def test_words_for_persons_are_left_alone():
    assert planted("x = 'isolated'\n", "agent/core/wording.py") == set()


def test_a_mutant_is_known_by_what_it_changes_and_not_by_where_it_stands():
    text = "def f(a):\n    return a + 1\n"
    (here,) = (one for one in mutants_of("m", text) if one.operator == "arithmetic")
    (there,) = (
        one for one in mutants_of("m", f"x = y\n\n{text}") if one.key == here.key
    )
    assert here.key == ("m", "f", "return a + 1", "return a - 1")
    assert (here.line, there.line) == (2, 4)


def test_an_explanation_that_fits_nothing_or_a_dead_mutant_is_stale():
    every = mutants_of("m", "x = a < b\n")
    reasons = {one.key: "a and b are never equal" for one in every}
    assert stale(reasons, every, []) == []
    assert stale(reasons, every, every[:1])[0].startswith("a test kills it")
    assert all("no such mutant" in told for told in stale(reasons, [], []))


def test_a_survivor_is_shown_as_the_entry_that_would_explain_it(tmp_path):
    (mutant, *_) = mutants_of("m", 'def f(a):\n    return a["b"] < 1\n')
    path = tmp_path / "explained.toml"
    path.write_text(entry(mutant))
    assert explained(path) == {mutant.key: ""}


def test_every_explanation_gives_a_reason():
    reasons = explained(ROOT / EXPLAINED)
    assert all(reason.strip() for reason in reasons.values())


FAULTY = """
LIMIT = 3


def below(number: int) -> bool:
    return number < LIMIT


def never() -> None:
    raise KeyError


def named(number: int) -> str:
    return str(number)
"""
TESTS = """
from agent.core.limit import below, named


def test_below():
    assert below(2) is True
    assert below(4) is False


def test_named():
    named(1)
"""
REASON = """
[[mutant]]
module = "agent/core/limit.py"
scope = "below"
was = "return number < LIMIT"
now = "return number <= LIMIT"
reason = "no number is three"
"""


def test_a_run_kills_shows_and_explains(tmp_path):
    for name, text in (
        ("agent/__init__.py", ""),
        ("agent/core/__init__.py", ""),
        ("agent/core/limit.py", FAULTY),
        ("tests/core/test_limit.py", TESTS),
        ("tests/mutants/explained.toml", REASON),
        ("pyproject.toml", "[tool.mypy]\nstrict = true\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.mutants", f"--root={tmp_path}", "--count=0"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert ran.stderr == ""
    assert (
        "3 of 6 killed (50.0%), 1 of them by the type checker alone; 3 survived,"
        " 2 of them unexplained"
    ) in ran.stdout
    shown = [line for line in ran.stdout.splitlines() if line.startswith("+")]
    assert {line for line in shown if not line.startswith("+++")} == {
        "+LIMIT = 4",
        "+    pass",
    }
    assert ran.stdout.count("no test runs this line") == 1
    assert ran.returncode == 1
