"""What the client sends to a manager, and what it makes of the answers."""

import asyncio
import json

import pytest

from agent.errors import ManagerError
from agent.vnfm.client import CreateOptions, OrphanError, RestoreOptions
from agent.vnfm.records import (
    ExecutionStatus,
    Generation,
    Member,
    Service,
    SnapshotStatus,
    Version,
)
from tests.fix_network import head_of, http
from tests.fix_vnfm import (
    execution,
    html,
    listed,
    refused,
    snapshot,
    told,
    version,
)

ACTIVE = refused("400 BAD REQUEST", "not_cluster_master", "This is not the master")
UNKNOWN = refused(
    "404 NOT FOUND", "not_found_error", "Requested `Snapshot` with ID `a` was not found"
)
BUSY = refused(
    "400 BAD REQUEST", "existing_running_execution_error", "Cannot start execution"
    " because there are other executions running e.g.: e-7",
)  # fmt: skip


def head(request: bytes) -> str:
    """A request's first line and headers, in lower case."""
    return request.partition(b"\r\n\r\n")[0].decode().lower()


def body(request: bytes) -> object:
    return json.loads(request.partition(b"\r\n\r\n")[2])


async def test_a_create_sends_json_and_exactly_that_type(manager_says):
    client, asked = await manager_says(version(), told(execution(), "201 CREATED"))
    made = await client.create("a", CreateOptions(include_logs=False, legacy=True))
    assert (made.id, made.status, made.snapshot) == (
        "e-1", ExecutionStatus.PENDING, "a",
    )  # fmt: skip
    lines = head(asked[1]).split("\r\n")
    assert lines[0] == "put /api/v3.1/snapshots/a http/1.1"
    assert "content-type: application/json" in lines
    assert "tenant: default_tenant" in lines
    assert body(asked[1]) == {
        "include_credentials": True, "include_logs": False, "include_events": True,
        "queue": False, "legacy": True,
    }  # fmt: skip


async def test_the_databases_password_in_the_reply_goes_nowhere(manager_says, caplog):
    caplog.set_level(0)
    client, _ = await manager_says(
        version(), told(execution(), "201 CREATED"), listed(execution())
    )
    made = await client.create("a", CreateOptions())
    found = await client.executions("create_snapshot")
    assert "the-databases-password" not in f"{made!r} {found!r} {caplog.text}"
    assert "s3cret" not in f"{made!r} {client!r} {caplog.text}"


async def test_a_create_is_sent_once_also_when_the_connection_is_cut(
    network, client_of
):
    async def answer_one(reader, writer):
        there.requests.append(await head_of(reader))
        writer.write(version())
        await writer.drain()
        there.requests.append(await head_of(reader))  # and hang up

    there = await network.listen(answer_one)
    with pytest.raises(ManagerError, match="connection was cut"):
        await client_of(there.url).create("a", CreateOptions())
    puts = [one for one in there.requests if one.startswith(b"PUT")]
    assert len(puts) == 1


async def test_a_create_without_an_answer_names_the_execution_that_it_left(
    network, client_of
):
    never = asyncio.Event()

    async def broker_is_dead(reader, writer):
        while True:
            request = await head_of(reader)
            if request.startswith(b"PUT"):
                await never.wait()
            asks = b"/executions" in request
            writer.write(listed(execution("e-9")) if asks else version())
            await writer.drain()

    there = await network.listen(broker_is_dead)
    client = client_of(there.url, deadline_s=0.3)
    with pytest.raises(OrphanError, match="execution e-9") as caught:
        await client.create("a", CreateOptions())
    assert caught.value.orphan.id == "e-9"
    assert caught.value.hint == "splitguard vnfm executions kill e-9"
    assert "no answer within" in caught.value.message
    never.set()


async def test_a_restore_that_goes_on_after_a_lost_answer_is_not_to_be_killed(
    network, client_of
):
    begun, never = asyncio.Event(), asyncio.Event()
    running = execution("e-9", "started", workflow_id="restore_snapshot")

    async def mute_on_post(reader, writer):
        while True:
            request = await head_of(reader)
            if request.startswith(b"POST"):
                begun.set()
                await never.wait()
            writer.write(listed(running) if begun.is_set() else listed())
            await writer.drain()

    there = await network.listen(mute_on_post)
    client = client_of(there.url, deadline_s=0.3)
    with pytest.raises(OrphanError, match=r"e-9 .* goes on") as caught:
        await client.restore("a", RestoreOptions())
    assert caught.value.hint.startswith("wait for it")
    assert "blocks" not in caught.value.message
    never.set()


async def test_what_it_holds_is_counted_in_maintenance_mode_too(manager_says):
    client, asked = await manager_says(listed({}), listed({}, {}), listed())
    assert await client.holds() == {"blueprints": 1, "deployments": 2, "plugins": 0}
    assert all(b"x-bypass-maintenance: true" in one.lower() for one in asked)


async def test_what_stands_in_the_way_of_a_create_is_named(manager_says):
    other = execution("e-7", "started", "b", workflow_id="install")
    client, _ = await manager_says(version(), BUSY, listed(other))
    with pytest.raises(ManagerError, match="that is install e-7") as caught:
        await client.create("a", CreateOptions())
    assert caught.value.code == "existing_running_execution_error"
    assert "executions kill e-7" in caught.value.hint


async def test_a_restores_answer_has_the_id_of_its_execution(manager_says):
    reply = snapshot("e-5", "pending")
    restore = execution("e-5", "started", workflow_id="restore_snapshot")
    client, asked = await manager_says(listed(), told(reply), told(restore))
    begun = await client.restore("a", RestoreOptions(force=True))
    assert (begun.id, begun.workflow) == ("e-5", "restore_snapshot")
    assert head(asked[1]).startswith("post /api/v3.1/snapshots/a/restore ")
    assert body(asked[1]) == {
        "force": True, "restore_certificates": False, "no_reboot": False,
        "recreate_deployments_envs": True, "timeout": 300,
    }  # fmt: skip


async def test_a_refused_restore_names_the_orphan_that_it_left(manager_says):
    old = execution("e-4", "failed", workflow_id="restore_snapshot")
    left = execution("e-8", "pending", workflow_id="restore_snapshot")
    client, asked = await manager_says(listed(old), BUSY, listed(left, old), told(left))
    with pytest.raises(OrphanError, match="e-8") as caught:
        await client.restore("a", RestoreOptions())
    assert caught.value.code == "existing_running_execution_error"
    assert "blocks other work" in caught.value.message

    killed = await client.kill(caught.value.orphan.id)
    assert killed.id == "e-8"
    assert head(asked[-1]).startswith("post /api/v3.1/executions/e-8 ")
    assert body(asked[-1]) == {"action": "kill"}


async def test_no_reboot_without_certificates_is_refused_here(manager_says):
    client, asked = await manager_says(http("200 OK"))
    with pytest.raises(ManagerError, match="only for restore-certificates"):
        await client.restore("a", RestoreOptions(no_reboot=True))
    assert not asked


async def test_executions_are_asked_for_in_maintenance_too(manager_says):
    client, asked = await manager_says(listed())
    await client.executions("restore_snapshot")
    lines = head(asked[0]).split("\r\n")
    assert "x-bypass-maintenance: true" in lines
    assert "_include_system_workflows=true" in lines[0]
    assert "workflow_id=restore_snapshot" in lines[0]


async def test_a_list_of_several_pages_is_read_to_its_end(manager_says):
    first = [snapshot(f"s{number}") for number in range(500)]
    client, asked = await manager_says(listed(*first), listed(snapshot("last")))
    found = await client.snapshots()
    assert (len(found), found[-1].id) == (501, "last")
    assert "_offset=500" in head(asked[1])


async def test_a_delete_under_a_running_create_is_refused_here(manager_says):
    making = told(snapshot("a", "creating"))
    client, asked = await manager_says(making, listed(execution("e-1", "started")))
    with pytest.raises(ManagerError, match="its execution e-1 is started") as caught:
        await client.delete("a")
    assert "kill e-1" in caught.value.hint
    assert not [one for one in asked if one.startswith(b"DELETE")]


async def test_what_stays_creating_with_nothing_behind_it_can_be_deleted(manager_says):
    making = told(snapshot("a", "creating"))
    ended = listed(execution("e-1", "cancelled"), execution("e-2", "started", "b"))
    client, asked = await manager_says(making, ended, making)
    await client.delete("a")
    assert asked[-1].startswith(b"DELETE /api/v3.1/snapshots/a ")


@pytest.mark.parametrize("name", ["..", ".", ""])
async def test_an_id_that_would_be_a_path_is_never_asked_for(manager_says, name):
    client, asked = await manager_says(http("200 OK"))
    with pytest.raises(ManagerError, match="is no id"):
        await client.delete(name)
    assert not asked


async def test_an_uploaded_id_may_be_odd_and_is_quoted(manager_says):
    client, asked = await manager_says(told(snapshot("a/b c")))
    assert (await client.snapshot("a/b c")).id == "a/b c"
    assert asked[0].startswith(b"GET /api/v3.1/snapshots/a%2Fb%20c ")


async def test_the_generation_is_asked_once(manager_says):
    client, asked = await manager_says(version("5.0.5"))
    assert await client.generation() is Generation.ALL_ACTIVE
    assert await client.generation() is Generation.ALL_ACTIVE
    assert len(asked) == 1


async def test_only_the_4_line_says_that_it_is_not_active(manager_says):
    client, _ = await manager_says(ACTIVE)
    assert await client.generation() is Generation.ACTIVE_STANDBY
    status = await client.status()
    assert (status.active, status.word) == (False, "not_cluster_master")


async def test_the_status_of_4_is_read(manager_says):
    unit = {"Id": "nginx.service", "LoadState": "loaded", "ActiveState": "active",
            "SubState": "running", "state": "running"}  # fmt: skip
    down = {"Id": "r.service", "ActiveState": "failed", "SubState": "dead",
            "state": "down"}  # fmt: skip
    services = [
        {"display_name": "Webserver", "unit_id": "nginx.service", "instances": [unit]},
        {"display_name": "RabbitMQ", "unit_id": "r.service", "instances": [down]},
        {"display_name": "Nothing", "instances": []},
    ]
    answer = told({"status": "running", "services": services})
    client, _ = await manager_says(answer)
    status = await client.status()
    assert (status.active, status.word) == (True, "running")
    assert status.services == (
        Service("Webserver", True, "running"),
        Service("RabbitMQ", False, "down"),
        Service("Nothing", False, ""),
    )


async def test_the_status_of_7_is_read(manager_says):
    services = {
        "Webserver": {"status": "Active", "is_remote": False, "extra_info": {}},
        "RabbitMQ": {"status": "Inactive", "is_remote": False, "extra_info": {}},
    }
    client, _ = await manager_says(told({"status": "Fail", "services": services}))
    status = await client.status()
    assert (status.active, status.word) == (True, "Fail")
    assert status.services == (
        Service("Webserver", True, "Active"),
        Service("RabbitMQ", False, "Inactive"),
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (told("OK"), True),
        (told("FAIL", "500 INTERNAL SERVER ERROR"), False),
        (html("404 Not Found"), None),
    ],
)
async def test_whether_it_is_well_is_asked_without_a_login(
    manager_says, answer, expected
):
    client, asked = await manager_says(answer)
    assert await client.ok() is expected
    assert "authorization" not in head(asked[0])


async def test_the_cluster_of_5_and_later_is_read_and_never_its_summary(manager_says):
    node = {"status": "Fail", "private_ip": "10.0.0.1", "public_ip": "1.1.1.1",
            "version": "7.0.5", "services": {}, "metrics": [],
            "failures": ["service Webserver is not running", 7]}  # fmt: skip
    services = {
        "manager": {"status": "Degraded", "is_external": False, "nodes": {"m1": node}},
        "db": {"status": "OK", "nodes": {"d1": {**node, "status": "OK",
                                               "failures": []}}},
        "broker": {"status": "OK", "is_external": True, "nodes": {}},
    }  # fmt: skip
    answer = told({"status": "Degraded", "services": services})
    client, asked = await manager_says(version(), answer)
    cluster = await client.cluster_status()
    failures = ("service Webserver is not running", "7")
    assert cluster.status == "Degraded"
    assert cluster.members == (
        Member("manager", "m1", "10.0.0.1", "Fail", failures),
        Member("db", "d1", "10.0.0.1", "OK"),
    )
    assert "summary" not in head(asked[1])


def consul(name: str, *, master: bool = False, online: bool = True, **checks: bool):
    """A node of `/cluster/nodes`."""
    return {"name": name, "host_ip": f"10.0.0.{name[-1]}", "master": master,
            "online": online, "initialized": True, "checks": checks}  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ([consul("n1", master=True, consul=True), consul("n2")], "OK"),
        ([consul("n1", master=True), consul("n2", online=False)], "Degraded"),
        ([consul("n1", master=True, database=False), consul("n2")], "Degraded"),
        ([consul("n1", master=True), consul("n2", master=True)], "Degraded"),
        ([consul("n1", master=True, online=False), consul("n2")], "Fail"),
        ([], "Fail"),
    ],
)
async def test_the_cluster_of_4_is_read(manager_says, nodes, status):
    client, _ = await manager_says(version("4.5.5"), listed(*nodes))
    assert (await client.cluster_status()).status == status


async def test_the_nodes_of_4_have_their_failed_checks(manager_says):
    nodes = (consul("n1", master=True, consul=False), consul("n2", online=False))
    client, _ = await manager_says(version("4.5.5"), listed(*nodes))
    assert (await client.cluster_status()).members == (
        Member("manager", "n1", "10.0.0.1", "leader", ("consul fails",)),
        Member("manager", "n2", "10.0.0.2", "offline"),
    )


async def test_a_manager_of_4_without_a_cluster_is_its_only_member(manager_says):
    client, _ = await manager_says(
        version("4.5.5"),
        refused("404 NOT FOUND", "not_found_error", "No cluster"),
        told({"status": "running", "services": []}),
    )
    cluster = await client.cluster_status()
    assert cluster.status == "OK"
    assert cluster.members == (Member("manager", "127.0.0.1", "127.0.0.1", "leader"),)


@pytest.mark.parametrize(
    ("numbers", "path"), [("4.5.5", "cluster/nodes/n2"), ("7.0.5", "managers/n2")]
)
async def test_a_member_is_removed_where_its_line_has_it(manager_says, numbers, path):
    client, asked = await manager_says(version(numbers), http("204 NO CONTENT"))
    await client.remove_member("n2")
    assert asked[1].startswith(f"DELETE /api/v3.1/{path} ".encode())


async def test_the_active_manager_is_set_in_4_only(manager_says):
    client, asked = await manager_says(version("4.5.5"), told({}))
    await client.set_active("n2")
    assert asked[1].startswith(b"PATCH /api/v3.1/cluster ")
    assert body(asked[1]) == {"master": "n2"}
    later, asked = await manager_says(version("7.0.5"))
    with pytest.raises(ManagerError, match="every manager is active") as caught:
        await later.set_active("n2")
    assert "dbs set-master" in caught.value.hint
    assert len(asked) == 1


async def test_how_far_a_start_of_a_cluster_is(manager_says):
    logs = [{"timestamp": 1, "message": "joined", "cursor": "c"}]
    answer = told({"initialized": True, "error": None, "logs": logs})
    client, _ = await manager_says(answer)
    start = await client.cluster_start()
    assert (start.initialized, start.error, start.lines) == (True, "", ("joined",))


async def test_maintenance_that_is_on_already_is_a_304_without_a_word(manager_says):
    state = {"status": "activating", "remaining_executions": [[{"id": "e"}]]}
    client, asked = await manager_says(http("304 NOT MODIFIED"), told(state))
    found = await client.set_maintenance(True)
    assert (found.status, found.remaining) == ("activating", 1)
    assert asked[0].startswith(b"POST /api/v3.1/maintenance/activate ")


async def test_a_token_shows_its_value_nowhere(manager_says):
    made = {"id": "abc", "username": "admin", "value": "ctok-abc-s3cr", "role": "x",
            "expiration_date": None, "description": "d"}  # fmt: skip
    client, _ = await manager_says(told(made))
    token = await client.make_token("d")
    assert (token.id, token.value) == ("abc", "ctok-abc-s3cr")
    assert "ctok" not in repr(token)


async def test_the_audit_log_is_read_in_its_order(manager_says):
    def entry(at: str, name: str) -> object:
        about = {"id": name, "tenant_name": "t"}
        return {"id": 1, "ref_table": "deployments", "ref_id": 5,
                "ref_identifier": about, "operation": "create",
                "creator_name": "eve", "created_at": at}  # fmt: skip

    client, asked = await manager_says(listed(entry("2", "b"), entry("1", "a")))
    found = await client.audit("2026-11-22T17:00:00Z")
    assert [(one.at, one.id, one.who) for one in found] == [
        ("1", "a", "eve"),
        ("2", "b", "eve"),
    ]
    assert "since=2026-11-22t17%3a00%3a00z" in head(asked[0])


async def test_4_has_no_mark_of_a_restore(manager_says):
    client, asked = await manager_says(html("404 Not Found"))
    assert await client.restoring() is None
    assert "authorization" not in head(asked[0])
    assert "tenant" not in head(asked[0])


async def test_one_request_is_on_its_way_however_many_ask(network, client_of):
    running, most = 0, 0

    async def answer(reader, writer):
        nonlocal running, most
        while True:
            await head_of(reader)
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            writer.write(listed())
            await writer.drain()

    there = await network.listen(answer)
    client = client_of(there.url)
    await asyncio.gather(*(client.snapshots() for _ in range(5)))
    assert most == 1


async def test_who_asks_impatiently_leaves_the_request_to_end(network, client_of):
    stalled, requests = asyncio.Event(), []

    async def answer(reader, writer):
        while True:
            requests.append(await head_of(reader))
            await stalled.wait()
            writer.write(listed(snapshot()))
            await writer.drain()

    there = await network.listen(answer)
    client = client_of(there.url)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.snapshots()
    assert len(requests) == 1
    stalled.set()
    assert [one.id for one in await client.snapshots()] == ["a"]
    assert there.connections == 1


async def test_what_a_manager_leaves_out_is_not_told(manager_says):
    client, _ = await manager_says(told({"id": "a", "status": "new-word"}))
    found = await client.snapshot("a")
    assert (found.status, found.created_at) == (SnapshotStatus.UNKNOWN, "")


@pytest.mark.parametrize(
    "ask", ["version", "make_token", "execution", "kill", "snapshot"]
)
async def test_json_that_is_something_else_is_no_answer(manager_says, ask):
    client, _ = await manager_says(told({"something": "else"}))
    method = getattr(client, ask)
    with pytest.raises(ManagerError, match="not with what was asked for"):
        await (method() if ask == "version" else method("a"))


def test_options_are_sent_to_versions_that_know_them():
    options = CreateOptions(
        include_metrics=True, queue=True, legacy=False, tempdir_path="/t",
        listener_timeout_s=3,
    )  # fmt: skip
    old, middle, new = (Version(v) for v in ("4.4.0", "6.4.2", "7.0.5"))
    assert set(options.body(old)) == {
        "include_credentials", "include_logs", "include_events", "include_metrics",
    }  # fmt: skip
    assert options.unknown_to(old) == ("queue", "tempdir_path", "listener_timeout")
    assert options.unknown_to(middle) == ("include_metrics", "listener_timeout")
    assert options.unknown_to(new) == ("include_metrics",)
    assert options.body(new)["legacy"] is False
    assert "listener_timeout" in options.body(new)
