"""Why a node is not resynced, though somebody asked for it.

Theory of operation. Everything that speaks against it is told at once, each with what
to do instead. Some is a person's to overrule, with a reason that is recorded: a resync
of the side that would be kept, a source that the agent does not expect, software that
is configured and does not run. What is never overruled: software that runs and would
resync the node at the same time, another database, a source that is a standby itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.resync import Source, Target

SIGNAL_FILES = 12
"""From this major version on a file without content makes a server a standby."""


@dataclass(frozen=True, slots=True)
class Around:
    """What else is so."""

    running_managers: tuple[str, ...] = ()
    """HA software that runs here: what it is, and what to use instead."""
    configured_managers: tuple[str, ...] = ()
    """The same of software that is configured for this server and does not run."""
    line: tuple[str, ...] = ()
    """Whose line the agent holds everybody against: the primary that is or will
    probably be kept, several while nobody can tell."""
    forced: bool = False
    later_timeline: int = 0
    """The highest timeline that this node has a history file of."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it is not done, and what to do instead."""

    sentence: str
    help: str
    forcible: bool = False


def refusals(target: Target, source: Source, around: Around) -> tuple[Refusal, ...]:
    """Return everything that speaks against it; nothing when it may be done."""
    found = [
        *by_managers(around),
        *_by_version(target),
        *_by_winner(target, source, around),
        *_by_source(target, source, around),
    ]
    return standing(found, around)


def standing(found: Iterable[Refusal], around: Around) -> tuple[Refusal, ...]:
    """Return what a person has not overruled."""
    return tuple(one for one in found if not (one.forcible and around.forced))


def by_managers(around: Around) -> list[Refusal]:
    """Return what speaks against it because other software looks after the server."""
    running = [
        Refusal(f"{told} runs on this machine and resyncs nodes by itself", instead)
        for told, instead in map(_split, around.running_managers)
    ]
    return running + [
        Refusal(
            f"{told} is configured for this server, though it does not run now",
            f"{instead}; or, if it is not used any more, --force --reason TEXT",
            forcible=True,
        )
        for told, instead in map(_split, around.configured_managers)
    ]


def _split(told: str) -> tuple[str, str]:
    name, _, instead = told.partition(": ")
    return name, instead


def _by_version(target: Target) -> list[Refusal]:
    if target.major >= SIGNAL_FILES:
        return []
    return [
        Refusal(
            f"PostgreSQL {target.major} is made a standby by recovery.conf, and this"
            f" command writes what {SIGNAL_FILES} and later read",
            "stop it; splitguard guard permit --purpose pg_rewind;"
            " then run pg_rewind and write recovery.conf by hand",
        )
    ]


def _by_winner(target: Target, source: Source, around: Around) -> list[Refusal]:
    if target.node in around.line:
        many = len(around.line) > 1
        why = (
            f"nobody can tell whether {' or '.join(around.line)} will be kept"
            if many
            else f"{target.node} is the node whose writes are kept"
        )
        return [
            Refusal(
                f"{why}: a resync takes away what only {target.node} has",
                "resync the other side; or decide for it with --force --reason TEXT",
                forcible=True,
            )
        ]
    if around.line and source.name not in around.line:
        kept = " or ".join(around.line)
        return [
            Refusal(
                f"the agent holds everybody against {kept}, not {source.name}",
                f"to follow {kept}, run this once more without --source; or, if you"
                f" are sure of {source.name}, --source with --force --reason TEXT",
                forcible=True,
            )
        ]
    return []


def _by_source(target: Target, source: Source, around: Around) -> list[Refusal]:
    if source.lineage.system_id != target.lineage.system_id:
        return [
            Refusal(
                f"{source.name} is another database (system id"
                f" {source.lineage.system_id}, here {target.lineage.system_id})",
                "name the primary of this cluster with --source",
            )
        ]
    if source.in_recovery:
        return [
            Refusal(
                f"{source.name} is itself a standby and has nothing to be followed for",
                "name the primary with --source, or promote one first",
            )
        ]
    later = max(target.lineage.timeline, around.later_timeline)
    if later > source.lineage.timeline:
        return [_older(source, later)]
    return []


def _older(source: Source, later: int) -> Refusal:
    history = f"{later:08X}.history"
    return Refusal(
        f"{source.name} is on timeline {source.lineage.timeline}, and timeline {later}"
        " is taken by the side that loses: the next promotion would use that number a"
        " second time, and nobody could tell the two apart",
        f"lift {source.name} above it first. There, in this order: stop its server;"
        f" copy pg_wal/{history} of this node into its pg_wal; add"
        " restore_command = '/bin/false' and recovery_target_timeline = 'current' to"
        " its postgresql.conf; touch recovery.signal in its data directory; start it;"
        f" SELECT pg_walfile_name(pg_current_wal_lsn()) begins with {later + 1:08X}"
        " then; take the two settings out again. Then run this once more. To do it"
        " without that: --force --reason TEXT",
        forcible=True,
    )
