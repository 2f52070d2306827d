"""What a run has done, line by line, so that it can go on where it stopped.

Theory of operation. One file for one run, JSON lines, each written through to the disk
before the run goes on. The first line says which scenario, the others what became of a
step, with what was learnt in it. A last line that was cut short by a crash is left out;
a step that was begun and not ended is done again. Nothing in it is secret: no password
is ever a fact.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.errors import ManagerError

LIMIT_BYTES = 16 << 20
FOLDER = "recovery"
"""Below state_dir."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a run is about."""

    scenario: str
    cluster: str
    generation: str
    began: str
    """RFC 3339, UTC."""


@dataclass
class Journal:
    """The journal of one run; open as long as the run goes on."""

    path: Path
    header: Header
    facts: dict[str, str] = field(default_factory=dict)
    done: set[tuple[str, str]] = field(default_factory=set)
    """Steps that are behind us, with their node."""
    ended: bool = False
    file: int = -1
    """Its descriptor; -1: closed."""

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has written here."""
        return bool(self.done or self.facts)

    def told(
        self,
        at: str,
        step: tuple[str, str],
        state: str,
        told: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Write what became of a step and node: begun, noted, told, done.

        Raises ManagerError when it cannot be written: then nothing more may be done.
        """
        learnt = dict(facts or {})
        self.write(
            {
                "at": at,
                "step": step[0],
                "node": step[1],
                "state": state,
                "told": told,
                "facts": learnt,
            }
        )
        self.facts.update(learnt)
        if state == "done":
            self.done.add(step)

    def end(self, at: str, told: str) -> None:
        """Write that the run came to its end."""
        self.write({"at": at, "state": "ended", "told": told})
        self.ended = True

    def close(self) -> None:
        """Let another run have it."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write one entry through to the disk. Raises ManagerError."""
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            os.write(self.file, line)
            os.fsync(self.file)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def begin(path: Path, header: Header) -> Journal:
    """Make a new journal; no file is overwritten. Raises ManagerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    _lock(path, file)
    made = Journal(path, header, file=file)
    made.write({"at": header.began, "state": "began", **_header_out(header)})
    return made


def resume(path: Path) -> Journal:
    """Open the journal of an earlier run. Raises ManagerError."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _lock(path, file)
        found, torn_bytes = _read(path, file)
        if torn_bytes:
            # Else the next line would be the end of this one.
            os.ftruncate(file, os.fstat(file).st_size - torn_bytes)
    except BaseException:
        os.close(file)
        raise
    found.file = file
    return found


def unfinished(folder: Path, scenario: str) -> Path | None:
    """Return the newest journal of this scenario, if its run did not end.

    Raises ManagerError when it cannot be read.
    """
    try:
        files = sorted(folder.glob(f"{scenario}-2*.jsonl"))
    except OSError:
        return None
    if not files:
        return None
    try:
        file = os.open(files[-1], os.O_RDONLY)
    except OSError as error:
        raise _unwritable(files[-1], error) from error
    try:
        found, _ = _read(files[-1], file)
    finally:
        os.close(file)
    return None if found.ended else files[-1]


def place_of(folder: Path, header: Header) -> Path:
    """Return where a new run's journal goes."""
    moment = header.began.replace("-", "").replace(":", "")
    return folder / f"{header.scenario}-{moment}.jsonl"


def time_text(wall_s: float) -> str:
    """Return an instant in RFC 3339, UTC."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(path: Path, file: int) -> tuple[Journal, int]:
    """Return what is written, and how many bytes at the end are half a line."""
    content = os.pread(file, LIMIT_BYTES + 1, 0)
    if len(content) > LIMIT_BYTES:
        raise ManagerError(f"{path} is too large for a journal", _HINT)
    whole, _, torn = content.rpartition(b"\n")
    try:
        entries = [json.loads(line) for line in whole.splitlines()]
        head = entries[0]
        header = Header(
            str(head["scenario"]),
            str(head["cluster"]),
            str(head["generation"]),
            str(head["at"]),
        )
        found = Journal(path, header)
        for entry in entries[1:]:
            _take(found, entry)
    except (
        ValueError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ManagerError(f"{path} is no journal of a recovery", _HINT) from error
    return found, len(torn)


_HINT = "name another file with --journal, or begin anew with --anew"


def _take(found: Journal, entry: dict[str, Any]) -> None:
    if entry["state"] == "ended":
        found.ended = True
        return
    facts = entry["facts"].items()
    found.facts.update({str(name): str(value) for name, value in facts})
    if entry["state"] == "done":
        found.done.add((str(entry["step"]), str(entry["node"])))


def _lock(path: Path, file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ManagerError(
            f"another run is at work with {path}",
            "wait for its end, or end it; what it has done stays done",
        ) from error


def _header_out(header: Header) -> dict[str, str]:
    return {
        "scenario": header.scenario,
        "cluster": header.cluster,
        "generation": header.generation,
    }


def _unwritable(path: Path, error: OSError) -> ManagerError:
    hint = "name another place with --journal FILE"
    if isinstance(error, FileExistsError):
        hint = "name another file with --journal FILE"
    return ManagerError(f"the journal {path}: {error.strerror}", hint)
