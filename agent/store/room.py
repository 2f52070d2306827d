"""A full disk under the journal: room is asked for, and what failed is done once more.

Theory of operation. Each write is one transaction, of which nothing is left when it
fails. So it may be repeated as it is, and is, if whoever keeps the reserve for it has
made room; once, because a disk that is full again is not helped by more of it.
"""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from agent.errors import JournalFullError

P = ParamSpec("P")
T = TypeVar("T")

MakeRoom = Callable[[], bool]
"""Asked when the disk is full; returns whether there is more room now."""


class Spared(Protocol):
    """Whoever has somebody to ask for room."""

    _make_room: MakeRoom


S = TypeVar("S", bound=Spared)


def nothing_spare() -> bool:
    """Make no room."""
    return False


def with_room(call: Callable[[], T], make_room: MakeRoom) -> T:
    """Return what the call returns; it is made once more where room was made.

    Raises what the call raises.
    """
    try:
        return call()
    except JournalFullError:
        if not make_room():
            raise
    return call()


def spared(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], T]:
    """Do the same for a method that writes in one transaction."""

    @functools.wraps(method)
    def once_more(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return with_room(lambda: method(self, *args, **kwargs), self._make_room)

    return once_more
