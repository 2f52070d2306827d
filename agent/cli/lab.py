"""`splitguard lab`: the embedded cluster, its faults and its stories.

Theory of operation. The commands are thin: each asks the lab's supervisor one thing
over its control socket and prints the answer. `up` and `story` start one. Whatever
ends such a command (Ctrl-C, SIGTERM, an error) ends its lab with it, unless it was
detached or its remains are to be kept.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import lab_manager
from agent.cli.console import Out, Output, grid, say
from agent.cli.lab_options import Node, StateDir, folder_of, lab_of
from agent.cli.lab_tables import status_table, story_table, written_table
from agent.cli.startup import while_importing
from agent.errors import LabError
from agent.lab.plan import Options, Plan

if TYPE_CHECKING:
    from agent.lab.handle import Lab

app = typer.Typer(
    help="Three real PostgreSQL servers here, and faults on demand.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(lab_manager.app, name="manager")

Pg = Annotated[
    str,
    typer.Option("--pg", help="16, 18, or the folder of an installed server."),
]
Printed = Annotated[
    Output, typer.Option("--output", "-o", help="How data is printed on stdout.")
]
Settle = Annotated[float, typer.Option("--settle", hidden=True, min=0.5, max=600)]
NoAgents = Annotated[bool, typer.Option("--no-agents", hidden=True)]
CrashAt = Annotated[list[str] | None, typer.Option("--crash-at", hidden=True)]


class Direction(StrEnum):
    """Which way a cut goes."""

    IN = "in"
    OUT = "out"


class StoryName(StrEnum):
    """The stories that can be told."""

    SPLIT_BRAIN = "split-brain"
    NODE_DOWN = "node-down"
    FAILOVER = "failover"


class ManagerVersion(StrEnum):
    """The managers that the lab has stand-ins for."""

    FOUR = "4.5.5"
    SEVEN = "7.0.5"


class Winner(StrEnum):
    """Which side of a split is to have the newest database."""

    MAJORITY = "majority"
    MINORITY = "minority"


@app.command()
def up(  # noqa: PLR0913 - each is an option of its own
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it is healthy.")
    ] = False,
    pg: Pg = "16",
    manager: Annotated[
        ManagerVersion, typer.Option("--manager", help="Whom the managers stand for.")
    ] = ManagerVersion.FOUR,
    output: Printed = Output.TABLE,
    state_dir: StateDir = None,
    settle: Settle = 3.0,
    no_agents: NoAgents = False,
    crash_at: CrashAt = None,
) -> None:
    """Start the lab: three servers, three managers, three agents."""
    options = Options(
        pg=pg,
        agents=not no_agents,
        settle_s=settle,
        manager=manager.value,
        crash_at=tuple(crash_at or ()),
    )
    folder = folder_of(state_dir)
    with _interruptible():
        if detach:
            from agent.lab.handle import detached

            _show_status(detached(folder, options, say), output)
        else:
            _foreground(folder, options, output)


@app.command()
def status(*, output: Printed = Output.TABLE, state_dir: StateDir = None) -> None:
    """Show nodes, addresses, and what is cut."""
    _show_status(lab_of(state_dir), output)


@app.command()
def partition(
    node: Node,
    *,
    one_way: Annotated[
        Direction | None,
        typer.Option("--one-way", help="Only what comes in, or goes out."),
    ] = None,
    mute: Annotated[
        bool, typer.Option("--mute", help="Hold connections open and pass nothing on.")
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Cut a node off from the others."""
    direction = one_way.value if one_way else "both"
    lab = lab_of(state_dir)
    lab.ask("partition", node=node, direction=direction, mute=mute)
    how = "mute" if mute else "cut off"
    say(f"{node} is {how}" + (f" ({direction})" if one_way else ""))


@app.command()
def heal(*, state_dir: StateDir = None) -> None:
    """Make every link whole again."""
    lab_of(state_dir).ask("heal")
    say("every link is whole")


@app.command()
def delay(
    node: Node,
    seconds: Annotated[float, typer.Argument(min=0, max=60, help="For each piece.")],
    *,
    state_dir: StateDir = None,
) -> None:
    """Slow a node's links down; `heal` ends it."""
    lab_of(state_dir).ask("delay", node=node, delay_s=seconds)
    say(f"{node}'s links are slower by {seconds:g} s")


@app.command()
def kill(node: Node, *, state_dir: StateDir = None) -> None:
    """Kill a whole machine. Manager, PostgreSQL and agent get kill -9."""
    lab_of(state_dir).ask("kill", node=node)
    say(f"{node} is dead")


@app.command()
def start(node: Node, *, state_dir: StateDir = None) -> None:
    """Switch a killed machine on again."""
    lab_of(state_dir).ask("start", node=node)
    say(f"{node} is starting")


@app.command()
def promote(node: Node, *, state_dir: StateDir = None) -> None:
    """Promote a node. Its manager becomes active too, whoever else is."""
    lab_of(state_dir).ask("promote", node=node)
    say(f"{node} is promoted")


@app.command()
def write(
    *,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="So many rows.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="For so many seconds.")
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            help="Through this node only, once it is active; may be repeated.",
            show_default=False,
        ),
    ] = None,
    output: Printed = Output.TABLE,
    state_dir: StateDir = None,
) -> None:
    """Write rows through the active manager. Keep what was acknowledged.

    While the cluster is split, that is the first active one in the order of the list,
    or of those that --node names.
    """
    from agent.lab.client import Ledger, write_rows

    lab = lab_of(state_dir)
    ledger = Ledger(lab.layout.acknowledged)
    wanted = count if count is not None or seconds is not None else 100
    limit = seconds if seconds is not None else 60.0
    with _interruptible():
        try:
            done = write_rows(
                lab.plan, ledger, count=wanted, seconds=limit, nodes=nodes or ()
            )
        finally:
            ledger.close()
    written = Counter(promise.node for promise in ledger.all())
    result = {
        "acknowledged": done,
        "nodes": dict(written),
        "log": str(lab.layout.acknowledged),
    }
    Out(output).data(result, lambda: written_table(result))
    if count is not None and done < count:
        raise LabError(
            f"only {done} of {count} writes were acknowledged in {limit:g} s"
        )


@app.command()
def dsn(node: Node, *, state_dir: StateDir = None) -> None:
    """Print how to connect to a node's database. The password is in a file."""
    Out(Output.TABLE).line(lab_of(state_dir).plan.owner_dsn(node))


@app.command()
def story(  # noqa: PLR0913 - each is an option of its own
    name: Annotated[StoryName, typer.Argument(help="Which one.")],
    *,
    winner: Annotated[
        Winner, typer.Option("--winner", help="Whose database is to be the newest.")
    ] = Winner.MAJORITY,
    pg: Pg = "16",
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Leave log, archives and running winner here."),
    ] = None,
    break_capture: Annotated[
        bool, typer.Option("--break-capture", help="Capture nothing: see what is lost.")
    ] = False,
    output: Printed = Output.TABLE,
    state_dir: StateDir = None,
    settle: Settle = 3.0,
    crash_at: CrashAt = None,
) -> int:
    """Play a trouble to its end, and count what came of it."""
    from agent.lab.handle import started
    from agent.lab.stage import Stage

    options = Options(
        pg=pg,
        capture=not break_capture,
        settle_s=settle,
        crash_at=tuple(crash_at or ()),
    )
    with _interruptible(), started(folder_of(state_dir), options, say) as lab:
        stage = Stage(lab, say)
        if name is StoryName.SPLIT_BRAIN:
            from agent.lab.split_brain import SplitBrain, Wanted

            wanted = Wanted(winner.value, keep, captures=not break_capture)
            result = SplitBrain(stage, wanted).play()
        else:
            from agent.lab import outages

            played = {StoryName.NODE_DOWN: outages.node_down}
            result = played.get(name, outages.failover)(stage)
    Out(output).data(result, lambda: story_table(result))
    from agent.lab.split_brain import failed

    return 1 if failed(result) else 0


@app.command()
def down(*, state_dir: StateDir = None) -> None:
    """End the lab and remove its folder."""
    from agent.lab.handle import down as end

    folder = folder_of(state_dir)
    say("the lab is gone" if end(folder) else f"no lab in {folder}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, with all its clean-up."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _foreground(folder: Path, options: Options, output: Output) -> None:
    with while_importing():
        from agent.lab.supervisor import supervise

    def ready(plan: Plan) -> None:
        shown = [(node.name, plan.agent_url(node.name)) for node in plan.nodes]
        document = {"state_dir": plan.state_dir, "agents": dict(shown)}
        Out(output).data(document, lambda: grid(("node", "agent"), shown))
        say("the lab is up; Ctrl-C ends it")

    asyncio.run(supervise(folder, options, say, ready))


def _show_status(lab: "Lab", output: Output) -> None:
    found = lab.status()
    Out(output).data(found, lambda: status_table(found))
