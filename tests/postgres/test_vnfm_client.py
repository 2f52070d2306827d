"""The client against stand-in managers that something is wrong with."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.daemon.clock import SystemClock
from agent.errors import ManagerError
from agent.lab.standin import Peer
from agent.transport import HttpClient, Tls
from agent.vnfm.client import (
    CreateOptions,
    Login,
    ManagerClient,
    OrphanError,
    RestoreOptions,
)
from agent.vnfm.records import ExecutionStatus, Generation, SnapshotStatus
from agent.vnfm.waiting import until_made, until_restored
from tests.fix_manager import Issued, Manager, StartManager, manager_pair
from tests.fix_postgres import Stage

pytestmark = pytest.mark.postgres
PLAIN = CreateOptions()
MINE = Login("admin", "stand-in-p4ssword")


class Hasty(SystemClock):
    """The machine's clock; nobody waits two seconds for a stand-in."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.05))


@pytest.fixture
async def ask() -> AsyncIterator:
    """Gives clients of stand-ins."""
    http = HttpClient()
    made: list[ManagerClient] = []

    def client_of(manager: Manager, login: Login = MINE, **more) -> ManagerClient:
        made.append(ManagerClient(manager.url, login, http, Hasty(), **more))
        return made[-1]

    yield client_of
    for each in made:
        await each.close()
    await http.close()


async def test_a_dead_broker_leaves_an_execution_that_is_named_and_killed(
    manager_7: Manager, ask
):
    client = ask(manager_7, deadline_s=0.6)
    await client.version()
    manager_7.faults.broker_dead = True
    with pytest.raises(OrphanError, match="no answer within") as caught:
        await client.create("a", PLAIN)
    orphan = caught.value.orphan
    assert (orphan.snapshot, orphan.status) == ("a", ExecutionStatus.PENDING)
    assert (await client.snapshot("a")).status is SnapshotStatus.CREATING

    manager_7.faults.broker_dead = False
    await client.kill(orphan.id)
    with pytest.raises(ManagerError, match="cancelled"):
        await until_made(client, "a", orphan.id, 10)
    await client.delete("a")
    assert await client.snapshots() == ()


async def test_a_dead_worker_is_a_snapshot_that_stays_creating(manager: Manager, ask):
    client = ask(manager)
    manager.faults.worker_dead = True
    execution = await client.create("a", PLAIN)
    with pytest.raises(ManagerError, match="is not made") as caught:
        await until_made(client, "a", execution.id, 0.5)
    assert execution.id in caught.value.hint
    with pytest.raises(ManagerError, match=r"its execution|active `create_snapshot`"):
        await client.delete("a")

    manager.faults.worker_dead = False
    made = await until_made(client, "a", execution.id, 10)
    assert made.status is SnapshotStatus.CREATED


async def test_a_refused_restore_leaves_an_orphan_that_is_named_and_killed(
    manager_4: Manager, ask
):
    client = ask(manager_4)
    made = await client.create("a", PLAIN)
    await until_made(client, "a", made.id, 10)
    manager_4.faults.worker_dead = True
    running = await client.create("b", PLAIN)
    with pytest.raises(OrphanError, match="restore_snapshot") as caught:
        await client.restore("a", RestoreOptions(force=True))
    orphan = caught.value.orphan
    assert running.id in caught.value.message
    assert (orphan.workflow, orphan.status) == (
        "restore_snapshot", ExecutionStatus.PENDING,
    )  # fmt: skip

    manager_4.faults.worker_dead = False
    await client.kill(orphan.id)
    await until_made(client, "b", running.id, 10)
    restored = await client.restore("a", RestoreOptions(force=True))
    assert (await until_restored(client, restored.id, 10)).id == restored.id


async def test_work_in_the_way_of_a_create_is_named(manager_4: Manager, ask):
    client = ask(manager_4)
    manager_4.faults.worker_dead = True
    running = await client.create("a", PLAIN)
    with pytest.raises(ManagerError, match="that is create_snapshot") as caught:
        await client.create("b", PLAIN)
    assert running.id in caught.value.hint
    queued = await client.create("c", CreateOptions(queue=True))
    assert queued.status is ExecutionStatus.QUEUED
    manager_4.faults.worker_dead = False
    assert (await until_made(client, "c", queued.id, 10)).id == "c"


async def test_a_standby_database_is_named_and_asked_one_thing_at_a_time(
    start_manager: StartManager, stage16: Stage, ask
):
    _, standby = manager_pair(stage16, audited=True)
    manager = start_manager("7.0.5", server=standby, stall_s=0.3)
    client = ask(manager)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, manager.faults.in_flight)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    failed = await asyncio.gather(
        *(client.snapshots() for _ in range(3)), return_exceptions=True
    )
    watching.cancel()
    assert most == 1
    for each in failed:
        assert isinstance(each, ManagerError)
        assert "read-only transaction" in each.message
        assert "database is a standby" in each.hint


async def test_html_in_place_of_json_is_a_message(manager_7: Manager, ask):
    client = ask(manager_7)
    manager_7.faults.html = True
    with pytest.raises(ManagerError, match="HTTP 502: 502 Bad Gateway") as caught:
        await client.snapshots()
    assert "REST service does not" in caught.value.hint


async def test_a_stopped_database_is_a_message(manager_7: Manager, ask):
    client = ask(manager_7)
    manager_7.faults.database_down = True
    with pytest.raises(ManagerError, match="Connection refused") as caught:
        await client.snapshots()
    assert "PostgreSQL" in caught.value.hint
    assert await client.ok() is False


async def test_a_full_disk_there_is_a_failed_snapshot(manager_7: Manager, ask):
    client = ask(manager_7)
    manager_7.faults.disk_full = True
    execution = await client.create("a", PLAIN)
    with pytest.raises(ManagerError, match="No space left on device"):
        await until_made(client, "a", execution.id, 10)


async def test_a_download_that_breaks_goes_on(manager_7: Manager, ask, tmp_path: Path):
    manager_7.put("blueprints", *(f"b{number}" for number in range(50)))
    client = ask(manager_7)
    execution = await client.create("a", PLAIN)
    await until_made(client, "a", execution.id, 10)
    manager_7.faults.cut_after = 500
    fetched = await client.download("a", tmp_path / "a.zip")
    assert fetched.size_bytes > 1000
    assert fetched.archive.counts["blueprints"] == 50


async def test_one_wrong_password_is_all_that_a_manager_sees(manager_7: Manager, ask):
    stranger = ask(manager_7, Login("admin", "wrong"))
    for _ in range(6):
        with pytest.raises(ManagerError, match=r"401|not asked"):
            await stranger.snapshots()
    assert manager_7.wrong_passwords() == 1
    assert await ask(manager_7).snapshots() == ()


async def test_a_restore_onto_a_full_manager_says_what_force_does(
    manager_4: Manager, ask
):
    client = ask(manager_4)
    execution = await client.create("a", PLAIN)
    await until_made(client, "a", execution.id, 10)
    manager_4.put("blueprints", "there")
    restore = await client.restore("a", RestoreOptions())
    with pytest.raises(ManagerError, match="non-empty manager") as caught:
        await until_restored(client, restore.id, 10)
    assert "REPLACES" in caught.value.hint
    assert manager_4.names("blueprints") == ["there"]


async def test_a_broken_restore_leaves_a_mark_that_nobody_believes(
    manager_7: Manager, ask
):
    client = ask(manager_7)
    with manager_7.http() as raw:
        answer = raw.put("/snapshots/bad/archive", content=b"garbage")
        assert answer.status_code == 201
    restore = await client.restore("bad", RestoreOptions(force=True))
    with pytest.raises(ManagerError, match="failed"):
        await until_restored(client, restore.id, 10)
    assert await client.restoring() is True


async def test_a_4_cluster_says_where_a_restore_belongs(
    manager_4: Manager, ask, tmp_path: Path
):
    client = ask(manager_4)
    execution = await client.create("a", PLAIN)
    await until_made(client, "a", execution.id, 10)
    manager_4.office.peers = (
        Peer("manager", "n1", "10.0.0.1", master=True),
        Peer("manager", "n2", "10.0.0.2", online=False),
    )
    with pytest.raises(ManagerError, match="not available on a cluster") as caught:
        await client.restore("a", RestoreOptions())
    assert "restore on one manager by itself" in caught.value.hint


async def test_a_standby_manager_of_4_is_known_by_its_refusal(manager_4: Manager, ask):
    manager_4.office.active = False
    client = ask(manager_4)
    assert await client.generation() is Generation.ACTIVE_STANDBY
    assert not (await client.status()).active
    with pytest.raises(ManagerError) as caught:
        await client.create("a", PLAIN)
    assert caught.value.code == "not_cluster_master"
    manager_4.office.removed = True
    assert (await client.status()).word == "removed_from_cluster"


async def test_maintenance_hides_no_execution_from_the_client(
    manager_7: Manager, ask, tmp_path: Path
):
    client = ask(manager_7)
    await client.set_maintenance(True)
    assert (await client.maintenance()).status == "activated"
    execution = await client.create("a", PLAIN)
    await until_made(client, "a", execution.id, 10)
    await client.download("a", tmp_path / "a.zip")
    assert (await client.set_maintenance(False)).status == "deactivated"


async def test_a_manager_behind_its_own_authority_is_trusted_by_its_file(
    start_manager: StartManager, issued: Issued
):
    manager = start_manager("7.0.5", tls=issued.tls)
    for trusted in (True, False):
        http = HttpClient(Tls(ca=issued.ca) if trusted else None)
        client = ManagerClient(manager.url, MINE, http, Hasty())
        if trusted:
            assert (await client.version()).version == "7.0.5"
        else:
            with pytest.raises(ManagerError, match="TLS failed") as caught:
                await client.version()
            assert "[vnfm] ca" in caught.value.hint
        await http.close()


async def test_a_thousand_snapshots_are_listed(manager_7: Manager, ask):
    manager_7.query(
        "INSERT INTO snapshots (id, tenant_name, status) SELECT 's' || n, %s,"
        " 'created' FROM generate_series(1, 1201) n",
        manager_7.tenant,
    )
    began = time.monotonic()
    assert len(await ask(manager_7).snapshots()) == 1201
    assert time.monotonic() - began < 10
