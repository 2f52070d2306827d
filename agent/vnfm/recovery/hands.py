"""What a recovery can do itself: the acts of its steps, and their checks.

Theory of operation. Each act can be done again after an interruption: what is there
already is used, and what was begun on a manager is noted with its name before it is
waited for. Checks look around anew each time and hand the picture to `judging`. The
managers are told apart by node; which one is restored is in the facts.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import ManagerError, SplitguardError
from agent.ports import Clock
from agent.vnfm.client import CreateOptions, ManagerClient, Progress
from agent.vnfm.kept import CERTIFICATES
from agent.vnfm.records import Generation
from agent.vnfm.recovery import judging, judging_health, judging_split, restoring
from agent.vnfm.recovery.doors import AgentDoor, Doors
from agent.vnfm.recovery.finding import Finder, Maker, opened
from agent.vnfm.recovery.looking import Looker
from agent.vnfm.recovery.model import Facts
from agent.vnfm.recovery.ports import Note, Seen
from agent.vnfm.recovery.saving import (
    same_as,
    save_certificates,
    saved_for,
    unpacking,
    without,
)
from agent.vnfm.recovery.world import World
from agent.vnfm.waiting import Stage

Judge = Callable[[World, Facts], Seen]
CHECKS: Mapping[str, Judge] = {
    "look": judging.look,
    "down-node": judging.down_node,
    "down-active": judging.down_active,
    "one-active": judging.one_active,
    "newest": judging.newest,
    "kept": judging.kept,
    "kept-or-standby": judging.kept_or_standby,
    "back-or-removed": judging.back_or_removed,
    "removed": judging.removed,
    "torn-down": judging.torn_down,
    "installed": judging.installed,
    "started": judging.started,
    "joined": judging.joined,
    "restored": judging_health.restored,
    "healthy": judging_health.healthy,
    "wanted": judging_health.torn_down_for,
    "sides": judging_split.sides,
    "captured": judging_split.captured,
    "met": judging_split.met,
    "follows": judging_split.follows,
}
PROOF = "healthy"
COUNTING = ("torn-down", "installed", "restored")
"""Checks that want to know how much a manager holds."""
LOSS_S = 600.0
REPORT_TRIES = 3
REPORT_PAUSE_S = 5.0
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Means:
    """With what a run works."""

    managers: Mapping[str, ManagerClient]
    """By node, in the order of the configuration."""
    doors: Doors
    finder: Finder
    certificates: Sequence[Path]
    """The folders of this machine."""
    recipients: Sequence[str]
    options: CreateOptions
    wait_s: float
    """How long a manager may take for a snapshot or a restore."""
    me: str
    """The node that this machine is."""
    who: str
    """Who runs this, for the record."""
    told: Progress | None = None
    """Shows how much of an archive has gone."""
    stage: Stage | None = None
    """Shows how far a manager is with what it does."""


class Hands:
    """Implements ports.Hands."""

    def __init__(
        self, means: Means, generation: Generation, *, by_agents: bool = False
    ) -> None:
        self._means = means
        self._generation = generation
        self._by_agents = by_agents
        self._looker = Looker(means.managers, means.doors)
        self._acts: Mapping[str, Callable[[Facts, Note], Awaitable[Seen]]] = {
            "save-certificates": self._save_certificates,
            "snapshot": self._snapshot,
            "maintenance-on": self._maintenance_on,
            "maintenance-off": self._maintenance_off,
            "upload": self._upload,
            "restore": self._restore,
            "winner": self._winner,
            "capture": self._capture,
            "loss": self._loss,
        }

    @property
    def _clock(self) -> Clock:
        return next(iter(self._means.managers.values())).clock

    @property
    def acts(self) -> frozenset[str]:
        """What can be done."""
        return frozenset(self._acts)

    async def plan(self, act: str, facts: Facts) -> str:
        """Say what an act would do now."""
        if act == "save-certificates" and self._means.me not in self._means.managers:
            return "no manager stands on this machine: nothing to save here"
        if act == "snapshot":
            return await self._snapshot_plan(facts)
        if act == "restore":
            return await restoring.plan(self._leader(facts), facts)
        if act == "winner" and facts.get("chosen"):
            return f"pins {facts['chosen']}: {facts.get('reason', '')}"
        if act == "winner":
            return f"as predicted: {facts.get('winner') or 'nobody can tell yet'}"
        return ""

    async def do(self, act: str, facts: Facts, note: Note) -> Seen:
        """Do it. Raises SplitguardError."""
        return await self._acts[act](facts, note)

    async def check(self, act: str, facts: Facts) -> Seen:
        """Look once. Raises ManagerError for a refused login only."""
        if act == "certificates-saved":
            return await self._certificates_saved(facts)
        seen = CHECKS[act](await self._look(act), facts)
        if act == "look" and not self._by_agents:
            return replace(seen, facts={**seen.facts, **await self._folders()})
        return seen

    async def _look(self, act: str = "") -> World:
        if self._by_agents and act != PROOF:
            return await self._looker.by_agents(self._generation)
        return await self._looker.around(self._generation, counted=act in COUNTING)

    def _leader(self, facts: Facts) -> ManagerClient:
        return self._means.managers[facts["leader"]]

    # --- what is kept -----------------------------------------------------------

    async def _folders(self) -> dict[str, str]:
        """Return where each other machine has its certificates, as far as is known."""
        others = [name for name in self._means.managers if name != self._means.me]
        asked = (
            asyncio.to_thread(self._means.finder.folders_of, node) for node in others
        )
        found = dict(zip(others, await asyncio.gather(*asked), strict=True))
        known: dict[str, str] = {}
        for node, folders in found.items():
            if folders:
                below = " ".join(shlex.quote(one.lstrip("/")) for one in folders)
                known[f"certificates_below_root.{node}"] = below
                told = f"These are its own folders, by the newest snapshot of {node}."
                known[f"whose_folders.{node}"] = told
        return known

    async def _save_certificates(self, facts: Facts, _: Note) -> Seen:
        means = self._means
        if means.me not in means.managers:
            return Seen(ok=True, told="no manager stands on this machine")
        to = Path(facts["to"])
        there, _why = await asyncio.to_thread(saved_for, to, means.me)
        if there is not None:
            known = {f"its_certificates.{means.me}": unpacking(there)}
            told = f"{there} is there already, and opens"
            return Seen(ok=True, told=told, facts=known)
        saved = await asyncio.to_thread(
            save_certificates, means.certificates, to, means.me, means.recipients
        )
        how = "encrypted" if saved.encrypted else "in plain, closed to other users"
        lines = [f"{saved.path}: {saved.files} files, {how}", *saved.problems]
        known = {f"its_certificates.{means.me}": unpacking(saved.path)}
        return Seen(ok=True, told="\n".join(lines), facts=known)

    async def _certificates_saved(self, facts: Facts) -> Seen:
        node, to = facts["node"], Path(facts["to"])
        name, others = f"its_certificates.{node}", tuple(self._means.managers)
        there, why = await asyncio.to_thread(saved_for, to, node)
        if there is not None:
            same = await asyncio.to_thread(same_as, to, node, others)
            told = f"{there} opens"
            if same:
                told += (
                    f"\nit holds the very files of {same}'s: if each machine has its"
                    f" own, these are not {node}'s"
                )
            return Seen(ok=True, told=told, facts={name: unpacking(there)})
        for kept in await asyncio.to_thread(self._means.finder.shelf.list):
            if kept.node == node and kept.certificates:
                path = self._means.finder.shelf.place / kept.id / CERTIFICATES
                told = f"kept with snapshot {kept.id}: {len(kept.certificates)} files"
                return Seen(ok=True, told=told, facts={name: unpacking(path)})
        if judging.is_lost(node, facts):
            told = f"{node} is given up (--lost {node}): its certificates are not saved"
            known = {name: without(node)}
            return Seen(ok=True, undone=True, told=told, facts=known)
        world = await self._look()
        sight = world.node(node)
        if not world.agent and sight is not None and not sight.seen:
            why = f"{why}; {node} answers in no way: switch its machine on"
        return Seen(
            ok=False,
            told=f"{why}. If that machine is gone for good: end this with Ctrl-C and"
            f" run it again with --lost {node}",
        )

    async def _snapshot_plan(self, facts: Facts) -> str:
        if facts.get("wanted"):
            return f"takes {facts['wanted']}, as --snapshot says"
        maker = await self._maker()
        found = await asyncio.to_thread(self._means.finder.candidates)
        newest = f"the newest one that is kept is {found[0].told}" if found else ""
        if maker is not None:
            kept = f"; {newest} (--snapshot {found[0].id} takes that)" if found else ""
            return f"has {maker} make one now{kept}"
        return newest or "none is kept anywhere that answers, and no manager is active"

    async def _maker(self) -> str | None:
        """Return the node whose manager can make one more."""
        world = await self._look()
        return next((one.node for one in world.active if one.version), None)

    async def _snapshot(self, facts: Facts, note: Note) -> Seen:
        means, wanted = self._means, facts.get("wanted", "")
        failed = ""
        maker = None if wanted else (facts.get("maker") or await self._maker())
        if maker is not None:
            note({"maker": maker})
            try:
                client = means.managers[maker]
                one = Maker(client, maker, means.options, means.wait_s, means.stage)
                path = await one.make(means.finder.to, note, facts.get("made", ""))
                return await self._checked(path, f"made by {maker} now")
            except ManagerError as error:
                failed = f"{maker} made none: {error.message}\n"
        path, told = await asyncio.to_thread(self._kept, wanted)
        return await self._checked(path, failed + told)

    async def _checked(self, path: Path, told: str) -> Seen:
        archive, facts = await opened(path)
        counts = ", ".join(
            f"{archive.counts.get(kind, 0)} {kind}" for kind in judging_health.COUNTED
        )
        words = f"{told}\n{path}: {archive.format}, {archive.version}, {counts}"
        return Seen(ok=True, told=words, facts=facts)

    def _kept(self, wanted: str) -> tuple[Path, str]:
        """Return the wanted snapshot, else the newest. Blocking. ManagerError."""
        if "/" in wanted or wanted.endswith(".zip"):
            return Path(wanted).absolute(), f"{wanted} was named"
        finder = self._means.finder
        found = finder.candidates()
        if wanted:
            found = tuple(one for one in found if one.id == wanted)
        if not found:
            name = f"no snapshot {wanted}" if wanted else "no manager's snapshot"
            raise ManagerError(
                f"{name} is kept on this machine or beside an agent that answers",
                "name an archive: --snapshot FILE; run this beside the shelf that has"
                " one, or give --token-file with scopes read and data",
            )
        return finder.bring(found[0]), found[0].told

    # --- onto the manager -------------------------------------------------------

    async def _upload(self, facts: Facts, note: Note) -> Seen:
        return await restoring.upload(
            self._leader(facts), facts, note, self._means.told
        )

    async def _restore(self, facts: Facts, note: Note) -> Seen:
        means = self._means
        patience = restoring.Patience(means.wait_s, means.stage)
        return await restoring.restore(self._leader(facts), facts, note, patience)

    async def _maintenance_on(self, facts: Facts, _: Note) -> Seen:
        return await restoring.maintenance(
            self._leader(facts), self._means.wait_s, wanted=True
        )

    async def _maintenance_off(self, facts: Facts, _: Note) -> Seen:
        return await restoring.maintenance(
            self._leader(facts), self._means.wait_s, wanted=False
        )

    # --- by the agents ----------------------------------------------------------

    async def _winner(self, facts: Facts, _: Note) -> Seen:
        chosen = facts.get("chosen", "")
        if not chosen:
            winner = facts.get("winner") or "whoever has the newest database"
            return Seen(ok=True, told=f"{winner} is kept; nobody was pinned")
        reason = facts.get("reason", "")
        body = {"node": chosen, "reason": reason, "who": self._means.who}
        await asyncio.to_thread(self._means.doors.here.post, "/v1/winner", body)
        return Seen(ok=True, told=f"{chosen} is pinned", facts={"winner": chosen})

    async def _capture(self, facts: Facts, _: Note) -> Seen:
        node = facts["node"]
        if judging.is_lost(node, facts):
            return Seen(ok=True, told=f"{node} is given up: --lost")
        world = await self._look()
        copy = judging_split.copy_of(world, node, facts)
        if copy is not None and copy.complete:
            return Seen(ok=True, told=f"snapshot {copy.id} of {node}: {copy.grade}")
        door = self._means.doors.of(node)
        if door is None:
            return Seen(ok=True, told=f"no agent of {node} is configured")
        question = {"reason": "split brain"}
        try:
            begun = await asyncio.to_thread(door.post, "/v1/snapshots", question)
        except SplitguardError as error:
            told = f"{node}'s agent takes no order from here: {error.message}"
            return Seen(ok=True, told=f"{told}; it captures by itself")
        return Seen(ok=True, told=f"snapshot {begun['id']} of {node} has begun")

    async def _loss(self, facts: Facts, _: Note) -> Seen:
        node, snapshot = facts["node"], facts.get("snapshot_of_node", "")
        if not snapshot:
            told = f"there is no snapshot of {node} to report on"
            left = "" if judging.is_lost(node, facts) else told
            return Seen(ok=True, undone=True, told=told, left=left)
        door = self._means.doors.of(node)
        try:
            if door is None:
                raise ManagerError(f"no agent of {node} is configured")
            report = await self._report(door, f"/v1/snapshots/{snapshot}/loss")
        except SplitguardError as error:
            why = error.message.rstrip(".")
            told = f"no loss report of {snapshot} yet: {why}"
            left = (
                f"{told}. On the machine of {node}: `splitguard loss report {snapshot}`"
                ", or this command again, there or with --token-file FILE (scopes read"
                " and data)"
            )
            return Seen(ok=True, told=left, left=left)
        return Seen(ok=True, told=str(report))

    async def _report(self, door: AgentDoor, path: str) -> str:
        """Return the headline of a loss report once it is made.

        One that failed, perhaps because the winner did not answer just then, is made
        anew a few times. Raises SplitguardError.
        """
        for _ in range(REPORT_TRIES):
            try:
                return await self._made(door, path)
            except SplitguardError:
                await self._clock.sleep(REPORT_PAUSE_S)
                with suppress(SplitguardError):
                    await asyncio.to_thread(door.post, path, {})
        return await self._made(door, path)

    async def _made(self, door: AgentDoor, path: str) -> str:
        clock = self._clock
        until_s = clock.moment().monotonic_s + LOSS_S
        while True:
            found = await asyncio.to_thread(door.get, path)
            if "headline" in found:
                return str(found["headline"])
            if clock.moment().monotonic_s > until_s:
                raise ManagerError(f"it is still being made: {found.get('doing', '')}")
            await clock.sleep(POLL_S)
