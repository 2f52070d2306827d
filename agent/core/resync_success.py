"""Whether a resynced server really follows its source.

Theory of operation. A server that was never rewound shows `streaming` for a moment, and
one of two twins shows it for good. So streaming alone counts for nothing: the timeline
that arrives, what was replayed, the history files and the WAL itself have to be the
source's too.
"""

from dataclasses import dataclass

from agent.core.kinship import relate
from agent.core.lineage import Kinship, Lineage
from agent.core.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Following:
    """What a resynced server shows of itself, beside what the source shows."""

    streaming: bool
    received_timeline: int | None
    replay_lsn: Lsn | None
    lineage: Lineage | None
    same_wal: bool | None
    silent: str = ""
    """Why it could not be asked; empty when it answered."""


def shortcomings(
    seen: Following, timeline: int, goal: Lsn, source: Lineage
) -> tuple[str, ...]:
    """Return what is missing until the server counts as resynced; nothing if it does.

    `goal` is where the source had flushed when streaming was first seen.
    """
    if seen.silent:
        return (f"it cannot be asked whether it streams: {seen.silent}",)
    if not seen.streaming:
        return ("it does not stream from the source",)
    missing = []
    if seen.received_timeline != timeline:
        missing.append(
            f"it receives timeline {seen.received_timeline}, the source is on"
            f" {timeline}"
        )
    if seen.replay_lsn is None or seen.replay_lsn < goal:
        missing.append(f"it has replayed up to {seen.replay_lsn}, not yet {goal}")
    if seen.lineage is None:
        missing.append("its own history cannot be read")
    elif relate(seen.lineage, source).kinship is not Kinship.SAME:
        missing.append("its history is not the source's")
    elif seen.same_wal is not True:
        differs = "differs from" if seen.same_wal is False else "was not compared with"
        missing.append(f"its WAL below {goal} {differs} the source's")
    return tuple(missing)
