"""Counts what became of every acknowledged write.

Theory of operation. Each promise has a content that no other row has. It is looked
for in the winner, by SQL with the manager's role, and in the opened copy of every
loser's snapshot. A row may be in both. `lost` is what is in neither; what the
winner lacks is what would have been lost without a snapshot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from agent.errors import SplitguardError
from agent.lab.client import Promise
from agent.lab.edits import Key
from agent.lab.evidence import snapshots_of
from agent.lab.plan import DATABASE, Plan
from agent.lab.schema import KINDS
from agent.lab.stage import Say
from agent.postgres.programs import Programs
from agent.snapshot.opening import open_copy

Row = tuple[str, str, str]
"""Kind, id, content."""


@dataclass(frozen=True, slots=True)
class Object:
    """What the manager's database holds under a kind and an id."""

    number: int
    content: str
    description: str


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


def objects_at(dsn: str) -> dict[Key, Object]:
    """Return every object in the manager's database. Raises psycopg.Error."""
    found: dict[Key, Object] = {}
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        for kind in KINDS:
            rows = connection.execute(
                sql.SQL("SELECT id, _storage_id, content, description FROM {}").format(
                    sql.Identifier(kind)
                )
            ).fetchall()
            for name, number, content, description in rows:
                found[kind, name] = Object(number, content, description)
    return found


def rows_of(objects: Mapping[Key, Object]) -> frozenset[Row]:
    """Return objects by what promises name: kind, id and content."""
    return frozenset((*key, found.content) for key, found in objects.items())


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
                rows = rows_of(objects_at(opened.dsn_for(DATABASE)))
        except (SplitguardError, psycopg.Error, OSError) as error:
            say(f"snapshot {manifest.id} cannot be opened: {error}")
            continue
        say(f"opened the copy {manifest.id} of {node}: {len(rows)} rows in it")
        found |= rows
    return frozenset(found)
