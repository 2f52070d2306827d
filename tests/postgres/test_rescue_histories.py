"""A drawn history is rescued: nothing of the winner's is lost, nothing comes twice."""

from collections import Counter
from collections.abc import Iterator

import pytest

from agent.divergence import catalog, compared, shelf, values
from agent.divergence.model import Difference, DifferenceKind, Values
from agent.divergence.rescue import Ordered, Ran, Rescue, Way
from agent.divergence.rescue_wish import Wish
from agent.divergence.rowfiles import read_differences
from agent.postgres.connect import session
from tests.fix_postgres import Server, Stage
from tests.histories.history import play
from tests.histories.product import captured, examined
from tests.histories.schema import DATABASES

pytestmark = pytest.mark.postgres
SEED = 36
ASIDE = "splitguard_rescue"
Tables = dict[tuple[str, str], Counter[Values]]


def tables_of(server: Server) -> Tables:
    """Read all rows of all databases."""
    return {
        (database, str(table.name)): Counter(rows)
        for database in DATABASES
        for table, rows in _read(server, database)
        if table.name.schema != ASIDE and table.kind == "r"
    }


def _read(server: Server, database: str) -> Iterator:
    with session(server.dsn, dbname=database) as made:
        values.settle(made)
        for table in catalog.read_tables(made, 1):
            yield table, [row for *_, row in values.fetch_all(made, table)]


def rescued(snapshot, winner: Server) -> list[Ran]:
    ordered = Ordered("erin", "a drawn history", 0.0)
    return list(Rescue(snapshot, Wish()).apply(Way(winner.dsn, 60.0), ordered))


def test_a_drawn_history_comes_back_and_costs_the_winner_nothing(stage16: Stage):
    played = play(stage16, SEED)
    snapshot = captured(stage16, played)
    examined(stage16, played, snapshot, by_log=True)
    winner = played.winner.server
    before = tables_of(winner)
    [main, second] = rescued(snapshot, winner)
    after = tables_of(winner)
    # One row takes a unique value that the winner gave to another one meanwhile.
    refusals = [*main.result.refusals, *second.result.refusals]
    assert [(one.table, one.code) for one in refusals] == [("public.item", "23505")]
    folder = shelf.folder_of(snapshot)
    found = compared.load(folder)
    assert found is not None
    agreed: Tables = {}
    lost: Tables = {}
    for each in found.tables:
        if each.table.kind == "m":
            continue  # it is refreshed, not written
        assert each.there is not None
        names = [column.name for column in each.there.columns]
        assert names == [column.name for column in each.table.columns]
        here = each.database, str(each.there.name)
        differences = list(read_differences(folder / each.file))
        agreed[here] = Counter(_left_to_the_loser(differences))
        lost[here] = Counter(
            one.loser
            for one in differences
            if one.kind is DifferenceKind.LOST and one.loser is not None
        )
    for here, rows in before.items():
        # Only rows that the winner never touched since the fork may be gone.
        assert not rows - after[here] - agreed.get(here, Counter()), here
    there = {here: rows - after[here] for here, rows in lost.items()}
    followed = [row for rows in there.values() for row in rows.elements()]
    # What refers to a row under a new key is there, but not as it was.
    assert len(followed) == 1
    renumbered = sum(counts["renumbered"] for counts in main.result.tables.values())
    assert renumbered >= 10
    rescued(snapshot, winner)
    assert tables_of(winner) == after


def _left_to_the_loser(differences: list[Difference]) -> Iterator[Values]:
    kinds = (DifferenceKind.CHANGED, DifferenceKind.DELETED)
    for one in differences:
        if one.kind in kinds and one.winner is not None:
            yield one.winner
