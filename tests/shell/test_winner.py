"""Pinning a winner: over HTTP, as a command, and where it is shown."""

import json
from dataclasses import replace

import pytest

from agent.core.plan import Pin
from tests.fix_desk import healthy, serve, split_brain

BODY = {"node": "n1", "reason": "it has the orders"}


async def test_it_is_pinned_shown_and_unpinned():
    served = serve(split_brain(), me="n2")
    async with served.client("operate") as operator, served.client("read") as reader:
        before = (await reader.get("/v1/winner")).json()
        assert (before["node"], before["pin"], before["disputed"]) == ("n2", None, [])
        made = await operator.post("/v1/winner", json=BODY)
        assert made.status_code == 201
        found = made.json()
        assert (found["node"], found["rule"]) == ("n1", "pinned")
        assert found["reason"] == "pinned by operate-name because it has the orders"
        assert found["otherwise"] == "n2"
        assert found["pin"]["incident"].startswith("inc-")
        status = (await reader.get("/v1/status")).json()
        assert status["decisions"] == [
            "n1 is pinned as the winner by operate-name because it has the orders"
        ]
        assert (
            "n1 is to be kept: pinned by operate-name"
            in (status["headline"]["sentence"])
        )
        again = (await operator.delete("/v1/winner")).json()
        assert (again["node"], again["pin"]) == ("n2", None)
        assert (await operator.delete("/v1/winner")).status_code == 409


async def test_a_load_balancer_that_fails_closed_follows_the_pin():
    served = serve(split_brain(), me="n2", fail_closed=True)
    async with served.client("operate") as client:
        assert (await client.get("/primary")).status_code == 200
        await client.post("/v1/winner", json=BODY)
        closed = await client.get("/primary")
        assert closed.status_code == 503
        assert "n1" in closed.text
        await client.delete("/v1/winner")
        assert (await client.get("/primary")).status_code == 200


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"node": "n9"}, "no node of this name"),
        ({"reason": " "}, "needs a reason"),
        ({"promote": True}, ""),
    ],
)
async def test_what_cannot_be_pinned_is_refused(changed, reason):
    served = serve(healthy())
    async with served.client("operate") as client:
        answer = await client.post("/v1/winner", json={**BODY, **changed})
        assert answer.status_code == 422
        assert reason in answer.json()["detail"]
    assert served.desk.state.ledger.pins == ()


async def test_only_an_operator_decides():
    served = serve(healthy())
    async with served.client("read") as client:
        assert (await client.post("/v1/winner", json=BODY)).status_code == 403
        assert (await client.delete("/v1/winner")).status_code == 403
        assert (await client.get("/v1/winner")).status_code == 200
    async with served.client("operate") as client:
        assert (await client.get("/v1/winner")).status_code == 403


async def test_a_journal_that_does_not_take_it_decides_nothing(monkeypatch):
    served = serve(healthy())

    async def forgets(event):
        return served.desk.state

    monkeypatch.setattr(served.desk, "submit", forgets)
    async with served.client("operate") as client:
        answer = await client.post("/v1/winner", json=BODY)
        assert answer.status_code == 503


# --- the command ------------------------------------------------------------------


def test_the_command_pins_shows_and_unpins(splitguard, agent_for):
    agent = agent_for(split_brain())
    at = ("--socket", agent.socket)
    pinned = splitguard(
        "winner", "pin", "n1", "--reason", "it has the orders", "--who", "ann", *at
    )
    assert pinned.code == 0, pinned.words
    assert "n1, pinned by ann because it has the orders" in pinned.out
    assert "without the pin: n2" in pinned.out
    assert "until inc-" in pinned.out
    assert "splitguard winner unpin" in pinned.words
    assert "pinned as the winner by ann" in splitguard("status", *at).out
    found = json.loads(splitguard("winner", "show", "-o", "json", *at).out)
    assert found["pin"]["who"] == "ann"
    unpinned = splitguard("winner", "unpin", *at)
    assert unpinned.code == 0, unpinned.words
    assert unpinned.out.startswith("n2, ")


def test_a_pin_on_a_healthy_cluster_says_when_it_counts(splitguard, agent_for):
    agent = agent_for(healthy())
    ran = splitguard(
        "winner", "pin", "n2", "--reason", "bigger", "--socket", agent.socket
    )
    assert "n1, only n1 is known to accept writes" in ran.out
    assert "it counts once it is a side of a split" in ran.out
    assert "until it is unpinned" in ran.out


def test_pins_that_exclude_each_other_are_shown_with_what_settles_them(
    splitguard, agent_for
):
    agent = agent_for(healthy())
    desk = agent.served.desk
    pins = (
        Pin("n1", "ann", "orders", 1, 1_800_000_000.0),
        Pin(None, "bob", "", 1, 1_800_000_000.0),
    )
    desk.state = replace(desk.state, ledger=replace(desk.state.ledger, pins=pins))
    ran = splitguard("winner", "show", "--socket", agent.socket)
    assert "exclude each other" in ran.out
    assert "ann says n1: orders" in ran.out
    assert "bob says no pin" in ran.out
    assert "splitguard winner pin NODE" in ran.out


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (("pin", "n1"), "--reason", 2),
        (("pin", "n1", "--reason", " "), "words that say why", 2),
        (("pin", "n9", "--reason", "x"), "the nodes are n1", 1),
        (("unpin",), "No winner is pinned", 1),
    ],
)
def test_what_the_command_cannot_do_is_said(
    splitguard, agent_for, arguments, reason, code
):
    agent = agent_for(healthy())
    ran = splitguard("winner", *arguments, "--socket", agent.socket)
    assert ran.code == code
    assert reason in ran.words
