"""`splitguard incidents`: list them, look at one, take one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import grid, safe, say, severity, stacked, words
from agent.cli.over import pointers, untaken

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="Troubles with a beginning and an end.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
STANDING = frozenset({"open", "acknowledged"})


@app.command("list")
@asks_agent
def list_incidents(
    call: Call,
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Pending and resolved ones too.")
    ] = False,
) -> int:
    """List the incidents that are open, latest first."""
    found = call.agent.get("/v1/incidents")["incidents"]
    shown = [each for each in found if everything or each["status"] in STANDING]
    over = [] if everything else untaken(found)
    call.out.data(shown, lambda: stacked(_table(shown), *pointers(over)), items=shown)
    return 0


@app.command("show")
@asks_agent
def show(call: Call, incident: Annotated[str, typer.Argument(help="Its id.")]) -> int:
    """Show one incident: story, evidence, history, notices and captures."""
    from agent.cli.explain import story

    found = call.agent.get(f"/v1/incidents/{segment(incident)}")
    call.out.data(found, lambda: story(found))
    return 0


@app.command("ack")
@asks_agent
def acknowledge(
    call: Call,
    incident: Annotated[str, typer.Argument(help="Its id.")],
    *,
    who: Annotated[
        str | None,
        typer.Option("--who", help="Who takes it. Default: you.", show_default=False),
    ] = None,
) -> int:
    """Take an incident: reminders stop, and a sticky one may end."""
    body = {"who": who or user_name()}
    found = call.agent.post(f"/v1/incidents/{segment(incident)}/ack", body)
    call.out.data(found, lambda: _table([found]))
    say(f"splitguard: {found['id']} is taken by {safe(found['acknowledged_by'])}")
    return 0


def user_name() -> str:
    """Return who runs this command."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _table(incidents: list[dict[str, Any]]) -> "RenderableType":
    if not incidents:
        return words("No incident is open.")
    rows = [
        [
            each["id"],
            severity(each["severity"]),
            each["status"],
            each["verdict"],
            safe(each["subject"]),
            each["since"] if each["resolved"] else each["stage_since"],
        ]
        for each in incidents
    ]
    headers = ("ID", "SEVERITY", "STATUS", "VERDICT", "SUBJECT", "SINCE")
    return grid(headers, rows)
