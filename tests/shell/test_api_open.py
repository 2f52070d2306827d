"""Liveness, readiness, and what a load balancer is told."""

from dataclasses import replace

import pytest

from agent.api.balancer import parse_lag
from agent.core.event import Observed
from agent.core.observation import Channel, Observation, Outcome
from agent.core.state import State
from tests.fix_desk import (
    Served,
    healthy,
    isolated,
    node_down,
    serve,
    split_brain,
)

METHODS = ["GET", "HEAD", "OPTIONS"]


async def asked(served: Served, path: str, method: str = "GET"):
    async with served.client() as client:
        return await client.request(method, path)


def refused(served: Served, outcome: Outcome, times: int = 1) -> None:
    """The server beside the agent stops answering in this way."""
    sim = served.desk.sim
    for _ in range(times):
        sim.now_s += 1
        seen = Observation(
            served.desk.me, Channel.POSTGRES, outcome, "sorry, too many clients",
            sim.now_s - 0.1, sim.now_s,
        )  # fmt: skip
        sim.submit(served.desk.me, Observed(sim.moment(), seen))


async def test_readiness_needs_a_round_and_a_journal(served: Served):
    assert (await asked(served, "/readyz")).json() == {"ready": True, "reasons": []}
    served.desk.journal_error = "disk full at /secret/path"
    answer = await asked(served, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the journal cannot be written"]
    served.desk.journal_error = None
    served.desk.state = State()
    answer = await asked(served, "/readyz")
    assert answer.json()["reasons"] == ["no probe round has finished yet"]
    assert (await asked(served, "/livez")).json() == {"status": "live"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("node", "path", "status"),
    [
        ("n1", "/primary", 200), ("n1", "/replica", 503), ("n1", "/health", 200),
        ("n2", "/primary", 503), ("n2", "/replica", 200), ("n2", "/health", 200),
    ],
)  # fmt: skip
async def test_a_balancer_is_told_the_role_by_any_method(
    method: str, node: str, path: str, status: int
):
    answer = await asked(serve(healthy(), node), path, method)
    assert answer.status_code == status
    assert "x-splitguard-doubt" not in answer.headers
    if method != "HEAD":
        assert answer.json()["open"] is (status == 200)


async def test_a_replica_may_be_asked_for_its_lag():
    sim = healthy()
    sim.world.dark = {("n1", "n2"), ("n2", "n1")}
    sim.world.servers["n1"].lsn += 5000
    sim.run(1.5)
    served = serve(sim, "n2")
    assert (await asked(served, "/replica?lag=1MB")).status_code == 200
    answer = await asked(served, "/replica?lag=100")
    assert answer.status_code == 503
    assert answer.json()["lag_bytes"] == 5000
    assert answer.json()["reason"] == "5000 bytes behind, 100 allowed"


async def test_an_unknown_lag_does_not_pass_a_limit():
    sim = healthy()
    sim.world.kill("n1")
    sim.run(5)
    served = serve(sim, "n2")
    assert (await asked(served, "/replica")).status_code == 200
    answer = await asked(served, "/replica?lag=1GB")
    assert answer.status_code == 503
    assert "not known" in answer.json()["reason"]


@pytest.mark.parametrize("lag", ["", "ten", "-1", "1TB", "1.5MB", "9" * 29])
async def test_a_lag_that_is_none_is_a_problem(served: Served, lag: str):
    answer = await asked(served, f"/replica?lag={lag}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_lag_units_are_powers_of_two():
    assert [parse_lag(x) for x in ("7", "1kB", "2 MB", "1gb")] == [
        7, 1024, 2 * 1024**2, 1024**3,
    ]  # fmt: skip


async def test_doubt_travels_in_a_header_and_closes_nothing():
    served = serve(isolated(), "n1")
    answer = await asked(served, "/primary")
    assert answer.status_code == 200
    assert "no majority" in answer.headers["x-splitguard-doubt"]


async def test_a_refusal_for_this_agent_alone_closes_nothing(served: Served):
    refused(served, Outcome.REFUSED, 5)
    answer = await asked(served, "/primary")
    assert answer.status_code == 200
    assert "too many clients" in answer.headers["x-splitguard-doubt"]


async def test_one_missed_probe_closes_nothing_and_two_do(served: Served):
    refused(served, Outcome.TIMED_OUT)
    answer = await asked(served, "/primary")
    assert answer.status_code == 200
    assert "timed-out" in answer.headers["x-splitguard-doubt"]
    refused(served, Outcome.TIMED_OUT)
    for path in ("/primary", "/health"):
        answer = await asked(served, path)
        assert answer.status_code == 503
        assert "did not answer 2 times" in answer.json()["reason"]


async def test_an_agent_that_stalls_keeps_its_last_answer(served: Served):
    served.desk.sim.now_s += 60
    answer = await asked(served, "/primary")
    assert answer.status_code == 200
    assert "ago" in answer.headers["x-splitguard-doubt"]


async def test_before_the_first_probe_nothing_is_claimed(served: Served):
    served.desk.state = State()
    answer = await asked(served, "/primary")
    assert answer.status_code == 503
    assert answer.json()["role"] == "unknown"


async def test_a_witness_is_no_primary(served: Served):
    agent = served.desk.sim.agents["n1"]
    nodes = tuple(
        replace(spec, has_postgres=spec.name != "n1") for spec in agent.policy.nodes
    )
    agent.policy = replace(agent.policy, nodes=nodes)
    answer = await asked(served, "/health")
    assert answer.status_code == 503
    assert "no PostgreSQL" in answer.json()["reason"]


async def test_a_proven_split_closes_the_loser_only_where_that_is_wanted():
    sim = split_brain()
    assert (await asked(serve(sim, "n1"), "/primary")).status_code == 200
    answer = await asked(serve(sim, "n1", fail_closed=True), "/primary")
    assert answer.status_code == 503
    assert "n2 is predicted to win" in answer.json()["reason"]
    assert (await asked(serve(sim, "n1", fail_closed=True), "/health")).is_success
    assert (await asked(serve(sim, "n2", fail_closed=True), "/primary")).is_success


async def test_a_suspicion_closes_nothing_even_where_a_proof_would():
    answer = await asked(serve(isolated(), "n1", fail_closed=True), "/primary")
    assert answer.status_code == 200


async def test_a_dead_neighbour_closes_nothing():
    assert (await asked(serve(node_down(), "n1"), "/primary")).status_code == 200
