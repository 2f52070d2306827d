"""What a manager is asked about snapshots and the work behind them.

Theory of operation. Each method is one call of the REST API, and a look before it where
the manager itself would not refuse what does harm: an upload onto an id that exists, a
delete under a running create. The reply to a create carries the password of the
manager's database and is read key by key. A refused restore leaves an execution that
blocks all later ones: it is found and named. What is waited for is in waiting.py.
Source: Cloudify Manager's REST API v3.1, 4.5.5 to 7.1.
"""

import re
from pathlib import Path
from urllib.parse import quote

from agent.errors import ManagerError
from agent.vnfm import shapes
from agent.vnfm.asking import NOT_FOUND, PAGE, Asking
from agent.vnfm.login import Login, LoginKept
from agent.vnfm.options import CreateOptions, RestoreOptions
from agent.vnfm.records import (
    EXECUTION_ENDS,
    Execution,
    ExecutionStatus,
    ManagerSnapshot,
    SnapshotStatus,
)
from agent.vnfm.refusals import KILL, OrphanError
from agent.vnfm.transfer import Fetched, Progress, Sender, Taker
from agent.vnfm.wire import BYPASS, Ask, Query

__all__ = [
    "CreateOptions",
    "Fetched",
    "Login",
    "LoginKept",
    "ManagerClient",
    "OrphanError",
    "Progress",
    "RestoreOptions",
]

LOOK_S = 5.0
"""So long at least it is looked for what a create without an answer has left."""
LOOKED = 100
"""So many of one workflow's executions are looked through."""
CREATE, RESTORE = "create_snapshot", "restore_snapshot"
BUSY = "existing_running_execution_error"
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,255}").fullmatch


class ManagerClient(Asking):
    """One manager at `url` (http or https, host, port).

    Without a login only ok, restoring and, where it wants none, status can be asked.
    A LoginKept that several clients share keeps a refused password from all of them.
    """

    async def snapshots(self) -> tuple[ManagerSnapshot, ...]:
        """Return the tenant's snapshots, oldest first. Raises ManagerError."""
        plain = await self._pages(
            "list the snapshots", "/snapshots", {"_sort": "created_at"}
        )
        return tuple(s for one in plain if (s := shapes.snapshot(one)) is not None)

    async def snapshot(self, snapshot_id: str) -> ManagerSnapshot:
        """Return one snapshot. Raises ManagerError (404 when there is none)."""
        what = f"look at snapshot {snapshot_id}"
        ask = Ask(what, "GET", self._path(snapshot_id))
        found = shapes.snapshot(await self._wire.told(ask))
        if found is None:
            raise self._strange(what)
        return found

    async def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot that nothing works on. Raises ManagerError.

        Managers up to 5.x would take one away from under its own execution.
        """
        what = f"delete snapshot {snapshot_id}"
        if (await self.snapshot(snapshot_id)).status is SnapshotStatus.CREATING:
            running = await self._active(snapshot_id, CREATE)
            if running is not None:
                raise ManagerError(
                    f"{self.place}: cannot {what}: its execution {running.id} is"
                    f" {running.status.value}",
                    "wait until it has ended; if it hangs, end it:"
                    f" {KILL} {running.id}",
                    code="snapshot_action_error",
                )
        await self._wire.told(Ask(what, "DELETE", self._path(snapshot_id)))

    async def create(
        self, snapshot_id: str, options: CreateOptions, deadline_s: float | None = None
    ) -> Execution:
        """Have a snapshot made; return the execution that makes it.

        Raises ManagerError; OrphanError where the manager did not answer within
        `deadline_s` and left work behind. Options unknown to its version are not sent.
        """
        what = f"create snapshot {snapshot_id}"
        self._check_id(snapshot_id)
        version = self._version or await self.version()
        path, body = self._path(snapshot_id), options.body(version)
        ask = Ask(what, "PUT", path, body=body, once=True, deadline_s=deadline_s)
        try:
            # The reply holds the database's password: only the record goes on.
            made = shapes.execution(await self._wire.told(ask))
        except ManagerError as error:
            look_s = None if deadline_s is None else max(LOOK_S, deadline_s / 4)
            raise await self._explained(
                error, snapshot_id, CREATE, look_s=look_s
            ) from error
        if made is None:
            raise self._strange(what)
        return made

    async def upload(
        self, snapshot_id: str, path: Path, told: Progress | None = None
    ) -> ManagerSnapshot:
        """Send an archive that opens, under an id that is free. Raises ManagerError."""
        self._check_id(snapshot_id)
        await self._check_free(snapshot_id)
        await Sender(self._wire, self._path(snapshot_id), snapshot_id).send(path, told)
        return await self._uploaded(snapshot_id)

    async def upload_from_url(self, snapshot_id: str, url: str) -> ManagerSnapshot:
        """Have the manager fetch an archive itself; nobody looks what is in it.

        Raises ManagerError, which does not repeat the address.
        """
        self._check_id(snapshot_id)
        await self._check_free(snapshot_id)
        sender = Sender(self._wire, self._path(snapshot_id), snapshot_id)
        await sender.have_fetched(url)
        return await self._uploaded(snapshot_id)

    async def download(
        self, snapshot_id: str, target: Path, told: Progress | None = None
    ) -> Fetched:
        """Fetch an archive; it has its name once it is whole and opens.

        What breaks off goes on with the next call. Raises ManagerError.
        """
        found = await self.snapshot(snapshot_id)
        taker = Taker(self._wire, self._clock, self._path(snapshot_id), found, target)
        return await taker.take(told)

    async def restore(self, snapshot_id: str, options: RestoreOptions) -> Execution:
        """Begin a restore; return its execution.

        Raises ManagerError; OrphanError where the refusal left work that blocks all
        that comes later.
        """
        what = f"restore snapshot {snapshot_id}"
        if options.no_reboot and not options.restore_certificates:
            raise ManagerError(
                f"{self.place}: cannot {what}: no-reboot is only for"
                " restore-certificates",
                "leave it out, or ask for the certificates too",
            )
        before = frozenset(one.id for one in await self.executions(RESTORE))
        path = f"{self._path(snapshot_id)}/restore"
        ask = Ask(what, "POST", path, body=options.body(), once=True)
        try:
            reply = await self._wire.told(ask)
        except ManagerError as error:
            raise await self._explained(error, snapshot_id, RESTORE, before) from error
        # The body has the shape of a snapshot, and the id of the execution.
        begun = shapes.text(reply, "id", 80)
        if begun and begun != snapshot_id:
            return await self._begun(begun, snapshot_id)
        for one in await self.executions(RESTORE):
            if one.id not in before and one.snapshot in ("", snapshot_id):
                return one
        raise self._strange(what)

    async def restoring(self) -> bool | None:
        """Return what the manager's mark says; None where it has none (4.x).

        A failed restore can leave the mark for ever, and another manager of the
        cluster has one of its own: go by the execution. Raises ManagerError.
        """
        what = "ask whether it restores"
        ask = Ask(what, "GET", "/snapshot-status", login=False)
        answer = await self._wire.answer(ask)
        if answer.status == NOT_FOUND:
            return None
        return shapes.text(self._good(answer, what), "status") == "running"

    async def executions(
        self, workflow: str | None = None, deadline_s: float | None = None
    ) -> tuple[Execution, ...]:
        """Return executions, newest first, those of the system too; at most PAGE.

        Raises ManagerError, also when no answer came within `deadline_s`.
        """
        query: Query = {
            "_include_system_workflows": "true",
            "_sort": "-created_at",
            "_size": PAGE if workflow is None else LOOKED,
            **({"workflow_id": workflow} if workflow else {}),
        }
        what = "list the executions"
        ask = Ask(
            what, "GET", "/executions", query, headers=BYPASS, deadline_s=deadline_s
        )
        plain = await self._wire.told(ask)
        found = (
            shapes.execution(one) for one in shapes.items(plain.get("items"), PAGE)
        )
        return tuple(one for one in found if one is not None)

    async def execution(self, execution_id: str) -> Execution:
        """Return one execution. Raises ManagerError (404 when there is none)."""
        what = f"look at execution {execution_id}"
        path = f"/executions/{quote(execution_id, safe='')}"
        found = shapes.execution(
            await self._wire.told(Ask(what, "GET", path, headers=BYPASS))
        )
        if found is None:
            raise self._strange(what)
        return found

    async def kill(self, execution_id: str) -> Execution:
        """End an execution, however stuck. Raises ManagerError."""
        what = f"kill execution {execution_id}"
        path = f"/executions/{quote(execution_id, safe='')}"
        body = {"action": "kill"}
        ask = Ask(what, "POST", path, body=body, headers=BYPASS)
        found = shapes.execution(await self._wire.told(ask))
        if found is None:
            raise self._strange(what)
        return found

    async def _begun(self, execution_id: str, snapshot_id: str) -> Execution:
        """Return the execution that has begun; what is known of it if that fails."""
        try:
            return await self.execution(execution_id)
        except ManagerError:
            pending = ExecutionStatus.PENDING
            return Execution(execution_id, RESTORE, pending, snapshot=snapshot_id)

    async def _explained(
        self,
        error: ManagerError,
        snapshot_id: str,
        workflow: str,
        before: frozenset[str] = frozenset(),
        look_s: float | None = None,
    ) -> ManagerError:
        """Return the error with what it left behind, or what stands in the way."""
        silent, busy = error.status is None, error.code == BUSY
        if not silent and not busy:
            return error
        try:
            if silent or workflow == RESTORE:
                orphan = await self._active(snapshot_id, workflow, before, look_s)
                if orphan is not None:
                    return OrphanError(error, orphan)
            if busy:
                return await self._busy(error)
        except ManagerError:
            return error  # what was asked for counts, not the look afterwards
        return error

    async def _busy(self, error: ManagerError) -> ManagerError:
        running = [
            one
            for one in await self.executions()
            if one.status not in EXECUTION_ENDS and one.id in error.message
        ]
        if not running:
            return error
        named = ", ".join(
            f"{one.workflow} {one.id} ({one.status.value} since {one.created_at})"
            for one in running[:3]
        )
        return ManagerError(
            f"{error.message}; that is {named}",
            f"wait until it has ended, or ask for yours to be queued; if it hangs:"
            f" {KILL} {running[0].id}",
            status=error.status,
            code=error.code,
        )

    async def _active(
        self,
        snapshot_id: str,
        workflow: str,
        before: frozenset[str] = frozenset(),
        look_s: float | None = None,
    ) -> Execution | None:
        """Return the newest unfinished execution about a snapshot, but those before."""
        for one in await self.executions(workflow, look_s):
            mine = one.snapshot == snapshot_id and one.id not in before
            if mine and one.status not in EXECUTION_ENDS:
                return one
        return None

    async def _check_free(self, snapshot_id: str) -> None:
        """Raise where the id is taken: 7.x would overwrite its archive with a 201."""
        try:
            found = await self.snapshot(snapshot_id)
        except ManagerError as error:
            if error.status == NOT_FOUND and error.code == "not_found_error":
                return
            raise
        raise ManagerError(
            f"{self.place}: has a snapshot {snapshot_id} already, {found.status.value},"
            f" of {found.created_at}",
            "choose another id, or delete that one; nothing was sent",
            status=409,
            code="conflict_error",
        )

    async def _uploaded(self, snapshot_id: str) -> ManagerSnapshot:
        found = await self.snapshot(snapshot_id)
        if found.status is not SnapshotStatus.UPLOADED:
            raise ManagerError(
                f"{self.place}: snapshot {snapshot_id} is {found.status.value} and not"
                " uploaded",
                "delete it, and upload the archive again under another id",
            )
        return found

    def _check_id(self, snapshot_id: str) -> None:
        """Raise where no manager makes a snapshot of that name."""
        if not _ID(snapshot_id):
            raise ManagerError(
                f"{snapshot_id[:80]!r} is no id for a snapshot",
                "an id begins with a letter, has letters, digits, '.', '_' and '-', and"
                " is no longer than 256 characters",
                code="bad_parameters_error",
            )

    def _path(self, snapshot_id: str) -> str:
        """Return its path; one that was uploaded may have any name but a path's."""
        if snapshot_id in ("", ".", ".."):
            self._check_id(snapshot_id)
        return f"/snapshots/{quote(snapshot_id, safe='')}"
