"""`splitguard snapshots`: what is kept, whether it is whole, and a way into it.

Theory of operation. The manifests on disk are the catalogue, so listing, verifying,
opening and archiving need no agent: they read the capture folder. `create` asks the
agent, which alone may start a backup. `list` and `show` ask the agent first, because it
knows what is being taken right now, and read the folder when it does not answer.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import archiving, download, keeping, restoring
from agent.cli.call import Call, asks_agent, reads_config, segment
from agent.cli.console import bytes_text, grid, safe, say, stacked, words
from agent.cli.which import (
    BinDir,
    Dir,
    Id,
    IdentityFile,
    Which,
    catalogue_of,
    check_id,
    identities_of,
    not_asked,
    place_of,
    programs_of,
    refuse_elsewhere,
)
from agent.errors import AgentUnreachableError, SnapshotError, SplitguardError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="What is kept of a losing side.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
@asks_agent
def list_snapshots(call: Call, *, folder: Dir = None) -> int:
    """List the snapshots here and elsewhere, the newest first.

    SIDE is whose side of a split one holds, as it was predicted: the loser's, the
    winner's, or a standby's that followed neither.
    """
    found, elsewhere = _listed(call, folder)
    call.out.data(
        {"snapshots": found, "elsewhere": elsewhere},
        lambda: _table(found, elsewhere),
        items=found,
    )
    return 0


@app.command("show")
@asks_agent
def show(call: Call, snapshot: Id, *, folder: Dir = None) -> int:
    """Show what one snapshot holds and what has been proven of it."""
    from agent.cli import shelf

    check_id(snapshot)
    found: dict[str, Any] | None = None
    if folder is None:
        try:
            found = call.agent.get(f"/v1/snapshots/{segment(snapshot)}")
        except AgentUnreachableError as error:
            not_asked(call, error)
        except SplitguardError:
            refuse_elsewhere(call, snapshot)
            raise
    if found is None:
        catalogue = catalogue_of(call, folder)
        found = shelf.plain(catalogue.folder(snapshot), catalogue.show(snapshot))
    call.out.data(found, lambda: _details(found))
    return 0


@app.command("create")
@asks_agent
def create(
    call: Call,
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; it goes into the manifest.")
    ] = "asked for",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it is complete.")
    ] = True,
) -> int:
    """Take a full snapshot of the server beside the agent.

    While a capture goes on already, that one becomes a full copy too, and stays open
    until it is complete; the reason given here does not replace its own.
    """
    from agent.cli import shelf

    begun = call.agent.post("/v1/snapshots", {"reason": reason})
    if begun["joined"]:
        say(
            f"splitguard: capture {safe(begun['id'])} was under way"
            f" ({safe(begun['reason'])}): it takes a full copy too"
        )
    else:
        say(f"splitguard: snapshot {safe(begun['id'])} has begun")
    found = shelf.await_capture(call.agent, begun) if wait else begun
    call.out.data(found, lambda: _details(found))
    capture = found["capture"]
    if capture is not None and capture["phase"] == "failed":
        raise SnapshotError(f"snapshot {found['id']} failed: {safe(capture['reason'])}")
    return 0


@app.command("verify")
@asks_agent
def verify(
    call: Call,
    snapshot: Which,
    *,
    opening: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Open a scratch clone too, and read from every table: grade opened.",
        ),
    ] = False,
    folder: Dir = None,
    identity: IdentityFile = None,
    bin_dir: BinDir = None,
) -> int:
    """Read every file back and check the WAL chain. Exit 1 if anything is wrong."""
    from agent.cli import shelf

    if call.url is not None and folder is None:
        if opening:
            raise SnapshotError(
                "an agent elsewhere opens no clones", "run this beside the snapshot"
            )
        path = f"/v1/snapshots/{segment(check_id(snapshot))}/verify"
        found = call.agent.post(path, {}, deadline_s=shelf.VERIFY_DEADLINE_S)
    else:
        place = place_of(call, snapshot, folder)
        found = shelf.verify(
            place,
            programs_of(call, bin_dir),
            identities_of(identity),
            opening=opening,
        )
    call.out.data(found, lambda: _verified(found))
    return 0 if found["ok"] else 1


@app.command("open")
@reads_config
def open_snapshot(  # noqa: PLR0913 - one parameter for each option
    call: Call,
    snapshot: Which,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND...]",
            help="Run this with PGHOST, PGPORT, PGUSER and PGDATABASE set, then end.",
        ),
    ] = None,
    *,
    folder: Dir = None,
    database: Annotated[
        str, typer.Option("--database", "-d", help="Which one the address names.")
    ] = "postgres",
    identity: IdentityFile = None,
    bin_dir: BinDir = None,
) -> int:
    """Open a clone read-only on a private server.

    How to connect is printed. The snapshot itself is not touched. The clone is made in
    $TMPDIR, and is gone when this command ends.
    """
    from agent.cli import shelf

    place = place_of(call, snapshot, folder)
    how = shelf.How(database, programs_of(call, bin_dir), identities_of(identity))
    return shelf.open_clone(call.out, place, how, command or [])


restoring.add_to(app)
archiving.add_to(app)
keeping.add_to(app)
download.add_to(app)


def _listed(
    call: Call, folder: Path | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the snapshots here and those that other agents told of."""
    from agent.cli import shelf

    if folder is None:
        try:
            found = call.agent.get("/v1/snapshots")
        except AgentUnreachableError as error:
            not_asked(call, error)
        else:
            return found["snapshots"], found["elsewhere"]
    catalogue = catalogue_of(call, folder)
    for name, reason in catalogue.unusable():
        say(f"splitguard: {name} is no snapshot: {reason}")
    here = catalogue.list()
    return [shelf.plain(catalogue.folder(one.id), one) for one in here], []


def _table(
    found: list[dict[str, Any]], elsewhere: list[dict[str, Any]]
) -> "RenderableType":
    if not found and not elsewhere:
        return words("There is no snapshot here.")
    headers = (
        "ID", "NODE", "SIDE", "GRADE", "TL", "END LSN", "SIZE", "CREATED", "BESIDE",
        "PINNED", "OFF-SITE",
    )  # fmt: skip
    rows = [*map(_row, found), *map(_row_elsewhere, elsewhere)]
    urls = {each["reporter"]: each["agent_url"] for each in elsewhere}
    told = [f"{name}: {url}" for name, url in urls.items() if url]
    told += [
        f"{one['id']}: with it goes the manager's snapshot {name}"
        for one in found
        for name in one.get("manager_snapshots") or ()
    ]
    notes = [words(safe(each), "dim") for each in told]
    return stacked(grid(headers, rows, ("bold",)), *notes)


def _row(each: dict[str, Any]) -> list[object]:
    return [
        each["id"],
        each["node"],
        each.get("side"),
        _grade(each),
        each["timeline"],
        each["end_lsn"],
        bytes_text(each["bytes"]),
        _second(each["created"]),
        "here",
        "yes" if each.get("kept") else None,
        _offsite(each.get("offsite")),
    ]


def _grade(each: dict[str, Any]) -> str:
    """Return its grade; what has no copy may have the losing side's rows."""
    rows = each.get("rows_lsn")
    told = "rows" if each["grade"] == "none" and rows else str(each["grade"])
    return told if each["closed"] else f"{told} (running)"


def _row_elsewhere(each: dict[str, Any]) -> list[object]:
    """Return what another agent told; pins and archives it keeps to itself."""
    running = "" if each["phase"] == "closed" else f" ({each['phase']})"
    return [
        safe(each["id"]),
        safe(each["node"]),
        each.get("side"),
        f"{safe(each['grade'])}{safe(running)}",
        each.get("timeline"),
        each["reached_lsn"],
        bytes_text(each.get("bytes")),
        _second(each.get("ordered")),
        safe(each["reporter"]),
        None,
        None,
    ]


def _second(instant: str | None) -> str | None:
    """Return an instant without what is below a second."""
    return None if instant is None else re.sub(r"\.\d+Z$", "Z", instant)


def _details(found: dict[str, Any]) -> "RenderableType":
    shown = {key: value for key, value in found.items() if key != "capture"}
    shown["size"] = bytes_text(found["bytes"])
    shown["method_note"] = safe(found.get("method_note") or "") or None
    mark = found.get("kept")
    shown["kept"] = f"by {mark['who']}: {safe(mark['reason'])}" if mark else None
    twin = found.get("offsite") or {}
    shown["offsite"] = twin.get("url") or safe(twin.get("error") or "") or None
    managers = found.get("manager_snapshots") or ()
    shown["manager_snapshots"] = safe(", ".join(managers)) or None
    capture = found.get("capture")
    if capture:
        shown["phase"] = capture["phase"]
        shown["tail_lsn"] = capture["tail_lsn"]
        shown["trouble"] = capture["reason"]
    return grid(("KEY", "VALUE"), [[key, value] for key, value in shown.items()])


def _offsite(twin: dict[str, Any] | None) -> str | None:
    if twin is None:
        return None
    return "yes" if twin["verified"] else f"failed {twin['attempts']} times"


def _verified(found: dict[str, Any]) -> "RenderableType":
    state = "whole" if found["ok"] else "NOT whole"
    first = (
        f"{found['id']}: {state}; grade {found['grade']};"
        f" {bytes_text(found['bytes'])} in {found['files']} files"
    )
    return stacked(
        words(first, "green" if found["ok"] else "bold red"),
        *(words(f"  {safe(problem)}") for problem in found["problems"]),
        *(words(f"  note: {safe(note)}", "dim") for note in found.get("notes", ())),
    )
