"""What the client takes for granted of every manager, asked of a manager.

Against stand-ins of both lines by default; against a real manager with

    SPLITGUARD_VNFM_URL=https://MANAGER SPLITGUARD_VNFM_PASSWORD_FILE=/path/to/file \
    make contract

and, where they differ from the defaults, SPLITGUARD_VNFM_USERNAME, _TENANT and _CA.
A real manager then makes some snapshots called sg-contract-…, which are removed again;
SPLITGUARD_VNFM_CHANGES=yes adds the tests that restore one, for a manager that nobody
needs. Whatever is red there is where managers and this client differ.
"""

import zipfile

import pytest

from agent.errors import ManagerError
from agent.transport import Request
from agent.vnfm.archive import check_archive
from agent.vnfm.client import CreateOptions, Login, RestoreOptions
from agent.vnfm.records import (
    ExecutionStatus,
    Generation,
    SnapshotStatus,
)
from agent.vnfm.waiting import until_made, until_restored
from tests.contract.conftest import WAIT_S

pytestmark = pytest.mark.postgres


async def test_a_manager_says_its_version_and_so_its_generation(client):
    version = await client.version()
    assert version.numbers > (4, 0, 0)
    assert await client.generation() is version.generation


async def test_an_active_manager_says_so_and_names_its_services(client):
    status = await client.status()
    assert status.active
    assert status.word in ("OK", "Fail", "running")
    assert status.services


async def test_whether_it_is_well_is_told_from_7_on(client):
    known = (await client.version()).numbers >= (7, 0, 0)
    assert (await client.ok()) in ((True, False) if known else (None,))


async def test_its_cluster_has_a_manager_at_least(client):
    cluster = await client.cluster_status()
    assert cluster.status in ("OK", "Degraded", "Fail")
    assert "manager" in {member.kind for member in cluster.members}


async def test_what_it_holds_can_be_counted(client):
    held = await client.holds()
    assert set(held) == {"blueprints", "deployments", "plugins"}
    assert all(count >= 0 for count in held.values())


async def test_a_snapshot_is_made_fetched_sent_and_removed(
    client, target, made, tmp_path
):
    assert made.status is SnapshotStatus.CREATED
    assert made.id in {one.id for one in await client.snapshots()}

    fetched = await client.download(made.id, tmp_path / "a.zip")
    assert check_archive(fetched.path) == fetched.archive
    assert fetched.archive.version == (await client.version()).version
    assert zipfile.ZipFile(fetched.path).testzip() is None

    name = target.name()
    sent = await client.upload(name, fetched.path)
    assert (sent.id, sent.status) == (name, SnapshotStatus.UPLOADED)
    again = await client.download(name, tmp_path / "b.zip")
    assert again.sha256 == fetched.sha256

    await client.delete(name)
    with pytest.raises(ManagerError) as caught:
        await client.snapshot(name)
    assert (caught.value.status, caught.value.code) == (404, "not_found_error")


async def test_its_execution_is_found_among_those_of_the_system(client, made):
    found = await client.executions("create_snapshot")
    mine = [one for one in found if one.snapshot == made.id]
    assert [one.status for one in mine] == [ExecutionStatus.TERMINATED]
    assert (await client.execution(mine[0].id)).workflow == "create_snapshot"


async def test_without_asking_for_them_the_systems_executions_are_left_out(
    client, made, target
):
    http = target.http()
    address = f"{target.url}/api/v3.1/executions?workflow_id=create_snapshot"
    answer = await http.get(address, 60, target.login.headers())
    await http.close()
    assert made.id.encode() not in answer.body


async def test_a_snapshot_of_an_id_that_exists_is_refused(client, made):
    with pytest.raises(ManagerError) as caught:
        await client.create(made.id, CreateOptions())
    assert (caught.value.status, caught.value.code) == (409, "conflict_error")
    assert (await client.snapshot(made.id)).status is SnapshotStatus.CREATED


async def test_an_upload_onto_an_id_that_exists_is_never_sent(client, made, tmp_path):
    fetched = await client.download(made.id, tmp_path / "a.zip")
    with pytest.raises(ManagerError, match="nothing was sent"):
        await client.upload(made.id, fetched.path)


@pytest.mark.parametrize("name", ["9lives", "a b", "../x", "ä", "x" * 257, ""])
async def test_an_id_that_no_manager_takes_is_refused_here(client, name):
    with pytest.raises(ManagerError, match="is no id for a snapshot"):
        await client.create(name, CreateOptions())


async def test_an_archive_is_given_in_parts(client, target, made):
    http = target.http()
    address = f"{target.url}/api/v3.1/snapshots/{made.id}/archive"
    whole = bytearray()
    headers = target.login.headers()
    first = await http.download(Request("GET", address, headers), whole.extend, 60)
    part = await http.get(address, 60, {**headers, "range": "bytes=10-19"})
    await http.close()
    assert (first.status, part.status) == (200, 206)
    assert part.body == whole[10:20]
    assert first.headers["etag"] == part.headers["etag"]
    assert int(first.headers["content-length"]) == len(whole)


async def test_a_json_body_with_a_charset_is_refused(client, target):
    http, name = target.http(), target.name()
    typed = {"content-type": "application/json; charset=utf-8"}
    headers = {**target.login.headers(), **typed}
    address = f"{target.url}/api/v3.1/snapshots/{name}"
    answer = await http.request(Request("PUT", address, headers, b"{}"), 60)
    await http.close()
    assert answer.status == 415
    assert b"unsupported_content_type_error" in answer.body


async def test_an_unknown_snapshot_is_named_as_such(client):
    for ask in (client.snapshot, client.delete):
        with pytest.raises(ManagerError, match="was not found") as caught:
            await ask("sg-contract-nobody")
        assert "splitguard vnfm snapshots list" in caught.value.hint


async def test_an_unknown_tenant_is_named_as_such(client, target):
    http = target.http()
    login = Login(target.login.username, target.login.password, tenant="nobodys")
    stranger = target.client(http, login)
    with pytest.raises(ManagerError) as caught:
        await stranger.snapshots()
    await http.close()
    assert (caught.value.status, caught.value.code) == (403, "forbidden_error")
    assert "nobodys" in caught.value.hint


async def test_a_wrong_login_is_sent_once(client, target):
    http = target.http()
    stranger = target.client(http, Login("sg-contract-nobody", "wrong"))
    with pytest.raises(ManagerError) as first:
        await stranger.snapshots()
    with pytest.raises(ManagerError, match="not asked") as second:
        await stranger.snapshots()
    await http.close()
    assert first.value.code == second.value.code == "unauthorized_error"
    assert "wrong" not in f"{first.value.message} {second.value.message}".replace(
        "Wrong credentials", ""
    )


async def test_whether_it_restores_is_told_without_a_login(client, target):
    http = target.http()
    stranger = target.client(http, Login("sg-contract-nobody", "wrong"))
    known = await client.generation() is Generation.ALL_ACTIVE
    assert await stranger.restoring() is (False if known else None)
    await http.close()


async def test_it_is_not_in_maintenance(client):
    assert (await client.maintenance()).status == "deactivated"


async def test_a_token_works_in_place_of_a_password(client, target):
    token = await client.make_token("sg-contract")
    assert token.value not in repr(token)
    http = target.http()
    login = Login(target.login.username, token=token.value, tenant=target.login.tenant)
    bearer = target.client(http, login)
    assert (await bearer.version()).version == (await client.version()).version
    if token.id:
        await client.drop_token(token.id)
        with pytest.raises(ManagerError, match="unauthorized_error"):
            await bearer.version()
    else:
        with pytest.raises(ManagerError, match="have no id"):
            await client.drop_token(token.id)
    await http.close()


async def test_the_audit_log_tells_or_says_that_there_is_none(client):
    if (await client.version()).numbers >= (7, 0, 0):
        entries = await client.audit("2000-01-01")
        assert all(entry.operation for entry in entries)
        return
    with pytest.raises(ManagerError, match="keeps no audit log"):
        await client.audit()


@pytest.mark.changes
async def test_a_snapshot_is_restored_where_it_was_sent(client, target, made, tmp_path):
    fetched = await client.download(made.id, tmp_path / "a.zip")
    held = await client.holds()
    name = target.name()
    await client.upload(name, fetched.path)
    execution = await client.restore(name, RestoreOptions(force=True))
    assert execution.id != name
    ended = await until_restored(client, execution.id, WAIT_S)
    assert (ended.id, ended.status) == (execution.id, ExecutionStatus.TERMINATED)
    assert await client.holds() == held


@pytest.mark.changes
async def test_maintenance_is_entered_and_left_and_executions_are_told_in_it(
    client, made
):
    try:
        assert (await client.set_maintenance(True)).status in (
            "activating",
            "activated",
        )
        assert (await client.maintenance()).status == "activated"
        assert (await client.set_maintenance(True)).status == "activated"
        assert await client.executions("create_snapshot")
    finally:
        await client.set_maintenance(False)
    assert (await client.maintenance()).status == "deactivated"
    again = await client.execution((await client.executions("create_snapshot"))[0].id)
    assert again.snapshot == made.id
    with pytest.raises(ManagerError):
        await until_made(client, "sg-contract-nobody", again.id, 0.0)
