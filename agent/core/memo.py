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
from typing import TypeVar

KEPT = 64
"""Answers kept of each question, the oldest dropped first: a few times what is in use,
as each holds the object that it is about, a whole report perhaps."""

Of = TypeVar("Of")
Made = TypeVar("Made")


def remembered(make: Callable[[Of], Made]) -> Callable[[Of], Made]:
    """Return `make`, called once for each object as long as that is remembered."""
    kept: dict[int, tuple[Of, Made]] = {}

    @wraps(make)
    def ask(of: Of) -> Made:
        found = kept.get(id(of))
        if found is not None:
            return found[1]
        made = make(of)
        if len(kept) >= KEPT:
            kept.pop(next(iter(kept)), None)
        kept[id(of)] = (of, made)
        return made

    return ask
