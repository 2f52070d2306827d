"""What the `vnfm` commands share: one manager, a person's word, and waiting.

Theory of operation. A command finds its manager, works, and says through which manager
it went. What a manager has begun goes on without the command: Ctrl-C says so, and how
to look at it. What cannot be taken back wants a person's word.
"""

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from agent.cli.console import safe, say
from agent.cli.vnfm_call import ManagerCall, Place
from agent.cli.vnfm_door import opened
from agent.errors import ManagerError
from agent.vnfm.records import Execution, ManagerSnapshot

if TYPE_CHECKING:
    from agent.vnfm.client import ManagerClient

T = TypeVar("T")
HERE = "splitguard vnfm"
GOES_ON = "what the manager has begun goes on there"


class Patience:
    """How long a person waits, from the first question on."""

    def __init__(self, limit_s: float) -> None:
        from agent.daemon.clock import SystemClock

        self._clock = SystemClock()
        self._until_s = self._clock.moment().monotonic_s + limit_s
        self.limit_s = limit_s

    @property
    def left_s(self) -> float:
        """Return how many whole seconds are left; never none at all."""
        left_s = self._until_s - self._clock.moment().monotonic_s
        return float(max(1, round(left_s)))


async def in_time(answer: Awaitable[T], patience: Patience | None, asked: str) -> T:
    """Return the answer; a person's patience may end before. Raises ManagerError."""
    if patience is None:
        return await answer
    try:
        async with asyncio.timeout(patience.left_s):
            return await answer
    except TimeoutError as error:
        raise ManagerError(
            f"{asked}: no answer within {patience.limit_s:g} s; nothing was begun",
            "it hangs: `splitguard vnfm status` says of each manager how it is",
        ) from error


def through(
    call: ManagerCall,
    work: "Callable[[Place, ManagerClient], Awaitable[T]]",
    place: Place | None = None,
    patience: "Patience | None" = None,
) -> T:
    """Do something at the manager that is meant, or at `place`, and return it.

    With `patience` the manager that is meant has to be found in that time.
    Raises ManagerError, ConfigError.
    """

    async def all_of_it() -> T:
        async with opened(call.profile()) as door:
            if place is not None:
                return await work(place, door.client(place))
            found = await in_time(door.active(), patience, "no manager")
            return await work(*found)

    return asyncio.run(all_of_it())


def line(call: ManagerCall, place: Place, *words: str) -> str:
    """Return the command line that asks the same manager in the same way."""
    options: list[str] = []
    for name, value in (
        ("--manager", call.manager or place.node or place.url),
        ("--config", call.config),
        ("--username", call.username),
        ("--password-file", call.password_file),
        ("--token-file", call.token_file),
        ("--tenant-name", call.tenant_name),
        ("--ca", call.ca),
    ):
        if value is not None:
            options += [name, str(value)]
    return f"{HERE} {shlex.join([*words, *options])}"


@contextmanager
def goes_on(look: str | Callable[[], str]) -> Iterator[None]:
    """Say at Ctrl-C, SIGTERM or SIGHUP that the manager goes on, and how to look.

    `look` may be known later; while it is empty nothing was begun.
    """
    from agent.cli.shelf import ends_on_sigterm

    try:
        with ends_on_sigterm():
            yield
    except KeyboardInterrupt:
        command = look if isinstance(look, str) else look()
        if command:
            say(f"splitguard: no longer waiting; {GOES_ON}")
            say(f"  look at it with: {command}")
        raise


def agreed(question: str, *, yes: bool) -> None:
    """Return when a person wants it. Raises ManagerError, typer.Abort."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ManagerError(
            "nothing was done: this wants a person's word", "give --yes to have it done"
        )
    if not typer.confirm(question, err=True):
        say("splitguard: nothing was done")
        raise typer.Exit(1)


def snapshot_plain(one: ManagerSnapshot) -> dict[str, Any]:
    """Return a manager's snapshot as JSON has it."""
    return {
        "id": one.id,
        "status": one.status.value,
        "created_at": one.created_at,
        "tenant": one.tenant,
        "created_by": one.created_by or None,
        "error": one.error or None,
    }


def execution_plain(one: Execution) -> dict[str, Any]:
    """Return an execution as JSON has it. It has none of its parameters."""
    return {
        "id": one.id,
        "workflow": one.workflow,
        "status": one.status.value,
        "snapshot": one.snapshot or None,
        "created_at": one.created_at or None,
        "ended_at": one.ended_at or None,
        "tenant": one.tenant or None,
        "error": one.error or None,
    }


def snapshot_row(one: dict[str, Any]) -> list[object]:
    """Return a table's row of it."""
    keys = ("id", "status", "created_at", "tenant", "created_by", "error")
    return [safe(one[key] or "") for key in keys]


def execution_row(one: dict[str, Any]) -> list[object]:
    """Return a table's row of it."""
    keys = ("id", "workflow", "status", "snapshot", "created_at", "ended_at", "error")
    return [safe(one[key] or "") for key in keys]


SNAPSHOT_HEADERS = ("ID", "STATUS", "CREATED", "TENANT", "BY", "ERROR")
EXECUTION_HEADERS = (
    "EXECUTION", "WORKFLOW", "STATUS", "SNAPSHOT", "CREATED", "ENDED", "ERROR",
)  # fmt: skip
