"""The rule table as people read it: for each verdict what it means and what to do.

Theory of operation. Meaning and next step come from `counsel`, rows and severities from
the rule table itself, so that the README and `splitguard explain VERDICT` can say
nothing else than what the rules do. Steps of single rows follow the verdict's own.
"""

from dataclasses import dataclass

from agent.core.counsel import MEANINGS, STEPS_OF_ROWS
from agent.core.nextstep import general_step
from agent.core.rule import Rule
from agent.core.rules import TABLE
from agent.core.verdict import VerdictCode


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is known of a verdict before it stands anywhere."""

    code: VerdictCode
    meaning: str
    next_step: str
    row_steps: tuple[tuple[int, str], ...]
    """Rows that need another next step than their verdict."""
    rules: tuple[Rule, ...]

    @property
    def severity(self) -> str:
        """Return every severity that its rows give, the gravest first."""
        ranked = sorted({row.severity for row in self.rules}, key=lambda one: -one.rank)
        return ", ".join(one.value for one in ranked)


def entry(code: VerdictCode) -> Entry:
    """Return what there is to say of a verdict."""
    rules = tuple(row for row in TABLE if row.code is code)
    own = tuple(row.number for row in rules if row.number in STEPS_OF_ROWS)
    return Entry(
        code,
        MEANINGS[code],
        general_step(code),
        tuple((number, general_step(code, number)) for number in own),
        rules,
    )


def markdown() -> str:
    """Return the table of all verdicts for the README."""
    head = "| verdict | meaning | severity | rule rows | what to do next |"
    return "\n".join([head, "|---|---|---|---|---|", *map(_row, VerdictCode)])


def _row(code: VerdictCode) -> str:
    found = entry(code)
    numbers = ", ".join(str(row.number) for row in found.rules)
    steps = [found.next_step, *(f"Row {n}: {text}" for n, text in found.row_steps)]
    cells = (
        f"`{code.value}`",
        found.meaning,
        found.severity,
        numbers,
        " ".join(steps),
    )
    return f"| {' | '.join(cells)} |"
