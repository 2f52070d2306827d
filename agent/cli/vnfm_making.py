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
    SNAPSHOT_HEADERS,
    execution_plain,
    execution_row,
    goes_on,
    line,
    snapshot_plain,
    snapshot_row,
    through,
)
from agent.vnfm.options import CreateOptions
from agent.vnfm.waiting import until_made

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.vnfm.client import ManagerClient
    from agent.vnfm.records import Execution

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

    async def begin(
        place: Place, client: "ManagerClient"
    ) -> "tuple[Place, str, Execution]":
        for note in not_passed_on(options, await client.version()):
            say(f"splitguard: {note}")
        name = snapshot or new_id(place)
        return place, name, await client.create(name, options)

    place, name, execution = through(call, begin)
    look = line(call, place, "snapshots", "status", name)
    say(f"splitguard: {place.name} makes snapshot {name}: execution {execution.id}")
    begun = {
        "manager": place.name,
        "id": name,
        "snapshot": None,
        "execution": execution_plain(execution),
    }
    if not wait:
        say(f"  look at it with: {look}")
        return begun
    limit_s = wait_s or call.profile().wait_s

    async def stay(_: Place, client: "ManagerClient") -> dict[str, Any]:
        with waiting(f"snapshot {name}") as stage:
            made = await until_made(client, name, execution.id, limit_s, stage)
        ended = await client.execution(execution.id)
        return {
            **begun,
            "snapshot": snapshot_plain(made),
            "execution": execution_plain(ended),
        }

    with goes_on(look):
        return through(call, stay, place)


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
