"""What a capture engine is told when it is made: where everything is, who we are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.capture import CaptureOrder
from agent.snapshot.reserve import Reserve
from agent.snapshot.rowsport import RowsReader
from agent.snapshot.server import FindDsn


class Shelf(Protocol):
    """The snapshots that are kept already, and what of them may make way. Blocking."""

    def could_give(self, order: CaptureOrder | None) -> int:
        """Return how many bytes would make way for this order; None: for any.

        Never raises.
        """
        ...

    def give_up(self, missing_bytes: int, order: CaptureOrder) -> None:
        """Remove the least worthy of what nothing holds, if that makes so much room.

        Never raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class MakesWay:
    """What gives way when there is no room for a capture."""

    reserve: Reserve
    """For the WAL tail."""
    shelf: Shelf | None = None
    """For all of it: what was kept before."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where everything is, and who we are."""

    capture_dir: Path
    data_dir: Path
    bin_dir: Path | None
    """Where PostgreSQL's programs are; None: they are looked for."""
    find_dsn: FindDsn
    """How to connect as role splitguard_local through the unix socket. While it knows
    of no way, only a stopped server can be copied in full."""
    node: str
    cluster: str
    max_bytes_s: float = 0.0
    """How fast a running server may be copied; 0: as fast as it goes."""
    snapshot_program: Path | None = None
    """What freezes a running server's file systems (see `program`)."""
    snapshot_timeout_s: float = 60.0
    """How long one call of it may take."""
    makes_way: MakesWay | None = None
    """None: a disk that is full stays full."""
    rows: RowsReader | None = None
    """Who reads rows out of a losing server; None: nobody, level `rows` is not kept."""

    @property
    def reserve(self) -> Reserve | None:
        """What the tail gets when the disk is full."""
        return self.makes_way.reserve if self.makes_way is not None else None

    @property
    def shelf(self) -> Shelf | None:
        """Who gives up snapshots when there is no room for another."""
        return self.makes_way.shelf if self.makes_way is not None else None
