"""A journal that lives as long as the process: for tests and for simulation.

Theory of operation. It keeps the very values that it was given, since they are
frozen, and follows the same rules as the journal on disk. Any thread may call, one
at a time.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace

from agent.core.state import Knowledge, Ledger
from agent.ports import Chunk, OutboxCounts, OutboxRow, Rendered, Restored
from agent.store import outbox, rounds
from agent.store.outbox import Fate, Message


class MemoryJournal:
    """Implements ports.Journal and ports.Rounds in memory."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._knowledge = Knowledge()
        self._messages: dict[tuple[str, str], Message] = {}
        self._chunks: list[Chunk] = []
        self._chunks_made = 0
        self._turn = threading.Lock()

    def load(self) -> Restored:
        """Return what was committed last; empty values for a new journal."""
        with self._turn:
            return Restored(self._ledger, self._knowledge)

    def commit(
        self,
        ledger: Ledger,
        knowledge: Knowledge,
        notices: Sequence[Rendered],
        wall_s: float,
    ) -> None:
        """Take over the ledger, the knowledge and the outbox rows."""
        with self._turn:
            self._ledger, self._knowledge = ledger, knowledge
            for rendered in notices:
                for channel in rendered.channels:
                    self._post(rendered, channel, wall_s)

    def _post(self, rendered: Rendered, channel: str, wall_s: float) -> None:
        notice = rendered.notice
        row = OutboxRow(
            notice_id=notice.id,
            channel=channel,
            incident_id=notice.incident_id,
            body=rendered.body,
            attempts=0,
            due_wall_s=wall_s,
            last_error="",
        )
        self._messages.setdefault((notice.id, channel), Message(row, Fate.WAITING))

    def due(self, wall_s: float, limit: int) -> tuple[OutboxRow, ...]:
        """Return undelivered rows whose time has come, oldest first."""
        with self._turn:
            return outbox.due(self._messages.values(), wall_s, limit)

    def delivered(self, notice_id: str, channel: str, wall_s: float) -> bool:  # noqa: ARG002 - the port's signature
        """Note a delivery; return whether any channel has this notice now."""
        key = (notice_id, channel)
        with self._turn:
            if key in self._messages:
                self._messages[key] = replace(self._messages[key], fate=Fate.DELIVERED)
            fates = [m.fate for k, m in self._messages.items() if k[0] == notice_id]
        return any(fate is Fate.DELIVERED for fate in fates)

    def failed(self, row: OutboxRow, error: str, next_due_wall_s: float | None) -> None:
        """Note a failed attempt; None for the next time makes it a dead letter."""
        key = (row.notice_id, row.channel)
        due_wall_s = row.due_wall_s if next_due_wall_s is None else next_due_wall_s
        fate = Fate.DEAD if next_due_wall_s is None else Fate.WAITING
        with self._turn:
            message = self._messages.get(key)
            if message is None or message.fate is Fate.DELIVERED:
                return
            tried = replace(
                message.row,
                attempts=row.attempts + 1,
                last_error=error,
                due_wall_s=due_wall_s,
            )
            self._messages[key] = Message(tried, fate)

    def counts(self) -> OutboxCounts:
        """Count what is on its way and what was given up."""
        with self._turn:
            fates = [message.fate for message in self._messages.values()]
        return OutboxCounts(
            undelivered=fates.count(Fate.WAITING), dead=fates.count(Fate.DEAD)
        )

    def record(self, chunk: Chunk) -> None:
        """Keep a chunk, and give up the oldest beyond the limit."""
        with self._turn:
            self._chunks_made += 1
            self._chunks.append(replace(chunk, seq=self._chunks_made))
            while sum(len(each.body) for each in self._chunks) > rounds.LIMIT_BYTES:
                self._chunks.pop(0)

    def recorded(self, after: int) -> Chunk | None:
        """Return the chunk that follows number `after`; None when there is none."""
        with self._turn:
            return next((each for each in self._chunks if each.seq > after), None)

    def recorded_from(self, wall_s: float) -> int:
        """Return the number after which to read so that all since then is there."""
        with self._turn:
            starts = [each for each in self._chunks if each.starts]
            early = [each.seq for each in starts if each.from_wall_s <= wall_s]
            first = starts[0].seq if starts else 1
        return (early[-1] if early else first) - 1

    def close(self) -> None:
        """Nothing to close."""
