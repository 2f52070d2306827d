"""A standby on this machine, asked whether it follows.

Theory of operation. What streams, from which timeline, and how far it is replayed: one
question over a short connection. A standby that is starting refuses connections; that
is an answer too, and a later one may be better.
"""

from dataclasses import dataclass
from typing import LiteralString

from agent.core.lsn import Lsn
from agent.errors import PostgresError
from agent.postgres import connect

_ASK: LiteralString = """
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text,
       (SELECT status FROM pg_stat_wal_receiver),
       (SELECT received_tli FROM pg_stat_wal_receiver),
       (SELECT flushed_lsn FROM pg_stat_wal_receiver)::text
"""
CONNECT_S = 3
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server says of its own replication."""

    in_recovery: bool
    replay_lsn: Lsn | None
    status: str
    """The WAL receiver's, such as `streaming`; empty without one."""
    received_timeline: int | None
    flushed_lsn: Lsn | None


def ask(dsn: str) -> Standing:
    """Ask a server on this machine. Raises PostgresError when it does not answer."""
    with connect.session(
        dsn, connect_timeout_s=CONNECT_S, statement_timeout_s=ANSWER_S
    ) as session:
        recovering, replay, status, timeline, flushed = connect.fetch_one(session, _ASK)
    return Standing(
        in_recovery=bool(recovering),
        replay_lsn=Lsn.parse(replay) if replay else None,
        status=str(status or ""),
        received_timeline=int(timeline) if timeline else None,
        flushed_lsn=Lsn.parse(flushed) if flushed else None,
    )


def restartpoint(dsn: str) -> str:
    """Make a checkpoint before the stop; return why not, or nothing.

    On a standby it is a restartpoint: then pg_control names the timeline that the
    server is on, which pg_rewind of older versions believes.
    """
    try:
        with connect.session(dsn, statement_timeout_s=0) as session:
            session.execute("CHECKPOINT")
    except PostgresError as error:
        return error.message
    return ""
