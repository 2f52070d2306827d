"""How a loser is brought back, and why not in another way.

Theory of operation. Three ways lead back. A server that has nothing of its own only
has to follow. One that went past the fork is rewound, which keeps what both sides
share. Everything that pg_rewind cannot see, or gets wrong, is cloned anew: two
histories under one timeline number, WAL that is gone, a server that recorded no page
changes, a folder that an earlier run left half changed. `choose` says which way and
why, from facts alone; `tried` judges what pg_rewind said when it was asked without
changing anything. pg_rewind's "no rewind required" counts for nothing here: it is asked
only when our own reading of the lineages says that there is something to take back.
Source: PostgreSQL's pg_rewind.c and its documentation.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.core.kinship import relate
from agent.core.lineage import Fork, Kinship, Lineage
from agent.core.lsn import Lsn

SEES_TIMELINES = 16
"""From this major version on pg_rewind does not trust pg_control for timelines."""
NOTHING_TO_DO = "no rewind required"
_CANNOT_CONNECT = ("connection to server", "could not connect", "no pg_hba.conf entry")
_MAY_NOT = ("permission denied", "must be superuser")


class Method(StrEnum):
    """How the loser's data becomes the source's."""

    FOLLOW = "follow"
    """It has nothing of its own: start it as a standby."""
    REWIND = "rewind"
    CLONE = "clone"
    """The old data is moved aside, a base backup takes its place."""
    FINISH = "finish"
    """An earlier run has done the work and was interrupted before the start."""


class Wish(StrEnum):
    """What the person asked for."""

    AUTO = "auto"
    REWIND = "rewind"
    CLONE = "clone"


class Step(StrEnum):
    """How far an earlier run came that did not end."""

    NONE = "none"
    REWINDING = "rewinding"
    """The folder is neither the loser's nor the source's any more."""
    REWOUND = "rewound"
    CLONING = "cloning"
    """Old data is aside, what stands in its place is not whole: it is put back."""
    CLONED = "cloned"


@dataclass(frozen=True, slots=True)
class Target:
    """The loser, as its own disk shows it."""

    node: str
    lineage: Lineage
    end_lsn: Lsn | None
    """Where its WAL ends; None when that is not known."""
    control_timeline: int
    """What pg_control says, which may be behind `lineage.timeline`."""
    records_pages: bool
    """Whether wal_log_hints or checksums are on: a rewind needs either."""
    wal_from: Lsn | None
    """From here to its end all segments of its WAL are there."""
    major: int
    told_twin: bool = False
    """Whether the agent, who saw it before, calls it a twin of the source."""


@dataclass(frozen=True, slots=True)
class Source:
    """The server that is to be followed."""

    name: str
    lineage: Lineage
    in_recovery: bool
    flush_lsn: Lsn
    same_wal: bool | None = None
    """Whether the last WAL of the loser is byte for byte in the source's; None when
    the source no longer has it, or it may not be read."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which way, and why, a sentence each."""

    method: Method
    reasons: tuple[str, ...]
    fork: Fork | None = None


def choose(
    target: Target, source: Source, wish: Wish = Wish.AUTO, step: Step = Step.NONE
) -> Choice:
    """Return the way back, and why.

    A wish for a rewind does not make an impossible one possible: who insists on it
    compares.
    """
    left = left_over(step)
    if left is not None:
        return left
    natural = _natural(target, source)
    if wish is Wish.CLONE and natural.method is not Method.CLONE:
        return Choice(Method.CLONE, ("you asked for a clone",), natural.fork)
    return natural


def left_over(step: Step) -> Choice | None:
    """Return what an interrupted run leaves to do; None when it is begun anew."""
    if step is Step.REWINDING:
        why = "an earlier run was interrupted while it rewound the folder"
        return Choice(Method.CLONE, (why,))
    if step in (Step.REWOUND, Step.CLONED):
        why = f"an earlier run has {step.value} it and was interrupted before the start"
        return Choice(Method.FINISH, (why,))
    return None


def _natural(target: Target, source: Source) -> Choice:
    relation = relate(target.lineage, source.lineage)
    fork = relation.fork
    if relation.kinship is Kinship.TWIN or target.told_twin:
        why = (
            f"timeline {target.lineage.timeline} stands for two histories, here and on"
            f" {source.name}: pg_rewind sees no difference"
        )
        return Choice(Method.CLONE, (why,), fork)
    if relation.kinship is Kinship.SAME:
        return _same_timeline(target, source)
    if fork is None:
        why = f"nothing shows where it parted from {source.name}"
        return Choice(Method.CLONE, (why,))
    if relation.kinship is Kinship.DESCENDS and not _past(target, fork):
        return _behind(target, source, fork)
    return _parted(target, fork)


def _past(target: Target, fork: Fork) -> bool:
    return target.end_lsn is None or target.end_lsn > fork.lsn


def _same_timeline(target: Target, source: Source) -> Choice:
    end = target.end_lsn
    if end is None or end > source.flush_lsn:
        where = "at an unknown place" if end is None else f"at {end}"
        why = (
            f"its WAL ends {where}, past {source.name}'s ({source.flush_lsn}), on the"
            " same timeline: pg_rewind sees no fork"
        )
        return Choice(Method.CLONE, (why,))
    return _behind(target, source, None)


def _behind(target: Target, source: Source, fork: Fork | None) -> Choice:
    """It ends before the fork: nothing of it is its own, if its WAL is the same."""
    if source.same_wal:
        why = f"it ends at {target.end_lsn} and has nothing that {source.name} lacks"
        return Choice(Method.FOLLOW, (why,), fork)
    if source.same_wal is None:
        why = (
            f"{source.name} does not show the WAL below {target.end_lsn} (any more): it"
            " cannot be compared, nor followed from there"
        )
    else:
        why = (
            f"its WAL below {target.end_lsn} differs from {source.name}'s, on one"
            " timeline number: pg_rewind sees nothing wrong"
        )
    return Choice(Method.CLONE, (why,), fork)


def _parted(target: Target, fork: Fork) -> Choice:
    place = f"they parted on timeline {fork.timeline} at {fork.lsn}"
    obstacles = tuple(_obstacles(target, fork))
    if obstacles:
        return Choice(Method.CLONE, (place, *obstacles), fork)
    return Choice(Method.REWIND, (place,), fork)


def _obstacles(target: Target, fork: Fork) -> list[str]:
    """Return why pg_rewind cannot do it, as far as that shows beforehand."""
    found = []
    if not target.records_pages:
        found.append("neither wal_log_hints nor data checksums are on: no rewind")
    if target.wal_from is None or target.wal_from > fork.lsn:
        found.append("its own WAL does not reach back to the fork any more: no rewind")
    behind = target.control_timeline != target.lineage.timeline
    if behind and target.major < SEES_TIMELINES:
        found.append(
            f"pg_control still says timeline {target.control_timeline}, which pg_rewind"
            f" of PostgreSQL {target.major} would believe: no rewind"
        )
    return found


class Trial(StrEnum):
    """What asking pg_rewind without changing anything came to."""

    FITS = "fits"
    CLONE = "clone"
    """It cannot, or would do the wrong thing."""
    STOP = "stop"
    """It never got so far: a connection, a right, a program is missing."""


def tried(exit_code: int, said: str) -> tuple[Trial, str]:
    """Judge `pg_rewind --dry-run`, and say why, in words."""
    if NOTHING_TO_DO in said:
        return Trial.CLONE, (
            'pg_rewind says "no rewind required", and the lineages say otherwise'
        )
    if exit_code == 0:
        return Trial.FITS, ""
    if any(words in said for words in (*_CANNOT_CONNECT, *_MAY_NOT)):
        return Trial.STOP, "pg_rewind cannot read the source"
    return Trial.CLONE, f"pg_rewind cannot do it: {last_complaint(said)}"


def last_complaint(said: str) -> str:
    """Return the first error that a program printed, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "fatal:" in line]
    chosen = (errors or lines[-1:] or ["it gave no reason"])[0]
    return chosen.removeprefix("pg_rewind: ")[:300]
