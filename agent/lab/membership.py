"""Which nodes belong to the managers' cluster: kept outside PostgreSQL.

Theory of operation. A cluster of managers knows its nodes from Consul and not from
its database, which is why a manager that was removed is told apart from one whose
database is behind. Here each machine keeps the list in a file of its own; it travels
with the managers' standing, and of one and the same cluster the newest list wins. A
manager that is on no list (just installed) is a cluster to nobody; one that is not on
its own cluster's list any more was removed. Nothing but `load` and `save` does I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from agent.codec import from_json, to_json


@dataclass(frozen=True, slots=True)
class Membership:
    """What one manager knows of its cluster."""

    cluster: str = ""
    """The cluster's id; empty: the manager is in none."""
    revision: int = 0
    """Grows by one with every change."""
    members: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether the node belongs to the cluster."""
        return name in self.members

    def lost(self, name: str) -> bool:
        """Whether this is the list of a cluster that the node was removed from."""
        return bool(self.cluster) and name not in self.members

    def with_(self, name: str) -> "Membership":
        """Return the next list, which has the node."""
        return self._next((*(one for one in self.members if one != name), name))

    def without(self, name: str) -> "Membership":
        """Return the next list, which has not got the node."""
        return self._next(tuple(one for one in self.members if one != name))

    def _next(self, members: tuple[str, ...]) -> "Membership":
        return replace(self, revision=self.revision + 1, members=members)


class Counted(Protocol):
    """What is counted: something that tells of which cluster it is."""

    @property
    def membership(self) -> Membership:
        """The list that it has."""
        ...


T = TypeVar("T", bound=Counted)


def newest(mine: Membership, told: Membership) -> Membership:
    """Return which of two lists holds.

    Of two that were changed apart from each other, with as many changes, every node
    takes the same one.
    """
    if not mine.cluster or told.cluster != mine.cluster:
        return mine
    return max(mine, told, key=lambda one: (one.revision, one.members))


def companions(mine: Membership, seen: Mapping[str, T]) -> dict[str, T]:
    """Return those of `seen` that belong to this cluster, by both lists."""
    return {
        name: one
        for name, one in seen.items()
        if mine.has(name) and one.membership.cluster == mine.cluster
    }


def load(path: Path) -> Membership:
    """Read a machine's list; one without a file is in no cluster."""
    try:
        return from_json(path.read_text("utf-8"), Membership)
    except FileNotFoundError:
        return Membership()


def save(path: Path, membership: Membership) -> None:
    """Write a machine's list, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(to_json(membership), "utf-8")
    fresh.replace(path)
