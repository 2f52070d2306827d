"""What status, CLI and page tell of each node's manager, and what is kept of it."""

from dataclasses import replace

import pytest

from agent.core.care import ManagerCare, ManagerMember
from agent.core.event import ManagerCareTold
from tests.fix_desk import Served, healthy, serve
from tests.sim.harness import Simulation

HOUR_S = 3600.0
CARE = ManagerCare("4.5.5", active=True, cluster="OK")


def managed() -> Simulation:
    """Three nodes with a manager each; the agent of n1 has a login."""
    sim = Simulation(managers=True)
    sim.run(4)
    return sim


def told(sim: Simulation, name: str, care: ManagerCare) -> None:
    sim.submit(name, ManagerCareTold(sim.moment(name), care))


async def nodes_of(served: Served):
    async with served.client("read") as client:
        answer = await client.get("/v1/status")
    return {node["name"]: node for node in answer.json()["nodes"]}


async def test_without_a_login_only_who_is_active_is_told():
    nodes = await nodes_of(serve(managed()))
    assert nodes["n1"]["manager_line"] == "active, version 4.5.5"
    assert nodes["n2"]["manager_line"] == "not active, version 4.5.5"
    assert nodes["n1"]["manager_cluster"] is None
    assert nodes["n1"]["manager_kept"] is None


async def test_a_node_without_a_manager_is_told_nothing_of():
    nodes = await nodes_of(serve(healthy()))
    assert {node["manager_line"] for node in nodes.values()} == {None}


async def test_every_agent_tells_what_the_one_beside_a_manager_keeps():
    sim = managed()
    made_s = sim.moment("n2").wall_s - 5 * HOUR_S
    told(sim, "n2", replace(CARE, active=False, last_good_wall_s=made_s))
    told(sim, "n1", replace(CARE, last_good_wall_s=made_s, running="sg-n1-20261123"))
    sim.run(3)
    nodes = await nodes_of(serve(sim))
    kept_at = nodes["n2"]["manager_kept"]
    minute = kept_at[:16].replace("T", " ")
    assert nodes["n2"]["manager_line"] == (
        f"not active, version 4.5.5, cluster OK; last snapshot {minute} UTC"
    )
    assert nodes["n1"]["manager_line"].endswith(
        f"last snapshot {minute} UTC, sg-n1-20261123 is being made"
    )
    assert nodes["n3"]["manager_line"] == "not active, version 4.5.5"
    assert nodes["n2"]["manager_cluster"] == "OK"


@pytest.mark.parametrize(
    ("care", "ends"),
    [
        (CARE, "cluster OK; no snapshot is kept yet"),
        (replace(CARE, refused_login="HTTP 401"),
         "no snapshot is kept yet; it refuses the login: HTTP 401"),
        (replace(CARE, failed="the disk is full"),
         "no snapshot is kept yet; the last snapshot failed: the disk is full"),
        (replace(CARE, cluster="Degraded", members=(
            ManagerMember("broker", "mq1", "10.0.0.7", "OK"),
            ManagerMember("broker", "mq2", "10.0.0.8", "Fail"),
        )), "cluster Degraded (broker mq2 Fail); no snapshot is kept yet"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_manager_stands_in_its_line(care, ends):
    sim = managed()
    told(sim, "n1", care)
    line = (await nodes_of(serve(sim)))["n1"]["manager_line"]
    assert line.startswith("active, version 4.5.5, cluster ")
    assert line.endswith(ends)


async def test_a_manager_that_answers_nobody_is_told_as_such_and_stays_kept():
    sim = managed()
    made_s = sim.moment("n3").wall_s - HOUR_S
    told(sim, "n3", replace(CARE, active=False, last_good_wall_s=made_s))
    sim.run(3)
    sim.world.managers_down.add("n3")
    sim.run(5)
    line = (await nodes_of(serve(sim)))["n3"]["manager_line"]
    assert line.startswith("does not answer, version 4.5.5, cluster OK; last snapshot ")


def test_the_console_shows_managers_below_the_protection(splitguard, agent_for):
    sim = managed()
    told(sim, "n1", replace(CARE, failed="the disk is full"))
    out = splitguard("status", "--socket", agent_for(sim).socket).out
    assert "\nManagers\nn1  active, version 4.5.5, cluster OK; no snapshot" in out
    assert "\nn2  not active, version 4.5.5\n" in out
    plain = splitguard("status", "--socket", agent_for(healthy()).socket).out
    assert "Managers" not in plain


async def test_the_page_shows_the_same_line():
    sim = managed()
    told(sim, "n1", CARE)
    served = serve(sim)
    async with served.client("read") as client:
        page = (await client.get("/")).text
    assert "active, version 4.5.5, cluster OK; no snapshot is kept yet" in page
