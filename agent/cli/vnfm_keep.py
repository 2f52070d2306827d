"""`splitguard vnfm snapshots keep`: the agent has its manager make one, and keeps it.

Theory of operation. `create` leaves a snapshot on the manager, and it is lost with
that. This asks the agent beside the manager for the whole of what it does by the clock:
made, fetched, read through, filed with the certificates. A snapshot is listed once it
is whole, so until then the agent's own word is asked for: what it makes, what failed.
"""

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import bytes_text, grid, safe, say
from agent.errors import AgentUnreachableError, SnapshotError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.cli.client import AgentClient

PATH = "/v1/manager-snapshots"
POLL_S = 1.0
NOT_FOUND = 404


def add_to(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("keep")(asks_agent(keep))


def keep(
    call: Call,
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; it goes into the manifest.")
    ] = "asked for",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it is kept.")
    ] = True,
    wait_s: Annotated[
        float,
        typer.Option("--wait-s", min=1, help="Give up waiting after so many seconds."),
    ] = 7200.0,
) -> int:
    """Have one made and kept on this machine now.

    The agent beside the manager does it, as it does by the clock. Ctrl-C ends the
    waiting only.
    """
    from agent.cli.vnfm_work import goes_on

    before = _failed_at(call.agent)
    begun = call.agent.post(PATH, {"reason": reason})
    look = "splitguard vnfm snapshots kept"
    say(f"splitguard: the agent keeps {safe(begun['id'])}")
    if not wait:
        say(f"  look at it with: {look}")
        call.out.data(begun, lambda: grid(("ID",), [[safe(begun["id"])]]))
        return 0
    with goes_on(look):
        kept = _waited(call.agent, begun["id"], before, wait_s)
    for problem in kept["problems"]:
        say(f"splitguard: {safe(problem)}")
    call.out.data(kept, lambda: _table(kept))
    return 0


def _waited(
    agent: "AgentClient", snapshot: str, before: str | None, wait_s: float
) -> dict[str, Any]:
    """Return it once it is kept. Raises SnapshotError when that failed."""
    from agent.cli.client import RefusedError
    from agent.cli.vnfm_progress import waiting
    from agent.daemon.clock import SystemClock

    clock, pause = SystemClock(), threading.Event()
    until_s = clock.moment().monotonic_s + wait_s
    with waiting(safe(snapshot)) as stage:
        while clock.moment().monotonic_s < until_s:
            try:
                return agent.get(f"{PATH}/{segment(snapshot)}")
            except AgentUnreachableError:
                stage("the agent does not answer")
            except RefusedError as error:
                if error.status != NOT_FOUND:
                    raise
                stage(_stage(agent, snapshot, before))
            pause.wait(POLL_S)
    raise SnapshotError(
        f"{snapshot} is not kept within {wait_s:g} s; the agent goes on",
        "`splitguard vnfm snapshots kept` lists it once it is; `splitguard status`"
        " says what is in its way",
    )


def _stage(agent: "AgentClient", snapshot: str, before: str | None) -> str:
    """Return where it stands. Raises SnapshotError when the last one failed."""
    here = _here(agent)
    if here.get("running") == snapshot:
        return "being made"
    failed = here.get("failed")
    if failed and here.get("failed_at") != before:
        raise SnapshotError(f"{snapshot} is not kept: {safe(failed)}", way_on(failed))
    return "waiting"


def way_on(failed: str) -> str:
    """Return what to do about a failure: what hangs is ended first."""
    from agent.vnfm.refusals import kill_in

    end = kill_in(failed)
    if end:
        return (
            f"does it hang? Look with `splitguard vnfm executions list`; end it: {end}"
        )
    return "`splitguard vnfm status` says how the manager is"


def _failed_at(agent: "AgentClient") -> str | None:
    value = _here(agent).get("failed_at")
    return value if isinstance(value, str) else None


def _here(agent: "AgentClient") -> dict[str, Any]:
    try:
        found = agent.get("/v1/managers")["here"]
    except AgentUnreachableError:
        return {}
    return found if isinstance(found, dict) else {}


def _table(kept: dict[str, Any]) -> "RenderableType":
    headers = ("ID", "MANAGER", "REASON", "SIZE", "CERTIFICATES", "SEALED")
    row = [
        safe(kept["id"]),
        safe(kept["version"]),
        safe(kept["reason"]),
        bytes_text(kept["bytes"]),
        len(kept["certificates"]) or "none",
        "yes" if kept["sealed"] else "no",
    ]
    return grid(headers, [row], ("bold",))
