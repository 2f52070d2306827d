"""`splitguard winner`: who is to be kept after a split, and who decided that."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import safe, say, stacked, words

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="Who is to be kept after a split.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("show")
@asks_agent
def show(call: Call) -> int:
    """Show who would be kept, and why."""
    found = call.agent.get("/v1/winner")
    call.out.data(found, lambda: _drawn(found))
    return 0


@app.command("pin")
@asks_agent
def pin(
    call: Call,
    node: Annotated[str, typer.Argument(help="Whose writes are to be kept.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")],
    who: Annotated[
        str | None,
        typer.Option("--who", help="Who decides. Default: you.", show_default=False),
    ] = None,
) -> int:
    """Decide who is to be kept; it orders the captures.

    With lb.fail_closed it also says which side of a proven split stays open. It neither
    promotes nor resyncs anybody: the HA software does as it is set up. What is decided
    during a split ends with it.
    """
    from agent.cli.incidents import user_name

    if not reason.strip():
        raise typer.BadParameter("needs words that say why", param_hint="--reason")
    body = {"node": node, "reason": reason, "who": who or user_name()}
    found = call.agent.post("/v1/winner", body)
    call.out.data(found, lambda: _drawn(found))
    say(f"splitguard: {safe(node)} is pinned; take it back: splitguard winner unpin")
    return 0


@app.command("unpin")
@asks_agent
def unpin(call: Call) -> int:
    """Take the decision back; the prediction stands again."""
    from agent.cli.incidents import user_name

    found = call.agent.delete("/v1/winner", {"who": user_name()})
    call.out.data(found, lambda: _drawn(found))
    say("splitguard: no winner is pinned")
    return 0


def _drawn(found: dict[str, Any]) -> "RenderableType":
    node = safe(found["node"] or "nobody can tell who")
    parts = [words(f"{node}, {safe(found['reason'])}", "bold")]
    pin = found["pin"]
    if pin is not None:
        parts.append(words(f"  pinned since {pin['since']}{_end(pin)}"))
        if found["rule"] != "pinned":
            text = f"  {pin['node']} is pinned by {pin['who']} because {pin['reason']};"
            parts.append(words(safe(f"{text} it counts once it is a side of a split")))
        elif found["otherwise"] is not None:
            parts.append(words(safe(f"  without the pin: {found['otherwise']}")))
    if found["disputed"]:
        parts.append(words("  These exclude each other, so none counts:"))
    for each in found["disputed"]:
        said = f"{each['who']} says {each['node'] or 'no pin'}: {each['reason']}"
        parts.append(words(safe(f"    {said} (since {each['since']})")))
    if found["disputed"]:
        parts.append(words("  Settle it: splitguard winner pin NODE --reason TEXT"))
    return stacked(*parts)


def _end(pin: dict[str, Any]) -> str:
    if pin["incident"] is None:
        return ", until it is unpinned"
    return f", until {pin['incident']} is over"
