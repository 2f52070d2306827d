"""Waiting for what a manager does in the background, without being fooled.

Theory of operation. A snapshot is made when the snapshot says `created` AND its
execution says `terminated`: with a dead worker the snapshot stays `creating` for ever,
and a restore's mark (`/snapshot-status`) can stay `running` for ever, or speak of
another manager. While a manager restarts its services, which a restore makes it do, or
stalls, it is asked again, more and more rarely; a refused login ends the waiting.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from agent.errors import ManagerError
from agent.ports import Clock
from agent.vnfm.client import ManagerClient
from agent.vnfm.records import (
    EXECUTION_ENDS,
    Execution,
    ExecutionStatus,
    ManagerSnapshot,
    SnapshotStatus,
)
from agent.vnfm.refusals import KILL, NOT_ACTIVE

T = TypeVar("T")

POLL_S = 2.0
POLL_MAX_S = 30.0
AGREE_S = 60.0
"""Within so long the two states agree, once one of them has ended."""
Stage = Callable[[str], object]
"""Called with where it stands, in a few words, each time it was asked."""
_NOT_FOUND = 404
_FINAL = (401, 403, _NOT_FOUND)
"""Refusals that waiting does not mend."""


async def until_made(
    client: ManagerClient,
    snapshot_id: str,
    execution_id: str,
    wait_s: float,
    told: Stage | None = None,
    may_ask: Callable[[], bool] = lambda: True,
) -> ManagerSnapshot:
    """Return the snapshot once it and its execution say that it is made.

    While `may_ask` says no, nothing is asked, for each login writes a row.
    Raises ManagerError when it failed, when the two do not agree, and after `wait_s`
    seconds, then with what is left to do about the execution.
    """
    watch = _Watch(client, execution_id, wait_s, told)
    name = f"snapshot {snapshot_id}"
    while True:
        if not may_ask():
            await watch.pause(_stuck(client, name, "known to be made", execution_id))
            continue
        execution = await watch.ask(lambda: client.execution(execution_id))
        snapshot = await watch.ask(lambda: client.snapshot(snapshot_id))
        if execution is not None and snapshot is not None:
            watch.tell(f"{snapshot.status.value}, execution {execution.status.value}")
            if _made(execution, snapshot):
                return snapshot
            _check_made(client, execution, snapshot)
            both = f"{snapshot.status.value}, its execution {execution.status.value}"
            ended = _ended(execution, snapshot)
            watch.check_agreement(f"{client.place}: {name} is {both}", ended=ended)
        await watch.pause(_stuck(client, name, "made", execution_id))


async def until_restored(
    client: ManagerClient, execution_id: str, wait_s: float, told: Stage | None = None
) -> Execution:
    """Return a restore's execution once it has succeeded.

    Raises ManagerError when it failed, and after `wait_s` seconds.
    """
    watch = _Watch(client, execution_id, wait_s, told)
    while True:
        try:
            execution = await watch.ask(lambda: client.execution(execution_id))
        except ManagerError as error:
            raise _after_restore(error) from error
        if execution is not None:
            watch.tell(f"execution {execution.status.value}")
            if execution.status is ExecutionStatus.TERMINATED:
                return execution
            if execution.status in EXECUTION_ENDS:
                raise _failed(client, "the restore", execution, execution.error)
        await watch.pause(_stuck(client, "the restore", "done", execution_id))


@dataclass
class _Watch:
    """One waiting: until when, how rarely it asks, since when two states differ."""

    client: ManagerClient
    execution_id: str
    wait_s: float
    told: Stage | None

    def __post_init__(self) -> None:
        self._clock: Clock = self.client.clock
        self._until_s = self._now() + self.wait_s
        self._pause_s = POLL_S
        self._apart_s: float | None = None
        self._passive_s: float | None = None
        self._last: ManagerError | None = None

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer; None when the manager cannot answer just now."""
        try:
            answer = await question()
        except ManagerError as error:
            if self._is_final(error):
                raise
            self._last = error
            self._pause_s = min(POLL_MAX_S, self._pause_s * 2)
            self.tell("no answer")
            return None
        self._pause_s, self._last, self._passive_s = POLL_S, None, None
        return answer

    def _is_final(self, error: ManagerError) -> bool:
        """Whether asking again cannot help.

        A 4.x manager that restarts its services may say for a while that it is not
        active; one that goes on saying so has lost its role to another one.
        """
        if error.code not in NOT_ACTIVE:
            unknown = error.status == _NOT_FOUND and not error.code
            return error.status in _FINAL and not unknown
        if self._passive_s is None:
            self._passive_s = self._now()
        return self._now() - self._passive_s > AGREE_S

    def tell(self, words: str) -> None:
        if self.told is not None:
            self.told(words)

    def check_agreement(self, what: str, *, ended: bool) -> None:
        """Raise where one state has ended and the other one has not for too long."""
        if not ended:
            self._apart_s = None
            return
        if self._apart_s is None:
            self._apart_s = self._now()
        if self._now() - self._apart_s > AGREE_S:
            raise ManagerError(
                f"{what}, and these two have not agreed for {AGREE_S:g} s",
                "delete this snapshot and make another one; do not rely on this one",
            )

    async def pause(self, stuck: ManagerError) -> None:
        """Wait for the next question. Raises when the time is up."""
        left_s = self._until_s - self._now()
        if left_s <= 0:
            raise self._late(stuck)
        await self._clock.sleep(min(self._pause_s, left_s))

    def _late(self, stuck: ManagerError) -> ManagerError:
        words = f"{stuck.message} within {self.wait_s:g} s"
        if self._last is not None:
            words += f"; the last answer was: {self._last.message}"
        return ManagerError(words, stuck.hint)

    def _now(self) -> float:
        return self._clock.moment().monotonic_s


def _made(execution: Execution, snapshot: ManagerSnapshot) -> bool:
    return (
        execution.status is ExecutionStatus.TERMINATED
        and snapshot.status is SnapshotStatus.CREATED
    )


def _ended(execution: Execution, snapshot: ManagerSnapshot) -> bool:
    """Whether one of the two says that it is over."""
    over = snapshot.status in (SnapshotStatus.CREATED, SnapshotStatus.FAILED)
    return over or execution.status in EXECUTION_ENDS


def _check_made(
    client: ManagerClient, execution: Execution, snapshot: ManagerSnapshot
) -> None:
    """Raise where the execution says that it went wrong, or both say so."""
    failed = execution.status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
    if failed or (
        execution.status in EXECUTION_ENDS and snapshot.status is SnapshotStatus.FAILED
    ):
        reason = execution.error or snapshot.error
        raise _failed(client, f"snapshot {snapshot.id}", execution, reason)


def _failed(
    client: ManagerClient, what: str, execution: Execution, reason: str
) -> ManagerError:
    hint = "look into /var/log/cloudify/mgmtworker on the manager"
    if "non-empty manager" in reason:
        hint = (
            "this manager is not empty: restore on a fresh one, or with force, which"
            " REPLACES everything that it holds"
        )
    elif execution.status is ExecutionStatus.CANCELLED:
        hint = "somebody cancelled or killed it; begin anew"
    words = f"{client.place}: {what} failed: execution {execution.id} is"
    said = f": {reason}" if reason else ""
    return ManagerError(f"{words} {execution.status.value}{said}", hint)


def _stuck(
    client: ManagerClient, what: str, done: str, execution_id: str
) -> ManagerError:
    return ManagerError(
        f"{client.place}: {what} is not {done}, execution {execution_id} has not ended",
        "are its management worker and RabbitMQ alive? While that execution hangs it"
        f" blocks others; end it: {KILL} {execution_id}",
    )


def _after_restore(error: ManagerError) -> ManagerError:
    if error.status != 401:  # noqa: PLR2004
        return error
    return ManagerError(
        error.message,
        "a restore brings the users of the snapshot: their passwords and tokens hold"
        f" now; {error.hint}",
        status=error.status,
        code=error.code,
    )
