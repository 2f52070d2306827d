"""The journal's tables, and how an older file becomes a newer one.

Theory of operation. `user_version` of the SQLite file counts the migrations that
it has seen. Each runs in a transaction with the new count, so a killed agent
leaves the file either before or after one. A file from a newer version is left
alone: what it holds cannot be known.
"""

import sqlite3

from agent.errors import JournalError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE entries (
            kind TEXT NOT NULL,
            id TEXT NOT NULL,
            rank INTEGER NOT NULL,
            current INTEGER NOT NULL,
            body TEXT NOT NULL,
            changed_wall_s REAL NOT NULL,
            PRIMARY KEY (kind, id)
        ) WITHOUT ROWID""",
        """CREATE TABLE knowledge (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            body TEXT NOT NULL
        )""",
        """CREATE TABLE flips (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            wall_s REAL NOT NULL,
            incident_id TEXT NOT NULL,
            revision INTEGER NOT NULL,
            status TEXT NOT NULL,
            body TEXT NOT NULL
        )""",
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            notice_id TEXT NOT NULL,
            channel TEXT NOT NULL,
            incident_id TEXT NOT NULL,
            body TEXT NOT NULL,
            fate TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            due_wall_s REAL NOT NULL,
            last_error TEXT NOT NULL,
            created_wall_s REAL NOT NULL,
            ended_wall_s REAL,
            UNIQUE (notice_id, channel)
        )""",
        """CREATE INDEX outbox_waiting ON outbox (channel, incident_id, seq)
            WHERE fate = 'waiting'""",
    ),
    (
        """CREATE TABLE rounds (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            starts INTEGER NOT NULL,
            from_wall_s REAL NOT NULL,
            to_wall_s REAL NOT NULL,
            lines INTEGER NOT NULL,
            size INTEGER NOT NULL,
            body BLOB NOT NULL
        )""",
        "CREATE INDEX rounds_size ON rounds (size)",
    ),
)
"""Statements that lead from one version to the next; never changed, only added to."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version.

    Raises JournalError when the file is newer, sqlite3.Error when it fails.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise JournalError(
            f"the journal has format {version}, this splitguard knows"
            f" {len(MIGRATIONS)}",
            "run the newer splitguard again, or move the journal away",
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        for statement in MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
