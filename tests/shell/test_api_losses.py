"""The loss report over HTTP: made once, 202 until then, values for scope data only."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.api.ports import LossPhase, LossStand
from agent.core.lsn import Lsn
from agent.divergence.model import DifferenceKind
from agent.divergence.report import (
    Cell,
    Counts,
    Entity,
    EntityCount,
    ManagersLoss,
    Report,
    Sample,
    Side,
    TableLoss,
    Wrote,
)
from agent.errors import DivergenceError
from tests.fix_desk import card, healthy, serve

PATH = "/v1/snapshots/n1-abc/loss"
SECRET = "the value of a row"
REPORT = Report(
    cluster="sim",
    node="n1",
    snapshot_id="n1-abc",
    incident_ids=("inc-1",),
    made_s=1_800_000_000.0,
    fork_timeline=1,
    fork_lsn=Lsn(0x3000500),
    end_lsn=Lsn(0x3000A00),
    loser=Side(committed=9, user=7),
    winner=None,
    tables=(
        TableLoss(
            "postgres",
            "public",
            "t",
            Counts(lost=3),
            Wrote(born=3),
            samples=(Sample(DifferenceKind.LOST, (Cell("id", SECRET),)),),
        ),
    ),
    headline="3 rows of 1 table",
    managers=(
        ManagersLoss(
            "manager",
            (EntityCount("deployment", lost=1),),
            (Entity("deployment", "t", SECRET, DifferenceKind.LOST),),
        ),
    ),
)


NONE = LossStand(LossPhase.NONE)
QUEUED = LossStand(LossPhase.QUEUED, reason="a capture goes first")


@dataclass
class MemoryLosses:
    """Reports in memory."""

    now: LossStand = NONE
    asked: list[str] = field(default_factory=list)
    then: LossStand = QUEUED
    made: Report | None = REPORT

    def stand(self, snapshot_id: str) -> LossStand:
        return self.now

    def ask(self, snapshot_id: str) -> LossStand:
        self.asked.append(snapshot_id)
        self.now = self.then
        return self.now

    def report(self, snapshot_id: str) -> Report | None:
        return self.made


@pytest.fixture
def losses():
    return MemoryLosses()


@pytest.fixture
def served(losses):
    made = serve(healthy(), losses=losses)
    made.shelf.add(card(), {})
    return made


async def test_who_asks_first_has_it_made_and_is_told_how_far_it_is(served, losses):
    async with served.client("data") as client:
        first = await client.get(PATH)
        losses.now = LossStand(LossPhase.RUNNING, "reading rows", 3, 7)
        second = await client.get(PATH)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.headers["retry-after"]
    assert first.json() == {
        "id": "n1-abc",
        "state": "queued",
        "doing": "a capture goes first",
        "done": 0,
        "total": 0,
    }
    told = second.json()
    assert (told["state"], told["doing"], told["done"], told["total"]) == (
        "running",
        "reading rows",
        3,
        7,
    )
    assert losses.asked == ["n1-abc"]


async def test_a_report_that_is_there_is_answered_and_not_made_again(served, losses):
    losses.now = LossStand(LossPhase.MADE)
    async with served.client("data") as client:
        answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["headline"], body["loser"]["user"]) == ("3 rows of 1 table", 7)
    assert SECRET in answer.text
    assert losses.asked == []


async def test_values_of_rows_are_for_scope_data_only(served, losses):
    losses.now = LossStand(LossPhase.MADE)
    async with served.client("read") as client:
        whole = await client.get(PATH)
        counts = await client.get(PATH, params={"values": "false"})
    assert (whole.status_code, whole.json()["scope"]) == (403, "data")
    assert counts.status_code == 200
    assert SECRET not in counts.text
    assert counts.json()["tables"][0]["lost"] == 3
    assert counts.json()["managers"][0]["counts"][0]["lost"] == 1


async def test_who_only_reads_has_no_work_done(served, losses):
    async with served.client("read") as client:
        answer = await client.get(PATH, params={"values": "false"})
    assert (answer.status_code, losses.asked) == (409, [])
    assert answer.json()["detail"] == "There is no loss report yet."


@pytest.mark.parametrize("scope", ["operate", "peer"])
async def test_other_scopes_read_nothing(served, scope):
    async with served.client(scope) as client:
        assert (await client.get(PATH)).status_code == 403


async def test_what_speaks_against_a_report_is_a_problem_with_a_way_out(served, losses):
    losses.then = LossStand(
        LossPhase.FAILED, reason="it is of no losing side", hint="--against DSN"
    )
    async with served.client("data") as client:
        answer = await client.get(PATH)
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["detail"] == "There is no loss report: it is of no losing side."
    assert problem["hint"] == "--against DSN"


async def test_unknown_snapshots_and_agents_without_a_server_say_so(served, losses):
    async with served.client("data") as client:
        assert (await client.get("/v1/snapshots/n9/loss")).status_code == 404
    witness = serve(healthy())
    witness.shelf.add(card(), {})
    async with witness.client("data") as client:
        answer = await client.get(PATH)
    assert answer.status_code == 409
    assert "splitguard loss report n1-abc" in answer.json()["hint"]


async def test_whoever_operates_has_it_made_anew(served, losses):
    losses.now = LossStand(LossPhase.MADE)
    async with served.client("operate") as client:
        answer = await client.post(PATH)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert losses.asked == ["n1-abc"]
    losses.then = LossStand(LossPhase.FAILED, reason="16 wait", hint="ask later")
    async with served.client("operate") as client:
        assert (await client.post(PATH)).status_code == 409
    async with served.client("data") as client:
        assert (await client.post(PATH)).status_code == 403


CHANGES = "/v1/changes"
ASKED: dict[str, Any] = {"timeline": 2, "fork_lsn": "0/3000500", "lsn": "0/3000A00"}


class OneStory:
    """A server here whose story is three lines, or cannot be told."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.asked: list[tuple] = []

    def told(self, timeline, fork_lsn, lsn, shown):
        self.asked.append((timeline, fork_lsn, lsn, dict(shown)))
        if self.refusal:
            raise DivergenceError(self.refusal, "ask later")
        yield from (b"one\n", b"two\n", b"three\n")


async def test_a_peer_is_told_what_the_server_here_did():
    story = OneStory()
    served = serve(healthy(), changes=story)
    shown = ["5/740:745:741,743", "6/740:745:"]
    async with served.client("peer") as client:
        answer = await client.get(CHANGES, params={**ASKED, "shown": shown})
    assert (answer.status_code, answer.text) == (200, "one\ntwo\nthree\n")
    moments = {"5": "740:745:741,743", "6": "740:745:"}
    assert story.asked == [(2, Lsn(0x3000500), Lsn(0x3000A00), moments)]


async def test_a_story_that_cannot_be_told_is_a_problem_and_no_broken_stream():
    served = serve(healthy(), changes=OneStory("its log is gone"))
    async with served.client("peer") as client:
        answer = await client.get(CHANGES, params=ASKED)
        problem = answer.json()
    assert (answer.status_code, problem["detail"]) == (409, "its log is gone")
    async with serve(healthy()).client("peer") as client:
        assert (await client.get(CHANGES, params=ASKED)).status_code == 409


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeline": 0},
        {"fork_lsn": "x"},
        {"lsn": "0/100000000"},
        {"shown": ["5"]},
        {"shown": ["5/1:2:three"]},
    ],
)
async def test_a_question_that_means_nothing_is_refused(wrong):
    story = OneStory()
    async with serve(healthy(), changes=story).client("peer") as client:
        answer = await client.get(CHANGES, params={**ASKED, **wrong})
    assert (answer.status_code, story.asked) == (422, [])
