"""Announcing a switchover: over HTTP, as a command, and where it is shown."""

import json

import pytest

from agent.core.event import MaintenanceBegun
from tests.fix_desk import healthy, serve


@pytest.fixture
def served():
    return serve(healthy())


BODY = {"kind": "switchover", "node": "n2", "reason": "patch n1", "seconds": 600}


async def test_it_is_announced_listed_and_ended(served):
    async with served.client("operate") as operator, served.client("read") as reader:
        made = await operator.post("/v1/maintenance", json=BODY)
        assert made.status_code == 201
        one = made.json()
        assert (one["owner"], one["node"], one["in_force"]) == (
            "operate-name",
            "n2",
            True,
        )
        listed = (await reader.get("/v1/maintenance")).json()["maintenance"]
        assert [each["id"] for each in listed] == [one["id"]]
        status = (await reader.get("/v1/status")).json()
        (told,) = status["decisions"]
        assert told.startswith("operate-name announced a switchover to n2 until 20")
        assert told.endswith(": patch n1")
        ended = await operator.delete(f"/v1/maintenance/{one['id']}?who=bob")
        assert ended.json()["ended_by"] == "bob"
        assert (await reader.get("/v1/maintenance")).json()["maintenance"] == []
        over = (await reader.get("/v1/maintenance?all=true")).json()["maintenance"]
        assert [each["in_force"] for each in over] == [False]
        again = await operator.delete(f"/v1/maintenance/{one['id']}?who=eve")
        assert again.json()["ended_by"] == "bob"
        assert (await reader.get("/v1/status")).json()["decisions"] == []


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"node": "n9"}, 422, "no node of this name"),
        ({"reason": "  "}, 422, "needs a reason"),
        ({"seconds": 0}, 422, ""),
        ({"seconds": 86_401}, 422, ""),
        ({"kind": "everything"}, 422, ""),
        ({"hide": "split-brain"}, 422, ""),
    ],
)
async def test_what_cannot_be_announced_is_refused(served, changed, status, reason):
    async with served.client("operate") as client:
        answer = await client.post("/v1/maintenance", json={**BODY, **changed})
        assert answer.status_code == status
        assert reason in answer.json()["detail"]
    assert served.desk.state.ledger.maintenance == ()


async def test_only_an_operator_announces_and_ends(served):
    async with served.client("read") as client:
        assert (await client.post("/v1/maintenance", json=BODY)).status_code == 403
        assert (await client.delete("/v1/maintenance/mnt-1")).status_code == 403
    async with served.client("operate") as client:
        assert (await client.get("/v1/maintenance")).status_code == 403
        gone = await client.delete("/v1/maintenance/mnt-1")
        assert gone.status_code == 404


async def test_there_is_a_limit_to_what_is_announced_at_once(served):
    async with served.client("operate") as client:
        for _ in range(20):
            assert (await client.post("/v1/maintenance", json=BODY)).status_code == 201
        refused = await client.post("/v1/maintenance", json=BODY)
        assert refused.status_code == 409


async def test_a_journal_that_does_not_take_it_puts_nothing_in_force(
    served, monkeypatch
):
    async def forgets(event):
        return served.desk.state

    monkeypatch.setattr(served.desk, "submit", forgets)
    async with served.client("operate") as client:
        answer = await client.post("/v1/maintenance", json=BODY)
        assert answer.status_code == 503
        assert "journal" in answer.json()["detail"]


# --- the command ------------------------------------------------------------------


def test_the_command_announces_lists_and_ends(splitguard, agent_for):
    agent = agent_for(healthy())
    at = ("--socket", agent.socket)
    begun = splitguard(
        "maintenance", "start", "n2", "--switchover", "--reason", "patch n1",
        "--until", "2h", "--owner", "ann", *at,
    )  # fmt: skip
    assert begun.code == 0, begun.words
    assert "ann announced a switchover to n2 until" in begun.words
    listed = splitguard("maintenance", "list", "-o", "json", *at)
    (one,) = json.loads(listed.out)
    assert f"splitguard maintenance end {one['id']}" in begun.words
    status = splitguard("status", *at)
    assert "ann announced a switchover to n2" in status.out
    ended = splitguard("maintenance", "end", *at)
    assert ended.code == 0, ended.words
    assert "over" in ended.out
    assert splitguard("maintenance", "list", *at).out == "Nothing is announced.\n"
    assert "patch n1" in splitguard("maintenance", "list", "--all", *at).out


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (("start", "--reason", "x"), "a planned switchover is all that", 2),
        (("start", "--switchover"), "--reason", 2),
        (("start", "--switchover", "--reason", " "), "words that say why", 2),
        (("start", "--switchover", "--reason", "x", "--until", "2d"), "24 hours", 1),
        (("start", "--switchover", "--reason", "x", "--until", "soon"), "--until", 1),
        (("start", "n9", "--switchover", "--reason", "x"), "the nodes are n1", 1),
        (("end",), "none are in force", 1),
        (("end", "mnt-0"), "no announcement of this id", 1),
        (("end", "../x"), "not an id", 1),
    ],
)
def test_what_the_command_cannot_do_is_said(
    splitguard, agent_for, arguments, reason, code
):
    agent = agent_for(healthy())
    ran = splitguard("maintenance", *arguments, "--socket", agent.socket)
    assert ran.code == code
    assert reason in " ".join(ran.words.split())


def test_which_of_several_is_ended_must_be_said(splitguard, agent_for):
    sim = healthy()
    for mark in ("mnt-1", "mnt-2"):
        sim.submit("n1", MaintenanceBegun(sim.moment(), mark, None, "ann", "x", 60.0))
    agent = agent_for(sim)
    ran = splitguard("maintenance", "end", "--socket", agent.socket)
    assert ran.code == 1
    assert "2 are in force" in ran.words
    named = splitguard("maintenance", "end", "mnt-2", "--socket", agent.socket)
    assert named.code == 0
