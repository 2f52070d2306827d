"""What restores do on a manager, and what they leave behind, asked with curl."""

from pathlib import Path
from typing import Any

import pytest

from agent.lab.standin import Peer
from tests.fix_curl import archive, ask, create, kill, restore, upload
from tests.fix_manager import Manager, Office, StartManager
from tests.fix_postgres import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

SNAPSHOT_KEYS = {
    "created_at", "id", "visibility", "status", "error", "tenant_name", "created_by",
    "resource_availability", "private_resource",
}  # fmt: skip
NOT_EMPTY = "Snapshot restoration on a non-empty manager is not permitted."


def restored(manager: Manager, name: str, **wishes: object) -> Any:
    """Restore to the end; the execution."""
    made = restore(manager, name, **wishes)
    assert made.status == 200, made.text
    return manager.ended(made.json["id"])


def moved(source: Manager, target: Manager, name: str, folder: Path) -> None:
    """Fetch a snapshot from one manager and send it to another one."""
    path = folder / f"{name}.zip"
    path.write_bytes(ask(source, f"snapshots/{name}/archive").body)
    assert upload(target, name, path).status == 201


def test_the_answer_to_a_restore_has_a_snapshots_keys_and_an_executions_id(
    manager: Manager,
):
    manager.make("s1")
    made = restore(manager, "s1")
    assert made.status == 200
    assert made.json.keys() == SNAPSHOT_KEYS
    assert (made.json["status"], made.json["id"] != "s1") == ("pending", True)
    ended = manager.ended(made.json["id"])
    assert (ended["workflow_id"], ended["status"]) == ("restore_snapshot", "terminated")


def test_a_refused_restore_leaves_an_execution_that_blocks_until_it_is_killed(
    manager: Manager,
):
    manager.make("s1")
    manager.faults.worker_dead = True
    first = create(manager, "s2", legacy=True).json["id"]
    refused = restore(manager, "s1")
    assert (refused.status, refused.code) == (400, "existing_running_execution_error")
    path = "executions?_include_system_workflows=true&workflow_id=restore_snapshot"
    [orphan] = ask(manager, path).json["items"]
    assert orphan["status"] == "pending"
    manager.faults.worker_dead = False
    manager.ended(first)
    again = create(manager, "s3", legacy=True)
    assert (again.code, orphan["id"] in again.message) == (refused.code, True)
    queued = create(manager, "s3", legacy=True, queue=True).json["id"]
    assert ask(manager, f"executions/{queued}").json["status"] == "queued"
    assert kill(manager, orphan["id"]).json["status"] == "kill_cancelling"
    assert manager.ended(orphan["id"])["status"] == "cancelled"
    assert manager.ended(queued)["status"] == "terminated"


def test_a_restore_tells_that_it_runs_a_moment_after_its_answer(
    manager_7: Manager, start_manager: StartManager, tmp_path: Path
):
    manager_7.make("s1")
    slow = start_manager("7.0.5", work_s=3.0)
    moved(manager_7, slow, "s1", tmp_path)

    def says(status: str) -> bool:
        return bool(ask(slow, "snapshot-status").json["status"] == status)

    slow.faults.worker_dead = True
    made = restore(slow, "s1")
    assert says("not-running")
    slow.faults.worker_dead = False
    eventually("it says that it runs", lambda: says("running"))
    slow.ended(made.json["id"])
    assert says("not-running")


def test_a_restore_of_garbage_fails_and_says_that_it_runs_for_ever(
    manager_7: Manager, tmp_path: Path
):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no zip at all")
    upload(manager_7, "s1", garbage)
    ended = restored(manager_7, "s1", force=True)
    assert (ended["status"], "zip" in ended["error"]) == ("failed", True)
    assert ask(manager_7, "snapshot-status").json["status"] == "running"
    assert ask(manager_7, "snapshots/s1").json["status"] == "uploaded"


def test_a_legacy_restore_replaces_everything_and_removes_its_archive(
    manager: Manager,
):
    manager.put("blueprints", "before")
    manager.make("s1", legacy=True)
    manager.put("blueprints", "after")
    ended = restored(manager, "s1", force=True)
    assert ended["status"] == "terminated"
    assert manager.names("blueprints") == ["before"]
    assert not (manager.folder / "snapshots/s1/s1.zip").exists()
    assert ask(manager, "snapshots/s1").json["status"] == "created"
    manager.put("blueprints", "later")  # the serial numbers go on behind the restored


def test_a_legacy_restore_onto_a_manager_with_things_fails_without_force(
    manager: Manager,
):
    manager.put("blueprints", "before")
    manager.make("s1", legacy=True)
    manager.put("blueprints", "after")
    ended = restored(manager, "s1")
    assert (ended["status"], NOT_EMPTY in ended["error"]) == ("failed", True)
    assert manager.names("blueprints") == ["after", "before"]


def test_a_restore_of_the_new_format_adds_what_is_missing_and_keeps_the_rest(
    manager_7: Manager, start_manager: StartManager, tmp_path: Path
):
    loser = start_manager("7.0.5")
    loser.put("blueprints", "both", "theirs")
    loser.query("UPDATE blueprints SET description = 'as the loser says'")
    manager_7.put("blueprints", "both", "mine")
    loser.make("s1")
    moved(loser, manager_7, "s1", tmp_path)
    assert restored(manager_7, "s1")["status"] == "terminated"
    assert manager_7.names("blueprints") == ["both", "mine", "theirs"]
    told = manager_7.query("SELECT description FROM blueprints ORDER BY id")
    assert told == [("",), ("",), ("as the loser says",)]
    assert archive(manager_7, "s1").testzip() is None


def test_the_community_edition_restores_nothing_of_a_legacy_snapshot(
    start_manager: StartManager,
):
    manager = start_manager("7.0.5", edition="community")
    manager.put("blueprints", "before")
    manager.make("s1", legacy=True)
    manager.query("DELETE FROM blueprints")
    assert restored(manager, "s1", force=True)["status"] == "terminated"
    assert manager.names("blueprints") == []


def test_a_snapshot_of_a_newer_manager_is_not_restored_by_an_older_one(
    manager_4: Manager, start_manager: StartManager, tmp_path: Path
):
    newer = start_manager("7.0.5")
    newer.make("s1", legacy=True)
    moved(newer, manager_4, "s1", tmp_path)
    ended = restored(manager_4, "s1", force=True)
    assert ended["status"] == "failed"
    assert "Cannot restore a newer manager's snapshot" in ended["error"]


def test_4_x_restores_on_no_cluster_of_several_nodes(start_manager: StartManager):
    peers = tuple(Peer("manager", name, "127.0.0.1") for name in ("n1", "n2"))
    office = Office(peers=peers)
    manager = start_manager("4.5.5", office=office)
    manager.make("s1")
    refused = restore(manager, "s1")
    assert (refused.status, refused.code) == (400, "illegal_action_error")
    assert refused.message == (
        "Action `restore snapshot` is not available on a cluster with more than one "
        "node"
    )
    office.peers = peers[:1]
    assert restore(manager, "s1").status == 200


def test_certificates_without_no_reboot_end_in_a_reboot(manager: Manager):
    manager.make("s1", legacy=True)
    restored(manager, "s1", restore_certificates=True, no_reboot=True)
    assert manager.standin.desk.works.reboots == 0
    manager.make("s2", legacy=True)
    restored(manager, "s2", restore_certificates=True)
    assert manager.standin.desk.works.reboots == 1
