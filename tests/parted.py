"""Two real servers that parted: what tests of loss reports begin with."""

from dataclasses import dataclass
from pathlib import Path

from agent.core.lineage import Fork
from agent.divergence import compare, losses, shelf
from agent.divergence.compared import Comparison, TableDifferences
from agent.divergence.extracted import Extraction, Source
from agent.divergence.extraction import extract
from agent.divergence.model import Difference
from agent.divergence.reading import Stretch, read_story
from agent.divergence.rowfiles import read_differences
from agent.divergence.story import Story
from agent.divergence.winner import Door, read_winner
from agent.postgres.history import read_switches
from agent.postgres.wal import Chain, end_of_wal, segment_bytes_of
from tests.fix_postgres import Server, Stage


@dataclass
class Parted:
    """Two servers that went apart, and where."""

    loser: Server
    winner: Server
    fork: Fork
    stage: Stage
    home: Path

    @classmethod
    def make(cls, stage: Stage, common: str, **settings: str) -> "Parted":
        """Start a pair, write what both have, promote the standby."""
        loser, winner = stage.pair(**settings)
        script(loser, common)
        return cls.part(stage, loser, winner)

    @classmethod
    def part(cls, stage: Stage, loser: Server, winner: Server) -> "Parted":
        """Promote a standby while its primary goes on."""
        winner.caught_up(loser)
        winner.promote()
        switches = read_switches(winner.data_dir / "pg_wal", 2)
        fork = Fork(1, switches[-1].lsn)
        return cls(loser, winner, fork, stage, stage.folder / "kept")

    def story(self) -> Story:
        """Tell what the loser did."""
        wal = self.loser.data_dir / "pg_wal"
        size = segment_bytes_of(wal)
        end = end_of_wal(self.stage.programs, wal, 1, self.fork.lsn, size)
        chain = Chain(wal, (), 1, size)
        return read_story(Stretch(self.stage.programs, chain, self.fork.lsn, end))

    def extraction(self) -> Extraction:
        """Keep what the loser wrote."""
        self.home.mkdir(exist_ok=True)
        identity = "SELECT system_identifier::text FROM pg_control_system()"
        source = Source("s1", "n1", self.loser.value(identity), 150000, self.fork, 0.0)
        with shelf.renewed(self.home) as folder:
            return extract(self.story(), self.dsn_for, folder, source=source)

    def dsn_for(self, dbname: str) -> str:
        """Return the loser's connection string to a database."""
        return self.loser.dsn.replace("dbname=postgres", f"dbname={dbname}")

    def door(self, *, by_log: bool = True) -> Door:
        """Return how the winner is read, with its own story or without."""
        if not by_log:
            return Door("n2", self.winner.dsn)
        wal = self.winner.data_dir / "pg_wal"
        told = losses.story_from(
            self.stage.programs, wal, self.fork.lsn, segment_bytes_of(wal)
        )
        return Door("n2", self.winner.dsn, story_of=told)

    def compared(self, extraction: Extraction, *, by_log: bool = True) -> Comparison:
        """Set what is kept against the winner."""
        names = tuple(database.name for database in extraction.databases)
        with read_winner(
            self.door(by_log=by_log),
            extraction.system_id,
            names,
            losses.horizon_of(extraction),
        ) as winner:
            return compare.compare(extraction, shelf.folder_of(self.home), winner)

    def differences(self, table: TableDifferences) -> list[Difference]:
        """Return what the file of a table holds."""
        return list(read_differences(shelf.folder_of(self.home) / table.file))


def script(server: Server, statements: str) -> None:
    """Run statements as one transaction each."""
    with server.session() as session:
        for statement in statements.split(";"):
            if statement.strip():
                session.execute(statement.encode())
