"""Has loss reports made, one at a time, by a process that gives way to everything.

Theory of operation. One thread looks at the state once a second. What the core wants
reported, and what somebody asked for, is made by a child process of lowest priority, so
that its memory, its processor time and whatever goes wrong in it are not the agent's. A
capture that copies and a permit that waits come first: the child is ended for them, and
its report begun anew afterwards. What failed is noted in the snapshot's folder with its
reason and tried again a few times; a person who asks begins the count anew. A report
that is on the disk, whoever made it, is told to the core once.
"""

import logging
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.api.ports import LossPhase, LossStand
from agent.core.event import Event, LossTold
from agent.core.loss import Loss
from agent.core.losses import Parting, Snapshot, must_wait, parting, wanted
from agent.daemon import losstries
from agent.daemon.losschild import LossChild
from agent.daemon.losstries import Aim
from agent.divergence import report as reports
from agent.divergence import rescued, shelf
from agent.divergence.job import Job, Outcome
from agent.divergence.report import Report
from agent.errors import SnapshotError, SplitguardError
from agent.ports import Desk
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.files import remove_tree
from agent.snapshot.manifest import Manifest

log = logging.getLogger(__name__)

LOOK_S = 1.0
QUEUE_MAX = 16
"""Reports that people may wait for at once."""
STOP_S = 1.0
SCRATCH = ".splitguard-loss-"
SPARE = 20
"""One part in so many of a volume stays free of clones."""
HINT = "`splitguard loss report SNAPSHOT` makes it on the spot"


MakeJob = Callable[[Manifest, Parting, Path, Path], Job]
"""From manifest, parting, the snapshot's folder and a scratch folder to the order."""


class LossMaker:
    """Implements api.ports.LossReports; those methods may be called from any thread."""

    def __init__(
        self,
        desk: Desk,
        catalogue: Catalogue,
        make_job: MakeJob,
        post: Callable[[Event], None],
        *,
        by_itself: bool,
        command: tuple[str, ...] | None = None,
    ) -> None:
        """`by_itself`: also without being asked. `command` makes one report."""
        self._desk = desk
        self._catalogue = catalogue
        self._make_job = make_job
        self._post = post
        self._by_itself = by_itself
        self._command = command
        self._asked: deque[Aim] = deque()
        self._lock = threading.Lock()
        """Of what is asked for and what is at work."""
        self._work: tuple[Aim, LossChild, Path] | None = None
        self._told: dict[str, tuple[tuple[int, int], Loss]] = {}
        """By snapshot: when its report was written, and what the core is told of it."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="losses", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing further; return within 1 s. The child ends by itself."""
        self._end.set()
        work = self._work
        if work is not None:
            work[1].hang_up()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    # --- what is asked ----------------------------------------------------------

    def stand(self, snapshot_id: str) -> LossStand:
        """Return how far the report of a snapshot is."""
        with self._lock:
            work, asked = self._work, [one.snapshot_id for one in self._asked]
        if work is not None and work[0].snapshot_id == snapshot_id:
            now = work[1].progress
            return LossStand(LossPhase.RUNNING, now.doing, now.done, now.total)
        if snapshot_id in asked:
            return LossStand(LossPhase.QUEUED, reason=self._hindrance())
        folder = self._catalogue.folder(snapshot_id)
        if (shelf.folder_of(folder) / reports.NAME).exists():
            return LossStand(LossPhase.MADE)
        tries = losstries.read(folder)
        if tries.reason:
            phase = LossPhase.FAILED
            return LossStand(phase, reason=tries.reason, hint=tries.hint)
        return LossStand(LossPhase.NONE)

    def ask(self, snapshot_id: str) -> LossStand:
        """Have it made, anew if there is one; return how far that is."""
        try:
            manifest = self._catalogue.show(snapshot_id)
            self._parting(manifest)
        except SplitguardError as error:
            return LossStand(LossPhase.FAILED, reason=error.message, hint=error.hint)
        with self._lock:
            known = [one.snapshot_id for one in self._asked]
            if self._work is not None:
                known.append(self._work[0].snapshot_id)
            if snapshot_id not in known and len(known) >= QUEUE_MAX:
                reason = f"{QUEUE_MAX} reports wait to be made already"
                return LossStand(LossPhase.FAILED, reason=reason, hint="ask later")
            if snapshot_id not in known:
                self._asked.append(Aim(snapshot_id, asked=True))
        return self.stand(snapshot_id)

    def report(self, snapshot_id: str) -> Report | None:
        """Return the report that is stored. Raises SnapshotError."""
        return rescued.load(self._folder(snapshot_id))

    def _folder(self, snapshot_id: str) -> Path:
        return shelf.folder_of(self._catalogue.folder(snapshot_id))

    def _hindrance(self) -> str:
        """Return what a report waits for at present."""
        if self._busy():
            return "a capture or a permit goes first"
        return "another report is being made" if self._work is not None else ""

    # --- the thread -------------------------------------------------------------

    def _run(self) -> None:
        self._sweep()
        while not self._end.is_set():
            try:
                self.look()
            except SplitguardError as error:
                log.warning("loss reports: %s", error)
            except Exception:
                log.exception("loss reports: looking for work failed")
            self._end.wait(LOOK_S)
        work = self._work
        if work is not None:
            work[1].end()
            self._clear(work[2])

    def look(self) -> None:
        """Go on with what is at work, or begin what is wanted first."""
        untold, busy = self._tell(), self._busy()
        if self._work is not None:
            if busy:
                self._put_back(*self._work)
            elif self._work[1].outcome is not None:
                self._conclude(*self._work)
            return
        aim = None if busy else self._next(untold)
        if aim is not None:
            self._begin(aim)

    def _busy(self) -> bool:
        now_s = self._desk.now().monotonic_s
        return must_wait(self._desk.state, now_s, self._desk.policy)

    def _next(self, untold: frozenset[str]) -> Aim | None:
        with self._lock:
            if self._asked:
                return self._asked.popleft()
        if not self._by_itself:
            return None
        now = self._desk.now()
        for one in wanted(self._desk.state, now.monotonic_s, self._desk.policy):
            aim = Aim(one.snapshot_id, one.winner or "", one.closed)
            if one.snapshot_id not in untold and self._is_due(aim, now.wall_s):
                return aim
        return None

    def _is_due(self, aim: Aim, wall_s: float) -> bool:
        try:
            tries = losstries.read(self._catalogue.folder(aim.snapshot_id))
        except SnapshotError:
            return False  # its manifest is not written yet, or it was removed
        return tries.due(aim, wall_s)

    def _begin(self, aim: Aim) -> None:
        scratch: Path | None = None
        try:
            manifest = self._catalogue.show(aim.snapshot_id)
            parted = self._parting(manifest)
            folder = self._catalogue.folder(aim.snapshot_id)
            scratch = self._scratch(manifest)
            job = self._make_job(manifest, parted, folder, scratch)
            child = LossChild(job, self._command)
        except (SplitguardError, OSError) as error:
            hint = error.hint if isinstance(error, SplitguardError) else ""
            self._note(aim, Outcome(_words(error), hint))
            self._clear(scratch)
            return
        log.info("loss report of %s: begun (process %d)", aim.snapshot_id, child.pid)
        against = job.winner.name if job.winner is not None else ""
        with self._lock:
            self._work = replace(aim, winner=against), child, scratch

    def _put_back(self, aim: Aim, child: LossChild, scratch: Path) -> None:
        """End it, because something more important goes on; it begins anew later."""
        log.info("loss report of %s: put off", aim.snapshot_id)
        self._finish(child, scratch)
        if aim.asked:
            with self._lock:
                self._asked.appendleft(aim)

    def _conclude(self, aim: Aim, child: LossChild, scratch: Path) -> None:
        outcome = child.outcome or Outcome()
        self._finish(child, scratch)
        if not outcome.message:
            outcome = self._made(aim)
        self._note(aim, outcome)

    def _made(self, aim: Aim) -> Outcome:
        """Look at the report that was made; return what is missing in it."""
        made = self.report(aim.snapshot_id)
        if made is None:
            return Outcome("no report was written", HINT)
        log.info("loss report of %s: %s", aim.snapshot_id, made.headline)
        if not aim.winner or made.winner is not None:
            return Outcome()
        reasons = [one.reason for one in made.gaps if one.what == aim.winner]
        why = reasons[0] if reasons else "it was not compared"
        return Outcome(f"{aim.winner}: {why}", HINT)

    def _finish(self, child: LossChild, scratch: Path) -> None:
        child.end()
        self._clear(scratch)
        with self._lock:
            self._work = None

    # --- files ------------------------------------------------------------------

    def _parting(self, manifest: Manifest) -> Parting:
        """Return where the snapshot's writes left the line that is kept.

        Raises SnapshotError when it is of no losing side, or cannot be read.
        """
        policy, now = self._desk.policy, self._desk.now()
        if manifest.cluster != policy.cluster:
            raise SnapshotError(
                f"snapshot {manifest.id} is of cluster {manifest.cluster!r:.100}, not"
                f" of {policy.cluster!r}",
                "ask the agent of that cluster",
            )
        if not manifest.has_copy and not (manifest.closed and manifest.has_rows_alone):
            raise SnapshotError(
                f"snapshot {manifest.id} has no full copy: its rows cannot be read",
                "wait until the capture is complete",
            )
        end = manifest.end_lsn or manifest.tail_lsn
        one = Snapshot(manifest.node, manifest.lineage, end)
        found = parting(self._desk.state, one, now.monotonic_s, policy)
        if found is None:
            raise SnapshotError(
                f"snapshot {manifest.id} is not known to be of a losing side: all that"
                " it holds may be in the line that is kept",
                "choose a snapshot of the losing side: `splitguard snapshots list`"
                " says whose SIDE each is of",
            )
        return found

    def _scratch(self, manifest: Manifest) -> Path:
        """Make the folder for clones. Raises SnapshotError, OSError without room."""
        as_root = os.geteuid() == 0
        parent = Path(tempfile.gettempdir()) if as_root else self._catalogue.place
        volume = shutil.disk_usage(parent)
        needed = manifest.size_bytes + volume.total // SPARE
        if volume.free < needed:
            raise SnapshotError(
                f"no room to open a clone of {manifest.id} in {parent}: {needed} bytes"
                f" are needed, {volume.free} are free",
                "free space there, and ask again",
            )
        made = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
        if as_root:
            made.chmod(0o711)  # the private server runs as another user
        return made

    def _clear(self, scratch: Path | None) -> None:
        if scratch is not None:
            with suppress(OSError):
                remove_tree(scratch)

    def _sweep(self) -> None:
        """Take away the clones that a killed agent left."""
        with suppress(OSError):
            for left in self._catalogue.place.glob(f"{SCRATCH}*"):
                remove_tree(left)

    def _note(self, aim: Aim, outcome: Outcome) -> None:
        """Keep in the snapshot's folder why there is no report, or not the whole."""
        with suppress(SnapshotError):
            folder = self._catalogue.folder(aim.snapshot_id)
            losstries.note(folder, aim, outcome, self._desk.now().wall_s)

    # --- what the core is told --------------------------------------------------

    def _tell(self) -> frozenset[str]:
        """Tell the core of every report on the disk that it does not know.

        Return of which snapshots: as long as it has not taken that in, it wants them.
        """
        untold = set()
        for capture in self._desk.state.ledger.captures:
            if capture.order.node != self._desk.policy.me:
                continue
            loss, known = self._headline(capture.order.capture_id), capture.loss
            if loss is None or (known and known.made_wall_s == loss.made_wall_s):
                continue
            untold.add(loss.snapshot)
            self._post(LossTold(self._desk.now(), loss))
        return frozenset(untold)

    def _headline(self, snapshot_id: str) -> Loss | None:
        """Return what a stored report comes to; read only when it is another one."""
        try:
            folder = self._folder(snapshot_id)
            written = (folder / reports.NAME).stat().st_mtime_ns
        except (SnapshotError, OSError):
            return None
        told = self._told.get(snapshot_id)
        rescued_ns = rescued.written_ns(folder)
        if told is not None and told[0] == (written, rescued_ns):
            return told[1]
        report = rescued.load(folder)
        if report is None:
            return None
        loss = loss_of(report)
        if rescued.words(report):  # news of it as well
            wall_s = max(loss.made_wall_s, rescued_ns / 1e9)
            loss = replace(loss, made_wall_s=wall_s)
        self._told[snapshot_id] = (written, rescued_ns), loss
        return loss


def loss_of(report: Report) -> Loss:
    """Return what a report comes to."""
    compared = report.winner
    return Loss(
        snapshot=report.snapshot_id,
        node=report.node,
        sentence=report.headline + rescued.words(report),
        transactions=report.loser.user,
        rows=report.counts.differing if compared else report.wrote.rows,
        end_lsn=report.end_lsn,
        winner=compared.name if compared else "",
        made_wall_s=report.made_s,
    )


def _words(error: Exception) -> str:
    if isinstance(error, SplitguardError):
        return error.message
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}"
    return type(error).__name__
