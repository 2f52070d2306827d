"""`splitguard loss report` as the agent gives it, and as a terminal shows it."""

import json
import re
from dataclasses import dataclass, field, replace

import pytest
from rich.console import Console

from agent.api.ports import LossPhase, LossStand
from agent.cli.loss_view import view
from agent.divergence.report import Counts, Report
from agent.divergence.report_plain import plain
from tests.fix_desk import card, healthy, resynced
from tests.fix_losses import managers_report, shop_report, shop_tables


@dataclass
class Making:
    """An agent's reports: the first one asked for is there after a while."""

    made: Report = field(default_factory=shop_report)
    stands: list[LossStand] = field(default_factory=list)

    def stand(self, snapshot_id: str) -> LossStand:
        return self.stands.pop(0) if self.stands else LossStand(LossPhase.MADE)

    def ask(self, snapshot_id: str) -> LossStand:
        return self.stand(snapshot_id)

    def report(self, snapshot_id: str) -> Report | None:
        return self.made


@pytest.fixture
def asked(agent_for, splitguard):
    """Ask an agent with these reports for that of snapshot n1-abc."""

    def ask(losses: Making, *more: object):
        listening = agent_for(healthy(), losses=losses)
        listening.served.shelf.add(card(), {})
        socket = listening.socket
        return splitguard("loss", "report", "n1-abc", "--socket", socket, *more)

    return ask


def test_the_agents_report_is_shown_as_it_is(asked):
    ran = asked(Making(), "--output", "json")
    assert (ran.code, ran.words) == (0, "")
    assert json.loads(ran.out) == plain(shop_report())


def test_a_report_that_is_being_made_is_waited_for(asked, monkeypatch):
    monkeypatch.setattr("agent.cli.loss.POLL_S", 0.01)
    stands = [
        LossStand(LossPhase.NONE),
        LossStand(LossPhase.QUEUED, reason="a capture goes first"),
        LossStand(LossPhase.RUNNING, "reading rows", 1, 2),
    ]
    ran = asked(Making(stands=stands))
    assert ran.code == 0
    assert ran.out.startswith("412 rows in 3 tables lost")


def test_a_report_that_cannot_be_made_says_why(asked):
    stand = LossStand(LossPhase.FAILED, reason="it lost nothing", hint="look at n2")
    ran = asked(Making(stands=[stand]))
    assert (ran.code, ran.out) == (1, "")
    assert "it lost nothing" in ran.words
    assert "look at n2" in ran.words


def test_a_report_of_a_snapshot_beside_another_node_says_where_it_lies(
    agent_for, splitguard
):
    there = agent_for(resynced(), me="n2", losses=Making())
    listed = splitguard("snapshots", "list", "-o", "json", "--socket", there.socket)
    (kept,) = (
        one for one in json.loads(listed.out)["elsewhere"] if one["node"] == "n1"
    )
    ran = splitguard("loss", "report", kept["id"], "--socket", there.socket)
    assert (ran.code, ran.out) == (1, "")
    assert f"snapshot {kept['id']} lies beside n1" in ran.words
    assert f"`splitguard snapshots download {kept['id']}`" in ran.words
    nowhere = splitguard("loss", "report", "n1-x", "--socket", there.socket)
    assert "no snapshot of this id" in nowhere.words


def test_a_report_that_was_not_compared_exits_with_1(asked):
    ran = asked(Making(made=shop_report(winner=None)))
    assert ran.code == 1
    assert ran.out.startswith("not compared yet: 425 rows inserted")


def test_fewer_examples_are_shown_where_they_are_wanted(asked):
    ran = asked(Making(), "--top", 0)
    assert "FOR EXAMPLE" not in ran.out
    assert "public.orders" in ran.out


def test_a_page_that_cannot_be_written_is_named(asked, tmp_path):
    ran = asked(Making(), "--html", tmp_path / "not" / "there.html")
    assert ran.code == 1
    assert "there.html: No such file" in ran.words
    assert ran.out == ""


def drawn(report: Report, width: int) -> str:
    console = Console(width=width, highlight=False, markup=False, no_color=True)
    with console.capture() as seen:
        console.print(view(plain(report)))
    return seen.get()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("report", [shop_report(), managers_report()])
def test_a_report_fits_every_terminal(report: Report, width: int):
    lines = drawn(report, width).splitlines()
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    for words in ("splitguardlossrescue", "releasedn1", "notcompared"):
        assert words in re.sub(r"\s", "", text.lower())


def test_an_example_shows_what_a_person_knows_a_lost_row_by():
    assert "id = 20117: customer = Æther <co>, status = paid" in drawn(
        shop_report(), 200
    )


def test_a_single_conflict_is_one():
    one = replace(shop_tables()[0], counts=Counts(lost=2, conflicts=1, collisions=1))
    assert "2 lost, 1 conflict, 1 collision" in drawn(shop_report(tables=(one,)), 200)


def test_no_colour_is_needed_to_read_it():
    assert "\x1b" not in drawn(shop_report(), 80)


def test_the_terminal_is_steered_by_nothing_in_the_data():
    odd = shop_report(cluster="\x1b[2J", snapshot_id="a\x1b]0;b\x07")
    assert "\x1b" not in drawn(odd, 80)
