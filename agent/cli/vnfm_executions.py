"""`splitguard vnfm executions`: the work behind snapshots and restores.

Theory of operation. An execution that hangs (a dead worker or broker, a restore that
was refused) blocks every later snapshot of managers up to 6.4. It is named by whatever
fails because of it, shown here, and ended here on request, never by itself.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.console import grid, safe, say, words
from agent.cli.vnfm_call import ManagerCall, Place, asks_manager

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.vnfm.client import ManagerClient
    from agent.vnfm.records import Execution

app = typer.Typer(
    help="The work of a manager, which makes and restores snapshots.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
@asks_manager
def list_executions(
    call: ManagerCall,
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Those that have ended, too.")
    ] = False,
) -> int:
    """List executions that have not ended, the system's own included."""
    from agent.cli import vnfm_work as work
    from agent.vnfm.records import EXECUTION_ENDS

    async def ask(
        place: Place, client: "ManagerClient"
    ) -> "tuple[str, tuple[Execution, ...]]":
        return place.name, await client.executions()

    name, executions = work.through(call, ask)
    rows = [
        work.execution_plain(one)
        for one in executions
        if everything or one.status not in EXECUTION_ENDS
    ]

    def table() -> "RenderableType":
        if not rows:
            return words(safe(f"Nothing is being executed on {name}."))
        return grid(work.EXECUTION_HEADERS, map(work.execution_row, rows), ("bold",))

    call.out.data({"manager": name, "executions": rows}, table, items=rows)
    return 0


@app.command("kill")
@asks_manager
def kill(
    call: ManagerCall,
    execution: Annotated[str, typer.Argument(metavar="EXECUTION", help="Its id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """End an execution that hangs, so that others may begin. It asks before."""
    from agent.cli import vnfm_work as work
    from agent.errors import ManagerError
    from agent.vnfm.records import EXECUTION_ENDS

    async def find(place: Place, client: "ManagerClient") -> "tuple[Place, Execution]":
        return place, await client.execution(execution)

    async def end(_: Place, client: "ManagerClient") -> "Execution":
        await client.kill(execution)
        return await client.execution(execution)

    place, found = work.through(call, find)
    told = f"{found.workflow} {found.snapshot} ({found.status.value})"
    if found.status in EXECUTION_ENDS:
        raise ManagerError(
            f"execution {execution} has ended already: {safe(told)}",
            "`splitguard vnfm executions list` shows those that have not",
        )
    work.agreed(f"Kill {safe(told)} on {place.name}?", yes=yes)
    ended = work.through(call, end, place)
    say(f"splitguard: {place.name} ends {execution}: {ended.status.value} now")
    plain: dict[str, Any] = {
        "manager": place.name,
        "execution": work.execution_plain(ended),
    }
    call.out.data(
        plain,
        lambda: grid(work.EXECUTION_HEADERS, [work.execution_row(plain["execution"])]),
    )
    return 0
