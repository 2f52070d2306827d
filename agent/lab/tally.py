"""Counts what became of every acknowledged write.

Theory of operation. Each promise has a content that no other row has. It is looked
for in the winner, by SQL with the manager's role, and in the opened copy of every
loser's snapshot. A row may be in both. `lost` is what is in neither; what the
winner lacks is what would have been lost without a snapshot.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from agent.errors import SplitguardError
from agent.lab.client import Promise
from agent.lab.evidence import snapshots_of
from agent.lab.plan import DATABASE, Plan
from agent.lab.schema import KINDS
from agent.lab.stage import Say
from agent.postgres.programs import Programs
from agent.snapshot.opening import open_copy

Row = tuple[str, str, str]
"""Kind, id, content."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the writes."""

    acknowledged: int
    in_winner: int
    in_snapshot: int
    lost: int
    without_splitguard: int


def tally(
    promises: Iterable[Promise], winner: frozenset[Row], kept: frozenset[Row]
) -> Tally:
    """Count the promises by where they are found."""
    wanted = [promise.row for promise in promises]
    return Tally(
        acknowledged=len(wanted),
        in_winner=sum(row in winner for row in wanted),
        in_snapshot=sum(row in kept for row in wanted),
        lost=sum(row not in winner and row not in kept for row in wanted),
        without_splitguard=sum(row not in winner for row in wanted),
    )


def rows_at(dsn: str) -> frozenset[Row]:
    """Return every object in the manager's database. Raises psycopg.Error."""
    found: set[Row] = set()
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        for kind in KINDS:
            rows = connection.execute(
                sql.SQL("SELECT id, content FROM {}").format(sql.Identifier(kind))
            ).fetchall()
            found.update((kind, str(name), str(content)) for name, content in rows)
    return frozenset(found)


def rows_kept(plan: Plan, losers: Iterable[str], say: Say) -> frozenset[Row]:
    """Open every full copy of the losers and return the rows in all of them.

    A snapshot that cannot be opened holds nothing that counts.
    """
    scratch = plan.layout.state_dir / "scratch"
    scratch.mkdir(mode=0o711, exist_ok=True)
    scratch.chmod(0o711)
    programs = Programs(Path(plan.bin_dir), plan.version_num)
    wanted = frozenset(losers)
    found: set[Row] = set()
    for node, manifest, folder in snapshots_of(plan):
        if node not in wanted or not manifest.has_copy:
            continue
        try:
            with open_copy(folder, scratch, programs) as opened:
                rows = rows_at(opened.dsn_for(DATABASE))
        except (SplitguardError, psycopg.Error, OSError) as error:
            say(f"snapshot {manifest.id} cannot be opened: {error}")
            continue
        say(f"opened the copy {manifest.id} of {node}: {len(rows)} rows in it")
        found |= rows
    return frozenset(found)
