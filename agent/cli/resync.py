"""`splitguard resync`: bring a loser back where no HA software does.

Theory of operation. This finds who is meant (the configuration), who wins (the agent)
and how the source is reached, and hands that on; `guard.resync` does the work. Each
step is told on stderr. The data says what was done, or with --dry-run what would be.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import grid, safe, words
from agent.core.resync import Wish

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.guard.resync_job import Done, Job, Plan


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("resync")(resync)


@asks_agent
def resync(  # noqa: PLR0913 - typer makes an option of each
    call: Call,
    node: Annotated[str, typer.Argument(help="The losing node: this machine's.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="The node to follow, or a connection string. Default: the primary"
            " that the agent holds everybody against.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Wish, typer.Option("--method", help="How; auto takes what is possible.")
    ] = Wish.AUTO,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be done and why; touch nothing."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Do what is refused and may be; needs --reason."),
    ] = False,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why; it is recorded.", show_default=False),
    ] = None,
) -> int:
    """Make the loser on this machine follow the winner again.

    For clusters without HA software. Its server is stopped, what it wrote is kept (it
    waits for the permit), then it is rewound or cloned, started, and compared. Run it
    as root or as the owner of the data directory; run again, it goes on where it was.
    """
    from agent.cli.resync_job import AgentGate, make_job, tell
    from agent.cli.shelf import ends_on_sigterm
    from agent.guard import resync as work

    if force and not (reason or "").strip():
        raise typer.BadParameter("--force needs a reason", param_hint="--reason")
    if reason is not None and not force:
        raise typer.BadParameter("it goes with --force", param_hint="--reason")
    gate = AgentGate(call, node, reason if force else None)
    job = make_job(call, node, source, method, gate, forced=force)
    if dry_run:
        found = work.plan(job, gate.standing())
        shown = _planned(job, found)
        call.out.data(shown, lambda: _plan_table(shown))
        return 1 if found.refusals else 0
    with ends_on_sigterm():
        done = work.run(job, gate, tell)
    row = _done(job, done)
    call.out.data(row, lambda: _table(row))
    if done.method is None:
        tell(f"{job.node} follows {job.source.name} already; nothing to do")
    else:
        tell(f"{job.node} follows {job.source.name}")
    return 0


def _planned(job: "Job", found: "Plan") -> dict[str, Any]:
    return {
        "node": job.node,
        "source": job.source.name,
        "method": found.choice.method.value,
        "reasons": list(found.choice.reasons),
        "refusals": [
            {"sentence": one.sentence, "help": one.help, "forcible": one.forcible}
            for one in found.refusals
        ],
        "running": found.running,
        "source_ready": found.ready,
        "interrupted": found.left.value,
        "note": str(job.notes.folder),
    }


def _plan_table(shown: dict[str, Any]) -> "RenderableType":
    if shown["refusals"]:
        lines = [f"{shown['node']} would not be resynced:"]
        for one in shown["refusals"]:
            lines += [f"- {one['sentence']}", f"  {one['help']}"]
        return words("\n".join(map(safe, lines)))
    steps = []
    if shown["running"]:
        steps.append("stop the server")
    if shown["interrupted"] == "none":
        steps.append("wait for the permit: what it wrote is kept first")
    if not shown["source_ready"]:
        steps.append(f"wait until {shown['source']} has made its first checkpoint")
    because = "; ".join(shown["reasons"])
    steps += [
        f"{shown['method']} from {shown['source']}, because {because}",
        "write the server's own configuration again, start it",
        f"compare it with {shown['source']} until it follows",
    ]
    lines = [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    return words("\n".join(map(safe, lines)))


def _done(job: "Job", done: "Done") -> dict[str, Any]:
    return {
        "node": job.node,
        "source": job.source.name,
        "method": None if done.method is None else done.method.value,
        "reasons": list(done.reasons),
        "permit": done.permit or None,
        "aside": done.aside or None,
        "agreed_lsn": done.agreed_lsn or None,
    }


def _table(row: dict[str, Any]) -> "RenderableType":
    headers = ("NODE", "FOLLOWS", "BY", "PERMIT", "AGREES UP TO", "OLD DATA")
    cells = [
        row["node"],
        row["source"],
        row["method"],
        row["permit"],
        row["agreed_lsn"],
        row["aside"],
    ]
    return grid(headers, [cells])
