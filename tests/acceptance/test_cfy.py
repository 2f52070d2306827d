"""The managers' own client against the stand-ins: what it asks has the real effect.

The client is of 7.0.5. It speaks to a manager of 4.5.5 as far as it does in the field:
its `restore` leaves out what that one asks for, and its `upload` asks for a licence.
Every start of it takes a second or two, so each test goes a whole way.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fix_cfy import Cfy
from tests.fix_manager import Manager, StartManager
from tests.fix_postgres import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]

NewCfy = Callable[[], Cfy]
WITHIN_S = 20.0


def client_of(manager: Manager, new_cfy: NewCfy) -> Cfy:
    cfy = new_cfy()
    used = cfy.use(manager.url, manager.username, manager.password)
    assert used.code == 0, used.out + used.words
    return cfy


def statuses(manager: Manager) -> dict[str, str]:
    """The manager's snapshots, as its database has them."""
    return dict(manager.query("SELECT id, status FROM snapshots ORDER BY id"))


def made(manager: Manager, name: str) -> None:
    def look() -> bool:
        return statuses(manager).get(name) == "created"

    eventually(f"{name} is made", look, WITHIN_S)


def archive_of(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


@pytest.mark.slow
def test_a_snapshot_of_7_goes_through_the_client_and_back(
    manager_7: Manager, new_cfy: NewCfy, tmp_path: Path
):
    cfy = client_of(manager_7, new_cfy)
    manager_7.put("blueprints", "kept", "lost")
    cfy.done("snapshots", "create", "daily", "--no-legacy", "--listener-timeout", "0.1")
    made(manager_7, "daily")
    listed = cfy.done("snapshots", "list", "--json").json
    assert [(one["id"], one["status"]) for one in listed] == [("daily", "created")]
    target = tmp_path / "daily.zip"
    cfy.done("snapshots", "download", "daily", "-o", target)
    assert "metadata.json" in archive_of(target)
    cfy.done("snapshots", "upload", target, "-s", "again")
    assert statuses(manager_7) == {"again": "uploaded", "daily": "created"}
    manager_7.query("DELETE FROM blueprints WHERE id = 'lost'")
    manager_7.put("blueprints", "newer")
    cfy.done("snapshots", "restore", "again", "--force")
    whole = ["kept", "lost", "newer"]
    eventually("it is merged", lambda: manager_7.names("blueprints") == whole, WITHIN_S)
    state = cfy.done("snapshots", "status")
    assert "No snapshot is currently being restored" in state.out
    told = cfy.done("executions", "list", "--include-system-workflows", "--json").json
    found = [one["workflow_id"] for one in told]
    assert sorted(found) == ["create_snapshot", "restore_snapshot"]
    cfy.done("snapshots", "delete", "again")
    assert statuses(manager_7) == {"daily": "created"}


@pytest.mark.slow
def test_the_client_makes_a_snapshot_in_the_old_form_by_default(
    manager_7: Manager, new_cfy: NewCfy, tmp_path: Path
):
    cfy = client_of(manager_7, new_cfy)
    cfy.done("snapshots", "create", "old")
    made(manager_7, "old")
    refusal = cfy.refused("snapshots", "create", "old")
    assert "already exists" in refusal
    target = tmp_path / "old.zip"
    cfy.done("snapshots", "download", "old", "-o", target)
    assert {"pg_data", "metadata.json"} <= set(archive_of(target))
    services = cfy.done("status").out
    assert "Management Worker" in services
    manager_7.faults.worker_dead = True
    cfy.done("snapshots", "create", "stuck")
    assert statuses(manager_7)["stuck"] == "creating"
    assert "creating" in cfy.done("snapshots", "list").out


@pytest.mark.slow
def test_the_client_and_a_manager_of_4(
    start_manager: StartManager, new_cfy: NewCfy, tmp_path: Path
):
    """What of a manager that old still works, and how the rest is refused."""
    manager = start_manager("4.5.5", edition="community")
    cfy = new_cfy()
    asked = (manager.url, manager.username, manager.password)
    assert cfy.use(*asked, "--skip-credentials-validation").code == 0
    cfy.done("snapshots", "create", "daily")
    made(manager, "daily")
    assert "daily" in cfy.done("snapshots", "list").out
    target = tmp_path / "daily.zip"
    cfy.done("snapshots", "download", "daily", "-o", target)
    assert {"pg_data", "metadata.json"} <= set(archive_of(target))
    cfy.done("snapshots", "upload", target, "-s", "again")
    assert statuses(manager) == {"again": "uploaded", "daily": "created"}
    refusal = cfy.refused("snapshots", "restore", "again", "--force")
    assert "Missing recreate_deployments_envs in json request body" in refusal
    cfy.done("snapshots", "delete", "again")
    manager.office.active = False
    refusal = cfy.refused("snapshots", "list")
    assert "not the cluster's active manager" in refusal
    assert statuses(manager) == {"daily": "created"}


def test_the_client_says_what_is_wrong_with_its_login(
    manager_7: Manager, new_cfy: NewCfy
):
    cfy = new_cfy()
    used = cfy.use(manager_7.url, "admin", "wrong", "--skip-credentials-validation")
    assert used.code == 0
    refusal = cfy.refused("snapshots", "list")
    assert "Wrong credentials or locked account" in refusal
