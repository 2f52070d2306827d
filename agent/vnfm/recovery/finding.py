"""The snapshot that a recovery restores: found, brought here, and opened.

Theory of operation. What counts was fetched off a manager and checked before; it lies
on the shelf of this machine or beside another agent. A manager that still answers as
active can make a newer one. Whatever is chosen is brought into one folder that outlives
the managers' machines, under a name of its own, and is opened and read to its end there
before anything is torn down. Nothing that lies there is overwritten.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import ManagerError, SnapshotError, SplitguardError
from agent.snapshot.files import BLOCK_BYTES, PRIVATE_FILE, hash_file, write_all
from agent.snapshot.sealing import Identity, unsealed
from agent.vnfm.archive import Archive, check_archive
from agent.vnfm.client import CreateOptions, ManagerClient
from agent.vnfm.keeping import order_id
from agent.vnfm.kept import Kept
from agent.vnfm.recovery.doors import Doors
from agent.vnfm.recovery.ports import Note
from agent.vnfm.shelf import Shelf, check_id
from agent.vnfm.waiting import Stage, until_made

HERE = ""
LIST = "/v1/manager-snapshots"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checked snapshot of a manager that lies somewhere."""

    id: str
    created: str
    """RFC 3339, UTC."""
    where: str
    """The node beside whose agent it lies; empty: on this machine's shelf."""
    version: str
    sealed: bool
    sha256: str
    """Of the zip."""
    stored_sha256: str
    """Of what lies there."""

    @property
    def told(self) -> str:
        """What people are told of it."""
        place = f"beside {self.where}" if self.where else "on this machine"
        sealed = ", encrypted" if self.sealed else ""
        return f"{self.id} of {self.created}, {self.version}, {place}{sealed}"


@dataclass(frozen=True, slots=True)
class Finder:
    """Where is looked, and where it is brought."""

    shelf: Shelf
    doors: Doors
    nodes: tuple[str, ...]
    """Beside whom there may be an agent with a shelf."""
    to: Path
    identities: tuple[Identity, ...] = ()

    def candidates(self) -> tuple[Candidate, ...]:
        """Return what is kept anywhere that answers, the newest first. Blocking."""
        found = {one.id: one for node in self.nodes for one in self._beside(node)}
        found |= {one.id: one for one in self._here()}
        return tuple(
            sorted(found.values(), key=lambda one: (one.created, one.id), reverse=True)
        )

    def folders_of(self, node: str) -> tuple[str, ...]:
        """Return a node's certificate folders, by its newest snapshot. Blocking.

        Empty where none with certificates is known here or beside that node's agent.
        """
        paths = [one.path for kept in self._kept_of(node) for one in kept.certificates]
        if not paths:
            try:
                door = self.doors.of(node)
                listed = [] if door is None else door.get(LIST)["snapshots"]
            except SplitguardError:
                return ()
            of_node = (one for one in listed if one["node"] == node)
            newest = next((one for one in of_node if one["certificates"]), None)
            paths = [one["path"] for one in newest["certificates"]] if newest else []
        parents = {Path(path).parent for path in paths}
        return tuple(
            str(one) for one in sorted(parents) if not parents.intersection(one.parents)
        )

    def _kept_of(self, node: str) -> list[Kept]:
        """Return the newest snapshot of a node on this shelf that has certificates."""
        found = (one for one in self.shelf.list() if one.node == node)
        return [one for one in found if one.certificates][:1]

    def _here(self) -> Iterator[Candidate]:
        for kept in self.shelf.list():
            created = datetime.fromtimestamp(kept.created_wall_s, UTC)
            yield Candidate(
                kept.id,
                created.isoformat(timespec="seconds").replace("+00:00", "Z"),
                HERE,
                kept.version,
                kept.sealed,
                kept.sha256,
                kept.stored_sha256,
            )

    def _beside(self, node: str) -> Iterator[Candidate]:
        """Yield what another agent keeps; nothing when it does not answer."""
        try:
            door = self.doors.of(node)
            listed = [] if door is None else door.get(LIST)["snapshots"]
        except SplitguardError:
            return
        for one in listed:
            yield Candidate(
                check_id(str(one["id"])),
                str(one["created"])[:19] + "Z",
                node,
                str(one["version"]),
                bool(one["sealed"]),
                str(one["sha256"]),
                str(one["stored_sha256"]),
            )

    def bring(self, one: Candidate) -> Path:
        """Bring it into the folder; return the zip. Blocking; raises ManagerError."""
        target = self.to / f"{one.id}.zip"
        if target.exists():
            if hash_file(target) == one.sha256:
                return target
            raise ManagerError(
                f"{target} is there already, and is another one",
                "move it away, or name another folder with --to",
            )
        try:
            if one.where == HERE:
                self.shelf.take_out(one.id, target, self.identities)
            else:
                self._fetch(one, target)
        except SnapshotError as error:
            raise ManagerError(error.message, error.hint) from error
        return target

    def _fetch(self, one: Candidate, target: Path) -> None:
        door = self.doors.of(one.where)
        if door is None:
            raise ManagerError(f"no agent of {one.where} is configured")
        came = target.with_name(f".{one.id}.came")
        plain = target.with_name(f".{one.id}.zip")
        try:
            for left in (came, plain):
                left.unlink(missing_ok=True)
            door.fetch(f"{LIST}/{one.id}/archive", came)
            _same(came, one.stored_sha256)
            _unseal(came, plain, self.identities)
            _same(plain, one.sha256)
            os.link(plain, target)
        except OSError as error:
            raise ManagerError(f"{target}: {error.strerror}", "see --to") from error
        finally:
            for left in (came, plain):
                left.unlink(missing_ok=True)


def _same(path: Path, sha256: str) -> None:
    if hash_file(path) != sha256:
        raise ManagerError(
            f"{path.name} is not what was kept: its SHA-256 is another one",
            "run this again, or name another snapshot with --snapshot",
        )


def _unseal(source: Path, target: Path, identities: Sequence[Identity]) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "wb", buffering=0) as file:
        with unsealed(source, identities) as reader:
            while block := reader.read(BLOCK_BYTES):
                write_all(handle, memoryview(block))
        os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Maker:
    """A manager that can make one more."""

    client: ManagerClient
    node: str
    options: CreateOptions
    wait_s: float
    """How long it may take."""
    stage: Stage | None = None

    async def make(self, to: Path, note: Note, begun: str) -> Path:
        """Have it made, fetch it; return the zip. Raises ManagerError.

        `begun` is the id of one that an interrupted run had begun, with a slash and its
        execution; it is gone on with.
        """
        client = self.client
        snapshot_id, _, execution_id = begun.partition("/")
        if not snapshot_id:
            snapshot_id = order_id(self.node, client.clock.moment().wall_s)
            execution = await client.create(snapshot_id, self.options)
            execution_id = execution.id
            note({"made": f"{snapshot_id}/{execution_id}"})
        target = to / f"{snapshot_id}.zip"
        if not target.exists():
            await until_made(client, snapshot_id, execution_id, self.wait_s, self.stage)
            await client.download(snapshot_id, target)
        return target


async def opened(path: Path) -> tuple[Archive, Mapping[str, str]]:
    """Open an archive; return it, and what a run has to know of it.

    Raises ManagerError.
    """
    archive = await asyncio.to_thread(check_archive, path)
    facts = {
        "snapshot": path.name.removesuffix(".zip"),
        "archive": str(path),
        "archive_format": archive.format,
        "archive_version": archive.version,
        "counts": json.dumps(dict(archive.counts)),
    }
    return archive, facts
