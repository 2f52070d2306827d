"""The stand-in manager's own snapshots: a zip of its rows, and back.

The layout is the manager's newer one: `metadata.json`, and for each kind a file
`tenants/TENANT/NNNNNNNN.json` with `{"type", "items"}`. A restore merges: what is
there already stays as it is.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.lab.database import Item
from agent.lab.schema import KINDS

VERSION = "7.0.5"
MEMBER_BYTES_MAX = 64 * 1024 * 1024


class UnreadableArchiveError(Exception):
    """The archive is not one that a manager has made."""


def write_archive(
    path: Path, tenant: str, rows: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """Write the rows of each kind, aside and then under the name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        metadata = {"snapshot_version": VERSION, "execution_id": path.stem}
        archive.writestr("metadata.json", json.dumps(metadata))
        for number, kind in enumerate(KINDS):
            items = [{"id": row["id"], "content": row["content"]} for row in rows[kind]]
            member = {"type": kind, "items": items}
            archive.writestr(f"tenants/{tenant}/{number:08d}.json", json.dumps(member))
    fresh.chmod(0o600)
    fresh.replace(path)


def read_archive(path: Path) -> Iterator[Item]:
    """Yield what an archive holds. Raises UnreadableArchiveError."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                parts = name.split("/")
                if parts[0] == "tenants" and name.endswith(".json"):
                    yield from _items(archive, name, parts[1])
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise UnreadableArchiveError(f"not a manager's snapshot: {error}") from error


def _items(archive: zipfile.ZipFile, name: str, tenant: str) -> Iterator[Item]:
    if archive.getinfo(name).file_size > MEMBER_BYTES_MAX:
        raise UnreadableArchiveError(f"{name} is too large")
    member = json.loads(archive.read(name))
    if member["type"] in KINDS:
        for item in member["items"]:
            yield Item(member["type"], str(item["id"]), str(item["content"]), tenant)
