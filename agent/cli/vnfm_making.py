"""How a manager's snapshot comes about: begun, waited for, and told.

Theory of operation. The manager answers at once with an execution; the snapshot is
there as `creating`. Both have to agree before it counts as made: a dead worker leaves
the snapshot `creating` for ever, and then the execution says so.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.cli.console import grid, say, stacked
from agent.cli.keeping import now_s
from agent.cli.vnfm_call import ManagerCall, Place
from agent.cli.vnfm_progress import waiting
from agent.cli.vnfm_words import not_passed_on
from agent.cli.vnfm_work import (
    EXECUTION_HEADERS,
    HERE,
    SNAPSHOT_HEADERS,
    Patience,
    execution_plain,
    execution_row,
    goes_on,
    in_time,
    line,
    snapshot_plain,
    snapshot_row,
    through,
)
from agent.errors import ManagerError
from agent.vnfm.options import CreateOptions
from agent.vnfm.records import ExecutionStatus
from agent.vnfm.refusals import OrphanError
from agent.vnfm.waiting import until_made

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.vnfm.client import ManagerClient
    from agent.vnfm.records import Execution

ANSWER_S = 60.0
"""So long a manager that lives takes at most to say that it has begun."""
PREFIX = "snapshot"
"""Of an id that nobody chose; the agents' own begin otherwise."""


def create(
    call: ManagerCall,
    snapshot: str | None,
    options: CreateOptions,
    wait_s: float | None,
    *,
    wait: bool,
) -> dict[str, Any]:
    """Have a snapshot made; return it as JSON has it. Raises ManagerError."""
    patience = Patience(wait_s or call.profile().wait_s) if wait else None
    place, name, execution = _begun(call, snapshot, options, patience)
    look = line(call, place, "snapshots", "status", name)
    say(f"splitguard: {place.name} makes snapshot {name}: execution {execution.id}")
    begun = {
        "manager": place.name,
        "id": name,
        "snapshot": None,
        "execution": execution_plain(execution),
    }
    if patience is None:
        say(f"  look at it with: {look}")
        return begun

    async def stay(_: Place, client: "ManagerClient") -> dict[str, Any]:
        with waiting(f"snapshot {name}") as stage:
            left_s = patience.left_s
            made = await until_made(client, name, execution.id, left_s, stage)
        ended = await client.execution(execution.id)
        return {
            **begun,
            "snapshot": snapshot_plain(made),
            "execution": execution_plain(ended),
        }

    with goes_on(look):
        return through(call, stay, place)


def _begun(
    call: ManagerCall,
    snapshot: str | None,
    options: CreateOptions,
    patience: Patience | None,
) -> "tuple[Place, str, Execution]":
    """Ask for the snapshot; return where, as what, and the execution that makes it."""
    asked: list[str] = []

    async def begin(
        place: Place, client: "ManagerClient"
    ) -> "tuple[Place, str, Execution]":
        name = snapshot or new_id(place)
        say(f"splitguard: asks {place.name} for snapshot {name}")
        version = await in_time(client.version(), patience, place.name)
        for note in not_passed_on(options, version):
            say(f"splitguard: {note}")
        asked.append(line(call, place, "snapshots", "status", name))
        limit_s = None if patience is None else min(ANSWER_S, patience.left_s)
        try:
            return place, name, await client.create(name, options, limit_s)
        except ManagerError as error:
            raise _left_behind(error, name, asked[0]) from error

    with goes_on(lambda: asked[0] if asked else ""):
        return through(call, begin, patience=patience)


def _left_behind(error: ManagerError, name: str, look: str) -> ManagerError:
    """Return the error of a create, where no answer came with what it left there."""
    if error.status is not None or error.code:
        return error
    hint = error.hint
    if "no answer within" in error.message:
        hint = f"it hangs: are its RabbitMQ and its management worker alive? {hint}"
    if not isinstance(error, OrphanError):
        may = f"it may have begun snapshot {name} all the same"
        return ManagerError(f"{error.message}; {may}", f"{hint}; it shows in: {look}")
    if error.orphan.status is not ExecutionStatus.STARTED:
        hint += f"; then {HERE} snapshots delete {name}"
    left = f"snapshot {name} is left there too, not finished"
    return ManagerError(f"{error.message}; {left}", hint)


def new_id(place: Place) -> str:
    """Return an id that no other snapshot has, of whatever tenant.

    A manager keeps the files of all tenants side by side, by this id alone.
    """
    stamp = datetime.fromtimestamp(now_s(), UTC).strftime("%Y%m%dT%H%M%SZ")
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in place.name[:100])
    return f"{PREFIX}-{name}-{stamp}"


def table(made: dict[str, Any]) -> "RenderableType":
    """Return it as people read it."""
    parts = []
    if made["snapshot"] is not None:
        rows = [snapshot_row(made["snapshot"])]
        parts.append(grid(SNAPSHOT_HEADERS, rows, ("bold",)))
    parts.append(grid(EXECUTION_HEADERS, [execution_row(made["execution"])]))
    return stacked(*parts)
