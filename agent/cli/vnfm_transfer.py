"""Snapshots on their way to and from a manager, into new files only.

Theory of operation. A manager has no checksum and takes any file for a snapshot, so the
client reads every member through: what comes, before it gets its name; what goes,
before it is sent. Here stands what a person sees of it.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.console import bytes_text, safe, say
from agent.cli.vnfm_call import ManagerCall, Place, check_address
from agent.errors import ManagerError, SnapshotError

if TYPE_CHECKING:
    from agent.vnfm.client import Fetched, ManagerClient
    from agent.vnfm.records import ManagerSnapshot

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,255}")
"""Of a snapshot, as managers check it on `create` but not on `upload`."""


def check_id(snapshot: str, option: str = "ID") -> str:
    """Return what may be a snapshot's id. Raises typer.BadParameter."""
    if _ID.fullmatch(snapshot) is None:
        raise typer.BadParameter(
            f"{snapshot[:80]!r} is no id: a letter, then letters, digits and - . _",
            param_hint=option,
        )
    return snapshot


def download(call: ManagerCall, snapshot: str, file: Path | None) -> dict[str, Any]:
    """Fetch a snapshot into a new file. Raises ManagerError, SnapshotError."""
    from agent.cli.vnfm_progress import transfer
    from agent.cli.vnfm_work import through
    from agent.cli.writing import named

    check_id(snapshot)
    if file is not None and str(file) in ("table", "json", "jsonl"):
        raise typer.BadParameter(
            f"here it names a file: give --output {file}, or -o ./{file}",
            param_hint="-o",
        )
    target = named(file or Path(), f"{snapshot}.zip", "--output-path")
    if os.path.lexists(target):
        raise SnapshotError(f"{target} is there already", "name another --output-path")
    if not target.parent.is_dir():
        raise SnapshotError(
            f"there is no folder {target.parent}", "make it, or name another place"
        )

    async def fetch(place: Place, client: "ManagerClient") -> "tuple[Place, Fetched]":
        with transfer(f"{snapshot} from {place.name}") as told:
            return place, await client.download(snapshot, target, told)

    place, fetched = through(call, fetch)
    archive = fetched.archive
    say(
        f"splitguard: {bytes_text(fetched.size_bytes)} fetched from {place.name}, and"
        f" read through: {safe(archive.format)} format, of a manager"
        f" {safe(archive.version)}, {archive.members} members"
    )
    return {
        "manager": place.name,
        "id": snapshot,
        "file": str(fetched.path),
        "bytes": fetched.size_bytes,
        "sha256": fetched.sha256,
        "format": archive.format,
        "version": archive.version,
        "members": archive.members,
        "counts": dict(archive.counts),
    }


def upload(call: ManagerCall, source: str, snapshot: str | None) -> dict[str, Any]:
    """Give a manager a file, or an address. Raises ManagerError."""
    from agent.cli.vnfm_progress import transfer
    from agent.cli.vnfm_work import snapshot_plain, through

    if "://" in source:
        return _from_address(call, source, snapshot)
    path = Path(source)
    if not path.is_file():
        raise SnapshotError(
            f"there is no file {path}" if not path.exists() else f"{path} is no file",
            "name a snapshot's zip, or an address that begins with http",
        )
    name = _id_of(path.name, snapshot)

    async def send(
        place: Place, client: "ManagerClient"
    ) -> "tuple[Place, ManagerSnapshot]":
        with transfer(f"{path.name} to {place.name}") as told:
            return place, await client.upload(name, path, told)

    place, uploaded = through(call, send)
    say(f"splitguard: {place.name} has it as {name}; its length is the file's")
    return {
        "manager": place.name,
        "snapshot": snapshot_plain(uploaded),
        "source": str(path),
    }


def _from_address(
    call: ManagerCall, source: str, snapshot: str | None
) -> dict[str, Any]:
    from agent.cli.vnfm_work import snapshot_plain, through

    check_address(source, "URL")
    name = _id_of(source.partition("?")[0].rpartition("/")[2], snapshot)

    async def send(
        place: Place, client: "ManagerClient"
    ) -> "tuple[Place, ManagerSnapshot]":
        say(
            f"splitguard: {place.name} fetches it by itself; nobody looks what is in it"
        )
        return place, await client.upload_from_url(name, source)

    place, uploaded = through(call, send)
    return {
        "manager": place.name,
        "snapshot": snapshot_plain(uploaded),
        "source": source,
    }


def _id_of(file: str, snapshot: str | None) -> str:
    """Return the id that was given, or that the file's name gives."""
    if snapshot is not None:
        return check_id(snapshot, "--snapshot-id")
    name = file.removesuffix(".zip")
    if _ID.fullmatch(name) is None:
        raise typer.BadParameter(
            f"{name[:80]!r} is no id; name one: --snapshot-id ID",
            param_hint="PATH|URL",
        )
    return name


def not_ready(snapshot: "ManagerSnapshot") -> ManagerError | None:
    """Return why a snapshot cannot be restored yet; None when it can."""
    from agent.vnfm.records import SnapshotStatus

    if snapshot.status is SnapshotStatus.CREATING:
        return ManagerError(
            f"snapshot {snapshot.id} is still being made",
            f"`splitguard vnfm snapshots status {snapshot.id}` says how that stands",
        )
    if snapshot.status is SnapshotStatus.FAILED:
        why = safe(snapshot.error) or "no reason was told"
        return ManagerError(
            f"snapshot {snapshot.id} failed: {why}",
            "choose another: `splitguard vnfm snapshots list`",
        )
    return None
