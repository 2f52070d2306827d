"""Has a manager take a snapshot, fetches it, checks it, and puts it on the shelf.

Theory of operation. A manager says "created" before anybody knows that the file is
there, and has no checksum to give. So a snapshot counts only when the manager's
snapshot and its execution agree that it is done, the whole file has come, every member
of it was read back, and file and manifest were forced to the disk; then it is listed.
The certificate folders of the machine go along, encrypted or not at all. If the shelf's
disk has no room, that shows before the manager is troubled, and again while the file
comes. Whatever goes wrong, nothing is listed, and the error says what is left behind on
the manager: an execution that hangs there blocks its later ones.

It is removed from the manager afterwards only where that is configured, and only what
was made here. That this failed is a problem of the snapshot, and no failure.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from agent.errors import ManagerError, SnapshotError
from agent.ports import Clock
from agent.snapshot.files import (
    PRIVATE_FILE,
    fsync_path,
    read_blocks,
    settle_and_hash,
    write_all,
)
from agent.snapshot.sealing import Seal, encrypt, seal
from agent.vnfm.certificates import gather
from agent.vnfm.client import CreateOptions, Fetched, ManagerClient
from agent.vnfm.kept import CERTIFICATES, PROBLEMS_MAX, Kept
from agent.vnfm.records import SNAPSHOT_ENDS
from agent.vnfm.shelf import Shelf
from agent.vnfm.waiting import until_made

T = TypeVar("T")

LOOK_BYTES = 8 << 20
"""While a file comes, the room is looked at each time that so much has come."""
AFTERWARDS_S = 90.0
"""So long it is tried to remove from the manager what is not needed there."""
FETCH_S = 6 * 3600.0
"""The longest that a file may take to come; meanwhile no other one is made."""
ALLOWED_POLL_S = 1.0
CUT_OFF = (
    "this side may be cut off and has written nothing that others lack, and each login"
    " writes a row"
)
PREFIX = "sg-"


class OnThread(Protocol):
    """Runs a blocking call on a thread of its own and waits for its result."""

    async def __call__(self, call: Callable[[], T]) -> T:
        """Return what the call returns."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """A snapshot that is wanted."""

    id: str
    node: str
    reason: str
    scheduled: bool = False
    incident_ids: tuple[str, ...] = ()
    capture_id: str = ""


@dataclass(frozen=True, slots=True)
class Manner:
    """How snapshots are made and kept."""

    cluster: str
    options: CreateOptions
    wait_s: float
    """Within this the manager must have made it."""
    remove: bool = False
    """Whether it is removed from the manager once it is kept."""
    certificates: tuple[Path, ...] = ()
    recipients: tuple[str, ...] = ()
    """For whom it is encrypted; none: it is not, and certificates are not kept."""
    floor_bytes: Callable[[Path], int] = lambda _: 0
    """So much stays free on the volume of this folder."""
    may_ask: Callable[[], bool] = lambda: True
    """Whether a login may write a row now. While it may not, what is begun waits."""


def order_id(node: str, wall_s: float) -> str:
    """Return an id that no other snapshot of any tenant has.

    A manager keeps the files of all tenants side by side, by this id alone.
    """
    stamp = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in node
    )
    return f"{PREFIX}{name[:100]}-{stamp}"


class Keeper:
    """Keeps the snapshots of one manager."""

    def __init__(
        self,
        client: ManagerClient,
        shelf: Shelf,
        manner: Manner,
        clock: Clock,
        on_thread: OnThread,
    ) -> None:
        self._client = client
        self._shelf = shelf
        self._manner = manner
        self._clock = clock
        self._on_thread = on_thread

    async def keep(self, order: Order) -> Kept:
        """Have it made, fetch it and put it on the shelf.

        Raises ManagerError, with what is left on the manager; nothing is listed then.
        """
        created_wall_s = self._clock.moment().wall_s
        await self._on_thread(lambda: self._check_room(self._guess()))
        version = await self._client.version()
        folder = await self._on_thread(lambda: self._shelf.begin(order.id))
        try:
            made = await self._made(order)
            await self._until_allowed(order.id)
            target = folder / f"{order.id}.zip"
            fetched = await self._fetched(order.id, target)
            begun = Kept(
                id=order.id,
                node=order.node,
                manager=self._client.place,
                version=version.version,
                archive_format=fetched.archive.format,
                reason=order.reason,
                scheduled=order.scheduled,
                incident_ids=order.incident_ids,
                capture_id=order.capture_id,
                execution_id=made,
                created_wall_s=created_wall_s,
                kept_wall_s=self._clock.moment().wall_s,
                size_bytes=fetched.size_bytes,
                sha256=fetched.sha256,
                file=target.name,
                stored_bytes=fetched.size_bytes,
                stored_sha256=fetched.sha256,
                sealed=False,
                members=fetched.archive.members,
                counts=dict(fetched.archive.counts),
                cluster=self._manner.cluster,
            )
            kept = await self._on_thread(lambda: self._filed(begun, folder))
        except Exception:
            await self._on_thread(lambda: self._shelf.give_up(order.id))
            raise
        return await self._removed_there(kept) if self._manner.remove else kept

    async def _made(self, order: Order) -> str:
        """Have it made; return the execution's id once both states agree."""
        client = self._client
        manner = self._manner
        execution = await client.create(order.id, manner.options)
        try:
            await until_made(
                client,
                order.id,
                execution.id,
                manner.wait_s,
                may_ask=manner.may_ask,
            )
        except ManagerError:
            if self._manner.remove:
                await self._delete(order.id)
            raise
        return execution.id

    async def _until_allowed(self, snapshot_id: str) -> None:
        """Return once a login may write a row. Raises ManagerError after `wait_s`."""
        until_s = self._clock.moment().monotonic_s + self._manner.wait_s
        while not self._manner.may_ask():
            if self._clock.moment().monotonic_s >= until_s:
                raise ManagerError(
                    f"{snapshot_id} is made and was not fetched: {CUT_OFF}",
                    "it is still on the manager: `splitguard vnfm snapshots download`",
                )
            await self._clock.sleep(ALLOWED_POLL_S)

    async def _fetched(self, snapshot_id: str, target: Path) -> Fetched:
        """Fetch it whole, and see meanwhile that there is room. Raises ManagerError."""
        watch = _Watch(self._check_room, twice=bool(self._manner.recipients))
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._client.download(snapshot_id, target, watch)
        except TimeoutError as error:
            raise ManagerError(
                f"{snapshot_id} did not come within {FETCH_S / 3600:g} hours",
                "it is still on the manager; is the line to it so slow?",
            ) from error
        except ManagerError as error:
            if watch.error is not None:
                raise watch.error from error
            # Nothing of it is kept here, whatever was fetched.
            raise ManagerError(
                error.message,
                "it is still on the manager; the next one is fetched anew",
                status=error.status,
                code=error.code,
            ) from error

    async def _removed_there(self, kept: Kept) -> Kept:
        """Remove it from the manager; a failure is noted and no more."""
        problem = await self._delete(kept.id)
        problems = (*kept.problems, problem) if problem else kept.problems
        after = replace(kept, removed_there=not problem, problems=problems)
        with suppress(ManagerError):  # it is kept all the same
            await self._on_thread(lambda: self._shelf.renew(after))
        return after

    async def _delete(self, snapshot_id: str) -> str:
        """Take our own snapshot off the manager; return why that failed."""
        if not self._manner.may_ask():
            return f"it is still on the manager: {CUT_OFF}"
        try:
            async with asyncio.timeout(AFTERWARDS_S):
                found = await self._client.snapshot(snapshot_id)
                if found.status in SNAPSHOT_ENDS:
                    await self._client.delete(snapshot_id)
                    return ""
        except TimeoutError:
            return f"it may be on the manager still: no answer in {AFTERWARDS_S:g} s"
        except ManagerError as error:
            return f"it is still on the manager: {error.message}"
        return f"it is still on the manager, in state {found.status.value}"

    # --- files, on a thread -----------------------------------------------------

    def _filed(self, kept: Kept, folder: Path) -> Kept:
        """Add the certificates, seal it, and list it. Raises ManagerError."""
        try:
            kept = _with_certificates(kept, folder, self._manner)
            kept = self._sealed(kept, folder)
        except (OSError, SnapshotError) as error:
            said = error.strerror if isinstance(error, OSError) else error.message
            raise ManagerError(
                f"{kept.id} cannot be kept: {said}",
                "see that vnfm.dir belongs to the agent's user and has room",
            ) from error
        self._shelf.put(kept)
        return kept

    def _sealed(self, kept: Kept, folder: Path) -> Kept:
        """Encrypt the file where that is wanted, and read back what lies there."""
        source, recipients = folder / kept.file, self._manner.recipients
        if recipients:
            self._check_room(kept.size_bytes)
            target = source.with_name(source.name + ".age")
            size, sha256 = _encrypted(source, target, recipients)
            source.unlink()
            kept = replace(
                kept,
                file=target.name,
                stored_bytes=size,
                stored_sha256=sha256,
                sealed=True,
            )
        if settle_and_hash(folder / kept.file) != kept.stored_sha256:
            raise ManagerError(
                f"{folder / kept.file} is not what was written there",
                "the disk loses or changes data: look at the kernel's log",
            )
        fsync_path(folder)
        return kept

    def _guess(self) -> int:
        """Return what the next one will take: about as much as the newest. Blocking.

        An encrypted one lies there twice for a moment.
        """
        newest = next(iter(self._shelf.list()), None)
        size = newest.size_bytes if newest is not None else 0
        return 2 * size if self._manner.recipients else size

    def _check_room(self, needed: int) -> None:
        """Raise ManagerError unless so much fits above the floor. Blocking."""
        place = self._shelf.place
        try:
            beside = next(one for one in (place, *place.parents) if one.exists())
            free = shutil.disk_usage(beside).free
            missing = needed + self._manner.floor_bytes(beside) - free
        except OSError as error:
            raise ManagerError(f"{place} cannot be read: {error.strerror}") from error
        if missing > 0:
            raise ManagerError(
                f"no room for a manager's snapshot: {missing} bytes are missing on the"
                f" volume of {place}",
                "free space there, or set vnfm.dir to a larger volume",
                code="no_room",
            )


class _Watch:
    """Looks at the room while a file comes, and remembers what it said."""

    def __init__(self, check_room: Callable[[int], None], *, twice: bool) -> None:
        """`twice`: it will lie there once more, encrypted."""
        self._check_room = check_room
        self._twice = twice
        self._looked_at = -LOOK_BYTES
        self.error: ManagerError | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Raise ManagerError when there is no room for the rest."""
        if done - self._looked_at < LOOK_BYTES:
            return
        self._looked_at = done
        whole = done if total is None else total
        try:
            self._check_room(whole - done + (whole if self._twice else 0))
        except ManagerError as error:
            self.error = error
            raise


def _with_certificates(kept: Kept, folder: Path, manner: Manner) -> Kept:
    """Add the certificate folders, or the reason why they are not there."""
    found = gather(manner.certificates)
    problems = (*kept.problems, *found.problems)
    if not found.files:
        return replace(kept, problems=problems[:PROBLEMS_MAX])
    if not manner.recipients:
        left_out = (
            f"certificates: {len(found.files)} files are not kept, because they hold"
            " private keys and capture.recipients is empty"
        )
        return replace(kept, problems=(left_out, *problems)[:PROBLEMS_MAX])
    content = encrypt(found.tar, manner.recipients)
    path = folder / CERTIFICATES
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "wb", buffering=0) as file:
        write_all(file.fileno(), memoryview(content))
        os.fsync(file.fileno())
    return replace(
        kept,
        certificates=found.files,
        certificates_sha256=hashlib.sha256(content).hexdigest(),
        problems=problems[:PROBLEMS_MAX],
    )


def _encrypted(
    source: Path, target: Path, recipients: Sequence[str]
) -> tuple[int, str]:
    """Encrypt a file; return size and SHA-256 of what was written."""
    digest, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        writing = os.open(target, flags, PRIVATE_FILE)
        try:
            pieces = read_blocks(reading, os.fstat(reading).st_size)
            for block in seal(pieces, Seal(recipients=tuple(recipients))):
                write_all(writing, memoryview(block))
                digest.update(block)
                size += len(block)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return size, digest.hexdigest()
