"""The rows of a losing side, read out while its server still runs.

Theory of operation. The capture engine hands over the log that its tail keeps and the
way to the server. Each database is opened in one repeatable-read transaction that only
reads; then the server is asked how far its log is flushed, and the story of the kept
log up to there is told as those transactions see it. What the log names is read out of
them and kept in `loss/`, as from an opened copy. Rows reach up to the first commit of
the log that a transaction does not show: one that came too late, or one that still
waits for a synchronous standby. A table that could not be read makes it a failure: rows
protect when they are all there.

Whether more was written since is told by the log alone, so that a stopped server needs
no question: `quiet` says whether nothing but maintenance committed in a stretch of it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from agent.core.lsn import Lsn
from agent.divergence import shelf, values
from agent.divergence.besides import keep_objects_of
from agent.divergence.extracted import Extraction, Source
from agent.divergence.extraction import extract
from agent.divergence.maintenance import is_maintenance
from agent.divergence.model import Relation
from agent.divergence.reading import Stretch, read_story
from agent.divergence.story import Story
from agent.divergence.winner import Moment, Shown
from agent.errors import DivergenceError, PostgresError
from agent.postgres.connect import Session, connect, failed, fetch_one, session
from agent.postgres.wal import Chain
from agent.snapshot.manifest import WAL
from agent.snapshot.rowsport import RowsRead, RowsTask

STATEMENT_S = 120.0
"""One statement on the losing side may take so long; it cannot be ended early."""
TAIL_S = 10.0
"""So long the tail may take to have what was flushed when the reading began."""
NAMED_MAX = 3
_HINT = (
    "`splitguard grants` prints what role splitguard_local needs, with its lines for"
    " pg_hba.conf"
)
_DATABASES: LiteralString = (
    "SELECT oid::int8, datname FROM pg_catalog.pg_database WHERE datallowconn"
    " ORDER BY datname"
)
_MOMENT: LiteralString = "SELECT pg_catalog.txid_current_snapshot()::text"
_FLUSHED: LiteralString = (
    "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery()"
    " THEN pg_catalog.pg_last_wal_replay_lsn()"
    " ELSE pg_catalog.pg_current_wal_flush_lsn() END)::text"
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The server's databases, each as it was at one moment."""

    sessions: Mapping[str, Session]
    shown: Shown
    flushed: Lsn
    """Past every flushed commit that they show."""


class LiveRows:
    """Implements snapshot.rowsport.RowsReader."""

    def read(self, task: RowsTask) -> RowsRead:
        """Read the rows out and keep them below the capture's folder.

        Raises PostgresError, DivergenceError, SnapshotError: it cannot be read, or not
        all of it; OSError, and what `task.mind` raises.
        """
        with shelf.alone(task.folder), _opened(task.dsn) as opened:
            story = _story(task, opened)
            upto = _upto(story, opened.shown)
            if upto <= task.fork.lsn:
                raise DivergenceError(
                    "transactions are in the log that no reader sees yet",
                    "do they wait for a synchronous standby? They are read afterwards",
                )
            with shelf.renewed(task.folder) as to:
                extraction = extract(
                    story,
                    _naming(task.dsn),
                    to,
                    source=_source(task),
                    progress=lambda _done, _total: task.mind(),
                    reading=lambda name: nullcontext(opened.sessions[name]),
                )
                _check_whole(extraction)
                keep_objects_of(extraction, story, _naming(task.dsn), to)
        return RowsRead(upto, shelf.FOLDER)

    def quiet(self, task: RowsTask, begin: Lsn, end: Lsn) -> bool:
        """Whether no user transaction committed there. Raises as `read` does."""
        found = shelf.read_extraction(shelf.folder_of(task.folder))
        statistics: frozenset[Relation] = frozenset(found.statistics if found else ())
        story = read_story(_stretch(task, begin, end), lambda _: task.mind())
        beside = (
            story.early, story.outside, story.prepared, story.databases,
            story.sequences,
        )  # fmt: skip
        return not any(beside) and all(
            is_maintenance(one.touched, one.kinds, statistics)
            for one in story.ended
            if one.committed
        )


def _source(task: RowsTask) -> Source:
    return Source(
        snapshot=task.folder.name,
        node=task.node,
        system_id=task.system_id,
        version_num=task.programs.version_num,
        fork=task.fork,
        made_wall_s=task.made_wall_s,
    )


def _naming(dsn: str) -> Callable[[str], str]:
    return lambda name: make_conninfo(dsn, dbname=name)


@contextmanager
def _opened(dsn: str) -> Iterator[_Opened]:
    """Open every database at one moment each. Raises PostgresError."""
    with ExitStack() as stack:
        first = stack.enter_context(session(dsn))
        names = {str(name): int(oid) for oid, name in first.execute(_DATABASES)}
        sessions: dict[str, Session] = {}
        moments: dict[int, Moment] = {}
        for name, oid in names.items():
            sessions[name] = stack.enter_context(_at_a_moment(dsn, name))
            moments[oid] = _moment(sessions[name])
        flushed = Lsn.parse(fetch_one(first, _FLUSHED)[0])
        yield _Opened(sessions, Shown(moments), flushed)


@contextmanager
def _at_a_moment(dsn: str, name: str) -> Iterator[Session]:
    try:
        made = connect(dsn, statement_timeout_s=STATEMENT_S, dbname=name)
    except PostgresError as error:
        raise PostgresError(f"database {name!r:.100}: {error.message}", _HINT) from None
    with made:
        values.settle(made)
        try:
            # Between the questions the log is read, which may take minutes.
            made.execute("SET idle_in_transaction_session_timeout = 0")
            made.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except psycopg.Error as error:
            raise failed(f"database {name!r:.100} cannot be read", error) from error
        yield made


def _moment(session: Session) -> Moment:
    text = values.plain(fetch_one(session, _MOMENT))[0]
    return Moment.parse(str(text))


def _story(task: RowsTask, opened: _Opened) -> Story:
    """Tell the kept log up to where it was flushed, as the readers see it."""
    if not task.tail_has(opened.flushed, TAIL_S):
        raise DivergenceError(
            f"the log up to {opened.flushed} is not kept yet",
            "the tail is behind; rows are read once it is there",
        )
    stretch = _stretch(task, task.fork.lsn, opened.flushed, opened.shown)
    return read_story(stretch, lambda _: task.mind())


def _stretch(
    task: RowsTask, begin: Lsn, end: Lsn, shown: Shown | None = None
) -> Stretch:
    chain = Chain(
        task.folder / WAL,
        task.lineage.switches,
        task.lineage.timeline,
        task.wal_segment_bytes,
    )
    # Kept segments are whole: what was under way at the start may have begun in them.
    size = task.wal_segment_bytes
    kept = Lsn(max(1, task.start_lsn.segment(size)) * size)
    visible = shown or Shown({})
    return Stretch(task.programs, chain, begin, end, kept_lsn=kept, visible=visible)


def _upto(story: Story, shown: Shown) -> Lsn:
    """Return where the first commit stands that some reader does not see."""
    moments = tuple(shown.moments.values())
    hidden = (
        one.lsn
        for one in story.ended
        if one.committed and not all(moment.shows(one.xid) for moment in moments)
    )
    return min(hidden, default=story.end_lsn)


def _check_whole(extraction: Extraction) -> None:
    """Raise DivergenceError where something of the losing side's is not among them."""
    missing = [one for one in extraction.unread if not one.outside]
    if not missing:
        return
    told = "; ".join(f"{one.what}: {one.reason}" for one in missing[:NAMED_MAX])
    more = f"; and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
    raise DivergenceError(f"not every row could be read: {told}{more}", _HINT)
