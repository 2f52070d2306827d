"""The gate over HTTP: asking, waiting, releasing."""

import asyncio
from dataclasses import replace

import pytest

from agent.core.observation import ReadFailure, ServerFacts
from tests.fix_desk import Served, healthy, serve, split_brain


async def asked(served: Served, **body: str):
    async with served.client("operate") as client:
        return await client.post("/v1/guard/permits", json=body)


async def test_a_permit_is_asked_for_and_found_at_its_address(served: Served):
    answer = await asked(served, purpose="pg_rewind")
    assert answer.status_code == 201
    permit = answer.json()
    assert permit["state"] == "pending"
    assert permit["purpose"] == "pg_rewind"
    assert permit["node"] == "n1"
    assert permit["valid_s"] is None
    for scope in ("operate", "read"):
        async with served.client(scope) as client:
            found = await client.get(answer.headers["location"])
            assert found.json()["id"] == permit["id"]
            listed = (await client.get("/v1/guard/permits")).json()["permits"]
            assert [one["id"] for one in listed] == [permit["id"]]


async def test_a_running_server_is_told_to_be_stopped_first(served: Served):
    location = (await asked(served)).headers["location"]
    served.desk.sim.run(3)
    async with served.client("read") as client:
        permit = (await client.get(location)).json()
    assert permit["state"] == "pending"
    assert "still writable" in permit["reason"]


async def test_who_waits_hears_of_the_grant_with_its_position():
    sim = split_brain()
    served = serve(sim, "n1")
    sim.world.servers["n1"].running = False
    location = (await asked(served, purpose="pg_rewind", node="n1")).headers["location"]
    async with served.client("operate") as client, asyncio.timeout(10):
        waiting = asyncio.create_task(client.get(location, params={"wait": 30}))
        await served.waited_on()
        sim.run(5)
        await served.desk.bump()
        permit = (await waiting).json()
    assert permit["state"] == "granted"
    assert permit["final_lsn"] == str(sim.world.facts("n1").end_lsn)
    assert permit["timeline"] == 1
    assert permit["capture"]
    assert 590 < permit["valid_s"] <= 600


async def test_news_of_something_else_does_not_end_the_wait(served: Served):
    location = (await asked(served)).headers["location"]
    async with served.client("read") as client, asyncio.timeout(10):
        waiting = asyncio.create_task(client.get(location, params={"wait": 30}))
        for _ in range(3):
            await served.waited_on()
            await served.desk.bump()
            await asyncio.sleep(0)
        assert not waiting.done()
        served.options.closing.set()
        assert (await waiting).json()["state"] == "pending"


async def test_a_wait_without_news_answers_pending_in_time(served: Served):
    location = (await asked(served)).headers["location"]
    async with served.client("read") as client, asyncio.timeout(10):
        answer = await client.get(location, params={"wait": 0.05})
    assert answer.json()["state"] == "pending"


async def test_another_nodes_agent_refuses_and_says_whom_to_ask(served: Served):
    answer = await asked(served, node="n2")
    assert answer.status_code == 409
    assert "guards n1" in answer.json()["detail"]


async def test_a_release_passes_what_waits_and_says_who_and_why(served: Served):
    await asked(served)
    async with served.client("operate") as client:
        answer = await client.post("/v1/guard/release", json={"reason": "disk is lost"})
        again = await client.post("/v1/guard/release", json={"reason": "once more"})
    [permit] = answer.json()["permits"]
    assert permit["state"] == "released"
    assert permit["released_by"] == "operate-name"
    assert "disk is lost" in permit["reason"]
    assert again.status_code == 409


async def test_a_release_needs_a_reason_and_the_right_node(served: Served):
    await asked(served)
    async with served.client("operate") as client:
        bare = await client.post("/v1/guard/release", json={})
        empty = await client.post("/v1/guard/release", json={"reason": ""})
        other = await client.post(
            "/v1/guard/release", json={"reason": "r", "node": "n3"}
        )
        nobody = await client.post("/v1/guard/release")
    assert [a.status_code for a in (bare, empty, other, nobody)] == [422, 422, 409, 422]


async def test_a_permit_that_nobody_asked_for_is_not_there(served: Served):
    async with served.client("read") as client:
        assert (await client.get("/v1/guard/permits/p-1")).status_code == 404


async def test_ids_come_from_the_factory():
    served = serve(healthy(), new_id=lambda: "seven")
    assert (await asked(served)).json()["id"] == "permit-seven"


async def test_a_body_that_is_no_json_is_a_problem(served: Served):
    async with served.client("operate") as client:
        for body in (b"{", b"[]", b'"x"', b"\xff", b"[" * 5000):
            answer = await client.post(
                "/v1/guard/permits",
                content=body,
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code in (400, 422)
            assert answer.headers["content-type"] == "application/problem+json"


async def test_captures_switched_off_are_said(served: Served):
    agent = served.desk.sim.agents["n1"]
    agent.policy = replace(agent.policy, capture_enabled=False)
    async with served.client("operate") as client:
        answer = await client.post("/v1/snapshots")
    assert answer.status_code == 409
    assert "capture.enabled" in answer.json()["hint"]


async def test_only_the_folder_that_the_agent_reads_is_spoken_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    view = served.desk.state.view
    assert isinstance(view.server, ServerFacts)
    known = replace(view.server, identity="boot:64768:1234", data_dir="/srv/data")
    server = served.desk.sim.world.servers["n1"]
    monkeypatch.setattr(server, "facts", lambda pages=(): known)
    served.desk.state = replace(served.desk.state, view=replace(view, server=known))
    assert (await asked(served, data_dir_id="64768:1234")).status_code == 201
    other = await asked(served, data_dir_id="64768:99")
    assert other.status_code == 409
    assert "This agent keeps /srv/data" in other.json()["detail"]
    for wrong in ("", "64768", "1:2:3", "a:b", "/srv/data"):
        assert (await asked(served, data_dir_id=wrong)).status_code == 422


async def test_a_folder_that_was_not_read_is_spoken_for_by_nobody(served: Served):
    for server, reason in (
        (None, "not yet"),
        (ReadFailure("/srv/data is closed", "run as postgres"), "/srv/data is closed"),
    ):
        view = replace(served.desk.state.view, server=server)
        served.desk.state = replace(served.desk.state, view=view)
        answer = await asked(served, data_dir_id="1:2")
        assert answer.status_code == 409
        assert reason in answer.json()["detail"]
