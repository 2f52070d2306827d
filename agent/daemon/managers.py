"""Looks after the manager beside this agent, and keeps its snapshots.

Theory of operation. Two tasks share one client. One asks the manager every now and then
what it says of itself and of its cluster. The other has it take snapshots: what the
core wants after a split first, then what a person asked for, then what the clock says.
Both are apart from the captures of the database, which never wait for them: a manager
that hangs costs nothing but its own snapshot.

Each login writes a row into the manager's database, so where the core says that this
could do harm, nothing is asked. A manager that does not answer is asked less and less.
A login that it refuses is not tried again until the configuration is read anew, or the
file that it came from has changed: four wrong ones would lock the account.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agent.core.care import KeptBrief, ManagerCare, ManagerMember
from agent.core.event import Event, ManagerCareTold
from agent.core.managercare import looks_allowed, wanted, writing_harmless
from agent.daemon.managers_means import MeansKept
from agent.daemon.managers_rota import Rota
from agent.errors import ManagerError
from agent.ports import Clock, Desk
from agent.vnfm.client import ManagerClient
from agent.vnfm.keeping import Order, order_id
from agent.vnfm.kept import Kept
from agent.vnfm.login import UNAUTHORIZED
from agent.vnfm.records import ClusterStatus, Status
from agent.vnfm.refusals import with_kill
from agent.vnfm.shelf import Shelf

log = logging.getLogger(__name__)

TICK_S = 1.0
PAUSE_S_MAX = 600.0
"""A manager that does not answer is asked at least so often."""
MISSED_MAX = 3
"""After so many looks in vain what it said before counts no more."""
VERSION_EVERY = 20
"""In so many looks the version is asked for once: each question writes a row."""
ASKED_MAX = 4
"""So many snapshots that people asked for may wait."""
KEPT_TOLD = 12
"""So many of the newest are told to the core, beside those of incidents."""
INCIDENTS_TOLD = 50
UPKEEP_S = 3600.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How the manager is looked after."""

    protect: bool
    look_s: float
    alert_after_s: float


@dataclass(frozen=True, slots=True)
class Stock:
    """What is kept, and what is written down of it."""

    shelf: Shelf
    rota: Rota
    prune: Callable[[], object]
    """Gives up what need not be kept. Blocking; raises ManagerError."""


class ManagerWork:
    """Looks after one manager until cancelled."""

    def __init__(
        self,
        desk: Desk,
        clock: Clock,
        post: Callable[[Event], None],
        means: MeansKept,
        stock: Stock,
        habits: Habits,
    ) -> None:
        """Nothing is asked before `run`."""
        self._desk = desk
        self._clock = clock
        self._post = post
        self._means = means
        self._shelf = stock.shelf
        self._rota = stock.rota
        self._prune = stock.prune
        self._habits = habits
        self._care = ManagerCare()
        self._asked: deque[Order] = deque()
        self._listed = False
        """Whether it is known what is on the shelf."""
        self._next_look_s = 0.0
        self._looks = 0
        self._missed = 0

    @property
    def care(self) -> ManagerCare:
        """What is known of the manager now."""
        return self._care

    @property
    def held(self) -> bool:
        """Whether nothing may be asked now, because a login's row would do harm."""
        return not writing_harmless(self._desk.state, self._desk.policy)

    async def run(self) -> None:
        """Look and keep, until cancelled."""
        await asyncio.to_thread(self._swept)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_forever(self._freshen, UPKEEP_S, self._clock))
            tasks.create_task(_forever(self._look_on, TICK_S, self._clock))
            tasks.create_task(_forever(self._work_on, TICK_S, self._clock))

    async def close(self) -> None:
        """Give up what is on its way."""
        await self._means.close()

    async def renew(self) -> None:
        """Read the login anew with the next request; what goes on ends as it began."""
        await self._means.renew()
        self._care = replace(self._care, refused_login="")
        self._missed = 0

    def ask(self, reason: str) -> str | None:
        """Have a snapshot taken; return its id, or None when too many wait."""
        if len(self._asked) >= ASKED_MAX:
            return None
        # No other one begins at this second under this name.
        name = f"{order_id(self._desk.policy.me, self._desk.now().wall_s)}-asked"
        while any(one.id == name for one in self._asked):
            name += "-again"
        words = " ".join(reason.split())  # it goes into a log, which has lines
        self._asked.append(Order(name, self._desk.policy.me, words))
        return name

    # --- looking ----------------------------------------------------------------

    async def _look_on(self) -> None:
        """Look, if it is time; tell the core again what was lost on its way."""
        now_s = self._desk.now().monotonic_s
        if now_s >= self._next_look_s and self._may_look(now_s):
            await self._look()
            self._next_look_s = self._desk.now().monotonic_s + self._pause_s()
        if self._listed:
            self._tell()

    def _may_look(self, now_s: float) -> bool:
        if self._refused():
            return False
        return looks_allowed(self._desk.state, now_s, self._desk.policy)

    def _pause_s(self) -> float:
        """Return how long to wait after a look."""
        look_s = self._habits.look_s
        return max(look_s, min(look_s * 2.0 ** min(self._missed, 10), PAUSE_S_MAX))

    async def _look(self) -> None:
        """Ask the manager what it says. Failures are counted and change nothing."""
        try:
            async with self._means.at_hand() as means:
                status, cluster, version = await self._seen(means.client)
        except ManagerError as error:
            self._note(error, "looking at the manager")
            if self._missed >= MISSED_MAX:
                self._care = replace(self._care, active=None, cluster="", members=())
            return
        self._looks += 1
        self._missed = 0
        members = cluster.members if cluster is not None else ()
        self._care = replace(
            self._care,
            version=version,
            active=status.active,
            cluster=cluster.status if cluster is not None else "",
            members=tuple(
                ManagerMember(one.kind, one.name, one.address, one.status)
                for one in members
            ),
        )
        self._tell()

    async def _seen(
        self, client: ManagerClient
    ) -> tuple[Status, ClusterStatus | None, str]:
        """Return what the manager says of itself. Raises ManagerError."""
        status, version = await client.status(), self._care.version
        if not status.active:
            return status, None, version  # of the 4.x line: it answers nothing else
        cluster = await client.cluster_status()
        if not version or self._looks % VERSION_EVERY == 0:
            version = (await client.version()).version
        return status, cluster, version

    # --- keeping ----------------------------------------------------------------

    async def _work_on(self) -> None:
        """Make what is wanted first, if anything is."""
        before = self._rota.notes
        order = None if self._refused() else self._next()
        if order is not None:
            await self._keep(order)
        if self._rota.notes != before:
            await asyncio.to_thread(self._rota.save)
            self._tell()

    def _next(self) -> Order | None:
        """Return what is to be made first."""
        desk, now = self._desk, self._desk.now()
        me, state = desk.policy.me, desk.state
        if not self._listed or not self._is_known():
            return None  # the core does not know yet what is kept, or was tried
        due = self._rota.look(state, desk.policy, now)
        called = wanted(state, now.monotonic_s, desk.policy)
        name = order_id(me, now.wall_s)
        if called is not None and self._habits.protect:
            return Order(
                name,
                me,
                called.reason,
                incident_ids=called.incident_ids,
                capture_id=self._capture_of(called.incident_ids),
            )
        if self._asked and not self.held:
            return self._asked.popleft()
        return Order(name, me, "schedule", scheduled=True) if due else None

    def _is_known(self) -> bool:
        """Whether the core has heard what became of the last one: else it asks anew."""
        care, told = self._care, self._desk.state.view.care
        return told is not None and (care.kept, care.tried, care.running) == (
            told.kept,
            told.tried,
            told.running,
        )

    def _capture_of(self, incident_ids: tuple[str, ...]) -> str:
        """Return the copy of the database that goes with these incidents."""
        for capture in reversed(self._desk.state.ledger.captures):
            order = capture.order
            if order.node == self._desk.policy.me and set(order.incident_ids) & set(
                incident_ids
            ):
                return order.capture_id
        return ""

    async def _keep(self, order: Order) -> None:
        """Keep one; tell how that went."""
        log.info("manager's snapshot %s: begun (%s)", order.id, order.reason)
        self._care = self._care.begun(order.id)
        self._tell()
        try:
            async with self._means.at_hand() as means:
                kept = await means.keeper.keep(order)
        except ManagerError as error:
            self._failed(order, error)
            return
        except Exception as error:
            log.exception("manager's snapshot %s", order.id)
            self._failed(order, ManagerError(f"{type(error).__name__}: {error}"))
            return
        finally:
            self._care = replace(self._care, running="")
        log.info("manager's snapshot %s: kept, %d bytes", kept.id, kept.size_bytes)
        for problem in kept.problems:
            log.warning("manager's snapshot %s: %s", kept.id, problem)
        self._care = self._care.after_good(brief(kept))
        self._rota.succeeded(self._desk.now().wall_s, scheduled=order.scheduled)
        self._tell()
        await self._freshen()

    def _failed(self, order: Order, error: ManagerError) -> None:
        wall_s = self._desk.now().wall_s
        self._note(error, f"manager's snapshot {order.id}")
        why = with_kill(error)
        self._care = self._care.after_failure(why, order.incident_ids, wall_s)
        self._rota.failed(
            why,
            wall_s,
            scheduled=order.scheduled,
            incident_ids=order.incident_ids,
        )
        self._tell()

    # --- inside -----------------------------------------------------------------

    def _refused(self) -> bool:
        """Whether nothing may be asked; over once the login's file has changed."""
        if not self._care.refused_login:
            return False
        if self._means.refused:
            return True
        self._care = replace(self._care, refused_login="")
        return False

    def _note(self, error: ManagerError, what: str) -> None:
        """Count a failure; the first of several in a row is worth a line."""
        self._missed += 1
        if error.code == UNAUTHORIZED:
            self._care = replace(self._care, refused_login=error.message)
            self._tell()
        if self._missed == 1 or error.code == UNAUTHORIZED:
            hint = f" ({error.hint})" if error.hint else ""
            log.warning("%s: %s%s", what, error.message, hint)

    def _swept(self) -> None:
        """Take away what was not finished. Blocking."""
        try:
            for left in self._shelf.sweep():
                log.warning("manager's snapshot %s was not finished", left)
        except ManagerError as error:
            log.warning("%s (%s)", error.message, error.hint)
        self._rota.save()

    def _pruned(self) -> tuple[Kept, ...] | None:
        """Give up what need not be kept, and return what is whole. Blocking."""
        try:
            self._prune()
        except ManagerError as error:
            log.warning("%s (%s)", error.message, error.hint)
        try:
            return self._shelf.sound()
        except ManagerError as error:
            log.warning("%s (%s)", error.message, error.hint)
            return None

    async def _freshen(self) -> None:
        """Take in what is on the shelf."""
        found = await asyncio.to_thread(self._pruned)
        # What cannot be read holds nothing back: the next one fails aloud, and is told.
        self._listed = True
        if found is None:
            return
        told = [
            one
            for place, one in enumerate(found)
            if place < KEPT_TOLD or one.incident_ids
        ]
        self._care = replace(
            self._care,
            kept=tuple(brief(one) for one in told[: KEPT_TOLD + INCIDENTS_TOLD]),
            last_good_wall_s=found[0].created_wall_s if found else None,
        )
        self._tell()

    def _tell(self) -> None:
        """Tell the core what is known."""
        self._care = self._rota.told(self._care, self._habits.alert_after_s)
        if self._desk.state.view.care != self._care:
            self._post(ManagerCareTold(self._desk.now(), self._care))


async def _forever(
    turn: Callable[[], Awaitable[object]], pause_s: float, clock: Clock
) -> None:
    """Do it again and again, whatever goes wrong: the agent has more to do."""
    while True:
        try:
            await turn()
        except Exception:
            log.exception("looking after the manager")
        await clock.sleep(pause_s)


def brief(kept: Kept) -> KeptBrief:
    """Return what the core needs of a kept snapshot."""
    return KeptBrief(
        kept.id,
        kept.reason,
        kept.incident_ids,
        kept.created_wall_s,
        kept.size_bytes,
        good=True,
    )
