"""The record of rescues: who put what into which server, when and why.

Theory of operation. Each rescue writes a line before its transaction and one after it,
so that one which was cut off is seen as begun. The lines lie beside the rows,
`loss/rescues.jsonl` in the snapshot's folder; what one rescue refused, left out or
renumbered lies in a folder of its own below `loss/rescues`. Written durably, never
rewritten.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.divergence.rescue_apply import Result
from agent.divergence.rescue_script import MAPPING
from agent.divergence.shelf import make_folder, own
from agent.snapshot.files import PRIVATE_FILE, fsync_path, write_all

JOURNAL = "rescues.jsonl"
FOLDER = "rescues"
REFUSED = "refused.jsonl"
LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True, slots=True)
class Act:
    """One rescue of one database, as a person ordered it."""

    at: str
    """When, in UTC."""
    who: str
    reason: str
    database: str
    server: str
    """Host and port, never a password."""
    options: Mapping[str, str]


def instant(wall_s: float) -> str:
    """Return an instant as it is written."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def note(
    folder: Path, act: Act, phase: str, result: Result | None = None, error: str = ""
) -> None:
    """Append a line to the record; on disk when it returns. Raises OSError."""
    plain = {**asdict(act), "options": dict(act.options), "phase": phase}
    if result is not None:
        plain["tables"] = {name: dict(each) for name, each in result.tables.items()}
        plain["left_out"] = dict(result.reasons)
    if error:
        plain["error"] = error
    path = folder / JOURNAL
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    handle = os.open(path, flags, PRIVATE_FILE)
    try:
        write_all(handle, memoryview((json.dumps(plain) + "\n").encode("ascii")))
        os.fsync(handle)
    finally:
        os.close(handle)
    own(path)
    fsync_path(folder)


def keep_details(
    folder: Path, act: Act, result: Result, mapping: Iterable[bytes]
) -> Path | None:
    """Write what was refused, left out and renumbered; return where, if anything was.

    `mapping` is the CSV of new keys. Raises OSError.
    """
    refused = result.refusals
    if not refused and not result.left_out and not result.new_keys:
        return None
    make_folder(folder / FOLDER)
    stem = act.at.replace(":", "")
    place = folder / FOLDER / stem
    number = 1
    while place.exists():
        number += 1
        place = folder / FOLDER / f"{stem}-{number}"
    make_folder(place)
    if refused:
        _write(
            place / REFUSED,
            (json.dumps(asdict(each)).encode("ascii") + b"\n" for each in refused),
        )
    if result.left_out:
        lines = (json.dumps(asdict(each)).encode("ascii") for each in result.left_out)
        _write(place / LEFT_OUT, (line + b"\n" for line in lines))
    if result.new_keys:
        _write(place / MAPPING, mapping)
    fsync_path(place)
    return place


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    own(path)
