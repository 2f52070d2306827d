"""`splitguard maintenance`: announce a switchover, so that it pages nobody."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import grid, safe, say, words
from agent.errors import SplitguardError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="Announce a switchover, so that it pages nobody.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("start")
@asks_agent
def start(
    call: Call,
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODE]",
            help="Which node is to become the primary. Default: any.",
            show_default=False,
        ),
    ] = None,
    *,
    switchover: Annotated[
        bool,
        typer.Option(
            "--switchover",
            help="What is planned. Nothing else can be announced, so it is required.",
        ),
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")],
    until: Annotated[
        str,
        typer.Option(
            "--until", help="A span such as 30m, or an instant; a day at most."
        ),
    ] = "30m",
    owner: Annotated[
        str | None,
        typer.Option("--owner", help="Who plans it. Default: you.", show_default=False),
    ] = None,
) -> int:
    """Announce a switchover; the failover that it covers is then info.

    All agents come to know of it. The former primary may restart meanwhile, for half a
    minute. A split brain, a former primary that is only unseen, a failover to another
    node, five seconds without any primary, and whatever else happens page as ever.
    """
    from agent.cli.incidents import user_name

    if not switchover:
        raise typer.BadParameter(
            "is required: a planned switchover is all that can be announced",
            param_hint="--switchover",
        )
    if not reason.strip():
        raise typer.BadParameter("needs words that say why", param_hint="--reason")
    body = {
        "kind": "switchover",
        "node": node,
        "reason": reason,
        "seconds": _seconds(until),
        "owner": owner or user_name(),
    }
    found = call.agent.post("/v1/maintenance", body)
    call.out.data(found, lambda: _table([found]))
    say(f"splitguard: {safe(found['sentence'])}")
    say(f"  when it is done: splitguard maintenance end {found['id']}")
    return 0


@app.command("list")
@asks_agent
def list_maintenance(
    call: Call,
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Those that are over too.")
    ] = False,
) -> int:
    """List the switchovers that are announced."""
    query = {"all": str(everything).lower()}
    found = call.agent.get("/v1/maintenance", query)["maintenance"]
    call.out.data(found, lambda: _table(found), items=found)
    return 0


@app.command("end")
@asks_agent
def end(
    call: Call,
    announcement: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="Which one. Default: the one that is in force.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """End an announcement now."""
    from agent.cli.incidents import user_name

    wanted = announcement or _only(call)
    path = f"/v1/maintenance/{segment(wanted)}"
    found = call.agent.delete(path, {"who": user_name()})
    call.out.data(found, lambda: _table([found]))
    say(f"splitguard: {found['id']} is over")
    return 0


def _seconds(until: str) -> float:
    """Return how long it is until then. Raises SplitguardError."""
    from agent.cli import when
    from agent.daemon.clock import SystemClock

    end = when.ahead(until, "--until")
    left_s = end.timestamp() - SystemClock().moment().wall_s
    if not 1 <= left_s <= when.DAY_S:
        raise SplitguardError(
            f"--until {until[:60]!r}: is not within the next 24 hours", when.HINT
        )
    return left_s


def _only(call: Call) -> str:
    """Return the id of the one that is in force. Raises SplitguardError."""
    found = call.agent.get("/v1/maintenance")["maintenance"]
    if len(found) != 1:
        count = len(found) or "none"
        raise SplitguardError(
            f"{count} are in force", "name one: `splitguard maintenance list`"
        )
    return str(found[0]["id"])


def _table(found: list[dict[str, Any]]) -> "RenderableType":
    if not found:
        return words("Nothing is announced.")
    rows = [
        [
            each["id"],
            each["kind"],
            safe(each["node"] or "any"),
            safe(each["owner"]),
            each["begun"],
            each["ended"] or each["ends"],
            "yes" if each["in_force"] else "over",
            safe(each["reason"]),
        ]
        for each in found
    ]
    headers = ("ID", "WHAT", "TO", "OWNER", "BEGUN", "ENDS", "IN FORCE", "REASON")
    return grid(headers, rows)
