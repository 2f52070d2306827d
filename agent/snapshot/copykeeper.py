"""The full copy of one capture: when it is begun, given up or outdated, and its proof.

Theory of operation. The copying is done by a thread of its own (see `fullcopy`); this
is looked at once a round by the thread that follows the server, so that the tail never
waits for a copy. A copy that failed is tried again when another order comes, when the
same one comes after a while, or when the server has stopped since, because a cold copy
asks nobody. The proof that a copy's WAL is whole grows along the tail.
"""

from collections.abc import Callable

from agent.core.capture import Grade, Level
from agent.core.moment import Moment
from agent.snapshot.chain import BrokenChainError, check_copy
from agent.snapshot.follower import Follower, Where
from agent.snapshot.fullcopy import FullCopyThread, Source
from agent.snapshot.pace import Pace
from agent.snapshot.record import Record
from agent.snapshot.room import Room
from agent.snapshot.settings import EngineSettings
from agent.snapshot.tail import Beyond

CHAIN_S = 5.0
"""The chain of a running server's copy is checked on no more often than this."""
RETRY_S = 10.0
"""A copy that failed is not tried again sooner because the same order came again."""
END_S = 2.0
"""A copy that is told to end is waited for so long."""


class CopyKeeper:
    """Looks after the full copy of one capture. For one thread."""

    def __init__(
        self,
        settings: EngineSettings,
        record: Record,
        follower: Follower,
        moment: Callable[[], Moment],
        crash: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._record = record
        self._follower = follower
        self._moment = moment
        self._crash = crash
        self._copying: FullCopyThread | None = None
        self._checked_s = -CHAIN_S
        self._failed_s = 0.0
        self._beyond: Beyond | None = None
        """The WAL behind a known end as it was when the latest copy was begun."""
        self._failed_hot = False
        """Whether the copy that failed was one of a running server."""
        self.failed = ""
        """Why there is no copy; empty while one is made, and once there is one."""
        self.missing_bytes = 0
        """The room that is missing, where it failed for that."""

    @property
    def at_work(self) -> bool:
        """Whether a copy is being made; it then tells its own phase."""
        return self._copying is not None and self._copying.is_alive()

    def ordered(self, *, anew: bool) -> None:
        """Forget a failure because an order came; `anew`: it asks for something new."""
        if anew or self._moment().monotonic_s - self._failed_s >= RETRY_S:
            self.failed = ""

    def end(self) -> bool:
        """Stop the copying; return whether it has ended."""
        copying = self._copying
        if copying is None:
            return True
        copying.stop()
        copying.join(END_S)
        return not copying.is_alive()

    def watch(self, where: Where, room: Room) -> None:
        """Start, restart or give up the full copy, as the server calls for it."""
        copying = self._copying
        if copying is not None and copying.is_alive():
            copying.see(where.position, stopped=where.stopped, stopping=where.stopping)
            return
        if copying is not None:
            self.failed, self._copying = copying.failed, None
            self.missing_bytes = copying.missing_bytes
            self._failed_s = self._moment().monotonic_s
            self._failed_hot = copying.hot
        if where.stopped and self._failed_hot:
            self.failed, self._failed_hot = "", False  # now it can be cold
        missing = self._record.copy is None or self._outdated(where)
        if missing and self._record.wants(Level.FULL) and not self.failed:
            self._start(room)

    def check_chain(self, where: Where) -> None:
        """Extend the proof of a running server's copy along the tail.

        Raises CaptureError, PostgresError, OSError.
        """
        record = self._record
        if record.copy is None or record.grade is Grade.NONE or self._copying:
            return
        behind = record.end_lsn is None or record.end_lsn < (record.tail_lsn or 0)
        now_s = self._moment().monotonic_s
        due = where.stopped or now_s - self._checked_s >= CHAIN_S
        if behind and due and not self._outdated(where):
            self._checked_s = now_s
            self._extend_proof()

    def _outdated(self, where: Where) -> bool:
        """Whether the server has gone on since it was copied while it stood still.

        WAL does not extend such a copy: it opens without any recovery.
        """
        copy = self._record.copy
        if copy is None or not copy.cold:
            return False
        if where.unsure and self._beyond != self._follower.tail.beyond:
            return True
        return where.upto > copy.needed_lsn

    def _start(self, room: Room) -> None:
        source = Source(
            self._settings.data_dir,
            self._settings.find_dsn,
            self._follower.programs(),
            Pace(self._settings.max_bytes_s, lambda: self._moment().monotonic_s),
            self._settings.snapshot_program,
            self._settings.snapshot_timeout_s,
        )
        self._beyond = self._follower.tail.beyond
        self._copying = FullCopyThread(self._record, source, room, self._crash)
        self._copying.start()

    def _extend_proof(self) -> None:
        """Check the chain on; a copy whose WAL is broken is of no use."""
        record = self._record
        try:
            check_copy(record, self._follower.programs())
        except BrokenChainError:
            record.adopt(None)
            return
        rest = record.settled_lsn
        if rest is not None and record.end_lsn is not None and record.end_lsn < rest:
            record.adopt(None)  # a gap before the end of a server that stands still
