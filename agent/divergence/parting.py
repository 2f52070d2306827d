"""Where a snapshot's writes left the line of the server that they are compared with.

Theory of operation. The snapshot has its lineage in its manifest. The other side's
comes from its own manifest, from the server itself (whose role must be allowed to read
the history), or from whoever watches the cluster. The fork is the last point that both
lines share; a snapshot that does not reach past it is of no losing side.
"""

from agent.core.kinship import past_fork, relate
from agent.core.lineage import Fork, Kinship, Lineage
from agent.core.state import Position
from agent.errors import DivergenceError, PostgresError
from agent.postgres import upstream
from agent.postgres.connect import fetch_one, server_named, session
from agent.snapshot.manifest import Manifest

_TIMELINE = (
    "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery()"
    " THEN pg_walfile_name(pg_current_wal_insert_lsn()) END"
)


def timeline_of(dsn: str, name: str) -> int:
    """Return the timeline that a primary writes to.

    `name` is what people call it; empty: errors have host and port alone. Raises
    PostgresError when it does not answer, DivergenceError when it is none.
    """
    with session(dsn, named=name) as asking:
        recovering, file = fetch_one(asking, _TIMELINE)
    if recovering:
        raise DivergenceError(
            f"{server_named(dsn, name)} is in recovery: it is not the winner",
            "name the primary: --against NODE or DSN",
        )
    return int(file[:8], 16)


def lineage_of(dsn: str) -> Lineage | None:
    """Return a server's lineage as itself tells it; None where its role may not ask."""
    try:
        return upstream.read_lineage(dsn, upstream.look(dsn))
    except PostgresError:
        return None


def fork_between(manifest: Manifest, theirs: Lineage, name: str) -> Fork:
    """Return where the snapshot's writes left this line.

    Raises DivergenceError when it is of another cluster, or of no losing side.
    """
    ours = manifest.lineage
    kinship = relate(ours, theirs).kinship
    if kinship is Kinship.FOREIGN:
        raise DivergenceError(
            f"snapshot {manifest.id} and {name} are of two clusters: system identifier"
            f" {ours.system_id} here, {theirs.system_id} there",
            "name a server, or a snapshot, of the same cluster: --against",
        )
    end = manifest.end_lsn or manifest.tail_lsn
    fork = past_fork(Position(ours.timeline, end, 0.0), ours, theirs)
    if fork is None:
        raise DivergenceError(
            f"snapshot {manifest.id} is no losing side to {name}: up to its end at"
            f" {end} on timeline {ours.timeline}, the history of {name} has all of it",
            "choose a snapshot of the losing node: `splitguard snapshots list`",
        )
    return fork
