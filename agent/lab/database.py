"""Where the PostgreSQL beside a manager is, and its part in replication. Blocking.

Each call uses a connection of its own, through the unix socket; the manager's rows are
read and written by `agent.lab.standin.rows`, which connects by way of `connect`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from agent.core.lsn import Lsn
from agent.lab.plan import DATABASE, MANAGER_ROLE
from agent.lab.schema import KINDS
from agent.lab.server import Server
from agent.lab.standing import ServerStanding

_PORT = re.compile(r"\bport=(\d+)")

POSITION = """
SELECT pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_walfile_name(pg_current_wal_lsn()) END AS wal_file,
       CASE WHEN pg_is_in_recovery()
            THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn() END::text AS lsn,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_flush_lsn() END::text AS replay_lsn,
       (SELECT received_tli FROM pg_stat_wal_receiver) AS received_tli,
       (SELECT greatest(timeline_id, min_recovery_end_timeline)
        FROM pg_control_checkpoint(), pg_control_recovery()) AS control_tli,
       current_setting('primary_conninfo') AS upstream
"""

NEWEST = """
SELECT coalesce(extract(epoch FROM greatest(
    (SELECT max(created_at) FROM blueprints),
    (SELECT max(created_at) FROM deployments),
    (SELECT max(created_at) FROM plugins))), 0)::float8
"""


class Database:
    """The server's position, and the way to the manager's tables."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.where: Callable[[], str | None] = lambda: None
        """Returns how to reach the database that the manager's tables are read and
        written in; None: it is the server's own."""
        self._received = 0
        """The timeline that was last seen to be received; 0 before the first."""

    def standing(self) -> ServerStanding:
        """Read where the server is. Raises psycopg.Error."""
        with self._server.connect() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            row = cursor.execute(POSITION).fetchone() or {}
        with self._server.connect(MANAGER_ROLE, DATABASE) as connection:
            newest = connection.execute(NEWEST).fetchone()
        self._received = row["received_tli"] or self._received
        timeline = timeline_now(row, self._received, self.histories())
        port = _PORT.search(row["upstream"] or "")
        return ServerStanding(
            in_recovery=row["in_recovery"],
            timeline=timeline,
            lsn=Lsn.parse(row["lsn"] or "0/0"),
            replay_lsn=Lsn.parse(row["replay_lsn"] or "0/0"),
            last_row_at=newest[0] if newest else 0.0,
            upstream_port=int(port[1]) if port and row["in_recovery"] else None,
            switches=self._switches(timeline),
            histories=self.histories(),
        )

    def promote(self) -> None:
        """Promote the server and bring pg_control up to date at once.

        Until the checkpoint is there, pg_control shows the old timeline, and
        pg_rewind of older versions would be misled. Raises psycopg.Error.
        """
        with self._server.connect() as connection:
            connection.execute("SET statement_timeout TO '30s'")
            if self._in_recovery(connection):
                connection.execute("SELECT pg_promote(true, 30)")
            connection.execute("CHECKPOINT")

    def checkpoint(self) -> None:
        """Bring pg_control up to date; on a standby this is a restartpoint."""
        with self._server.connect() as connection:
            connection.execute("SET statement_timeout TO '30s'")
            connection.execute("CHECKPOINT")

    def control_timeline(self) -> int:
        """Return the timeline that pg_control shows."""
        with self._server.connect() as connection:
            row = connection.execute(
                "SELECT timeline_id FROM pg_control_checkpoint()"
            ).fetchone()
            return int(row[0]) if row else 0

    def follow(self, conninfo: str) -> None:
        """Make a running standby stream from elsewhere, without a restart."""
        with self._server.connect() as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET primary_conninfo TO {}").format(
                    sql.Literal(conninfo)
                )
            )
            connection.execute("SELECT pg_reload_conf()")

    def is_empty(self) -> bool:
        """Whether the manager's tables have no row. Raises psycopg.Error."""
        tables = (*KINDS, "snapshots")
        found = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            for table in tables
        )
        return not any(row["count"] for row in self._rows(found, ()))

    def snapshots(self) -> set[str]:
        """Return the ids of the snapshots that are whole. Raises psycopg.Error."""
        statement = "SELECT id FROM snapshots WHERE status IN ('created', 'uploaded')"
        return {row["id"] for row in self._rows(sql.SQL(statement), ())}

    def connect(self) -> psycopg.Connection:
        """Connect to the manager's database as its owner. Raises psycopg.Error."""
        return self._server.connect(MANAGER_ROLE, DATABASE, self.where())

    def _rows(
        self,
        statement: sql.Composed | sql.SQL,
        values: Sequence[str] | Mapping[str, object],
    ) -> list[dict[str, Any]]:
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(statement, values).fetchall()

    def _in_recovery(self, connection: psycopg.Connection) -> bool:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        return bool(row and row[0])

    def _switches(self, timeline: int) -> tuple[tuple[int, Lsn], ...]:
        path = self._server.data_dir / "pg_wal" / f"{timeline:08X}.history"
        try:
            text = path.read_text("utf-8")
        except OSError:
            return ()
        return switches_in(text)

    def histories(self) -> dict[str, str]:
        """Return the timeline history files on disk, by name."""
        folder = self._server.data_dir / "pg_wal"
        return {
            path.name: path.read_text("utf-8")
            for path in sorted(folder.glob("????????.history"))
        }


def timeline_now(
    row: Mapping[str, Any], received: int, histories: Mapping[str, str]
) -> int:
    """Return the server's timeline.

    A standby without a receiver, whose pg_control is older than its last switch, is
    on the last one that it received, or on one that leads on from there. A standby
    fetches history files of lines that are not its own: those were left before what
    it has replayed.
    """
    if row["wal_file"]:
        return int(row["wal_file"][:8], 16)
    if row["received_tli"]:
        return int(row["received_tli"])
    told = max(received, row["control_tli"] or 1)
    replayed = Lsn.parse(row["replay_lsn"] or "0/0")
    further = (
        timeline_of(name)
        for name, text in histories.items()
        if any(one == told and replayed <= lsn for one, lsn in switches_in(text))
    )
    return max((told, *further))


def switches_in(history: str) -> tuple[tuple[int, Lsn], ...]:
    """Return the timelines that a history file lists, and where each was left."""
    lines = (line.split() for line in history.splitlines() if line.strip())
    return tuple((int(words[0]), Lsn.parse(words[1])) for words in lines)


def timeline_of(history_file: str) -> int:
    """Return the timeline that a history file is of, by its name."""
    return int(history_file.partition(".")[0], 16)
