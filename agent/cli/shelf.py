"""Work on snapshots that needs no agent, and the wait for one that an agent takes.

Theory of operation. The same shapes as the HTTP API gives, made from the manifests, so
that a program does not notice who answered. Progress goes to stderr, and only when a
person looks at it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from agent.cli.call import segment
from agent.cli.client import AgentClient
from agent.cli.console import Out, say, words
from agent.cli.writing import Pour, Write
from agent.config.forms import parse_dsn
from agent.core.capture import Grade
from agent.errors import SnapshotError
from agent.postgres.programs import Programs
from agent.snapshot import archive, marks
from agent.snapshot.manifest import Manifest
from agent.snapshot.manifest import read as read_manifest
from agent.snapshot.opening import check_opened, open_copy
from agent.snapshot.sealing import Identity, Seal, seal
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import VerifyResult, verify_and_record, verify_folder
from agent.transport import Answer

VERIFY_DEADLINE_S = 3600.0
"""A large snapshot is read back at the speed of its disk."""
POLL_S = 1.0
FINISHED = frozenset({"closed", "failed"})
ENOUGH = frozenset({"complete", "opened"})

Show = Callable[[int, int], None]
"""Takes what is done and what there is in all; 0 where that is not known."""


def plain(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Return a snapshot of this folder in the shape of the HTTP API."""
    mark = marks.kept(folder)
    kept = None
    if mark is not None:
        since = _instant(mark.wall_s)
        kept = {"who": mark.who, "reason": mark.reason, "since": since}
    end_lsn = manifest.end_lsn or manifest.tail_lsn
    return {
        "id": manifest.id,
        "node": manifest.node,
        "cluster": manifest.cluster,
        "created": _instant(manifest.created_wall_s),
        "grade": manifest.grade.value,
        "levels": [level.value for level in manifest.levels],
        "method": manifest.method,
        "method_note": manifest.method_note,
        "reason": manifest.reason,
        "incidents": list(manifest.incident_ids),
        "system_id": manifest.system_id,
        "timeline": manifest.timeline,
        "start_lsn": str(manifest.start_lsn),
        "end_lsn": str(end_lsn),
        "bytes": manifest.size_bytes,
        "files": len(manifest.files),
        "closed": manifest.closed,
        "rows_from": None if manifest.rows_from is None else str(manifest.rows_from),
        "rows_lsn": None if manifest.rows_lsn is None else str(manifest.rows_lsn),
        "side": None,
        "capture": None,
        "kept": kept,
        "offsite": _offsite(marks.twin(folder)),
    }


def _offsite(twin: marks.Twin | None) -> dict[str, Any] | None:
    if twin is None:
        return None
    when = twin.verified_wall_s
    return {
        "url": twin.url or None,
        "bytes": twin.size,
        "sha256": twin.sha256 or None,
        "verified": None if when is None else _instant(when),
        "attempts": twin.attempts,
        "error": twin.error or None,
    }


def _instant(wall_s: float) -> str:
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def await_capture(agent: AgentClient, begun: dict[str, Any]) -> dict[str, Any]:
    """Wait until the agent has a complete copy, or has failed; show progress."""
    path = f"/v1/snapshots/{segment(begun['id'])}"
    found = begun
    with progress_bar(f"snapshot {begun['id']}") as show:
        while not _is_done(found):
            found = agent.get(path, {"wait": POLL_S})
            capture = found["capture"]
            if capture is not None:
                show(capture["bytes_done"], capture["bytes_total"])
    return found


def _is_done(found: dict[str, Any]) -> bool:
    """Whether it has ended, or follows on with a complete copy in hand."""
    capture = found["capture"]
    if capture is None:
        return bool(found["closed"])
    following = capture["phase"] == "following" and capture["grade"] in ENOUGH
    return capture["phase"] in FINISHED or following


def verify(
    place: Path,
    programs: Programs | None,
    identities: Sequence[Identity] = (),
    *,
    opening: bool = False,
) -> dict[str, Any]:
    """Read a snapshot back, from its folder or its archive.

    With `opening` a clone is opened too, and every table asked for a row. Raises
    SnapshotError, PostgresError.
    """
    if place.is_dir():
        with progress_bar("reading back") as show:
            found = _verified(place, _check(place, show, programs))
        return _opened(place, found, programs) if opening else found
    with _scratch() as scratch:
        folder = Path(scratch) / "archive"
        with progress_bar("unpacking") as show:
            unpack(place, folder, identities, show)
        with progress_bar("reading back") as show:
            found = _verified(folder, verify_folder(folder, show, programs))
        return _opened(folder, found, programs) if opening else found


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="splitguard-verify-")
    except OSError as error:
        raise SnapshotError(
            f"an archive cannot be unpacked in the folder for temporary files:"
            f" {error.strerror}",
            "name one that is writable: TMPDIR",
        ) from error


def _opened(
    folder: Path, found: dict[str, Any], programs: Programs | None
) -> dict[str, Any]:
    """Open a clone of what was read back; return what is proven then."""
    if not found["ok"]:
        return found
    with ends_on_sigterm():
        result = check_opened(folder, None, programs)
    said = f"opened: {result.tables} tables in {result.databases} databases answer"
    grade = Grade.OPENED.value if result.good else found["grade"]
    return {
        **found,
        "ok": result.good,
        "grade": grade,
        "problems": list(result.problems),
        "notes": [*found["notes"], *([said] if result.good else [])],
    }


def _check(folder: Path, show: Show, programs: Programs | None) -> VerifyResult:
    """Verify, and record a better grade where the folder is our own.

    Root may write anywhere, but a manifest of root's would be closed to the agent.
    """
    if folder.stat().st_uid == os.geteuid():
        return verify_and_record(folder, show, programs)
    return verify_folder(folder, show, programs)


def _verified(folder: Path, result: VerifyResult) -> dict[str, Any]:
    manifest = read_manifest(folder)
    return {
        "id": manifest.id,
        "ok": result.good,
        "grade": result.grade.value,
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
        "problems": list(result.problems),
        "notes": list(result.notes),
    }


def whole(how: Seal, *, encrypt: bool) -> Seal:
    """Return how the archive as a whole is sealed."""
    return how if encrypt else replace(how, recipients=())


def local_archive(folder: Path, how: Seal, *, encrypt: bool) -> Pour:
    """Return what writes the archive of a snapshot of this machine, sealed.

    Without `encrypt` only the member with passwords and keys is encrypted.
    """

    def pour(write: Write) -> None:
        made = archive.Archive(folder, how.recipients)
        with progress_bar("writing") as show:
            counted = _counted(made.stream(), made.size, show)
            for piece in seal(counted, whole(how, encrypt=encrypt)):
                write(piece)

    return pour


def _counted(pieces: Iterator[bytes], total: int, show: Show) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        show(done, total)


def remote_archive(agent: AgentClient, snapshot_id: str) -> Pour:
    """Return what fetches the archive of a snapshot from an agent elsewhere.

    It comes as that agent gives it, a plain tar.
    """

    def pour(write: Write) -> None:
        done = total = 0

        def begin(answer: Answer) -> None:
            nonlocal total
            total = int(answer.headers.get("content-length", 0))

        with progress_bar("fetching") as show:

            def count(piece: bytes) -> None:
                nonlocal done
                write(piece)
                done += len(piece)
                show(done, total)

            path = f"/v1/snapshots/{segment(snapshot_id)}/archive"
            agent.download(path, count, begin=begin)

    return pour


@dataclass(frozen=True, slots=True)
class How:
    """How a clone is opened."""

    database: str
    programs: Programs | None
    identities: Sequence[Identity] = ()


def open_clone(out: Out, place: Path, how: How, command: list[str]) -> int:
    """Open a clone; run the command in it, or wait until told to end."""
    if command and shutil.which(command[0]) is None:
        raise SnapshotError(f"there is no program {command[0]} to run")
    say("splitguard: opening a clone; the snapshot itself is not touched")
    with (
        ends_on_sigterm(),
        open_copy(place, None, how.programs, how.identities) as opened,
    ):
        dsn = opened.dsn_for(how.database)
        if command:
            return _run(command, dsn)
        shown = {
            "id": opened.manifest.id,
            "dsn": dsn,
            "end_lsn": str(opened.end_lsn),
            "timeline": opened.manifest.timeline,
        }
        out.data(shown, lambda: words(dsn))
        say(f"splitguard: recovered to {opened.end_lsn}, read-only; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("splitguard: the clone is gone")
    return 0


def _run(command: list[str], dsn: str) -> int:
    environment = {**os.environ, **pg_environment(parse_dsn(dsn))}
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except OSError as error:
        raise SnapshotError(f"{command[0]} cannot be run: {error.strerror}") from error


def pg_environment(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's environment variables for a connection string."""
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "dbname": "PGDATABASE",
    }
    return {names[key]: value for key, value in pairs.items() if key in names}


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the wait as Ctrl-C does, so that nothing is left behind.

    SIGHUP too, with which a lost terminal ends its programs; not below nohup.
    """

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    caught = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(title: str) -> Iterator[Show]:
    """Give a function that shows progress on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("[bold]{task.description}", BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
