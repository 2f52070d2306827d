"""The note on disk that says how far a resync came.

Theory of operation. From the first change of the data folder to the start of the server
the folder alone does not tell what it is: half rewound, half cloned, or done and not
configured yet. The note does, with what the next run needs: where the old data is, and
the configuration that was saved. It is written aside, fsynced and renamed before each
step. It counts for the folder that it was written for and no other, and no longer once
a server runs there, or has run: somebody has gone on by hand. Every server that comes
up writes its pg_control, so a finished folder is known by the pg_control that it had.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.core.resync import Step
from agent.errors import GuardError

FOLDER = "resync"
"""Below state_dir: the note, and the configuration files that were saved."""
NOTE_BYTES_MAX = 64 * 1024
CONTROL_BYTES_MAX = 64 * 1024
FINISHED = (Step.REWOUND, Step.CLONED)
"""Steps after which only the configuration and the start are missing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a resync came."""

    step: Step
    data_dir: str
    source: str
    permit: str
    suffix: str = ""
    """What the names of the old data end in, while it is aside."""
    options: str = ""
    """With which options the server was started last."""
    control: str = ""
    """The SHA-256 of pg_control when the folder was finished; empty before that."""

    def untouched(self) -> bool:
        """Whether no server has run in the finished folder since."""
        return bool(self.control) and self.control == print_of(Path(self.data_dir))


class Notes:
    """The note of one node. Raises GuardError where the medium fails."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / FOLDER
        self.saved = self.folder / "configuration"
        self._path = self.folder / "note.json"

    def read(self) -> Mark | None:
        """Return the note; None when there is none."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(NOTE_BYTES_MAX))
            return Mark(**{**found, "step": Step(found["step"])})
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GuardError(
                f"{self._path} cannot be read: {error.strerror}",
                "run this as root, or as the owner of the data directory",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise GuardError(
                f"{self._path} is damaged: it should say how far the last resync came",
                "see whether the data directory, or one beside it that is called"
                " …splitguard-aside-…, is the one to keep; then remove the note",
            ) from error

    def write(self, mark: Mark) -> Mark:
        """Put the note on disk before the step that it names."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = self._path.with_suffix(".new")
            with aside.open("w", encoding="utf-8") as file:
                json.dump(asdict(mark), file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
            sync_folder(self.folder)
        except OSError as error:
            raise GuardError(
                f"{self._path} cannot be written: {error.strerror}",
                "run this as root, or as the owner of the data directory, with room in"
                " state_dir",
            ) from error
        return mark

    def advance(self, mark: Mark, step: Step) -> Mark:
        """Write the note with the next step."""
        control = print_of(Path(mark.data_dir)) if step in FINISHED else ""
        return self.write(replace(mark, step=step, control=control))

    def remove(self) -> None:
        """Take the note away: the folder tells by itself what it is again."""
        self._path.unlink(missing_ok=True)


def print_of(data_dir: Path) -> str:
    """Return the SHA-256 of a folder's pg_control; empty when it cannot be read."""
    try:
        with (data_dir / "global/pg_control").open("rb") as file:
            return hashlib.sha256(file.read(CONTROL_BYTES_MAX)).hexdigest()
    except OSError:
        return ""


def sync_folder(folder: Path) -> None:
    """See that renames in a folder are on disk. Raises OSError."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(file: Path) -> None:
    """See that what a file holds is on disk. Raises OSError."""
    _sync(file, 0)


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)
