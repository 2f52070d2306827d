"""What a manager's workers do: make snapshots, restore them, start what was queued.

Theory of operation. One thread takes what was published and gives each execution a
thread of its own, as the mgmtworker does; while the worker is dead it takes nothing,
and what was begun stays as it is. A snapshot's status is set before its execution's,
so both have to be asked. The mark that `/snapshot-status` looks for is a file: it is
set a moment after the request, and a restore that cannot read its archive never
removes it. When an execution ends, the oldest that is queued starts if nothing else
is under way.
"""

import errno
import logging
import os
import shutil
import threading
import time
import zipfile
from collections import deque
from pathlib import Path

import psycopg

from agent.lab.standin import archives
from agent.lab.standin.answers import Shown
from agent.lab.standin.archives import RestoreError, Source
from agent.lab.standin.rows import ACTIVE, Rows, stamp
from agent.lab.standin.traits import Faults, Traits

LOOK_S = 0.05
MARK = "snapshot_restoring"
CANCELS = ("cancelling", "force_cancelling", "kill_cancelling")

log = logging.getLogger("lab.standin")


class Works:
    """The workers of one manager. Threads of a daemon's kind: they end with it."""

    def __init__(
        self, rows: Rows, traits: Traits, faults: Faults, folder: Path
    ) -> None:
        self._rows = rows
        self._traits = traits
        self._faults = faults
        self._folder = folder
        self._waiting: deque[str] = deque()
        self._closing = threading.Event()
        self._taker: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.reboots = 0
        """How often a restore with certificates would have rebooted the machine."""

    @property
    def mark(self) -> Path:
        """The file that says that a restore runs here."""
        return self._folder / MARK

    def archive(self, name: str) -> Path:
        """Return where a snapshot's archive is."""
        return self._folder / "snapshots" / name / f"{name}.zip"

    def take(self, name: str) -> None:
        """Do an execution, or cancel it, as soon as a worker is alive."""
        self._waiting.append(name)
        with self._lock:
            if self._taker is None:
                self._taker = threading.Thread(target=self._take_all, daemon=True)
                self._taker.start()

    @property
    def running(self) -> int:
        """How many executions are being done now."""
        return sum(thread.is_alive() for thread in self._threads)

    def forget(self) -> None:
        """Drop what waits for a worker, as a broker does whose queues are purged."""
        self._waiting.clear()

    def close(self) -> None:
        """Take nothing more."""
        self._closing.set()
        if self._taker is not None:
            self._taker.join(5)

    def shown(self, row: Shown) -> Shown:
        """Return an execution as a client sees it, with the database's password."""
        parameters = row["parameters"]
        status = row["status"]
        return {
            "id": row["id"],
            "visibility": "private",
            "created_at": stamp(row["created_at"]),
            "ended_at": stamp(row["ended_at"]),
            "error": row["error"],
            "is_system_workflow": row["is_system_workflow"],
            "parameters": {**parameters, "config": self._config()},
            "parameters_p": {**parameters, "config": self._config()},
            "status": status,
            "status_display": "completed" if status == "terminated" else status,
            "workflow_id": row["workflow_id"],
            "started_at": stamp(row["started_at"]),
            "scheduled_for": None,
            "is_dry_run": False,
            "resume": False,
            "total_operations": None,
            "finished_operations": None,
            "allow_custom_parameters": True,
            "blueprint_id": None,
            "deployment_id": None,
            "deployment_display_name": None,
            "tenant_name": row["tenant_name"],
            "created_by": row["created_by"],
            "resource_availability": "private",
            "private_resource": True,
        }

    def _config(self) -> Shown:
        return {
            "file_server_root": "/opt/manager/resources",
            "file_server_snapshots_folder": "snapshots",
            "postgresql_username": "cloudify",
            "postgresql_password": self._traits.database_password
            or self._traits.password,
            "postgresql_db_name": "cloudify_db",
            "db_host": "127.0.0.1",
            "default_tenant_name": self._traits.tenant,
            "snapshot_restore_threads": 15,
        }

    # --- the threads --------------------------------------------------------

    def _take_all(self) -> None:
        while not self._closing.wait(LOOK_S):
            while self._waiting and not self._faults.worker_dead:
                name = self._waiting.popleft()
                thread = threading.Thread(target=self._do, args=(name,), daemon=True)
                self._threads = [one for one in self._threads if one.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _do(self, name: str) -> None:
        """Do one execution to its end, or leave it where the worker dies."""
        try:
            self._run(name)
            self._start_queued()
        except psycopg.Error as error:
            log.warning("execution %s is left as it is: %s", name, error)

    def _run(self, name: str) -> None:
        row = self._rows.execution(name)
        if row is None or self._cancelled(name):
            return
        if not self._rows.move_execution(name, "started", ("pending", "queued")):
            return
        problem = ""
        try:
            self._work(row)
        except (RestoreError, OSError, zipfile.BadZipFile, ValueError, KeyError) as why:
            problem = f"{type(why).__name__}: {why}"
        if self._faults.worker_dead or self._cancelled(name) or not self._runs(name):
            return
        if row["workflow_id"] == "create_snapshot":
            self._note_snapshot(row, problem)
        status = "failed" if problem else "terminated"
        self._rows.move_execution(name, status, ACTIVE, problem)

    def _work(self, row: Shown) -> None:
        if row["workflow_id"] == "create_snapshot":
            self._pause(self._traits.work_s)
            self._create(row)
        else:
            self._restore(row)

    def _runs(self, name: str) -> bool:
        """Whether it was not killed meanwhile."""
        row = self._rows.execution(name)
        return row is not None and row["status"] == "started"

    def _cancelled(self, name: str) -> bool:
        return self._rows.move_execution(name, "cancelled", CANCELS)

    def _note_snapshot(self, row: Shown, problem: str) -> None:
        status = "failed" if problem else "created"
        name = row["parameters"]["snapshot_id"]
        self._rows.set_snapshot(row["tenant_name"], name, status, problem)

    def _start_queued(self) -> None:
        name = self._rows.next_queued()
        if name is None or self._rows.active_executions():
            return
        if self._rows.move_execution(name, "pending", ("queued",)):
            self.take(name)

    def _pause(self, seconds: float) -> None:
        """Let time pass, but not that of a worker that died meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._closing.is_set():
            time.sleep(min(LOOK_S, seconds))

    def _create(self, row: Shown) -> None:
        parameters = row["parameters"]
        if self._faults.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        new_format = parameters.get("legacy") is False
        how = archives.new if new_format else archives.legacy
        if new_format:
            wanted = parameters.get("listener_timeout")
            default = self._traits.listener_timeout_s
            self._pause(default if wanted is None else float(wanted))
        source = Source(self._rows, self._traits, self._folder, row)
        archives.write(self.archive(parameters["snapshot_id"]), source, how)

    def _restore(self, row: Shown) -> None:
        self._pause(self._traits.work_s / 2)
        self.mark.touch()
        self._pause(self._traits.work_s / 2)
        parameters = row["parameters"]
        path = self.archive(parameters["snapshot_id"])
        with zipfile.ZipFile(path) as archive:
            legacy = archives.is_legacy(archive, self._traits)
            try:
                if legacy:
                    force = bool(parameters["force"])
                    archives.replace_all(archive, self._rows, self._traits, force=force)
                else:
                    archives.merge(archive, self._rows)
            finally:
                self.mark.unlink(missing_ok=True)
        if parameters["restore_certificates"] and not parameters["no_reboot"]:
            self.reboots += 1
        if legacy:
            shutil.rmtree(path.parent, ignore_errors=True)
