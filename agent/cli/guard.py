"""`splitguard guard`: the gate in front of a resync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import guard_check, guard_install
from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import bytes_text, duration_text, grid, safe, say, words
from agent.errors import PostgresError

if TYPE_CHECKING:
    from rich.console import RenderableType

WAIT_S = 2.0
"""How long one question waits for an answer before it is asked again, so that a
person sees within this what it waits for."""
MARGIN_S = 10.0
_TAKEN = (1, 2)
"""Exit codes that never mean `go on`."""

app = typer.Typer(
    help="The gate: may a resync of this node go on?",
    no_args_is_help=True,
    rich_markup_mode=None,
)
guard_install.add_to(app)
guard_check.add_to(app)


@app.command("status")
@asks_agent
def status(call: Call) -> int:
    """List who asked for a permit, and what was answered."""
    permits = call.agent.get("/v1/guard/permits")["permits"]
    call.out.data(permits, lambda: _table(permits), items=permits)
    return 0


@app.command("permit")
@asks_agent
def permit(
    call: Call,
    purpose: Annotated[
        str, typer.Option("--purpose", help="What is about to run; it is recorded.")
    ] = "resync",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="The data directory to be resynced; refused unless the agent reads"
            " this very one. Default: whichever it reads.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="HOST:PORT of the server that will be copied from, as configured: it"
            " has to be the primary still.",
            show_default=False,
        ),
    ] = None,
    pass_code: Annotated[
        int,
        typer.Option(
            "--pass-code",
            min=0,
            max=125,
            help="Exit code that means: go on. For scripts that must not take an"
            " empty or broken program's 0 for it.",
        ),
    ] = 0,
) -> int:
    """Ask whether a resync may go on, and wait for the answer.

    Stop PostgreSQL first. Exit 0: granted, go on. Exit 1: do not. It waits as long as
    it takes, because waiting harms nothing.
    """
    if pass_code in _TAKEN:
        raise typer.BadParameter(
            f"{pass_code} says something else", param_hint="--pass-code"
        )
    question = {"purpose": purpose}
    if source is not None:
        question["source"] = source
    if data_dir is not None:
        question["data_dir_id"] = folder_id(data_dir)
    answer = call.agent.post("/v1/guard/permits", question)
    told = ""
    while answer["state"] == "pending":
        if answer["reason"] != told:
            told = answer["reason"]
            say(f"splitguard: pending: {safe(told)}")
        path = f"/v1/guard/permits/{segment(answer['id'])}"
        answer = call.agent.get(path, {"wait": WAIT_S}, deadline_s=WAIT_S + MARGIN_S)
    say(f"splitguard: {answer['state']}: {safe(answer['reason'])}")
    call.out.data(answer, lambda: _table([answer]))
    return pass_code if answer["state"] in ("granted", "released") else 1


def folder_id(folder: Path) -> str:
    """Return device and inode, by which the agent knows its data directory."""
    try:
        found = folder.stat()
    except OSError as error:
        raise PostgresError(
            f"the data directory {safe(folder)}: {error.strerror}",
            "name the data directory of the stopped server",
        ) from error
    return f"{found.st_dev}:{found.st_ino}"


@app.command("release")
@asks_agent
def release(
    call: Call,
    node: Annotated[str, typer.Argument(help="The node that is to be resynced.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")],
    who: Annotated[
        str | None,
        typer.Option("--who", help="Who decides. Default: you.", show_default=False),
    ] = None,
) -> int:
    """Let a resync that waits pass without protection. What is not kept is lost."""
    from agent.cli.incidents import user_name

    body = {"node": node, "reason": reason, "who": who or user_name()}
    permits = call.agent.post("/v1/guard/release", body)["permits"]
    call.out.data(permits, lambda: _table(permits), items=permits)
    say(f"splitguard: {len(permits)} waiting resync of {safe(node)} may go on")
    return 0


def _table(permits: list[dict[str, Any]]) -> "RenderableType":
    if not permits:
        return words("Nobody has asked for a permit.")
    rows = [
        [
            each["id"],
            each["node"],
            safe(each["purpose"]),
            each["state"],
            each["final_lsn"],
            _progress(each),
            safe(each["reason"]),
        ]
        for each in permits
    ]
    headers = ("ID", "NODE", "PURPOSE", "STATE", "FINAL LSN", "PROGRESS", "REASON")
    return grid(headers, rows)


def _progress(permit: dict[str, Any]) -> str | None:
    """Return what is done of what has to be copied, and the time left."""
    if not permit["bytes_total"]:
        return None
    done = f"{bytes_text(permit['bytes_done'])} of {bytes_text(permit['bytes_total'])}"
    left = permit["seconds_left"]
    return done if left is None else f"{done}, {duration_text(left)} left"
