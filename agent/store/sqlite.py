"""The journal on disk.

Theory of operation. One connection, one lock: any thread may call, one at a time.
The entries of the commit before are remembered, so that a commit writes only what
differs; they are taken over only after the transaction is durable. When a commit
fails, nothing of it is there, and the next one writes all that is missing.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent import codec
from agent.core.incident import Incident
from agent.core.state import Knowledge, Ledger
from agent.errors import CodecError, JournalError
from agent.ports import Chunk, OutboxCounts, OutboxRow, Rendered, Restored
from agent.store import entries, opening, ring
from agent.store.entries import Entry, Key, Kind
from agent.store.outbox import FAR_S, Fate
from agent.store.room import MakeRoom, nothing_spare, spared, with_room

FLIPS_LIMIT = 100_000
"""Changes of incidents that are kept."""

OLD_ENTRIES_LIMIT = 10_000
"""Entries kept after they have left the ledger."""

ENDED_LIMIT = 10_000
"""Delivered and dead messages that are kept."""

ERROR_LIMIT = 500
"""Characters kept of a delivery's error."""

TIDY_EVERY = 1000
"""Commits between two prunings."""


class SqliteJournal:
    """Implements ports.Journal and ports.Rounds.

    Raises JournalError when it cannot be opened. `make_room` is asked when the disk is
    full; what failed for that is then done once more.
    """

    def __init__(self, path: Path, make_room: MakeRoom = nothing_spare) -> None:
        self._path = path
        self._make_room = make_room
        self._turn = threading.Lock()
        self._handle = opening.lock(path)
        try:
            self._db = with_room(lambda: opening.connect(path), make_room)
        except JournalError:
            os.close(self._handle)
            raise
        self._entries: dict[Key, Entry] = {}
        self._knowledge: Knowledge | None = None
        self._commits = 0
        self._closed = False
        try:
            self.load()  # so that the first commit knows what it replaces
        except JournalError:
            self.close()
            raise

    def load(self) -> Restored:
        """Return what was committed last; empty values for a new journal."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT kind, id, rank, body FROM entries WHERE current = 1"
                " ORDER BY kind, rank"
            ).fetchall()
            known = db.execute("SELECT body FROM knowledge").fetchone()
        try:
            ledger = entries.joined(
                (Kind(kind), name, body) for kind, name, _, body in rows
            )
            knowledge = codec.from_json(known[0], Knowledge) if known else Knowledge()
        except (CodecError, ValueError) as error:
            raise JournalError(
                f"{self._path}: an entry cannot be read: {error}",
                "run the splitguard that wrote it, or move the journal away",
            ) from error
        ranks = {(Kind(kind), name): rank for kind, name, rank, _ in rows}
        self._entries = {
            (kind, name): Entry(value, ranks[kind, name])
            for kind, items in entries.split(ledger)
            for name, value in items
        }
        self._knowledge = knowledge if known else None
        return Restored(ledger, knowledge)

    @spared
    def commit(
        self,
        ledger: Ledger,
        knowledge: Knowledge,
        notices: Sequence[Rendered],
        wall_s: float,
    ) -> None:
        """Write the ledger and the outbox rows in one transaction, durably."""
        with self._writing() as db:
            wanted = entries.ranked(ledger, self._entries)
            _write_entries(db, self._entries, wanted, wall_s)
            if knowledge != self._knowledge:
                db.execute(
                    "INSERT INTO knowledge (only, body) VALUES (1, ?)"
                    " ON CONFLICT (only) DO UPDATE SET body = excluded.body",
                    (codec.to_json(knowledge),),
                )
            _post(db, notices, wall_s)
            if self._commits % TIDY_EVERY == 0:
                _tidy(db)
        self._entries, self._knowledge = wanted, knowledge
        self._commits += 1

    def due(self, wall_s: float, limit: int) -> tuple[OutboxRow, ...]:
        """Return undelivered rows whose time has come, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT notice_id, channel, incident_id, body, attempts, due_wall_s,"
                " last_error FROM outbox WHERE seq IN"
                " (SELECT min(seq) FROM outbox WHERE fate = 'waiting'"
                "  GROUP BY channel, incident_id)"
                " AND (due_wall_s <= ? OR due_wall_s > ?) ORDER BY seq LIMIT ?",
                (wall_s, wall_s + FAR_S, limit),
            ).fetchall()
        return tuple(OutboxRow(*row) for row in rows)

    @spared
    def delivered(self, notice_id: str, channel: str, wall_s: float) -> bool:
        """Note a delivery; return whether any channel has this notice now."""
        with self._writing() as db:
            db.execute(
                "UPDATE outbox SET fate = ?, attempts = attempts + 1, ended_wall_s = ?"
                " WHERE notice_id = ? AND channel = ? AND fate != ?",
                (Fate.DELIVERED, wall_s, notice_id, channel, Fate.DELIVERED),
            )
            (taken,) = db.execute(
                "SELECT count(*) FROM outbox WHERE notice_id = ? AND fate = ?",
                (notice_id, Fate.DELIVERED),
            ).fetchone()
        return bool(taken)

    @spared
    def failed(self, row: OutboxRow, error: str, next_due_wall_s: float | None) -> None:
        """Note a failed attempt; None for the next time makes it a dead letter."""
        dead = next_due_wall_s is None
        with self._writing() as db:
            db.execute(
                "UPDATE outbox SET fate = ?, attempts = ?, last_error = ?,"
                " due_wall_s = ? WHERE notice_id = ? AND channel = ? AND fate != ?",
                (
                    Fate.DEAD if dead else Fate.WAITING,
                    row.attempts + 1,
                    error[:ERROR_LIMIT],
                    row.due_wall_s if next_due_wall_s is None else next_due_wall_s,
                    row.notice_id,
                    row.channel,
                    Fate.DELIVERED,
                ),
            )

    def counts(self) -> OutboxCounts:
        """Count what is on its way and what was given up."""
        with self._reading() as db:
            fates = dict(
                db.execute(
                    "SELECT fate, count(*) FROM outbox WHERE fate != ? GROUP BY fate",
                    (Fate.DELIVERED,),
                ).fetchall()
            )
        return OutboxCounts(
            undelivered=fates.get(Fate.WAITING, 0), dead=fates.get(Fate.DEAD, 0)
        )

    def record(self, chunk: Chunk) -> None:
        """Keep a chunk, and give up the oldest beyond the limit."""
        with self._writing() as db:
            ring.put(db, chunk)

    def recorded(self, after: int) -> Chunk | None:
        """Return the chunk that follows number `after`; None when there is none."""
        with self._reading() as db:
            return ring.get(db, after)

    def recorded_from(self, wall_s: float) -> int:
        """Return the number after which to read so that all since then is there."""
        with self._reading() as db:
            return ring.begin(db, wall_s)

    def close(self) -> None:
        """Close the file and let another agent have it. Twice is harmless."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            try:
                self._db.close()
            except sqlite3.Error as error:
                raise opening.named(error, self._path) from error
            finally:
                os.close(self._handle)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            if self._closed:
                raise JournalError(f"{self._path}: the journal is closed")
            try:
                yield self._db
            except sqlite3.Error as error:
                raise opening.named(error, self._path) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _write_entries(
    db: sqlite3.Connection,
    before: dict[Key, Entry],
    wanted: dict[Key, Entry],
    wall_s: float,
) -> None:
    """Write what is new or another, and mark what has left the ledger."""
    for key, entry in wanted.items():
        known = before.get(key)
        if known == entry:
            continue
        kind, name = key
        db.execute(
            "INSERT INTO entries (kind, id, rank, current, body, changed_wall_s)"
            " VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET"
            " rank = excluded.rank, current = 1, body = excluded.body,"
            " changed_wall_s = excluded.changed_wall_s",
            (kind, name, entry.rank, entries.to_body(entry.value), wall_s),
        )
        if isinstance(entry.value, Incident):
            _note_flip(db, entry.value, known, wall_s)
    db.executemany(
        "UPDATE entries SET current = 0, changed_wall_s = ? WHERE kind = ? AND id = ?",
        [(wall_s, *key) for key in before if key not in wanted],
    )


def _note_flip(
    db: sqlite3.Connection, incident: Incident, known: Entry | None, wall_s: float
) -> None:
    """Keep a change of an incident that people would call one."""
    former = known.value if known is not None else None
    if isinstance(former, Incident) and _told(former) == _told(incident):
        return
    db.execute(
        "INSERT INTO flips (wall_s, incident_id, revision, status, body)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            wall_s,
            incident.id,
            incident.revision,
            incident.status,
            entries.flip_body(incident),
        ),
    )


def _told(incident: Incident) -> tuple[object, ...]:
    """Return what makes a change of an incident worth a row."""
    return (
        incident.status,
        incident.verdict.code,
        incident.verdict.rule,
        incident.revision,
        incident.worst,
        incident.acknowledged_by,
    )


def _post(db: sqlite3.Connection, notices: Iterable[Rendered], wall_s: float) -> None:
    """Put each notice into the outbox of its channels, once."""
    db.executemany(
        "INSERT INTO outbox (notice_id, channel, incident_id, body, fate, attempts,"
        " due_wall_s, last_error, created_wall_s) VALUES (?, ?, ?, ?, ?, 0, ?, '', ?)"
        " ON CONFLICT (notice_id, channel) DO NOTHING",
        [
            (
                rendered.notice.id,
                channel,
                rendered.notice.incident_id,
                rendered.body,
                Fate.WAITING,
                wall_s,
                wall_s,
            )
            for rendered in notices
            for channel in rendered.channels
        ],
    )


def _tidy(db: sqlite3.Connection) -> None:
    """Keep what is only kept for people within its limits, the newest of it."""
    db.execute(
        "DELETE FROM flips WHERE seq <= (SELECT max(seq) FROM flips) - ?",
        (FLIPS_LIMIT,),
    )
    db.execute(
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox"
        " WHERE fate != ? ORDER BY seq DESC LIMIT -1 OFFSET ?)",
        (Fate.WAITING, ENDED_LIMIT),
    )
    db.execute(
        "DELETE FROM entries WHERE (kind, id) IN (SELECT kind, id FROM entries"
        " WHERE current = 0 ORDER BY changed_wall_s DESC LIMIT -1 OFFSET ?)",
        (OLD_ENTRIES_LIMIT,),
    )
