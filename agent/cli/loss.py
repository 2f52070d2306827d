"""`splitguard loss`: what a losing side wrote that the winner lacks, and the way back.

Theory of operation. Without --against the agent beside the snapshot is asked: it knows
the winner, makes the report by itself and keeps it. With --against, or where no agent
answers, the report is made here (`loss_making`) and kept in the same place, so that
`loss rescue`, page and agent find it. The report is data; progress and words go to
stderr.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import safe, say
from agent.cli.loss_progress import progress
from agent.cli.loss_rescue import add_rescue
from agent.cli.which import BinDir, Dir, Which, not_asked, refuse_elsewhere
from agent.errors import AgentUnreachableError, SnapshotError, SplitguardError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="What a losing side wrote that the winner lacks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
TOP = 5
"""Examples of each kind that an agent's report has."""
TOP_MAX = 1000
POLL_S = 1.0
Json = dict[str, Any]


@app.command("report")
@asks_agent
def report(  # noqa: PLR0913 - typer makes an option of each
    call: Call,
    snapshot: Which,
    *,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="NODE|DSN|SNAPSHOT",
            help="Compare with this now: a node of the configuration, a connection"
            " string, or a snapshot. Default: as the agent does, with the winner.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page that needs nothing else into this file, too.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            min=0,
            max=TOP_MAX,
            help="Examples of each kind of difference in each table.",
        ),
    ] = TOP,
    folder: Dir = None,
    bin_dir: BinDir = None,
) -> int:
    """Tell what the losing side wrote, and what of it the winner lacks.

    Rows that the winner lacks, that only the losing side changed or deleted, that both
    sides changed (conflicts), and those under whose key each side has another row
    (collisions). Nothing is written to either server. Exit 1 when the winner could not
    be asked; what the losing side wrote is told all the same.
    """
    found = None
    if against is None and folder is None and top <= TOP:
        found = _asked(call, snapshot)
    if found is None:
        from agent.cli.loss_making import Order, make

        order = Order(snapshot, against, top, folder, bin_dir)
        found = make(call, order)
    found = _shortened(found, top)
    if html is not None:
        _write_page(html, found)
    call.out.data(found, lambda: _draw(found), items=found["tables"])
    if found["winner"] is not None:
        return 0
    _tell_why(found, against)
    return 1


add_rescue(app)


def _draw(found: Json) -> "RenderableType":
    from agent.cli.loss_view import view

    return view(found)


def _tell_why(found: Json, against: str | None) -> None:
    """Say why whom `against` names was not compared with."""
    if against is None:
        return
    from agent.postgres.connect import place_named

    names = {against, place_named(against) if _is_dsn(against) else against}
    for gap in found["not_compared"]:
        if gap["what"] in names:
            name, reason = safe(gap["what"]), safe(gap["reason"])
            say(f"splitguard: not compared with {name}: {reason}")


def _is_dsn(against: str) -> bool:
    return "=" in against or "://" in against


def _asked(call: Call, snapshot: str) -> Json | None:
    """Return the agent's report, made if need be; None where no agent can be asked."""
    if "/" in snapshot:
        return None
    path = f"/v1/snapshots/{segment(snapshot)}/loss"
    try:
        found = call.agent.get(path)
        with progress(f"loss report of {snapshot}") as show:
            while "headline" not in found:  # it is being made: 202
                show(safe(found["doing"]), int(found["done"]), int(found["total"]))
                _pause()
                found = call.agent.get(path)
    except AgentUnreachableError as error:
        not_asked(call, error)
        return None
    except SplitguardError:
        refuse_elsewhere(call, snapshot)
        raise
    return found


def _pause() -> None:
    import time

    time.sleep(POLL_S)


def _shortened(found: Json, top: int) -> Json:
    """Return the report with no more than so many examples of each kind."""
    tables = []
    for table in found["tables"]:
        counted: dict[str, int] = {}
        samples = []
        for sample in table["samples"]:
            kind = sample["kind"]
            counted[kind] = counted.get(kind, 0) + 1
            if counted[kind] <= top:
                samples.append(sample)
        tables.append({**table, "samples": samples})
    return {**found, "tables": tables}


def _write_page(file: Path, found: Json) -> None:
    """Write the page for people, closed to others. Raises SnapshotError."""
    from agent import __version__
    from agent.snapshot.files import write_atomically
    from agent.web.loss import render_loss

    try:
        write_atomically(file, render_loss(found, __version__).encode("utf-8"))
    except OSError as error:
        raise SnapshotError(
            f"the page cannot be written to {file}: {error.strerror}",
            "name another file: --html FILE",
        ) from error
    say(f"splitguard: the page is in {file}; it shows values of rows")
