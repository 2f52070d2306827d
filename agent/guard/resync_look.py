"""What is so on both sides of a resync, gathered for the decision.

Theory of operation. The loser is read from its disk, as the agent reads it; the source
over SQL, history and WAL included (`postgres.upstream`). The last WAL of the loser is
compared byte for byte with the source's, because two servers may share every number and
differ all the same. Nothing is changed here, nor decided.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.lineage import Lineage
from agent.core.lsn import Lsn
from agent.core.observation import ReadFailure, ServerFacts
from agent.core.resync import Source, Target
from agent.core.resync_success import Following
from agent.errors import GuardError, PostgresError
from agent.postgres import history, standby, upstream
from agent.postgres.control import read_control
from agent.postgres.owner import Owner, acting_as
from agent.postgres.reader import DiskReader
from agent.postgres.upstream import Upstream
from agent.postgres.wal import list_segments


@dataclass(frozen=True, slots=True)
class Standing:
    """What the agent beside the loser says."""

    line: tuple[str, ...]
    """Whose line everybody is held against."""
    told_twin: bool
    diverged: bool
    lsn: Lsn | None
    """Where the loser was when it was last read."""


class Gate(Protocol):
    """The agent beside the loser."""

    def standing(self) -> Standing:
        """Ask what is so."""
        ...

    def permit(self) -> str:
        """Ask for a permit, wait for it, and return its id. Raises GuardError."""
        ...

    def holds(self, permit_id: str) -> bool:
        """Whether that permit still lets a resync pass."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """The source, as it is reached."""

    name: str
    dsn: str
    owner: Owner
    """As whom it is asked: password files are readable by this user only."""

    def look(self, not_in: Path | None = None) -> Upstream:
        """Ask it. Raises PostgresError, and GuardError when it is the loser itself."""

        def refuse_self(pid: int) -> None:
            if not_in is not None and _works_in(pid, not_in):
                raise GuardError(
                    f"{self.name} is the server of {not_in} itself",
                    "name the other server with --source",
                )

        with acting_as(self.owner):
            return upstream.look(self.dsn, held=refuse_self)

    def lineage(self, found: Upstream) -> Lineage:
        """Read where its WAL comes from. Raises PostgresError."""
        with acting_as(self.owner):
            return upstream.read_lineage(self.dsn, found)

    def below(self, found: Upstream, lineage: Lineage, end: Lsn) -> bytes | None:
        """Read its WAL right below a position; None when it is not to be had."""
        with acting_as(self.owner):
            return upstream.read_below(self.dsn, found, lineage, end)


def _works_in(pid: int, data_dir: Path) -> bool:
    """Whether a process of this machine is a server's in that folder."""
    process = Path(f"/proc/{pid}")
    try:
        is_server = (process / "comm").read_bytes().strip() == b"postgres"
        return is_server and (process / "cwd").samefile(data_dir)
    except OSError:
        return False


def facts(data_dir: Path, bin_dir: Path | None) -> ServerFacts:
    """Read the loser's disk. Raises GuardError."""
    found = DiskReader(data_dir, bin_dir).read()
    if isinstance(found, ReadFailure):
        raise GuardError(found.reason, found.hint)
    return found


def target(node: str, data_dir: Path, found: ServerFacts, standing: Standing) -> Target:
    """Return the loser as the decision needs it. Raises PostgresError."""
    control = read_control(data_dir)
    end = found.end_lsn if not found.running else standing.lsn
    return Target(
        node=node,
        lineage=found.lineage,
        end_lsn=end,
        control_timeline=control.timeline,
        records_pages=control.wal_log_hints or control.data_checksums,
        wal_from=wal_from(data_dir, found, end),
        major=found.version_num // 10_000,
        told_twin=standing.told_twin,
    )


def wal_from(data_dir: Path, found: ServerFacts, end: Lsn | None) -> Lsn | None:
    """Return where the WAL begins that reaches to the end without a missing segment."""
    if end is None:
        return None
    size = found.wal_segment_bytes
    present = {file.path.name for file in list_segments(data_dir / "pg_wal", size)}
    number = (int(end) - 1) // size
    while number > 0 and present.intersection(
        upstream.holders(found.lineage, Lsn(number * size), size)
    ):
        number -= 1
    first = Lsn((number + 1) * size)
    return first if first < end else None


def later_timeline(data_dir: Path) -> int:
    """Return the highest timeline that the loser has a history of. Raises OSError."""
    names = [entry.name for entry in (data_dir / "pg_wal").iterdir()]
    return max(history.timelines(names), default=1)


def source(
    server: Server, found: Upstream, lineage: Lineage, data_dir: Path, loser: Target
) -> Source:
    """Return the source as the decision needs it."""
    return Source(
        name=server.name,
        lineage=lineage,
        in_recovery=found.in_recovery,
        flush_lsn=found.flush_lsn,
        same_wal=same_wal(server, found, lineage, data_dir, loser),
    )


def same_wal(
    server: Server, found: Upstream, lineage: Lineage, data_dir: Path, loser: Target
) -> bool | None:
    """Compare the last WAL of the loser with the source's."""
    end = loser.end_lsn
    if end is None or end > found.flush_lsn or end == 0:
        return None
    size = found.wal_segment_bytes
    theirs = server.below(found, lineage, end)
    try:
        ours = upstream.local_below(data_dir / "pg_wal", loser.lineage, end, size)
    except OSError:
        return None
    return None if ours is None or theirs is None else ours == theirs


@dataclass(frozen=True, slots=True)
class Loser:
    """The server on this machine, as it is asked whether it follows."""

    data_dir: Path
    bin_dir: Path | None
    dsn: str
    owner: Owner

    def standing(self) -> standby.Standing | str:
        """Ask it; a text says why it does not answer (yet)."""
        try:
            with acting_as(self.owner):
                return standby.ask(self.dsn)
        except PostgresError as error:
            return error.message

    def following(
        self, server: Server, found: Upstream, lineage: Lineage, goal: Lsn
    ) -> Following:
        """Return how it follows now, WAL and history included once it streams."""
        seen = self.standing()
        if isinstance(seen, str):
            return Following(False, None, None, None, None, silent=seen)
        if seen.status != "streaming" or not seen.in_recovery:
            return Following(False, None, None, None, None)
        own: Lineage | None = None
        same: bool | None = None
        if seen.replay_lsn is not None and seen.replay_lsn >= goal:
            read = DiskReader(self.data_dir, self.bin_dir).read()
            own = read.lineage if isinstance(read, ServerFacts) else None
            same = self._same(server, found, lineage, goal)
        return Following(True, seen.received_timeline, seen.replay_lsn, own, same)

    def _same(
        self, server: Server, found: Upstream, lineage: Lineage, goal: Lsn
    ) -> bool | None:
        theirs = server.below(found, lineage, goal)
        size = found.wal_segment_bytes
        try:
            ours = upstream.local_below(self.data_dir / "pg_wal", lineage, goal, size)
        except OSError:
            return None
        return None if ours is None or theirs is None else ours == theirs
