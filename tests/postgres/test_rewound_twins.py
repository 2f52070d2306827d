"""A twin that was rewound: what it shared with the other side is read again, no more.

Both sides were promoted at one LSN, so one timeline number stands for two histories
(P15). pg_rewind goes back to a checkpoint. Where that one lies before the promotion,
the loser is no twin any more; where it lies behind, its own rows stay, and only the
fingerprint that was taken before can tell.
"""

from dataclasses import dataclass

import pytest

from agent.core.kinship import relate
from agent.core.lineage import Kinship, Lineage
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.postgres.reader import DiskReader
from tests.fix_postgres import Server, Stage

pytestmark = pytest.mark.postgres
# A checkpoint that is spread over an hour is not there yet when the server is rewound.
SLOW = {"checkpoint_completion_target": "0.9", "shared_buffers": "64MB"}
MEET = Lsn(12 << 24)
"""The beginning of a segment past everything that is written before."""
DIRTY = "CREATE TABLE dirty AS SELECT repeat('x', 500) FROM generate_series(1, 30000)"


def lineage(reader: DiskReader) -> Lineage:
    found = reader.read()
    assert isinstance(found, ServerFacts), found
    return found.lineage


@dataclass
class Twins:
    """Two servers on timeline 2 since one LSN, the winner on timeline 3 by now."""

    loser: Server
    winner: Server
    reader: DiskReader
    """Of the loser; it has seen it as it was."""

    @property
    def kinship(self) -> Kinship:
        theirs = DiskReader(self.winner.data_dir, self.winner.programs.bin_dir)
        return relate(lineage(self.reader), lineage(theirs)).kinship

    def rewind(self) -> None:
        self.loser.stop()
        said = self.loser.programs.run(
            ["pg_rewind", "-D", self.loser.data_dir, "--source-server",
             self.winner.dsn],
            as_owner_of=self.loser.data_dir,
        )  # fmt: skip
        assert "no rewind required" not in said.stderr


def fill_segments(server: Server) -> None:
    """Go on to the beginning of a certain segment."""
    while server.lsn < MEET:
        server.query("SELECT pg_switch_wal(), pg_current_wal_lsn()")
        if server.lsn < MEET:
            server.query("SELECT txid_current()")


def twins(stage: Stage) -> tuple[Twins, Twins]:
    """Make two of them with one winner; the second loser has a checkpoint of its own.

    That one lies between its promotion and the winner's next one.
    """
    primary = stage.primary("n0", **SLOW)
    losers = [stage.standby(primary, name, **SLOW) for name in ("n1", "n3")]
    winner = stage.standby(primary, "n2", **SLOW)
    primary.query(DIRTY)
    primary.write(20, "common")
    primary.stop()
    for server in (*losers, winner):
        server.promote()
    losers[1].query("CHECKPOINT")
    readers = [DiskReader(one.data_dir, one.programs.bin_dir) for one in losers]
    # pg_rewind goes back to a record of the loser that begins where the winner left.
    for server in (*losers, winner):
        server.write(20, "winner" if server is winner else "loser")
        fill_segments(server)
    winner.crash()
    winner.write_file("standby.signal", "")
    winner.configure(primary_conninfo="")
    winner.start()
    winner.promote()
    winner.query("CHECKPOINT")
    for loser in losers:
        loser.write(20, "past")
    first, second = (
        Twins(loser, winner, reader)
        for loser, reader in zip(losers, readers, strict=True)
    )
    return first, second


def test_a_rewound_twin_is_one_still_where_its_own_beginning_stayed(stage: Stage):
    undone, kept = twins(stage)
    assert (undone.kinship, kept.kinship) == (Kinship.TWIN, Kinship.TWIN)
    for pair in (undone, kept):
        pair.rewind()
    assert (kept.kinship, undone.kinship) == (Kinship.TWIN, Kinship.SAME)
    loser = undone.loser
    loser.follow(undone.winner)
    loser.start()
    loser.caught_up(undone.winner)
    assert loser.query("SELECT DISTINCT mark FROM kept ORDER BY 1") == [
        ("common",),
        ("winner",),
    ]
    assert undone.kinship is Kinship.SAME
