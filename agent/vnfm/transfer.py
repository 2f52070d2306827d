"""Archives on their way: to a manager, and off it into a file.

Theory of operation. What comes lies in a file aside, with a note of which archive it
is the beginning of; what breaks off goes on where it was, if the archive there is still
the same. It gets its name once its length is right and every member of the zip was
read; a disk without room is seen before, or half-way, and then nothing is left behind.
Nothing is ever sent that does not open, because managers take any bytes. Files are read
and written on threads: gigabytes must not hold up the loop.
Source: nginx in front of the REST service; `upload_manager` in it.
"""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.errors import ManagerError
from agent.ports import Clock
from agent.transport import Answer, Request, TransportError
from agent.vnfm import shapes
from agent.vnfm.apart import apart
from agent.vnfm.archive import Archive, check_archive
from agent.vnfm.aside import Aside
from agent.vnfm.records import ManagerSnapshot, SnapshotStatus
from agent.vnfm.refusals import object_of
from agent.vnfm.wire import ANSWER_MAX_BYTES, Query, Wire

Progress = Callable[[int, int | None], object]
"""Called with the bytes so far, and with the whole where it is known."""
BLOCK_BYTES = 1 << 20
IDLE_S = 120.0
"""A transfer that is silent for so long has broken off."""
TAKEN_S = 900.0
"""The manager copies an archive once more after its last byte, before it answers."""
FETCHED_S = 3600.0
"""The longest that it may take to fetch one from an address."""
TRIES_MAX = 100
"""A line that breaks more often waits for the next call, which goes on."""
STALLED_MAX = 3
"""So many tries in a row without a byte are enough."""
PAUSE_S = 1.0
COPIED_S = 60.0
"""In a cluster an archive reaches the other managers by and by: so long it is tried."""
COPIED_POLL_S = 5.0
PARTIAL = 206
NOT_FOUND = 404
OUT_OF_RANGE = 416
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive that came whole, and opens."""

    path: Path
    size_bytes: int
    sha256: str
    archive: Archive
    """What is in it."""


class Sender:
    """Sends one archive; `path` is the snapshot's below /api/v3.1."""

    def __init__(self, wire: Wire, path: str, snapshot_id: str) -> None:
        self._wire = wire
        self._path = f"{path}/archive"
        self._what = f"upload snapshot {snapshot_id}"

    async def send(self, file: Path, told: Progress | None) -> None:
        """Check the archive and send it. Raises ManagerError."""
        archive = await apart(lambda: check_archive(file))
        size = archive.size_bytes
        login = self._wire.login()
        headers = {**(login.headers() if login else {}), "content-type": OCTETS}
        request = self._request("PUT", headers)
        try:
            opened = await apart(lambda: file.open("rb"))
            with opened:
                async with self._wire.stream() as http:
                    answer = await http.upload(
                        request,
                        _pieces(opened, size, file, told),
                        size,
                        idle_s=IDLE_S,
                        answer_s=TAKEN_S,
                    )
        except TransportError as error:
            raise self._wire.unanswered(error, self._what) from error
        except OSError as error:
            raise ManagerError(f"{file}: {error.strerror or error}") from error
        self._taken(self._wire.check(answer, self._what, login))
        await self._compare(size)

    async def have_fetched(self, url: str) -> None:
        """Have the manager fetch it from an address. Raises ManagerError."""
        login = self._wire.login()
        headers = login.headers() if login else {}
        request = self._request("PUT", headers, {"snapshot_archive_url": url})
        try:
            async with self._wire.stream() as http:
                answer = await http.request(request, FETCHED_S)
        except TransportError as error:
            raise self._wire.unanswered(error, self._what) from error
        try:
            self._taken(self._wire.check(answer, self._what, login))
        except ManagerError as error:
            raise ManagerError(
                error.message,
                error.hint or "can the manager reach that address?",
                status=error.status,
                code=error.code,
            ) from error

    def _request(
        self, method: str, headers: dict[str, str], query: Query | None = None
    ) -> Request:
        return Request(
            method,
            self._wire.url(self._path, query),
            headers,
            limit_bytes=ANSWER_MAX_BYTES,
            once=True,
        )

    def _taken(self, answer: Answer) -> None:
        """Raise unless the manager says that it has made a snapshot of it."""
        if not answer.ok:
            raise self._wire.refusal(answer, self._what)
        if shapes.snapshot(self._wire.object(answer, self._what)) is None:
            raise ManagerError(
                f"{self._wire.place}: cannot {self._what}: another one of that id came"
                " in between, and its archive is overwritten with this one",
                "delete that snapshot there, and upload both again under ids of their"
                " own",
                status=answer.status,
            )

    async def _compare(self, size: int) -> None:
        """Raise where the manager has another length than was sent."""
        login = self._wire.login()
        request = self._request("HEAD", login.headers() if login else {})
        try:
            async with self._wire.stream() as http:
                answer = await http.request(request, IDLE_S)
        except TransportError:
            return  # it has taken it; that there is no second look is no failure
        there = answer.headers.get("content-length", "")
        if answer.ok and there.isdecimal() and int(there) not in (0, size):
            raise ManagerError(
                f"{self._wire.place}: {self._what}: it holds {there} bytes of the"
                f" {size} that were sent",
                "is its disk full? Delete that snapshot there and upload it again",
            )


class Taker:
    """Fetches one archive into `target`, which must not exist yet."""

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        path: str,
        snapshot: ManagerSnapshot,
        target: Path,
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._url = wire.url(f"{path}/archive")
        self._id = snapshot.id
        self._status = snapshot
        self._target = target
        self._what = f"fetch snapshot {snapshot.id}"
        self._missing_since_s: float | None = None

    async def take(self, told: Progress | None) -> Fetched:
        """Fetch it, read it, name it. Raises ManagerError."""
        self._check_status()
        source = f"{self._wire.place} {self._id}"
        aside = await apart(lambda: Aside.begin(self._target, source))
        try:
            await self._whole(aside, told)
            archive = await apart(lambda: check_archive(aside.path))
            await apart(aside.name_it)
        except ManagerError as error:
            raise self._ended(aside, error) from error
        except OSError as error:
            raise self._no_room(aside, error) from error
        finally:
            aside.close()
        return Fetched(self._target, archive.size_bytes, archive.sha256, archive)

    def _check_status(self) -> None:
        """Raise where there is nothing to fetch; nginx would only say 404."""
        status, where = self._status.status, self._wire.place
        if status is SnapshotStatus.CREATING:
            raise ManagerError(
                f"{where}: snapshot {self._id} is still being made",
                "wait for it: `splitguard vnfm snapshots status`; one that stays so has"
                " an execution that hangs",
                code="snapshot_action_error",
            )
        if status is SnapshotStatus.FAILED:
            reason = f": {self._status.error}" if self._status.error else ""
            raise ManagerError(
                f"{where}: snapshot {self._id} failed{reason}",
                "there is nothing in it: delete it and make a new one",
                code="snapshot_action_error",
            )

    async def _whole(self, aside: Aside, told: Progress | None) -> None:
        """Ask until all of it has come, while there is any progress."""
        stalled = 0
        for _ in range(TRIES_MAX):
            before = aside.size
            try:
                answer = await self._once(aside, told)
            except TransportError as error:
                stalled = 0 if aside.size > before else stalled + 1
                if stalled >= STALLED_MAX or not aside.size:
                    raise self._wire.unanswered(error, self._what) from error
                await self._clock.sleep(PAUSE_S * 2**stalled)
                continue
            if answer.ok:
                return self._check_length(aside)
            await self._refused(aside, answer)
        raise ManagerError(f"{self._wire.place}: cannot {self._what}: it breaks off")

    async def _once(self, aside: Aside, told: Progress | None) -> Answer:
        """Ask for what is missing, and write it down as it comes."""
        login = self._wire.login()
        headers = {**(login.headers() if login else {}), **aside.headers()}

        def begin(answer: Answer) -> None:
            aside.begins(answer, partial=answer.status == PARTIAL)
            if told is not None:
                told(aside.size, aside.total)

        def write(piece: bytes) -> Awaitable[None] | None:
            return self._written(aside, told) if aside.take(piece) else None

        try:
            async with self._wire.stream() as http:
                answer = await http.download(
                    Request("GET", self._url, headers), write, IDLE_S, begin
                )
        finally:
            # What came is kept, also when it breaks off.
            await apart(aside.flush)
        if told is not None and answer.ok:
            told(aside.size, aside.total)
        return self._wire.check(answer, self._what, login)

    async def _written(self, aside: Aside, told: Progress | None) -> None:
        await apart(aside.flush)
        if told is not None:
            told(aside.size, aside.total)

    async def _refused(self, aside: Aside, answer: Answer) -> None:
        """Return where asking again can help. Raises ManagerError."""
        if answer.status == OUT_OF_RANGE and aside.size:
            aside.forget()
            return
        if answer.status != NOT_FOUND or object_of(answer) is not None:
            raise self._wire.refusal(answer, self._what)
        now_s = self._clock.moment().monotonic_s
        if self._missing_since_s is None:
            self._missing_since_s = now_s
        if now_s - self._missing_since_s >= COPIED_S:
            raise ManagerError(
                f"{self._wire.place}: lists snapshot {self._id}, but its archive is not"
                " on this manager's disk",
                "in a cluster it lies on the manager that made it: ask that one; and"
                " look whether Syncthing (port 22000) runs",
                status=answer.status,
            )
        await self._clock.sleep(COPIED_POLL_S)

    def _check_length(self, aside: Aside) -> None:
        if not aside.size:
            raise ManagerError(
                f"{self._wire.place}: cannot {self._what}: an empty answer",
                "archives come from nginx, on port 80 or 443, and not from the REST"
                " service behind it (8100)",
            )
        if aside.total is not None and aside.total != aside.size:
            raise ManagerError(
                f"{self._wire.place}: cannot {self._what}: {aside.size} bytes came of"
                f" {aside.total}"
            )

    def _ended(self, aside: Aside, error: ManagerError) -> ManagerError:
        """Return the error; keep what came only where more of it can follow."""
        unfinished = error.status is None and aside.total not in (None, aside.size)
        if not unfinished or not aside.size:
            aside.forget()
            return error
        return ManagerError(
            error.message,
            f"{aside.size} bytes are kept; the same command goes on from there"
            + (f"; {error.hint}" if error.hint else ""),
        )

    def _no_room(self, aside: Aside, error: OSError) -> ManagerError:
        came = aside.size
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            aside.forget()  # what fills the disk may be beside a database
            return ManagerError(
                f"{self._target.parent}: no room left after {came} bytes of snapshot"
                f" {self._id}; nothing of it is left there",
                "make room, or choose another folder; the snapshot is still on the"
                " manager",
            )
        return ManagerError(f"{error.filename or aside.path}: {error.strerror}")


async def _pieces(
    file: BinaryIO, size: int, path: Path, told: Progress | None
) -> AsyncIterator[bytes]:
    """Yield a file of `size` bytes. Raises ManagerError where it has another size."""
    sent = 0
    while block := await apart(lambda: file.read(BLOCK_BYTES)):
        if sent + len(block) > size:
            break
        yield block
        sent += len(block)
        if told is not None:
            told(sent, size)
    if sent != size or os.fstat(file.fileno()).st_size != size:
        raise ManagerError(f"{path} changed while it was sent", "upload it again")
