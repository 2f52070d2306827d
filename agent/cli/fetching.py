"""How an archive comes from another machine: in pieces, resumed, compared.

Theory of operation. What has come lies in a file aside, with a note of which archive it
is the beginning of (its ETag). A transfer that breaks off is taken up by itself while
it makes progress, and otherwise by the same command later: only the rest is asked for,
and only if the archive there is still the same. At the end the whole file is read back
from disk and compared with the SHA-256 that the agent computes anew; then, and not
before, it gets its name.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.cli import address, shelf
from agent.cli.call import Call, segment
from agent.cli.client import AgentClient, RefusedError
from agent.cli.console import bytes_text, safe, say
from agent.errors import AgentUnreachableError, SnapshotError, SplitguardError
from agent.snapshot.files import fsync_path, write_all
from agent.transport import Answer

TRIES_MAX = 20
"""A transfer that breaks off more often waits for a person."""
STALLED_MAX = 3
"""So many tries in a row without a byte are enough."""
PAUSE_S = 0.2
"""Between two tries; doubled for each that brought nothing."""
DIGEST_DEADLINE_S = 3600.0
"""The agent reads the whole archive at the speed of its disk."""
PARTIAL = 206
OUT_OF_RANGE = 416


def agent_with(call: Call, snapshot: str) -> AgentClient:
    """Return the agent beside which the snapshot lies. Raises SnapshotError."""
    if call.url is not None:
        return call.agent
    known = call.agent.get("/v1/snapshots")
    if any(one["id"] == snapshot for one in known["snapshots"]):
        return call.agent
    for one in known["elsewhere"]:
        if one["id"] == snapshot and one["agent_url"] is not None:
            say(f"splitguard: it lies beside {safe(one['reporter'])}")
            found = address.find(call.config, None, one["agent_url"], call.token_file)
            return AgentClient(found)
    raise SnapshotError(
        f"no agent is known to have snapshot {safe(snapshot)}",
        "ids are listed by `splitguard snapshots list`; or give --url",
    )


@dataclass
class Fetch:
    """One archive on its way into a file."""

    agent: AgentClient
    snapshot: str
    target: Path

    def __post_init__(self) -> None:
        self._path = f"/v1/snapshots/{segment(self.snapshot)}/archive"
        self._aside = self.target.with_name(f".{self.target.name}.part")
        self._note = self.target.with_name(f".{self.target.name}.part.json")

    def run(self) -> dict[str, Any]:
        """Fetch, compare, rename. Raises SnapshotError, AgentUnreachableError."""
        try:
            with shelf.progress_bar("fetching") as show:
                self._fetch(show)
            return self._check()
        except SplitguardError:
            if not self._have():
                self._forget()
            raise
        except OSError as error:
            place = error.filename or self._aside
            raise SnapshotError(f"{place}: {error.strerror}") from error

    def _fetch(self, show: Callable[[int, int], None]) -> None:
        stalled = 0
        for _ in range(TRIES_MAX):
            before = self._have()
            try:
                self._once(show)
            except AgentUnreachableError as error:
                stalled = 0 if self._have() > before else stalled + 1
                if stalled >= STALLED_MAX or not self._have():
                    raise self._broken(error) from error
                threading.Event().wait(PAUSE_S * 2**stalled)
                continue
            except RefusedError as error:
                if error.status != OUT_OF_RANGE:
                    raise
                self._forget()
                continue
            return
        raise self._broken(AgentUnreachableError("it broke off too often"))

    def _broken(self, error: AgentUnreachableError) -> AgentUnreachableError:
        have = self._have()
        if not have:
            return error
        hint = f"{bytes_text(have)} are kept; the same command goes on from there"
        return AgentUnreachableError(error.message, hint)

    def _once(self, show: Callable[[int, int], None]) -> None:
        """Ask for what is missing; append it, or begin anew when it is another one."""
        have, tag = self._have(), self._tag()
        headers = {"range": f"bytes={have}-", "if-range": tag} if have and tag else {}
        total = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        # It holds a whole database: nobody else may read it.
        handle = os.open(self._aside, flags, 0o600)
        with os.fdopen(handle, "ab", buffering=0) as file:

            def begin(answer: Answer) -> None:
                nonlocal total
                if answer.status != PARTIAL:
                    file.truncate(0)
                total = self._have() + int(answer.headers.get("content-length", 0))
                note = json.dumps({"etag": answer.headers.get("etag", "")})
                self._note.write_text(note, "utf-8")

            def write(piece: bytes) -> None:
                write_all(handle, memoryview(piece))
                show(self._have(), total)

            try:
                self.agent.download(self._path, write, headers=headers, begin=begin)
            finally:
                os.fsync(file.fileno())

    def _check(self) -> dict[str, Any]:
        """Compare what lies on disk with what the agent reads now, and rename it."""
        said = self.agent.get(f"{self._path}/digest", deadline_s=DIGEST_DEADLINE_S)
        digest = hashlib.sha256()
        with self._aside.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != said["sha256"]:
            changed = said["etag"] != self._tag()
            self._forget()
            raise SnapshotError(
                f"what was fetched of {safe(self.snapshot)} is not what lies there:"
                f" its SHA-256 is another one",
                "the snapshot was changed meanwhile; fetch it again"
                if changed
                else "fetch it again; if it happens twice, verify the snapshot there",
            )
        size = self._have()
        self._aside.rename(self.target)
        self._note.unlink(missing_ok=True)
        fsync_path(self.target.parent.resolve())  # it may be a link to a folder
        return {
            "id": self.snapshot,
            "file": str(self.target),
            "bytes": size,
            "sha256": said["sha256"],
        }

    def _have(self) -> int:
        try:
            return self._aside.stat().st_size
        except FileNotFoundError:
            return 0

    def _tag(self) -> str:
        try:
            note = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return ""
        tag = note.get("etag") if isinstance(note, dict) else None
        return tag if isinstance(tag, str) else ""

    def _forget(self) -> None:
        self._aside.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
