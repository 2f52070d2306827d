"""`splitguard vnfm snapshots kept`: the managers' snapshots on this machine.

Theory of operation. The manifests on the shelf are all that there is to know, so
neither a manager nor an agent is asked: this works when both are gone, which is when
somebody wants it. `--verify` reads every byte back and compares.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import bytes_text, grid, safe, say, stacked, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.vnfm.kept import Kept
    from agent.vnfm.shelf import Shelf

Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The folder to read. Default: vnfm.dir of the configuration.",
        readable=False,  # whether it can be read is ours to say
        show_default=False,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Read every byte back and compare. Exit 1 if any is wrong."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("kept")(reads_config(kept))


def kept(call: Call, *, verify: Verify = False, folder: Folder = None) -> int:
    """List the managers' snapshots that are kept here.

    The agent beside a manager takes them, by the schedule of [vnfm] and in a split. It
    asks neither a manager nor an agent.
    """
    from agent.vnfm.shelf import Shelf

    shelf = Shelf(folder or call.settings(files=False).manager_snapshots_dir)
    for name, reason in shelf.unusable():
        say(f"splitguard: {safe(name)} is no manager's snapshot: {safe(reason)}")
    found = shelf.list()
    wrong = {one.id: shelf.check(one.id) for one in found} if verify else {}
    rows = [_plain(one, shelf, wrong.get(one.id)) for one in found]
    call.out.data(
        {"folder": str(shelf.place), "snapshots": rows},
        lambda: _table(rows, shelf),
        items=rows,
    )
    return 1 if any(wrong.values()) else 0


def _plain(
    one: "Kept", shelf: "Shelf", wrong: tuple[str, ...] | None
) -> dict[str, Any]:
    created = datetime.fromtimestamp(one.created_wall_s, UTC)
    return {
        "id": one.id,
        "node": one.node,
        "manager": one.manager,
        "version": one.version,
        "format": one.archive_format,
        "reason": one.reason,
        "created": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "bytes": one.size_bytes,
        "sha256": one.sha256,
        "file": str(shelf.place / one.id / one.file),
        "sealed": one.sealed,
        "certificates": len(one.certificates),
        "counts": dict(one.counts),
        "incidents": list(one.incident_ids),
        "capture": one.capture_id or None,
        "problems": [*one.problems, *(wrong or ())],
        "whole": None if wrong is None else not wrong,
    }


def _table(rows: list[dict[str, Any]], shelf: "Shelf") -> "RenderableType":
    if not rows:
        return words(safe(f"No manager's snapshot is kept in {shelf.place}."))
    headers = (
        "ID", "MANAGER", "REASON", "SIZE", "CERTIFICATES", "SEALED", "CAPTURE", "WHOLE",
    )  # fmt: skip
    notes = [
        words(safe(f"{one['id']}: {problem}"), "dim")
        for one in rows
        for problem in one["problems"]
    ]
    return stacked(grid(headers, map(_row, rows), ("bold",)), *notes)


def _row(one: dict[str, Any]) -> list[object]:
    whole = {None: None, True: "yes", False: "NO"}[one["whole"]]
    return [
        safe(one["id"]),
        safe(one["version"]),
        safe(one["reason"]),
        bytes_text(one["bytes"]),
        one["certificates"] or "none",
        "yes" if one["sealed"] else "no",
        safe(one["capture"] or "") or None,
        whole,
    ]
