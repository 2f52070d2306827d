"""The manager channel against stand-ins of both lines, over real databases.

The stand-ins follow the managers' contract; no request of the probe has a login.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from agent.config import Settings
from agent.core.care import ManagerSight
from agent.core.observation import Channel, Observation, Outcome
from agent.daemon.asking import clients_of, prober_of
from agent.daemon.clock import SystemClock
from agent.probe.prober import NetworkProber
from tests.fix_manager import Issued, Manager, StartManager

pytestmark = pytest.mark.postgres


@contextlib.asynccontextmanager
async def probing(*managers: Manager, **more: object) -> AsyncIterator[NetworkProber]:
    """An agent's own prober, as its configuration has it: n1, n2, ..."""
    nodes = [
        {"name": f"n{number}", "manager": manager.url}
        for number, manager in enumerate(managers, start=1)
    ]
    told = {"cluster": "c", "node": "n1", "nodes": nodes, **more}
    settings = Settings.model_validate(told)
    clients = clients_of(settings)
    prober = prober_of(settings, SystemClock(), clients)
    try:
        yield prober
    finally:
        await prober.close()
        for client in clients.all:
            await client.close()


async def seen(prober: NetworkProber, node: str = "n1") -> Observation:
    """Ask until an answer has come in time."""
    async with asyncio.timeout(30):
        while True:
            found = await prober.probe(node, Channel.MANAGER)
            if found.outcome is not Outcome.TIMED_OUT:
                return found


async def test_of_4_5_5_active_and_passive_are_told_apart_without_a_login(
    start_manager: StartManager,
):
    first = start_manager("4.5.5")
    second = start_manager("4.5.5", server=first.server)
    second.office.active = False
    async with probing(first, second) as prober:
        assert (await seen(prober)).manager == ManagerSight(False, None, silent=True)
        assert (await seen(prober, "n2")).manager == ManagerSight(False, "4.x")
        assert (await seen(prober)).manager == ManagerSight(True, "4.x")
        second.office.active = True
        assert (await seen(prober, "n2")).manager == ManagerSight(True, "4.x")
        second.office.active, second.office.removed = False, True
        gone = await seen(prober, "n2")
        assert "was removed from its cluster" in gone.reason
    assert first.wrong_passwords() == 0


async def test_of_7_0_5_every_manager_is_active_and_says_how_it_is(
    start_manager: StartManager,
):
    manager = start_manager("7.0.5", broker_look_s=0.01)
    async with probing(manager) as prober:
        assert (await seen(prober)).manager == ManagerSight(True, "7.x")
        manager.faults.switch({"broker_dead": True})
        sick = await seen(prober)
        assert sick.outcome is Outcome.REFUSED
        assert "the manager says FAIL" in sick.reason
        manager.faults.switch({"broker_dead": False, "html": True})
        behind = await seen(prober)
        assert "the manager's REST service behind it does not" in behind.reason
        manager.faults.switch({"html": False, "database_down": True})
        assert "HTTP 500: internal_server_error" in (await seen(prober)).reason
        manager.faults.switch({"database_down": False})
        assert (await seen(prober)).manager == ManagerSight(True, "7.x")


async def test_a_manager_behind_its_own_authority_is_trusted_by_vnfm_ca(
    start_manager: StartManager, issued: Issued
):
    manager = start_manager("7.0.5", tls=issued.tls)
    async with probing(manager, vnfm={"ca": str(issued.ca)}) as prober:
        assert (await seen(prober)).manager == ManagerSight(True, "7.x")
    async with probing(manager) as prober:
        assert (await seen(prober)).outcome is Outcome.GARBLED


def test_without_a_manager_in_the_list_there_is_no_client_for_them():
    node = {"name": "n1", "agent": "http://127.0.0.1:1"}
    settings = Settings.model_validate({"cluster": "c", "node": "n1", "nodes": [node]})
    clients = clients_of(settings)
    assert clients.managers is None
    assert clients.all == [clients.peers, clients.receivers]
