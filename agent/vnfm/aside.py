"""A file that is on its way: aside, with a note of what it is the beginning of.

Theory of operation. `.NAME.part` grows beside the place where the file will be, and
`.NAME.part.json` says of which archive it is the beginning: whose, and its ETag. Only
one process at a time writes it, which a lock on the file sees to. Nobody else may read
it: an archive holds keys. It blocks. Whoever was cancelled may leave a thread here that
still writes: so one thing is done at a time, and nothing once it is closed.
"""

import fcntl
import json
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from agent.errors import ManagerError
from agent.snapshot.files import fsync_path
from agent.transport import Answer

BLOCK_BYTES = 1 << 20
PRIVATE = 0o600


class Aside:
    """The beginning of the file `target`."""

    def __init__(self, target: Path, source: str, handle: int) -> None:
        self._target = target
        self._source = source
        self._handle = handle
        self._lock = threading.RLock()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.path = _aside(target)
        self._note = target.with_name(f".{target.name}.part.json")
        self.size = os.fstat(handle).st_size
        """Bytes that were written."""
        self.total: int | None = None
        """Bytes that it will have, where that is known."""
        if self.size and not self._tag():
            self._empty()

    @classmethod
    def begin(cls, target: Path, source: str) -> "Aside":
        """Open it, or what came of it before.

        Raises ManagerError where the target is there, or somebody else is at it.
        """
        if os.path.lexists(target):
            raise ManagerError(
                f"{target} is there already", "name another file; nothing was changed"
            )
        path = _aside(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            handle = os.open(path, flags, PRIVATE)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(handle)
                raise ManagerError(
                    f"{target} is being fetched by another process", "wait for that one"
                ) from error
        except OSError as error:
            raise ManagerError(
                f"{path}: {error.strerror}", "name a folder that can be written to"
            ) from error
        return cls(target, source, handle)

    def headers(self) -> dict[str, str]:
        """Return what to send so that only what is missing comes."""
        tag = self._tag()
        if not self.size or not tag:
            return {}
        return {"range": f"bytes={self.size}-", "if-range": tag}

    def begins(self, answer: Answer, *, partial: bool) -> None:
        """Make ready for an answer's body.

        Raises ManagerError where its disk has no room for it, and OSError.
        """
        if not partial:
            self._empty()
        elif not answer.headers.get("content-range", "").startswith(
            f"bytes {self.size}-"
        ):
            raise ManagerError(
                "the answer is another part than was asked for",
                "fetch it again, from its beginning",
                status=answer.status,
            )
        length = answer.headers.get("content-length", "")
        self.total = self.size + int(length) if length.isdecimal() else None
        self._check_room(int(length) if length.isdecimal() else 0)
        tag = answer.headers.get("etag", "")
        note = {"source": self._source, "etag": tag}
        self._note.write_text(json.dumps(note), "utf-8")

    def take(self, piece: bytes) -> bool:
        """Take a piece; return whether it is time to write."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        return self._waiting >= BLOCK_BYTES

    def flush(self) -> None:
        """Write what was taken. Raises OSError; what was written counts."""
        with self._lock:
            block = memoryview(b"".join(self._pieces))
            self._pieces, self._waiting = [], 0
            while block and self._handle >= 0:
                written = os.write(self._handle, block)
                self.size += written
                block = block[written:]

    def name_it(self) -> None:
        """Give it its name, durably. Raises OSError, and ManagerError as begin does."""
        os.fsync(self._handle)
        if os.path.lexists(self._target):
            raise ManagerError(
                f"{self._target} has come to be there meanwhile", "name another file"
            )
        self.path.rename(self._target)
        self._note.unlink(missing_ok=True)
        fsync_path(self._target.parent.resolve())  # it may be a link to a folder

    def forget(self) -> None:
        """Give up what came, so that the next try begins anew."""
        with self._lock, suppress(OSError):
            self._empty()
            self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, and remove it where nothing came."""
        with self._lock:
            if not self.size:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
                    self._note.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1

    def _empty(self) -> None:
        os.ftruncate(self._handle, 0)
        self.size, self.total = 0, None
        self._pieces, self._waiting = [], 0

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._target.parent).free
        if needed > free:
            raise ManagerError(
                f"{self._target.parent}: {needed} bytes are to come, {free} are free",
                "make room, or choose another folder; nothing was written",
            )

    def _tag(self) -> str:
        """Return the ETag of what came; empty when it is another archive's."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return ""
        if not isinstance(note, dict) or note.get("source") != self._source:
            return ""
        tag = note.get("etag")
        return tag if isinstance(tag, str) and tag.isascii() else ""


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")
