"""The managers over HTTP: what they say, and their snapshots that are kept here."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.care import ManagerCare, ManagerMember
from agent.core.event import ManagerCareTold
from agent.daemon.managers_shelf import ManagerShelf
from agent.vnfm.shelf import Shelf
from tests.fix_desk import Served, card, healthy, serve
from tests.shell.test_vnfm_shelf import CONTENT, kept_as, put

ROUTE = "/v1/manager-snapshots"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """With one snapshot, of incident i-1."""
    made = Shelf(tmp_path / "shelf")
    put(made, "sg-n1-1")
    return made


@pytest.fixture
def keeping(shelf: Shelf) -> Served:
    """An agent with a shelf, which has no login for its manager."""
    return serve(healthy(), managers=ManagerShelf(shelf, None))


async def test_what_is_kept_is_listed_shown_and_streamed(keeping: Served, shelf: Shelf):
    async with keeping.client("read") as client:
        listed = (await client.get(ROUTE)).json()
        shown = (await client.get(f"{ROUTE}/sg-n1-1")).json()
        closed = await client.get(f"{ROUTE}/sg-n1-1/archive")
        missing = await client.get(f"{ROUTE}/sg-n1-2")
    assert [one["id"] for one in listed["snapshots"]] == ["sg-n1-1"]
    assert listed["running"] is None
    assert shown == listed["snapshots"][0]
    assert (shown["bytes"], shown["counts"]) == (len(CONTENT), {"deployments": 2})
    assert (shown["capture"], shown["incidents"]) == (None, ["i-1"])
    assert (closed.status_code, missing.status_code) == (403, 404)
    async with keeping.client("data") as client:
        whole = await client.get(f"{ROUTE}/sg-n1-1/archive")
        rest = await client.get(
            f"{ROUTE}/sg-n1-1/archive", headers={"Range": "bytes=100-"}
        )
        outside = await client.get(f"{ROUTE}/..%2F..%2Fetc/archive")
    assert whole.content == CONTENT
    assert whole.headers["etag"] == f'"{shown["stored_sha256"]}"'
    assert (rest.status_code, rest.content) == (206, CONTENT[100:])
    assert outside.status_code == 404


async def test_one_is_asked_for_only_where_there_is_a_login(keeping: Served):
    async with keeping.client("operate") as client:
        refused = await client.post(ROUTE, json={})
    assert refused.status_code == 409
    assert "no login for its manager" in refused.json()["detail"]
    assert "password_file" in refused.json()["hint"]
    without = serve(healthy())
    async with without.client("operate") as client:
        assert (await client.post(ROUTE)).status_code == 409
    async with without.client("read") as client:
        assert (await client.get(ROUTE)).json() == {"running": None, "snapshots": []}


async def test_a_capture_names_the_managers_snapshots_of_its_incident(keeping: Served):
    keeping.shelf.add(card("n1-abc", incident_ids=("i-1",)), {"a": b"1"})
    keeping.shelf.add(card("n1-other", incident_ids=("i-2",)), {"a": b"1"})
    async with keeping.client("read") as client:
        found = (await client.get("/v1/snapshots")).json()["snapshots"]
        one = (await client.get("/v1/snapshots/n1-abc")).json()
    assert {each["id"]: each["manager_snapshots"] for each in found} == {
        "n1-abc": ["sg-n1-1"],
        "n1-other": [],
    }
    assert one["manager_snapshots"] == ["sg-n1-1"]


async def test_a_shelf_that_cannot_be_read_is_a_problem_with_a_reason(
    keeping: Served, shelf: Shelf
):
    (shelf.place / "sg-n1-1" / "manifest.json").write_text("{")
    async with keeping.client("read") as client:
        assert (await client.get(ROUTE)).json()["snapshots"] == []
    shelf.put(replace(_made(shelf), id="sg-n1-3", file="sg-n1-3.zip"))
    (shelf.place / "sg-n1-3" / "sg-n1-3.zip").unlink()
    async with keeping.client("data") as client:
        gone = await client.get(f"{ROUTE}/sg-n1-3/archive")
    assert gone.status_code == 500
    assert "sg-n1-3.zip" in gone.json()["detail"]


def _made(shelf: Shelf):
    (shelf.begin("sg-n1-3") / "sg-n1-3.zip").write_bytes(CONTENT)
    return kept_as("sg-n1-3", CONTENT)


async def test_what_the_manager_says_of_itself_is_told(keeping: Served):
    async with keeping.client("read") as client:
        assert (await client.get("/v1/managers")).json()["here"] is None
    care = ManagerCare(
        version="7.0.5",
        active=True,
        cluster="Degraded",
        members=(ManagerMember("broker", "b1", "10.0.0.7", "Fail"),),
        failed="no reply",
        failed_wall_s=1e9,
    )
    await keeping.desk.submit(ManagerCareTold(keeping.desk.now(), care))
    async with keeping.client("read") as client:
        here = (await client.get("/v1/managers")).json()["here"]
    assert (here["version"], here["cluster"], here["failed"]) == (
        "7.0.5", "Degraded", "no reply",
    )  # fmt: skip
    assert here["members"] == [
        {"kind": "broker", "name": "b1", "address": "10.0.0.7", "status": "Fail"}
    ]
    assert here["failed_at"] == "2001-09-09T01:46:40.000Z"
