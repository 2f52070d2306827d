"""A loss report that is made here: whom to compare with, and where the lines parted.

Theory of operation. What it is compared with is a node of the configuration (read as
the role of `loss.user`), a connection string, or another snapshot, which is opened as a
private clone. Where the lines parted is told by the history of the other side: its
manifest, itself where its role may read that, else the agent. Without any of them the
fork of an earlier reading holds. Without --against the one primary among the other
nodes of the configuration is taken; when none answers, an earlier report is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.call import Call
from agent.cli.console import safe, say
from agent.cli.loss_progress import progress
from agent.cli.which import place_of, programs_of
from agent.core.lineage import Fork, Lineage, Switch
from agent.core.lsn import Lsn
from agent.divergence import losses, parting, rescued, shelf
from agent.divergence import report as reports
from agent.divergence.making import Circumstances, make_report
from agent.divergence.remote import story_of_agent
from agent.divergence.report_plain import plain
from agent.divergence.winner import Door
from agent.errors import (
    AgentUnreachableError,
    ConfigError,
    DivergenceError,
    PostgresError,
    SnapshotError,
    SplitguardError,
)
from agent.postgres.connect import as_role, place_named
from agent.postgres.programs import find_programs
from agent.snapshot import manifest as manifests
from agent.snapshot.manifest import DATA, Manifest

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.config.loss import LossSettings
    from agent.postgres.programs import Programs

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    snapshot: str
    against: str | None
    top: int
    folder: Path | None
    bin_dir: Path | None


@dataclass(frozen=True, slots=True)
class Opponent:
    """What the losing side is compared with."""

    door: Door
    fork: Fork


def make(call: Call, order: Order) -> Json:
    """Make the report, or find one that was made; return it in the API's shape.

    Raises SnapshotError, DivergenceError, PostgresError, ConfigError.
    """
    place = place_of(call, order.snapshot, order.folder)
    if not place.is_dir():
        raise SnapshotError(
            f"{place} is an archive, beside which nothing can be kept",
            f"unpack it (`splitguard snapshots restore {place} --to DIR`), or name the"
            " snapshot's folder",
        )
    settings = _settings(call)
    work = _Work(call, order, place, manifests.read(place), settings)
    if order.against is None:
        return work.with_the_winner()
    return work.compared_with(order.against)


def _settings(call: Call) -> "Settings | None":
    """Return the configuration; None where there is none, which is no hindrance."""
    try:
        return call.settings(files=False)
    except ConfigError:
        if call.config is not None:
            raise
        return None


class _Work:
    """One report."""

    def __init__(
        self,
        call: Call,
        order: Order,
        place: Path,
        manifest: Manifest,
        settings: "Settings | None",
    ) -> None:
        self._call = call
        self._order = order
        self._place = place
        self._manifest = manifest
        self._settings = settings
        self._programs: Programs | None = programs_of(call, order.bin_dir)

    @property
    def _loss(self) -> "LossSettings":
        from agent.config.loss import LossSettings

        return LossSettings() if self._settings is None else self._settings.loss

    def compared_with(self, against: str) -> Json:
        """Make the report against what was named."""
        dsn = self._dsn(against)
        if dsn is None:
            return self._against_snapshot(against)
        # A connection string says more than people should pass on in a report.
        name = place_named(dsn) if dsn == against else against
        timeline = parting.timeline_of(dsn, "" if dsn == against else name)
        fork = self._fork(name, dsn, timeline)
        door = Door(name, dsn, self._loss.statement_timeout_s)
        return self._made(Opponent(self._with_story(door, fork), fork))

    def with_the_winner(self) -> Json:
        """Make the report against the one other primary; show an old one without."""
        found = self._primaries()
        if len(found) == 1:
            return self.compared_with(found[0])
        if len(found) > 1:
            raise DivergenceError(
                f"more than one node accepts writes: {', '.join(found)}",
                "say which one is kept: --against NODE",
            )
        kept = self._before()
        if kept is None:
            raise DivergenceError(
                "no primary of this cluster answers, so nobody can tell where"
                f" {self._manifest.node} left the line that is kept",
                "name whom to compare it with: --against NODE, DSN or SNAPSHOT",
            )
        say("splitguard: no primary answers; this is the report that was made before")
        return plain(kept)

    # --- whom to compare with ---------------------------------------------------

    def _dsn(self, against: str) -> str | None:
        """Return the connection string that is meant; None for a snapshot."""
        nodes = () if self._settings is None else self._settings.nodes
        for node in nodes:
            if node.name == against:
                if node.postgres is None:
                    raise DivergenceError(
                        f"node {against} has no `postgres` in the configuration",
                        "give a connection string: --against DSN",
                    )
                return as_role(node.postgres, self._loss.user)
        if "=" not in against and "://" not in against:
            return None
        _refuse_password(against)
        return against

    def _primaries(self) -> list[str]:
        """Return the other nodes that accept writes now."""
        found = []
        for node in () if self._settings is None else self._settings.nodes:
            if node.name == self._manifest.node or node.postgres is None:
                continue
            try:
                parting.timeline_of(as_role(node.postgres, self._loss.user), node.name)
            except DivergenceError:
                continue  # a standby
            except PostgresError as error:
                say(f"splitguard: {node.name} cannot be asked: {safe(error.message)}")
            else:
                found.append(node.name)
        return found

    def _against_snapshot(self, against: str) -> Json:
        from agent.snapshot.opening import open_copy

        theirs = place_of(self._call, against, self._order.folder)
        say(f"splitguard: opening {safe(against)} to compare with")
        with open_copy(theirs, None, self._programs) as opened:
            manifest = opened.manifest
            fork = parting.fork_between(self._manifest, manifest.lineage, manifest.id)
            door = Door(
                manifest.id,
                opened.dsn,
                self._loss.statement_timeout_s,
                dsn_for=opened.dsn_for,
            )
            segment = manifest.wal_segment_bytes
            if manifest.start_lsn.segment(segment) <= fork.lsn.segment(segment):
                programs = self._programs or find_programs(None, opened.folder / DATA)
                told = losses.story_from(
                    programs, opened.server.folder / "pg_wal", fork.lsn, segment
                )
                door = replace(door, story_of=told)
            return self._made(Opponent(door, fork))

    def _with_story(self, door: Door, fork: Fork) -> Door:
        """Have the agent beside a node of the configuration tell of the node's log."""
        if self._settings is None or all(
            node.name != door.name for node in self._settings.nodes
        ):
            return door
        from agent.daemon.lossjob import agent_beside

        try:
            there = agent_beside(self._settings, door.name)
        except ConfigError as error:
            say(f"splitguard: the agent of {safe(door.name)} is not asked: {error}")
            return door
        if there is None:
            return door
        return replace(door, story_of=story_of_agent(there, fork.lsn))

    # --- where they parted ------------------------------------------------------

    def _fork(self, name: str, dsn: str, timeline: int) -> Fork:
        lineage = parting.lineage_of(dsn)
        if lineage is None:
            lineage = self._told_by_agent(timeline)
        if lineage is not None:
            return parting.fork_between(self._manifest, lineage, name)
        before = shelf.read_extraction(shelf.folder_of(self._place))
        if before is not None:
            return before.fork
        raise DivergenceError(
            f"where {self._manifest.node} left the line of {name} is not known: the"
            f" role may not read the history of timeline {timeline}, and no agent"
            " answers",
            "start the agent here, or give a role with REPLICATION: --against DSN",
        )

    def _told_by_agent(self, timeline: int) -> Lineage | None:
        """Return the lineage of a timeline as the agent knows it, if it knows one."""
        try:
            branches = self._call.agent.get("/v1/lineage")["branches"]
        except (AgentUnreachableError, ConfigError):
            return None
        by_id = {each["id"]: each for each in branches}
        tips = [each for each in branches if each["timeline"] == timeline]
        if len(tips) != 1:
            return None  # two histories of one number: nobody can tell them apart here
        switches = []
        branch = tips[0]
        while branch["parent"] is not None:
            parent = by_id[branch["parent"]]
            switches.append(Switch(parent["timeline"], Lsn.parse(branch["switch_lsn"])))
            branch = parent
        system_id = self._manifest.system_id
        return Lineage(system_id, timeline, tuple(reversed(switches)))

    # --- the work ---------------------------------------------------------------

    def _made(self, opponent: Opponent) -> Json:
        from agent.cli.keeping import now_s

        with progress(f"loss report of {self._manifest.id}") as show:
            task = losses.Task(
                snapshot=self._place,
                fork=opponent.fork,
                made_wall_s=now_s(),
                programs=self._programs,
                progress=show,
            )
            known = self._known()
            try:
                made = make_report(task, opponent.door, known)
            except OSError as error:
                raise SnapshotError(
                    f"the report cannot be kept beside the snapshot:"
                    f" {error.filename or ''} {error.strerror}",
                    "make room, or run this as the user that the agent runs as",
                ) from error
        return plain(made)

    def _known(self) -> Circumstances:
        """Return what nobody can read from the servers: who let what pass, and when."""
        before = self._before()
        released = tuple(_released(self._call, self._manifest))
        return Circumstances(
            redact=self._loss.redact,
            top=self._order.top,
            released=released or (before.released if before else ()),
            waiting=before.waiting if before else (),
            delivered=before.delivered if before else (),
        )

    def _before(self) -> reports.Report | None:
        try:
            return rescued.load(shelf.folder_of(self._place))
        except SnapshotError:
            return None  # it is made anew


def _released(call: Call, manifest: Manifest) -> Iterator[reports.Released]:
    """Yield the permits that a person gave, as far as an agent here knows of them."""
    try:
        permits = call.agent.get("/v1/guard/permits")["permits"]
    except SplitguardError:
        return
    for permit in permits:
        ours = permit["capture"] in (None, manifest.id)
        same = permit["system_id"] in (None, manifest.system_id)
        if permit["state"] == "released" and ours and same:
            who = permit["released_by"] or "somebody"
            yield reports.Released(
                node=permit["node"],
                who=who,
                # The state's sentence begins with who it was.
                reason=permit["reason"].partition(": ")[2] or permit["reason"],
                at_s=datetime.fromisoformat(permit["asked"]).timestamp(),
                protected_lsn=manifest.end_lsn,
            )


def _refuse_password(dsn: str) -> None:
    """Raise SplitguardError for a password that the process list would show."""
    from agent.config.forms import parse_dsn

    try:
        pairs = parse_dsn(dsn)
    except ValueError as error:
        raise SplitguardError(f"--against: {error}") from error
    if "password" in pairs:
        raise SplitguardError(
            "--against: others can read a password in the process list",
            "put it into ~/.pgpass, a passfile (passfile=…) or $PGPASSWORD",
        )
