"""Status, nodes and waiting for a change."""

import asyncio
from dataclasses import replace

import pytest

from agent.core.event import GateSeen, PermitAsked
from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.lsn import Lsn
from agent.core.state import State
from agent.core.verdict import Family, Severity, VerdictCode
from agent.ports import OutboxCounts
from tests.core import given
from tests.fix_desk import Served, healthy, isolated, node_down, serve, split_brain

STATUS_KEYS = {
    "cluster", "observer", "as_of", "data_age_s", "headline", "verdicts", "nodes",
    "matrix", "protection", "incidents_open", "notices", "decisions",
}  # fmt: skip
HEADLINE_KEYS = {"verdict", "severity", "subject", "since", "sentence", "next_step"}


async def status_of(served: Served, **headers: str):
    async with served.client("read") as client:
        answer = await client.get("/v1/status", headers=headers)
    assert answer.status_code == 200
    return answer.json()


async def test_the_status_has_exactly_the_agreed_keys(served: Served):
    served.desk.outbox = OutboxCounts(undelivered=3, dead=1)
    status = await status_of(served)
    assert set(status) == STATUS_KEYS
    assert set(status["headline"]) == HEADLINE_KEYS
    assert status["notices"] == {"undelivered": 3}
    assert status["cluster"] == "sim"
    assert status["observer"] == "n1"
    assert status["as_of"].endswith("Z")
    assert 0 <= status["data_age_s"] <= 1
    assert set(status["protection"]) == {"n1", "n2", "n3"}
    assert status["protection"]["n1"] == {"line": "ready", "capture": None}


async def test_a_healthy_cluster_is_told_as_such(served: Served):
    status = await status_of(served)
    assert status["headline"]["verdict"] == "healthy"
    assert status["headline"]["severity"] == "ok"
    assert "n1 is the primary" in status["headline"]["sentence"]
    roles = {node["name"]: node["role"] for node in status["nodes"]}
    assert roles == {"n1": "primary", "n2": "standby", "n3": "standby"}
    second = status["nodes"][1]
    assert second["lag_bytes"] == 0
    assert Lsn.parse(second["lsn"])
    assert second["postgres"]["seen_by"] == ["n1", "n2", "n3"]
    assert second["agent"]["seen_by"] == ["n1", "n3"]
    assert not second["manager"]["configured"]
    assert status["nodes"][0]["lag_bytes"] is None


async def test_an_open_critical_incident_is_the_headline_while_not_all_is_seen():
    served = serve(split_brain())
    before = (await status_of(served))["headline"]
    agent = served.desk.sim.agents["n1"]
    blind = given.verdict(VerdictCode.UNKNOWN, Family.OTHER, severity=Severity.UNKNOWN)
    view = replace(agent.state.view, verdicts=(blind,))
    agent.state = replace(agent.state, view=view)
    status = await status_of(served)
    headline = status["headline"]
    assert (headline["verdict"], headline["severity"]) == ("split-brain", "critical")
    assert (headline["since"], headline["next_step"]) == (
        before["since"], before["next_step"],
    )  # fmt: skip
    assert headline["sentence"].startswith(before["sentence"])
    assert "nobody can say yet that it is over. Not everything" in headline["sentence"]
    assert [one["verdict"] for one in status["verdicts"]] == ["unknown"]


async def test_before_the_first_round_unknown_is_said_and_nothing_is_made_up():
    served = serve(healthy())
    served.desk.state = State()
    status = await status_of(served)
    assert status["headline"]["verdict"] == "unknown"
    assert status["headline"]["since"] is None
    assert status["data_age_s"] is None
    assert {node["role"] for node in status["nodes"]} == {"unknown"}
    assert {node["lsn"] for node in status["nodes"]} == {None}


async def test_a_dead_node_keeps_its_last_position_and_loses_its_role():
    status = await status_of(serve(node_down(), "n1"))
    headline = status["headline"]
    assert (headline["verdict"], headline["subject"]) == ("node-down", "n3")
    assert headline["since"].endswith("Z")
    assert status["incidents_open"] == 1
    third = status["nodes"][2]
    assert third["role"] == "unknown"
    assert third["lsn"] is not None
    assert third["lag_bytes"] is None
    assert third["postgres"]["unseen_by"] == ["n1", "n2"]
    assert third["verdicts"] == ["node-down"]
    assert third["protection"].startswith("not known: its agent was last heard 1")
    assert third["protection"].endswith(" s ago, and said: ready")
    assert (third["lsn_known"], status["nodes"][0]["lsn_known"]) == (False, True)


async def test_a_stopped_server_is_on_the_timeline_that_its_disk_shows():
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.run(2)
    sim.world.rewind("n1", "n2")
    sim.world.servers["n1"].running = False
    sim.run(3)
    first = (await status_of(serve(sim, "n2")))["nodes"][0]
    assert (first["role"], first["timeline"]) == ("stopped", 2)


async def test_ready_is_never_said_of_a_loser():
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.run(3)
    loser = sim.agents["n1"]
    ledger = replace(loser.state.ledger, captures=())
    loser.state = replace(loser.state, ledger=ledger)
    line = (await status_of(serve(sim, "n1")))["protection"]["n1"]["line"]
    assert line.startswith("nothing is kept of it yet")
    assert "`splitguard guard permit`" in line


UNGUARDED = Gate((HaSoftware("Patroni", "/etc/patroni.yml", Wired.NOT_WIRED),))


async def test_every_node_s_guard_is_told_on_every_node():
    sim = healthy()
    sim.submit("n2", GateSeen(sim.moment(), UNGUARDED))
    sim.run(3)
    for me in ("n1", "n2"):
        nodes = (await status_of(serve(sim, me)))["nodes"]
        assert [node["guard"] is None for node in nodes] == [True, False, True]
        assert nodes[1]["guard"]["line"] == "guard not wired"
        (software,) = nodes[1]["guard"]["software"]
        assert (software["name"], software["wired"]) == ("Patroni", "not wired")
        wanted = "not ready because the guard is not wired into Patroni"
        assert nodes[1]["protection"] == wanted
    sim.crash("n2")
    sim.run(20)
    assert (await status_of(serve(sim, "n1")))["nodes"][1]["guard"] is None


async def test_of_a_loser_it_is_told_what_is_kept_also_where_no_guard_stands():
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.submit("n1", GateSeen(sim.moment(), UNGUARDED))
    sim.run(3)
    loser = sim.agents["n1"]
    ledger = replace(loser.state.ledger, captures=())
    loser.state = replace(loser.state, ledger=ledger)
    line = (await status_of(serve(sim, "n1")))["protection"]["n1"]["line"]
    assert line.startswith("nothing is kept of it yet")
    assert line.endswith("; not ready because the guard is not wired into Patroni")


async def test_what_is_kept_of_a_stopped_loser_is_told_on_every_node():
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.run(1)
    sim.submit("n1", PermitAsked(sim.moment(), "permit-1", "pg_rewind"))
    sim.run(5)
    for me in ("n1", "n2"):
        line = (await status_of(serve(sim, me)))["protection"]["n1"]["line"]
        assert line.startswith("kept: snapshot n1-"), line
        assert "complete to 0/" in line


async def test_a_stopped_server_has_a_position_from_its_disk():
    sim = healthy()
    sim.world.servers["n2"].running = False
    sim.run(4)
    status = await status_of(serve(sim, "n1"))
    second = status["nodes"][1]
    assert second["role"] == "stopped"
    assert second["lsn"] == str(Lsn(sim.world.servers["n2"].lsn))


async def test_who_cannot_be_seen_is_known_through_those_who_see():
    sim = healthy()
    sim.world.dark = {("n1", "n3"), ("n3", "n1")}
    sim.world.write("n1", "one more")
    sim.run(4)
    status = await status_of(serve(sim, "n1"))
    third = status["nodes"][2]
    assert third["role"] == "standby"
    assert "n1" in third["postgres"]["unseen_by"]
    assert "n2" in third["postgres"]["seen_by"]


async def test_an_isolated_agent_doubts_itself_and_shows_old_looks_as_unknown():
    status = await status_of(serve(isolated(), "n1"))
    first = status["nodes"][0]
    assert "no majority" in first["doubt"]
    about_others = [row for row in status["matrix"] if row["observer"] != "n1"]
    assert about_others
    assert {row["seen"] for row in about_others} == {None}


async def test_the_matrix_holds_one_way_cuts():
    sim = healthy()
    sim.run(1)
    status = await status_of(serve(sim, "n2"))
    observers = {row["observer"] for row in status["matrix"]}
    assert observers == {"n1", "n2", "n3"}
    assert all(row["age_s"] >= 0 for row in status["matrix"])


async def test_nodes_can_be_asked_one_by_one(served: Served):
    async with served.client("read") as client:
        every = (await client.get("/v1/nodes")).json()["nodes"]
        one = (await client.get("/v1/nodes/n2")).json()
        none = await client.get("/v1/nodes/n9")
    assert one == every[1]
    assert none.status_code == 404
    assert "n1, n2, n3" in none.json()["hint"]


async def test_an_unchanged_status_is_304_and_a_changed_one_is_not(served: Served):
    async with served.client("read") as client:
        first = await client.get("/v1/status")
        tag = {"If-None-Match": first.headers["etag"]}
        again = await client.get("/v1/status", headers=tag)
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == first.headers["etag"]
        await served.desk.bump()
        after = await client.get("/v1/status", headers=tag)
    assert after.status_code == 200
    assert after.headers["etag"] != first.headers["etag"]


async def test_another_start_of_the_agent_is_another_tag(served: Served):
    async with served.client("read") as client:
        first = (await client.get("/v1/status")).headers["etag"]
        served.desk.sim.boot("n1")
        assert (await client.get("/v1/status")).headers["etag"] != first


async def test_a_waiting_request_is_answered_at_the_change(served: Served):
    async with served.client("read") as client:
        first = await client.get("/v1/status")
        tag = {"If-None-Match": first.headers["etag"]}
        waiting = asyncio.create_task(
            client.get("/v1/status", params={"wait": 60}, headers=tag)
        )
        async with asyncio.timeout(5):
            await served.waited_on()
            await served.desk.bump()
            answer = await waiting
    assert answer.status_code == 200
    assert served.app.state.context.waiting == 0


async def test_a_wait_ends_with_304_when_its_time_is_up(served: Served):
    async with served.client("read") as client:
        first = await client.get("/v1/status")
        tag = {"If-None-Match": first.headers["etag"]}
        answer = await client.get("/v1/status", params={"wait": 0.05}, headers=tag)
    assert answer.status_code == 304


async def test_a_wait_ends_when_the_agent_stops(served: Served):
    async with served.client("read") as client:
        waiting = asyncio.create_task(client.get("/v1/status", params={"wait": 60}))
        async with asyncio.timeout(5):
            await served.waited_on()
            served.options.closing.set()
            assert (await waiting).status_code == 200


async def test_too_many_waits_are_answered_at_once():
    served = serve(healthy(), waiters_max=0)
    async with served.client("read") as client, asyncio.timeout(5):
        answer = await client.get("/v1/status", params={"wait": 60})
    assert answer.status_code == 200


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan"])
async def test_a_wait_that_is_none_is_refused(served: Served, wait: str):
    async with served.client("read") as client:
        answer = await client.get("/v1/status", params={"wait": wait})
    assert answer.status_code == 422


async def test_other_channels_than_sql_do_not_hide_a_split():
    status = await status_of(serve(split_brain(), "n3"))
    assert status["headline"]["verdict"] == "split-brain"
    primaries = [n["name"] for n in status["nodes"] if n["role"] == "primary"]
    assert primaries == ["n1", "n2"]
    assert "splitguard" in status["headline"]["next_step"]


async def test_a_manager_and_a_witness_have_roles_of_their_own(served: Served):
    agent = served.desk.sim.agents["n1"]
    first, second, third = agent.policy.nodes
    nodes = (
        first,
        replace(second, has_postgres=False),
        replace(third, has_postgres=False, has_manager=True),
    )
    agent.policy = replace(agent.policy, nodes=nodes)
    status = await status_of(served)
    assert [n["role"] for n in status["nodes"]] == ["primary", "witness", "manager"]
    assert [n["voter"] for n in status["nodes"]] == [True, True, False]
    assert "nothing to protect" in status["nodes"][1]["protection"]
