"""`splitguard vnfm snapshots`: the guide's commands, against the managers as they are.

Theory of operation. `create` and `restore` only begin something at the manager; --wait
stays until snapshot and execution agree on how it ended. What is fetched is checked
before it gets its name, and what is sent before it goes. The commands alone stand here,
so that help needs no HTTP client.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import vnfm_keep, vnfm_kept, vnfm_restoring, vnfm_transfer
from agent.cli.console import grid, safe, say, stacked, words
from agent.cli.vnfm_call import ManagerCall, Place, asks_manager, fetches_from_manager

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.vnfm.client import ManagerClient
    from agent.vnfm.records import Execution, ManagerSnapshot

app = typer.Typer(
    help="The snapshots that the managers make.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The snapshot's id.")]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Stay until it has ended, and say how.")
]
WaitS = Annotated[
    float | None,
    typer.Option(
        "--wait-s",
        min=1,
        help="Give up waiting after so many seconds; the manager goes on."
        " Default: vnfm.wait_s, 3600.",
        show_default=False,
    ),
]


@app.command("create")
@asks_manager
def create(  # noqa: PLR0913 - typer makes an option of each
    call: ManagerCall,
    snapshot: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="Its id: a letter, then letters, digits and - . _. Default: of node"
            " and time.",
        ),
    ] = None,
    *,
    metrics: Annotated[
        bool,
        typer.Option("--include-metrics", help="Metrics too; managers up to 4.6."),
    ] = False,
    credentials: Annotated[
        bool,
        typer.Option(
            "--include-credentials/--exclude-credentials",
            help="The keys of agents and hosts too.",
        ),
    ] = True,
    logs: Annotated[
        bool,
        typer.Option("--include-logs/--exclude-logs", help="Executions' logs too."),
    ] = True,
    events: Annotated[
        bool,
        typer.Option(
            "--include-events/--exclude-events", help="Executions' events too."
        ),
    ] = True,
    queue: Annotated[
        bool,
        typer.Option(
            "--queue", help="Begin when other executions have ended; from 4.5 on."
        ),
    ] = False,
    wait: Wait = False,
    wait_s: WaitS = None,
) -> int:
    """Have the manager make a snapshot.

    Options that the manager's version does not know are said and not passed on. Without
    --wait it has only begun when this ends.
    """
    from agent.cli import vnfm_making
    from agent.cli.vnfm_transfer import check_id
    from agent.vnfm.options import CreateOptions

    _check_wait(wait_s, wait=wait)
    options = CreateOptions(metrics, credentials, logs, events, queue)
    name = None if snapshot is None else check_id(snapshot)
    made = vnfm_making.create(call, name, options, wait_s, wait=wait)
    call.out.data(made, lambda: vnfm_making.table(made))
    return 0


@app.command("list")
@asks_manager
def list_snapshots(call: ManagerCall) -> int:
    """List the manager's snapshots, the oldest first."""
    from agent.cli.vnfm_work import SNAPSHOT_HEADERS, snapshot_plain, snapshot_row
    from agent.cli.vnfm_work import through as went

    async def work(
        place: Place, client: "ManagerClient"
    ) -> "tuple[str, tuple[ManagerSnapshot, ...]]":
        return place.name, await client.snapshots()

    name, snapshots = went(call, work)
    rows = [
        snapshot_plain(one) for one in sorted(snapshots, key=lambda one: one.created_at)
    ]

    def table() -> "RenderableType":
        if not rows:
            return words(safe(f"{name} has no snapshot."))
        return grid(SNAPSHOT_HEADERS, map(snapshot_row, rows), ("bold",))

    call.out.data({"manager": name, "snapshots": rows}, table, items=rows)
    return 0


@app.command("download")
@fetches_from_manager
def download(
    call: ManagerCall,
    snapshot: Id,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output-path",
            "-o",
            help="Where to: a new file, or a folder. Default: ID.zip here.",
            readable=False,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Fetch a snapshot off the manager, and check it.

    What broke off goes on where it was when the same command is given again. The file
    gets its name when it is whole and can be opened.
    """
    fetched = vnfm_transfer.download(call, snapshot, file)
    call.out.data(fetched, lambda: words(fetched["file"]))
    return 0


@app.command("upload")
@asks_manager
def upload(
    call: ManagerCall,
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL",
            help="A snapshot's zip here, or an address that the manager fetches it"
            " from itself.",
        ),
    ],
    *,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot-id",
            "-s",
            help="Its id there. Default: the file's name without .zip.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Give a manager a snapshot, after a look whether it is one.

    A manager takes anything, and overwrites what has the same id; this does neither.
    """
    uploaded = vnfm_transfer.upload(call, source, snapshot)
    call.out.data(uploaded, lambda: words(safe(uploaded["snapshot"]["id"])))
    return 0


@app.command("restore")
@asks_manager
def restore(  # noqa: PLR0913 - typer makes an option of each
    call: ManagerCall,
    snapshot: Id,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Although the manager is not empty: replace that."
        ),
    ] = False,
    certificates: Annotated[
        bool,
        typer.Option(
            "--restore-certificates",
            help="Put the snapshot's certificates in place too; the manager's machine"
            " reboots then.",
        ),
    ] = False,
    no_reboot: Annotated[
        bool,
        typer.Option("--no-reboot", help="With --restore-certificates: do not reboot."),
    ] = False,
    wait: Wait = False,
    wait_s: WaitS = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Put a snapshot into the manager. It says what will happen, and asks.

    Up to 6.4 this replaces everything, wants an empty manager or --force, and a single
    one: clusters of the 4.x line are restored before they are joined. From 7.0 on, a
    snapshot of the new format is merged into what is there.
    """
    _check_wait(wait_s, wait=wait)
    wish = vnfm_restoring.Wish(
        force=force, certificates=certificates, no_reboot=no_reboot
    )
    done = vnfm_restoring.restore(
        call, snapshot, wish, vnfm_restoring.Manner(yes=yes, wait=wait, wait_s=wait_s)
    )
    call.out.data(done, lambda: vnfm_restoring.table(done))
    return 0


@app.command("delete")
@asks_manager
def delete(
    call: ManagerCall,
    snapshot: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Remove a snapshot from the manager for good. It asks before."""
    from agent.cli import vnfm_work as work

    async def find(
        place: Place, client: "ManagerClient"
    ) -> "tuple[Place, ManagerSnapshot]":
        return place, await client.snapshot(snapshot)

    async def remove(_: Place, client: "ManagerClient") -> None:
        await client.delete(snapshot)

    place, found = work.through(call, find)
    told = f"{snapshot} ({found.status.value}, of {found.created_at})"
    work.agreed(f"Remove {safe(told)} from {place.name} for good?", yes=yes)
    work.through(call, remove, place)
    say(f"splitguard: {safe(told)} is removed from {place.name}")
    plain = {"manager": place.name, "snapshot": work.snapshot_plain(found)}
    call.out.data(plain, lambda: words(safe(snapshot)))
    return 0


@app.command("status")
@asks_manager
def status(
    call: ManagerCall,
    snapshot: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Of one snapshot. Default: of all."),
    ] = None,
) -> int:
    """Say how a snapshot stands, or what goes on.

    With its executions: only when both agree is it made, or restored.
    """
    from agent.cli import vnfm_work as work

    async def ask(place: Place, client: "ManagerClient") -> dict[str, Any]:
        found = None if snapshot is None else await client.snapshot(snapshot)
        executions = [
            one
            for one in await client.executions()
            if _concerns(one, snapshot) and (snapshot is not None or not _ended(one))
        ]
        return {
            "manager": place.name,
            "restoring": await client.restoring(),
            "snapshot": None if found is None else work.snapshot_plain(found),
            "executions": [work.execution_plain(one) for one in executions],
            "note": None if found is None else note(found, executions),
        }

    shown = work.through(call, ask)
    call.out.data(shown, lambda: _status_table(shown))
    return 0


def _check_wait(wait_s: float | None, *, wait: bool) -> None:
    if wait_s is not None and not wait:
        raise typer.BadParameter("it goes with --wait", param_hint="--wait-s")


def _concerns(one: "Execution", snapshot: str | None) -> bool:
    if snapshot is not None:
        return one.snapshot == snapshot
    return one.workflow in ("create_snapshot", "restore_snapshot")


def _ended(one: "Execution") -> bool:
    from agent.vnfm.records import EXECUTION_ENDS

    return one.status in EXECUTION_ENDS


def note(found: "ManagerSnapshot", executions: "list[Execution]") -> str | None:
    """Return what does not fit together, and what to do about it."""
    from agent.vnfm.records import SnapshotStatus

    if found.status is not SnapshotStatus.CREATING:
        return None
    works = [
        one
        for one in executions
        if one.workflow == "create_snapshot" and not _ended(one)
    ]
    if not works:
        return (
            "nothing works on it any more, so it will never be finished: remove it"
            f" (`splitguard vnfm snapshots delete {found.id}`) and create another"
        )
    if all(one.status.value == "pending" for one in works):
        return (
            "no worker has taken it up yet; if that lasts, RabbitMQ or the management"
            f" worker is down (`splitguard vnfm status`), and `splitguard vnfm"
            f" executions kill {works[0].id}` ends it"
        )
    return None


vnfm_kept.add_to(app)
vnfm_keep.add_to(app)


def _status_table(shown: dict[str, Any]) -> "RenderableType":
    from agent.cli import vnfm_work as work

    said = {
        True: "says that it restores",
        False: "says that it does not restore",
        None: "cannot say whether it restores (4.x)",
    }
    parts: list[RenderableType] = [
        words(safe(f"{shown['manager']} {said[shown['restoring']]}."))
    ]
    if shown["snapshot"] is not None:
        rows = [work.snapshot_row(shown["snapshot"])]
        parts.append(grid(work.SNAPSHOT_HEADERS, rows, ("bold",)))
    if shown["executions"]:
        rows = [work.execution_row(one) for one in shown["executions"]]
        parts.append(grid(work.EXECUTION_HEADERS, rows, ("bold",)))
    elif shown["snapshot"] is None:
        parts.append(words("No snapshot is being made or restored."))
    if shown["note"]:
        parts.append(words(safe(shown["note"]), "yellow"))
    return stacked(*parts)
