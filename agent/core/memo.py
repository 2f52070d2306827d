"""What follows from a value that never changes is worked out once.

Theory of operation. The values of the core are frozen, and from one step to the next
most of them are the very same objects: a peer's report is judged a dozen times before
the next one comes. So what is derived from such an object is kept beside it, found
by its identity, and dropped when it is the oldest of too many. The object is held as
long as its entry is, so its identity cannot pass to another one. Whether an answer was
kept or made shows in nothing but the time that it takes.
"""

from collections.abc import Callable
from functools import wraps
from typing import Generic, TypeVar

KEPT = 64
"""Answers kept of each question, the oldest dropped first: a few times what is in use,
as each holds the object that it is about, a whole report perhaps."""

Of = TypeVar("Of")
With = TypeVar("With")
Made = TypeVar("Made")


def remembered(make: Callable[[Of], Made]) -> Callable[[Of], Made]:
    """Return `make`, called once for each object as long as that is remembered."""
    kept: dict[int, tuple[Of, Made]] = {}

    @wraps(make)
    def ask(of: Of) -> Made:
        try:
            return kept[id(of)][1]
        except KeyError:
            made = make(of)
        if len(kept) >= KEPT:
            kept.pop(next(iter(kept)), None)
        kept[id(of)] = (of, made)
        return made

    return ask


def remembered_pair(make: Callable[[Of, With], Made]) -> Callable[[Of, With], Made]:
    """Return `make`, called once for each pair as long as that is remembered."""
    kept: dict[tuple[int, int], tuple[Of, With, Made]] = {}

    @wraps(make)
    def ask(of: Of, other: With) -> Made:
        try:
            return kept[id(of), id(other)][2]
        except KeyError:
            made = make(of, other)
        if len(kept) >= KEPT:
            kept.pop(next(iter(kept)), None)
        kept[id(of), id(other)] = (of, other, made)
        return made

    return ask


class kept(Generic[Of, Made]):  # noqa: N801 - it is used like a function
    """A property that is worked out once for its object, which has no slots.

    functools.cached_property of 3.11 takes a lock for each; a step asks for many.
    """

    def __init__(self, make: Callable[[Of], Made]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __get__(self, of: Of, kind: type | None = None) -> Made:
        made = of.__dict__[self.make.__name__] = self.make(of)
        return made
