"""What the parts of the shell offer each other.

Theory of operation. `daemon` wires implementations of these protocols together;
no engine, channel or route knows another one's module. Blocking ports say so and
are called in threads; asynchronous ones never block the loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.capture import CaptureOrder
from agent.core.event import Event
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.observation import (
    Channel,
    Observation,
    ReadFailure,
    Report,
    ServerFacts,
)
from agent.core.policy import Policy
from agent.core.state import Knowledge, Ledger, State


class Clock(Protocol):
    """The only source of time."""

    def moment(self) -> Moment:
        """Read both clocks once."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Prober(Protocol):
    """Asks nodes on their channels."""

    async def probe(self, node: str, channel: Channel) -> Observation:
        """Ask once, within the deadline. Never raises: a failure is a value."""
        ...

    async def close(self) -> None:
        """Let go of all kept connections."""
        ...


class ServerReader(Protocol):
    """Reads the server beside this agent from its disk. Blocking."""

    def read(self, pages: tuple[Lsn, ...] = ()) -> ServerFacts | ReadFailure:
        """Read pg_control, history files, fingerprints and the postmaster's state.

        Of `pages`, where pages of the server's WAL begin, take prints as well.
        """
        ...


class CaptureEngine(Protocol):
    """Takes protective copies in threads of its own and reports each progress.

    It is built with a callback that takes a CaptureStatus and may be called from
    any thread.
    """

    def run(self, order: CaptureOrder) -> None:
        """Start the capture, or widen the running one. Returns at once."""
        ...

    def finish(self, capture_id: str) -> None:
        """Stop following and write the final manifest. Returns at once."""
        ...

    def stop(self) -> None:
        """Stop all threads within 3 s, because the agent ends; files stay."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message on its way to one channel."""

    notice_id: str
    channel: str
    incident_id: str
    body: str
    """The JSON body, rendered when the notice was decided."""
    attempts: int
    due_wall_s: float
    last_error: str


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """How many messages wait, and how many were given up."""

    undelivered: int
    dead: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A notice with the body that goes into the outbox, per channel."""

    notice: Notice
    body: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What the journal held when the agent started."""

    ledger: Ledger
    knowledge: Knowledge


class Journal(Protocol):
    """The agent's memory. Blocking; one writer.

    Everything raises JournalError when the medium fails.
    """

    def load(self) -> Restored:
        """Return what was committed last; empty values for a new journal."""
        ...

    def commit(
        self,
        ledger: Ledger,
        knowledge: Knowledge,
        notices: Sequence[Rendered],
        wall_s: float,
    ) -> None:
        """Write the ledger and the outbox rows in one transaction, durably.

        A row that is there already (same notice and channel) is left as it is.
        """
        ...

    def due(self, wall_s: float, limit: int) -> tuple[OutboxRow, ...]:
        """Return undelivered rows whose time has come, oldest first."""
        ...

    def delivered(self, notice_id: str, channel: str, wall_s: float) -> bool:
        """Note a delivery; return whether any channel has this notice now.

        One is enough for peers to stop standing in; the others stay in the outbox.
        """
        ...

    def failed(
        self,
        row: OutboxRow,
        error: str,
        next_due_wall_s: float | None,
    ) -> None:
        """Note a failed attempt; None for the next time makes it a dead letter."""
        ...

    def counts(self) -> OutboxCounts:
        """Count what is on its way and what was given up."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the rounds of one agent: compressed lines of JSON."""

    seq: int
    """Its number in the journal, given there, rising."""
    starts: bool
    """Whether it can be read without the chunks before it."""
    from_wall_s: float
    to_wall_s: float
    lines: int
    body: bytes


class Rounds(Protocol):
    """What an agent saw, round by round, as far back as there is room. Blocking.

    Everything raises JournalError when the medium fails.
    """

    def record(self, chunk: Chunk) -> None:
        """Keep a chunk, and give up the oldest beyond the limit."""
        ...

    def recorded(self, after: int) -> Chunk | None:
        """Return the chunk that follows number `after`; None when there is none."""
        ...

    def recorded_from(self, wall_s: float) -> int:
        """Return the number after which to read so that all since then is there.

        That is before the last chunk that starts a recording and is not later; where
        the journal does not reach back so far, before the first that starts one.
        """
        ...


class NoticeChannel(Protocol):
    """A receiver of notices."""

    @property
    def name(self) -> str:
        """The name in the configuration."""
        ...

    async def deliver(self, notice_id: str, body: str, wall_s: float) -> None:
        """Hand one message over. Raises DeliveryError when it was not taken."""
        ...


class Desk(Protocol):
    """What the HTTP API may ask of the running agent."""

    @property
    def state(self) -> State:
        """The state after the last step."""
        ...

    @property
    def policy(self) -> Policy:
        """The limits in force."""
        ...

    @property
    def revision(self) -> int:
        """Counts up whenever something that people see has changed."""
        ...

    @property
    def journal_error(self) -> str | None:
        """Why the journal cannot be written at present; None when it can."""
        ...

    @property
    def outbox(self) -> OutboxCounts:
        """What is on its way, as of the last round."""
        ...

    def now(self) -> Moment:
        """Read the clocks."""
        ...

    def report(self, heard_by: str | None) -> Report:
        """Make the report that peers fetch."""
        ...

    async def submit(self, event: Event) -> State:
        """Step through this event; return the state once it is committed."""
        ...

    async def changed(self, since_revision: int, timeout_s: float) -> int:
        """Wait until the revision is past `since_revision`, or the time is up."""
        ...
