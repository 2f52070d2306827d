"""What came out of comparing one table: counted, and handed on row by row.

Theory of operation. Differences are written to a file as they are found, so none is
held in memory; here only their number is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from agent.divergence.model import Difference, DifferenceKind

T = TypeVar("T")

AT_ONCE = 1000
"""Rows that are looked up together."""


class Outcome:
    """Counts what is the same and what is not."""

    def __init__(self, sink: Callable[[Difference], None]) -> None:
        self._sink = sink
        self.counts: Counter[DifferenceKind] = Counter()
        self.equal = 0
        """Rows that the losing side touched and that read alike on both sides now."""
        self.unknown = 0
        """Rows that were deleted, of which nobody can say any more what they were."""

    def add(self, difference: Difference) -> None:
        """Take in one difference."""
        self.counts[difference.kind] += 1
        self._sink(difference)


def together(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """Yield items in batches of `AT_ONCE`."""
    rest = iter(items)
    while batch := tuple(islice(rest, AT_ONCE)):
        yield batch
