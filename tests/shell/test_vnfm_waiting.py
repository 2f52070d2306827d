"""Waiting is over when snapshot and execution agree, and never because one says so."""

import pytest

from agent.errors import ManagerError
from agent.vnfm.records import ExecutionStatus, SnapshotStatus
from agent.vnfm.waiting import AGREE_S, until_made, until_restored
from tests.fix_vnfm import execution, html, refused, snapshot, told

READ_ONLY = refused(
    "500 INTERNAL SERVER ERROR", "internal_server_error", "cannot execute UPDATE in a"
    " read-only transaction",
)  # fmt: skip
GONE = refused(
    "404 NOT FOUND", "not_found_error", "Requested `Execution` was not found"
)


def pair(execution_status: str, snapshot_status: str, error: str = "") -> list[bytes]:
    """What is answered to one look: at the execution, and at the snapshot."""
    return [
        told(execution("e-1", execution_status, error=error)),
        told(snapshot("a", snapshot_status)),
    ]


async def test_it_is_made_when_both_say_so(manager_says):
    client, asked = await manager_says(
        *pair("pending", "creating"),
        *pair("started", "creating"),
        *pair("started", "created"),
        *pair("terminated", "created"),
    )
    stages: list[str] = []
    made = await until_made(client, "a", "e-1", 60, stages.append)
    assert made.status is SnapshotStatus.CREATED
    assert stages == [
        "creating, execution pending",
        "creating, execution started",
        "created, execution started",
        "created, execution terminated",
    ]
    assert len(asked) == 8


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_an_execution_that_failed_says_why(manager_says, status):
    client, _ = await manager_says(*pair(status, "creating", "OSError: disk full"))
    with pytest.raises(ManagerError, match=f"is {status}: OSError: disk full"):
        await until_made(client, "a", "e-1", 60)


async def test_creating_for_ever_ends_with_the_command_that_ends_it(manager_says):
    client, _ = await manager_says(
        *[each for _ in range(40) for each in pair("pending", "creating")]
    )
    with pytest.raises(ManagerError, match="snapshot a is not made") as caught:
        await until_made(client, "a", "e-1", 30)
    assert "within 30 s" in caught.value.message
    assert "e-1" in caught.value.message
    assert "splitguard vnfm executions kill e-1" in caught.value.hint
    assert sum(client.clock.slept) == 30


@pytest.mark.parametrize(
    ("one", "other"), [("terminated", "creating"), ("started", "created")]
)
async def test_two_states_that_never_agree_are_no_snapshot(manager_says, one, other):
    client, _ = await manager_says(
        *[each for _ in range(60) for each in pair(one, other)]
    )
    with pytest.raises(ManagerError, match="have not agreed for 60 s") as caught:
        await until_made(client, "a", "e-1", 3600)
    assert f"{other}, its execution {one}" in caught.value.message
    assert AGREE_S <= sum(client.clock.slept) < AGREE_S + 10


async def test_a_failed_snapshot_with_a_good_execution_failed(manager_says):
    client, _ = await manager_says(*pair("terminated", "failed"))
    with pytest.raises(ManagerError, match="snapshot a failed"):
        await until_made(client, "a", "e-1", 60)


async def test_a_manager_that_restarts_its_services_is_waited_for(manager_says):
    done = told(execution("e-1", "terminated", workflow_id="restore_snapshot"))
    client, _ = await manager_says(html("502 Bad Gateway"), READ_ONLY, done)
    stages: list[str] = []
    ended = await until_restored(client, "e-1", 60, stages.append)
    assert ended.status is ExecutionStatus.TERMINATED
    assert stages == ["no answer", "no answer", "execution terminated"]
    assert client.clock.slept == [4.0, 8.0]


async def test_a_stall_to_the_end_names_what_was_answered_last(manager_says):
    client, _ = await manager_says(READ_ONLY)
    with pytest.raises(ManagerError, match="read-only transaction") as caught:
        await until_made(client, "a", "e-1", 100)
    assert "within 100 s; the last answer was" in caught.value.message


async def test_while_a_login_could_do_harm_nothing_is_asked(manager_says):
    done = told(execution("e-1", "terminated")), told(snapshot("a", "created"))
    client, asked = await manager_says(*done)
    before: list[int] = []

    def may_ask() -> bool:
        before.append(len(asked))
        return len(before) > 5

    made = await until_made(client, "a", "e-1", 60, may_ask=may_ask)
    assert made.id == "a"
    assert before == [0] * 6
    with pytest.raises(ManagerError, match="not known to be made"):
        await until_made(client, "a", "e-1", 60, may_ask=lambda: False)


async def test_a_refused_login_ends_the_waiting_at_once(manager_says):
    answer = refused("401 UNAUTHORIZED", "unauthorized_error", "User unauthorized")
    client, asked = await manager_says(answer)
    with pytest.raises(ManagerError, match="User unauthorized") as caught:
        await until_restored(client, "e-1", 60)
    assert "brings the users of the snapshot" in caught.value.hint
    assert len(asked) == 1


async def test_an_execution_that_is_gone_ends_the_waiting(manager_says):
    client, _ = await manager_says(GONE)
    with pytest.raises(ManagerError, match="was not found"):
        await until_restored(client, "e-1", 60)


async def test_a_restore_onto_a_manager_that_is_not_empty_says_what_force_does(
    manager_says,
):
    frame = '  File "/opt/mgmtworker/env/lib/dispatch.py", line 747, in main\n'
    error = (
        f"Traceback (most recent call last):\n{frame * 40}"
        "cloudify.exceptions.NonRecoverableError: Snapshot restoration on a non-empty"
        " manager is not permitted. Pass the --force flag to force the restore and"
        " delete existing data from the manager\n"
    )
    failed = execution("e-1", "failed", workflow_id="restore_snapshot", error=error)
    client, _ = await manager_says(told(failed))
    with pytest.raises(ManagerError, match="not permitted") as caught:
        await until_restored(client, "e-1", 60)
    assert "dispatch.py" not in caught.value.message
    assert "REPLACES everything" in caught.value.hint


async def test_a_restores_mark_is_never_asked(manager_says):
    done = told(execution("e-1", "terminated", workflow_id="restore_snapshot"))
    client, asked = await manager_says(done)
    await until_restored(client, "e-1", 60)
    assert not [one for one in asked if b"snapshot-status" in one]


async def test_a_manager_that_stays_passive_has_lost_its_role(manager_says):
    answer = refused("400 BAD REQUEST", "not_cluster_master", "not the master")
    client, _ = await manager_says(answer)
    with pytest.raises(ManagerError, match="not the master") as caught:
        await until_made(client, "a", "e-1", 3600)
    assert "the manager that is active" in caught.value.hint
    assert AGREE_S < sum(client.clock.slept) < 3 * AGREE_S


async def test_a_manager_that_is_passive_for_a_moment_is_waited_for(manager_says):
    passive = refused("400 BAD REQUEST", "not_cluster_master", "not the master")
    done = told(execution("e-1", "terminated", workflow_id="restore_snapshot"))
    client, _ = await manager_says(passive, passive, done)
    assert (await until_restored(client, "e-1", 60)).id == "e-1"
