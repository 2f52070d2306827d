"""What a bench found: one table for people, the same rows as JSON for programs.

A row is a time (or a share, or a size) and its ratio to something that was measured in
the same run, or that the configuration gives, so that a slow machine slows both.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

Base = tuple[float, str]
"""Seconds to compare with, and what took them."""
HEAD = ("what", "measured", "ratio", "to", "goal")


@dataclass(frozen=True)
class Row:
    """One finding."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    to: str = ""
    goal: float | None = None
    """The ratio (the value, where there is none) that is not to be passed."""
    by_value: bool = False
    """The goal is one of the value all the same; the ratio is told beside it."""

    @property
    def cells(self) -> tuple[str, ...]:
        of_value = self.ratio is None or self.by_value
        judged = self.value if of_value else (self.ratio or 0.0)
        goal = "" if self.goal is None else f"{self.goal:g}"
        if self.goal is not None and of_value:
            goal += f" {self.unit}"
        mark = " over" if self.goal is not None and judged > self.goal else ""
        return (
            self.what,
            f"{self.value:.3g} {self.unit}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self.to,
            f"{goal}{mark}",
        )


@dataclass
class Table:
    """All findings of one run."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    """What was measured on, and with."""

    def add(
        self, what: str, value: float, unit: str, goal: float | None = None
    ) -> None:
        """Add a finding that stands for itself."""
        self.rows.append(Row(what, value, unit, goal=goal))

    def compare(
        self, what: str, seconds: float, base: Base, goal: float | None = None
    ) -> None:
        """Add a time and its ratio to `base`."""
        base_s, to = base
        self.rows.append(Row(what, seconds, "s", seconds / base_s, to, goal))

    def at_size(self, what: str, seconds: float, goal: float, base: Base) -> None:
        """Add a time that has a goal of its own, and its ratio to another size's."""
        base_s, to = base
        self.rows.append(
            Row(what, seconds, "s", seconds / base_s, to, goal, by_value=True)
        )

    def text(self) -> str:
        lines = [HEAD, *(row.cells for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n".join(
            [
                *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines),
                "",
                *facts,
            ]
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {"facts": self.facts, "rows": [asdict(row) for row in self.rows]}
        path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
