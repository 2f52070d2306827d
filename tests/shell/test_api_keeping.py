"""Pins and removals over HTTP."""

from dataclasses import replace

from agent.core.incident import Status
from agent.snapshot.marks import Kept
from tests.fix_desk import Served, card, serve, split_brain


async def test_a_pin_is_set_shown_and_taken_away(served: Served):
    served.shelf.add(card("one", incident_ids=()), {"a": b"1"})
    async with served.client("operate") as client:
        pinned = await client.post(
            "/v1/snapshots/one/pin", json={"reason": "before the upgrade"}
        )
        refused = await client.delete("/v1/snapshots/one")
        loose = await client.delete("/v1/snapshots/one/pin")
    assert pinned.status_code == 200
    assert pinned.json()["kept"]["who"] == "operate-name"
    assert pinned.json()["kept"]["reason"] == "before the upgrade"
    assert refused.status_code == 409
    assert "pinned by operate-name: before the upgrade" in refused.json()["detail"]
    assert loose.json()["kept"] is None


async def test_a_snapshot_that_nothing_needs_is_removed(served: Served):
    served.shelf.add(card("one", incident_ids=()), {"a": b"1"})
    async with served.client("operate") as client:
        answer = await client.delete(
            "/v1/snapshots/one", params={"reason": "old", "who": "ann"}
        )
        again = await client.delete("/v1/snapshots/one")
    assert (answer.status_code, again.status_code) == (200, 404)
    assert served.shelf.removed == [("one", "ann", "old")]


async def test_an_open_incident_holds_its_snapshot_unless_that_is_overruled():
    served = serve(split_brain(), "n2")
    state = served.desk.state
    incident = next(o for o in state.ledger.incidents if o.status is Status.OPEN)
    served.shelf.add(card("one", incident_ids=(incident.id,)), {"a": b"1"})
    async with served.client("operate") as client:
        refused = await client.delete("/v1/snapshots/one")
        mute = await client.delete("/v1/snapshots/one", params={"force": True})
        forced = await client.delete(
            "/v1/snapshots/one", params={"force": True, "reason": "a drill"}
        )
    assert refused.status_code == 409
    assert f"incident {incident.id} is open" in refused.json()["detail"]
    assert mute.status_code == 422
    assert forced.status_code == 200
    assert f"incident {incident.id}" in forced.json()["overruled"][0]


async def test_what_the_agent_still_works_on_cannot_even_be_forced():
    served = serve(split_brain(), "n1")
    [capture] = served.desk.state.ledger.captures
    served.shelf.add(card(capture.order.capture_id, closed=False), {"a": b"1"})
    async with served.client("operate") as client:
        answer = await client.delete(
            f"/v1/snapshots/{capture.order.capture_id}",
            params={"force": True, "reason": "a drill"},
        )
    assert answer.status_code == 409
    assert "still adds" in answer.json()["detail"]


async def test_to_decide_needs_the_scope_operate(served: Served):
    served.shelf.add(replace(card("one"), kept=Kept("ann", "so", 1.0)), {"a": b"1"})
    for scope in ("read", "data", "peer"):
        async with served.client(scope) as client:
            for answer in (
                await client.post("/v1/snapshots/one/pin", json={"reason": "x"}),
                await client.delete("/v1/snapshots/one/pin"),
                await client.delete("/v1/snapshots/one"),
            ):
                assert answer.status_code == 403
    assert not served.shelf.removed
