"""When the manager's scheduled snapshot is due, and whose turn it is.

Theory of operation. Every agent beside a manager has the same schedule; the one beside
the active manager acts on it. A run that came due while nobody could act on it, because
no agent ran, no manager was active or a side was cut off, stays due, and is made up
once: whatever came due meanwhile is one run. A run that was another agent's is crossed
out here, so that nothing is made up for when the roles change. What fails is tried
again a few times. All of this is one small file beside the snapshots, so that a restart
neither forgets a failure nor repeats a run.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from agent import codec
from agent.core.care import ManagerCare
from agent.core.managercare import first_answering, looks_allowed, takes_scheduled
from agent.core.moment import Moment
from agent.core.observation import Channel
from agent.core.policy import Policy
from agent.core.standing import standing
from agent.core.state import State
from agent.daemon.calendar import next_after, put_off_s
from agent.errors import CodecError
from agent.snapshot.files import PRIVATE_FOLDER, write_atomically
from agent.vnfm.records import Generation, Version

log = logging.getLogger(__name__)

NAME = "rota.json"
BYTES_MAX = 64 << 10
TRIES_MAX = 3
RETRY_S = 900.0
"""A run that failed is tried again after this."""
GRACE_S = 120.0
"""So long the others have before their run is crossed out here: roles may just move."""
FORGIVEN_S = 3600.0
"""So long it is told that a snapshot failed which a person had asked for."""
AHEAD_S_MAX = 86_400.0
"""What was done so far in the future was noted by a clock that went wrong."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What must survive a restart."""

    since_wall_s: float
    """Since when it is this agent's turn, or its first start."""
    done_wall_s: float
    """What came due until then is done, or was another's."""
    tried: int = 0
    """Failed attempts at the run that is due."""
    again_wall_s: float = 0.0
    """Not before then."""
    failed: str = ""
    """Why the last snapshot failed, whoever asked for it; empty after a good one."""
    failed_wall_s: float | None = None
    failed_for: tuple[str, ...] = ()
    """The incidents that it was for."""
    failed_by_clock: bool = False
    others: bool = False
    """Whether it was another agent's turn when that was last known."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When snapshots are due."""

    cron: str
    time_zone: str
    jitter_s: float
    cluster: str

    def due_s(self, done_wall_s: float) -> float | None:
        """Return when the next run after this instant is due; None for never."""
        due_s = next_after(self.cron, done_wall_s, self.time_zone)
        if due_s is None:
            return None
        return due_s + put_off_s(self.cluster, due_s, self.jitter_s)


class Rota:
    """Keeps the notes of one agent. Blocking where it says so."""

    def __init__(self, folder: Path, schedule: Schedule | None, wall_s: float) -> None:
        """Read the notes, if there are any. Blocking."""
        self._path = folder / NAME
        self._schedule = schedule
        self._known: tuple[float, float | None] | None = None
        self.notes = _read(self._path) or Notes(wall_s, wall_s)
        if self.notes.done_wall_s > wall_s + AHEAD_S_MAX:
            self.notes = replace(self.notes, done_wall_s=wall_s, again_wall_s=0.0)

    @property
    def has_schedule(self) -> bool:
        """Whether anything is ever due."""
        return self._schedule is not None

    def look(self, state: State, policy: Policy, now: Moment) -> bool:
        """Note whose turn it is; return whether a snapshot is to be taken now."""
        self._let_lapse(state, now.wall_s)
        mine = takes_scheduled(state, policy, now)
        others = not mine and _others_turn(state, policy, now)
        if mine and self.notes.others:
            self.notes = replace(self.notes, others=False, since_wall_s=now.wall_s)
        elif others and not self.notes.others:
            self.notes = replace(self.notes, others=True)
        due_s = self._due_s()
        if due_s is None or now.wall_s < due_s:
            return False
        if others and now.wall_s >= due_s + GRACE_S:
            self._cross_out(now.wall_s)
        waits = 0 < self.notes.again_wall_s - now.wall_s <= RETRY_S
        return mine and not waits

    def succeeded(self, wall_s: float, *, scheduled: bool) -> None:
        """Note a good snapshot."""
        self._forgive()
        if scheduled:
            self._cross_out(wall_s)

    def failed(
        self,
        reason: str,
        wall_s: float,
        *,
        scheduled: bool,
        incident_ids: tuple[str, ...] = (),
    ) -> None:
        """Note a failure; after some of them the run is given up."""
        self.notes = replace(
            self.notes,
            failed=reason,
            failed_wall_s=wall_s,
            failed_for=incident_ids,
            failed_by_clock=scheduled,
        )
        if not scheduled:
            return
        tried = self.notes.tried + 1
        self.notes = replace(self.notes, tried=tried, again_wall_s=wall_s + RETRY_S)
        if tried >= TRIES_MAX:
            self._cross_out(wall_s)

    def _let_lapse(self, state: State, wall_s: float) -> None:
        """Forget a failure that nothing can mend any more.

        One of the clock is mended by the next night's, here or by whoever's turn it is
        now; one of an incident is past with it; and who asked for one has seen what
        became of it.
        """
        notes = self.notes
        if not notes.failed:
            return
        if notes.failed_by_clock:
            if notes.others or self._schedule is None:
                self._forgive()
            return
        going_on = {one.id for one in standing(state)} & set(notes.failed_for)
        age_s = wall_s - (notes.failed_wall_s or 0.0)
        if not going_on and (notes.failed_for or not 0 <= age_s < FORGIVEN_S):
            self._forgive()

    def _forgive(self) -> None:
        self.notes = replace(
            self.notes,
            failed="",
            failed_wall_s=None,
            failed_for=(),
            failed_by_clock=False,
        )

    def save(self) -> None:
        """Write the notes down. Blocking; never raises what a disk can do."""
        try:
            self._path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            write_atomically(self._path, codec.to_json(self.notes).encode("ascii"))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error.strerror)

    def told(self, care: ManagerCare, alert_after_s: float) -> ManagerCare:
        """Return what the core is to know of the schedule."""
        return replace(
            care,
            scheduled=self.has_schedule and not self.notes.others,
            alert_after_s=alert_after_s if self.has_schedule else 0.0,
            failed=self.notes.failed,
            failed_wall_s=self.notes.failed_wall_s,
            since_wall_s=self.notes.since_wall_s,
        )

    def _due_s(self) -> float | None:
        """Return when the next run is due, worked out once for each."""
        if self._schedule is None:
            return None
        done_s = self.notes.done_wall_s
        if self._known is None or self._known[0] != done_s:
            self._known = done_s, self._schedule.due_s(done_s)
        return self._known[1]

    def _cross_out(self, wall_s: float) -> None:
        self.notes = replace(self.notes, done_wall_s=wall_s, tried=0, again_wall_s=0.0)


def _others_turn(state: State, policy: Policy, now: Moment) -> bool:
    """Whether it is known that another agent takes what is due."""
    care = state.view.care
    if care is None or not looks_allowed(state, now.monotonic_s, policy):
        return False
    if Version(care.version).generation is Generation.ALL_ACTIVE:
        return first_answering(state, now, policy) not in (None, policy.me)
    seen = state.view.latest.get(f"{policy.me}/{Channel.MANAGER}")
    if seen is not None and seen.manager is not None and not seen.manager.silent:
        return not seen.manager.active
    return care.active is False


def _read(path: Path) -> Notes | None:
    """Return the notes; None where there are none that can be read. Blocking."""
    try:
        with path.open("rb") as file:
            return codec.from_json(file.read(BYTES_MAX), Notes)
    except FileNotFoundError:
        return None
    except (OSError, CodecError) as error:
        log.warning("%s cannot be read and begins anew: %s", path, error)
        return None
