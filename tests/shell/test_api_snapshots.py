"""Snapshots over HTTP: the catalogue, one on demand, the archive, the check."""

import io
import tarfile
from dataclasses import replace

from tests.fix_desk import Served, card, serve, split_brain


async def test_the_catalogue_and_what_peers_told_are_listed_apart():
    served = serve(split_brain(), "n2")
    served.shelf.add(card("old"), {"manifest.json": b"{}"})
    async with served.client("read") as client:
        answer = (await client.get("/v1/snapshots")).json()
    own = {one["id"]: one for one in answer["snapshots"]}
    assert own["old"]["grade"] == "complete"
    assert own["old"]["created"].endswith("Z")
    running = [one for one in own.values() if one["capture"]]
    assert running[0]["node"] == "n2"
    elsewhere = answer["elsewhere"]
    assert {(one["node"], one["reporter"]) for one in elsewhere} == {("n1", "n1")}
    assert elsewhere[0]["grade"] == "complete"
    assert (elsewhere[0]["side"], running[0]["side"]) == ("loser", "winner")
    assert own["old"]["side"] is None
    assert elsewhere[0]["bytes"] > 0
    assert elsewhere[0]["ordered"].endswith("Z")


async def test_one_on_demand_is_begun_and_followed(served: Served):
    async with served.client("operate") as client:
        answer = await client.post("/v1/snapshots", json={"reason": "before upgrade"})
        again = await client.post("/v1/snapshots")
    assert answer.status_code == 202
    begun = answer.json()
    assert begun["reason"] == "before upgrade"
    assert begun["capture"]["phase"] == "ordered"
    assert answer.headers["location"] == f"/v1/snapshots/{begun['id']}"
    assert again.json()["id"] == begun["id"], "one capture per node goes on at a time"
    assert (begun["joined"], again.json()["joined"]) == (False, True)
    served.desk.sim.run(5)
    async with served.client("read") as client:
        after = (await client.get(answer.headers["location"])).json()
    assert after["grade"] == "complete"
    assert after["end_lsn"]


async def test_a_wait_on_a_snapshot_that_goes_on_is_bounded(served: Served):
    async with served.client("operate") as client:
        location = (await client.post("/v1/snapshots")).headers["location"]
    async with served.client("read") as client:
        answer = await client.get(location, params={"wait": 0.05})
    assert answer.json()["capture"]["phase"] == "ordered"


async def test_the_archive_is_a_tar_stream(served: Served):
    served.shelf.add(card("one"), {"manifest.json": b"{}", "data/big": b"x" * 100_000})
    async with served.client("data") as client:
        answer = await client.get("/v1/snapshots/one/archive")
    assert answer.headers["content-type"] == "application/x-tar"
    assert 'filename="one.tar"' in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert archive.getnames() == ["manifest.json", "data/big"]


async def test_a_check_that_finds_something_is_an_answer(served: Served):
    served.shelf.add(card("good"), {"a": b"1"})
    served.shelf.add(card("bad"), {"a": b"1", "b": b""})
    async with served.client("operate") as client:
        good = (await client.post("/v1/snapshots/good/verify")).json()
        bad = (await client.post("/v1/snapshots/bad/verify")).json()
    assert good["ok"]
    assert not bad["ok"]
    assert bad["problems"] == ["b is empty"]


async def test_what_is_not_there_is_404_everywhere(served: Served):
    async with served.local() as client:
        for method, path in (
            ("GET", "/v1/snapshots/none"),
            ("GET", "/v1/snapshots/none/archive"),
            ("POST", "/v1/snapshots/none/verify"),
            ("GET", "/v1/snapshots/..%2f..%2fetc"),
            ("GET", "/v1/snapshots/none/other"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == 404, path
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_catalogue_that_cannot_be_read_is_a_problem_and_the_page_stands(
    served: Served,
):
    served.shelf.unreadable = "the capture folder cannot be read"
    async with served.local() as client:
        answer = await client.get("/v1/snapshots")
        page = await client.get("/")
    assert answer.status_code == 503
    assert answer.json()["hint"] == "look at the disk"
    assert page.status_code == 200
    assert "the capture folder cannot be read" in page.text


async def test_without_a_server_there_is_nothing_to_capture(served: Served):
    agent = served.desk.sim.agents["n1"]
    first, *others = agent.policy.nodes
    nodes = (replace(first, has_postgres=False), *others)
    agent.policy = replace(agent.policy, nodes=nodes)
    async with served.client("operate") as client:
        answer = await client.post("/v1/snapshots")
    assert answer.status_code == 409
