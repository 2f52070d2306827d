"""Incidents over HTTP: list, story, and taking one."""

from dataclasses import replace

from agent.core.capture import Grade, Phase
from agent.core.incident import Status
from agent.core.verdict import VerdictCode
from tests.fix_desk import Served, isolated, node_down, resynced, serve, split_brain
from tests.sim.harness import Simulation


async def first_id(served: Served) -> str:
    async with served.client("read") as client:
        found = (await client.get("/v1/incidents")).json()["incidents"]
    return str(found[0]["id"])


async def test_incidents_come_latest_first_with_words_and_what_to_do():
    served = serve(split_brain(), "n2")
    async with served.client("read") as client:
        found = (await client.get("/v1/incidents")).json()["incidents"]
        one = (await client.get(f"/v1/incidents/{found[0]['id']}")).json()
    verdicts = [incident["verdict"] for incident in found]
    assert "split-brain" in verdicts
    assert all(incident["sentence"] for incident in found)
    split = next(i for i in found if i["verdict"] == "split-brain")
    assert split["status"] == "open"
    assert split["next_step"]
    assert one["history"]
    assert all(flip["at"].endswith("Z") for flip in one["history"])
    assert one["sentences"]
    assert one["evidence"]


async def test_an_incident_tells_its_notices_and_captures():
    sim = split_brain()
    served = serve(sim, "n1")
    async with served.client("read") as client:
        found = (await client.get("/v1/incidents")).json()["incidents"]
        every = [
            (await client.get(f"/v1/incidents/{one['id']}")).json() for one in found
        ]
    notices = [notice for one in every for notice in one["notices"]]
    assert {notice["by"] for notice in notices} <= {"this agent", "a peer"}
    assert notices
    captures = [capture for one in every for capture in one["captures"]]
    assert captures[0]["node"] == "n1"
    assert captures[0]["grade"] == "complete"


async def test_a_split_that_is_over_names_the_losers_snapshot_on_every_node():
    sim = resynced()
    for me in ("n1", "n2", "n3"):
        async with serve(sim, me).client("read") as client:
            found = (await client.get("/v1/incidents")).json()["incidents"]
            split = next(one for one in found if one["family"] == "split")
            detail = (await client.get(f"/v1/incidents/{split['id']}")).json()
        assert split["status"] == "resolved"
        [kept] = [one for one in split["snapshots"] if one["node"] == "n1"]
        assert (kept["beside"], kept["grade"]) == ("n1", "complete")
        assert kept["command"] == f"splitguard snapshots open {kept['id']}"
        assert kept["sentence"] in detail["sentences"]
        assert f"`{kept['command']}` on n1" in split["next_step"]
        assert split["next_step"].startswith("It is over.")


def resynced_under_two_ids() -> Simulation:
    """One split, of which an agent has two incidents, as after a cut.

    The proof is over and named nobody; n1's snapshot is bound to the other one only.
    """
    sim = resynced()
    agent = sim.agents["n2"]
    rest = [
        one for one in agent.state.ledger.incidents if one.verdict.family != "split"
    ]
    [split] = [one for one in agent.state.ledger.incidents if one not in rest]
    assert (split.verdict.code, split.sides) == ("lineage-diverged", ("n1", "n2"))
    evidence = {
        "first": "n1",
        "second": "n2",
        "method": "overlap",
        "tips": "n1,n2",
        "winner": None,
        "winner_rule": "newest_commit",
        "losers": "n1,n2",
    }
    verdict = replace(
        split.verdict, code=VerdictCode.SPLIT_BRAIN, rule=501, evidence=evidence
    )
    proof = replace(split, id="inc-of-the-proof", verdict=verdict, losses=())
    ledger = replace(agent.state.ledger, incidents=(*rest, proof, split))
    agent.state = replace(agent.state, ledger=ledger)
    return sim


async def test_a_split_of_two_ids_names_the_losers_snapshot_and_who_was_kept():
    sim = resynced_under_two_ids()
    async with serve(sim, "n2").client("read") as client:
        one = (await client.get("/v1/incidents/inc-of-the-proof")).json()
    assert one["status"] == "resolved"
    assert "splitguard snapshots open n1-" in one["next_step"]
    assert "on n1" in one["next_step"]
    assert "snapshots open n2-" not in one["next_step"]
    assert one["sentence"].endswith("n2 was kept.")
    assert (one["evidence"]["winner"], one["evidence"]["losers"]) == ("n2", "n1")


async def test_the_winners_own_snapshot_is_never_called_what_a_resync_wiped():
    sim = resynced_under_two_ids()
    agent = sim.agents["n2"]
    [capture] = [one for one in agent.state.ledger.captures if one.order.node == "n2"]
    status = replace(capture.status, grade=Grade.COMPLETE)
    order = replace(capture.order, incident_ids=("inc-of-the-proof",))
    own = replace(capture, status=status, order=order)
    ledger = replace(agent.state.ledger, captures=(own,))
    agent.state = replace(agent.state, ledger=ledger)
    async with serve(sim, "n2").client("read") as client:
        one = (await client.get("/v1/incidents/inc-of-the-proof")).json()
    assert [kept["node"] for kept in one["snapshots"]] == ["n2"]
    assert "snapshots open n1-" in one["next_step"]
    assert "snapshots open n2-" not in one["next_step"]


async def test_what_was_captured_in_part_is_named_without_a_command_to_open_it():
    sim = split_brain()
    agent = sim.agents["n1"]
    for phase, words in ((Phase.FOLLOWING, "no full copy"), (Phase.FAILED, "failed")):
        captures = tuple(
            replace(one, status=replace(one.status, grade=Grade.NONE, phase=phase))
            for one in agent.state.ledger.captures
        )
        ledger = replace(agent.state.ledger, captures=captures)
        agent.state = replace(agent.state, ledger=ledger)
        async with serve(sim, "n1").client("read") as client:
            found = (await client.get("/v1/incidents")).json()["incidents"]
        split = next(one for one in found if one["family"] == "split")
        [kept] = [one for one in split["snapshots"] if one["node"] == "n1"]
        assert kept["command"] is None
        assert words in kept["sentence"]


async def test_a_next_step_that_takes_an_incident_names_it():
    sim = isolated()
    async with serve(sim, "n2").client("read") as client:
        found = (await client.get("/v1/incidents")).json()["incidents"]
        now = (await client.get("/v1/status")).json()
    failover = next(one for one in found if one["verdict"] == "failover")
    command = f"`splitguard incidents ack {failover['id']}`"
    assert command in failover["next_step"]
    for one in now["verdicts"]:
        assert "ack ID" not in one["next_step"]


async def test_incidents_can_be_asked_for_by_status_and_number():
    served = serve(split_brain(), "n2")
    async with served.client("read") as client:
        standing = await client.get("/v1/incidents", params={"status": "open"})
        both = await client.get("/v1/incidents?status=open&status=resolved&limit=1")
        wrong = await client.get("/v1/incidents", params={"status": "half"})
    assert {one["status"] for one in standing.json()["incidents"]} == {"open"}
    assert len(both.json()["incidents"]) == 1
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"].startswith("query.status")


async def test_an_incident_is_taken_once_and_by_name():
    served = serve(node_down(), "n1")
    taken = await first_id(served)
    async with served.client("operate") as client:
        answer = await client.post(f"/v1/incidents/{taken}/ack", json={"who": "ada"})
        again = await client.post(f"/v1/incidents/{taken}/ack", json={"who": "bob"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "acknowledged"
    assert answer.json()["acknowledged_by"] == "ada"
    assert again.json()["acknowledged_by"] == "ada"


async def test_who_defaults_to_the_name_of_the_token_or_to_the_socket():
    served = serve(node_down(), "n1")
    async with served.client("operate") as client:
        path = f"/v1/incidents/{await first_id(served)}/ack"
        answer = await client.post(path)
    assert answer.json()["acknowledged_by"] == "operate-name"
    served = serve(node_down(), "n1")
    async with served.local() as client:
        answer = await client.post(f"/v1/incidents/{await first_id(served)}/ack")
    assert answer.json()["acknowledged_by"] == "local"


async def test_what_is_over_can_be_taken_and_what_is_not_there_cannot():
    sim = node_down()
    served = serve(sim, "n1")
    taken = await first_id(served)
    sim.world.start("n3")
    sim.boot("n3")
    sim.run(30)
    assert sim.incidents("n1")[-1].status is Status.RESOLVED
    async with served.client("operate") as client:
        over = await client.post(f"/v1/incidents/{taken}/ack")
        absent = await client.post("/v1/incidents/inc-none/ack")
        misspelt = await client.post(f"/v1/incidents/{taken}/ack", json={"whom": "ada"})
    assert (over.status_code, over.json()["acknowledged_by"]) == (200, "operate-name")
    assert over.json()["status"] == "resolved"
    assert absent.status_code == 404
    assert misspelt.status_code == 422
    assert "whom" in misspelt.json()["errors"][0]["field"]


async def test_a_pending_incident_opens_by_itself_first():
    sim = node_down()
    served = serve(sim, "n1")
    taken = await first_id(served)
    agent = sim.agents["n1"]
    pending = tuple(
        replace(one, status=Status.PENDING) for one in agent.state.ledger.incidents
    )
    ledger = replace(agent.state.ledger, incidents=pending)
    agent.state = replace(agent.state, ledger=ledger)
    async with served.client("operate") as client:
        answer = await client.post(f"/v1/incidents/{taken}/ack")
    assert answer.status_code == 409
    assert "not opened" in answer.json()["detail"]
