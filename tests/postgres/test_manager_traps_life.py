"""What becomes of snapshots, executions and restores on a manager, asked with curl.

Each test plays one trap of the managers' REST API that takes more than one request.
"""

import functools
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.fix_curl import (
    ASKED,
    JSON,
    archive,
    ask,
    create,
    curl,
    kill,
    restore,
    status,
    upload,
)
from tests.fix_manager import DATABASE_PASSWORD, Manager, StartManager

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

SNAPSHOT_KEYS = {
    "created_at", "id", "visibility", "status", "error", "tenant_name", "created_by",
    "resource_availability", "private_resource",
}  # fmt: skip
EXECUTION_KEYS = {
    "id", "workflow_id", "status", "status_display", "created_at", "started_at",
    "ended_at", "scheduled_for", "error", "is_system_workflow", "is_dry_run", "resume",
    "total_operations", "finished_operations", "allow_custom_parameters",
    "parameters_p", "parameters", "blueprint_id", "deployment_id",
    "deployment_display_name", "visibility", "tenant_name", "created_by",
    "resource_availability", "private_resource",
}  # fmt: skip
LEGACY = {
    "metadata.json", "pg_data", "admin_account.json", "rest-security.conf",
    "agents.json", "networks.json", "ssl/cloudify_internal_key.pem",
}  # fmt: skip


# --- creating -----------------------------------------------------------------


def test_a_create_answers_with_an_execution_that_gives_the_databases_password(
    manager: Manager,
):
    made = create(manager, "s1")
    assert (made.status, made.kind) == (201, "application/json")
    assert made.json.keys() == EXECUTION_KEYS
    assert made.json["workflow_id"] == "create_snapshot"
    assert made.json["status"] == "pending"
    config = made.json["parameters"]["config"]
    assert config["postgresql_password"] == DATABASE_PASSWORD
    assert ask(manager, "snapshots/s1").json.keys() == SNAPSHOT_KEYS
    manager.ended(made.json["id"])
    assert status(manager, "s1") == "created"


def test_the_documented_upload_by_url_makes_a_snapshot_called_archive(
    manager_7: Manager,
):
    path = "snapshots/archive?snapshot_archive_url=http://127.0.0.1:1/x"
    assert ask(manager_7, path, "-X", "PUT", *JSON, "-d", "{}").status == 201
    assert ask(manager_7, "snapshots/archive").json["id"] == "archive"


def test_a_new_format_blocks_nobody_and_a_legacy_one_does(manager_7: Manager):
    manager_7.faults.worker_dead = True
    first, second = (create(manager_7, name) for name in ("s1", "s2"))
    assert (first.status, second.status) == (201, 201)
    refused = create(manager_7, "s3", legacy=True)
    assert (refused.status, refused.code) == (400, "existing_running_execution_error")
    running = f"{first.json['id']}, {second.json['id']}"
    words = "Cannot start execution because there are other executions running e.g.: "
    assert refused.message == words + running
    assert ask(manager_7, "snapshots/s3").status == 404
    manager_7.faults.worker_dead = False
    for made in (first, second):
        assert manager_7.ended(made.json["id"])["status"] == "terminated"


def test_the_end_of_a_new_format_is_listened_to_as_long_as_is_wished(
    manager_7: Manager,
):
    made = manager_7.make("s1", listener_timeout=0.7)
    seconds = manager_7.query(
        "SELECT extract(epoch FROM ended_at - started_at) FROM executions"
    )
    assert made["status"] == "terminated"
    assert seconds[0][0] >= 0.7


def test_every_create_of_4_x_waits_for_nobody_and_is_refused(manager_4: Manager):
    manager_4.faults.worker_dead = True
    first = create(manager_4, "s1")
    refused = create(manager_4, "s2")
    assert (refused.status, refused.code) == (400, "existing_running_execution_error")
    manager_4.faults.worker_dead = False
    manager_4.ended(first.json["id"])
    assert create(manager_4, "s2").status == 201


def test_a_queued_create_starts_when_nothing_else_is_under_way(manager: Manager):
    manager.faults.worker_dead = True
    first = create(manager, "s1")
    queued = create(manager, "s2", queue=True)
    assert (queued.status, queued.json["status"]) == (201, "queued")
    assert status(manager, "s2") == "creating"
    manager.faults.worker_dead = False
    assert manager.ended(first.json["id"])["status"] == "terminated"
    assert manager.ended(queued.json["id"])["status"] == "terminated"
    assert status(manager, "s2") == "created"


def test_a_dead_worker_leaves_a_snapshot_creating_until_it_is_killed(
    manager: Manager,
):
    manager.faults.worker_dead = True
    made = create(manager, "s1")
    assert made.status == 201
    execution = made.json["id"]
    assert ask(manager, f"executions/{execution}").json["status"] == "pending"
    killed = kill(manager, execution)
    assert (killed.status, killed.json["status"]) == (200, "kill_cancelling")
    assert status(manager, "s1") == "creating"
    manager.faults.worker_dead = False
    assert manager.ended(execution)["status"] == "cancelled"
    assert status(manager, "s1") == "creating"


def test_a_dead_broker_holds_a_create_and_leaves_its_rows_behind(manager: Manager):
    manager.faults.broker_dead = True
    made = create(manager, "s1")
    assert (made.status, made.code) == (500, "internal_server_error")
    assert made.seconds >= manager.traits.broker_hang_s
    assert status(manager, "s1") == "creating"
    path = "executions?_include_system_workflows=true&workflow_id=create_snapshot"
    [left] = ask(manager, path).json["items"]
    assert left["status"] == "pending"
    manager.faults.broker_dead = False
    assert restore(manager, "s1").code == "existing_running_execution_error"


def test_a_full_disk_fails_the_snapshot_and_its_execution(manager: Manager):
    manager.faults.disk_full = True
    ended = manager.make("s1")
    assert ended["status"] == "failed"
    assert "No space left on device" in ended["error"]
    found = ask(manager, "snapshots/s1").json
    assert (found["status"], found["error"]) == ("failed", ended["error"])


# --- deleting and listing -----------------------------------------------------


def test_what_is_being_made_cannot_be_deleted_from_5_on_and_is_in_4_x(
    manager: Manager,
):
    manager.faults.worker_dead = True
    create(manager, "s1")
    found = ask(manager, "snapshots/s1", "-X", "DELETE")
    if manager.traits.all_active:
        assert (found.status, found.code) == (400, "snapshot_action_error")
        words = "Cannot delete snapshot `s1` which has an active `create_snapshot`"
        assert found.message == f"{words} execution"
    else:
        assert (found.status, found.json["id"]) == (200, "s1")
        assert ask(manager, "snapshots/s1").status == 404


def test_a_deleted_snapshot_is_answered_with_and_gone_with_its_archive(
    manager: Manager,
):
    manager.make("s1")
    path = manager.folder / "snapshots/s1/s1.zip"
    assert path.exists()
    gone = ask(manager, "snapshots/s1", "-X", "DELETE")
    assert (gone.status, gone.json["status"]) == (200, "created")
    assert not path.exists()


def test_a_list_is_paged_sorted_searched_and_cut_to_the_keys_that_are_wanted(
    manager: Manager,
):
    for name in ("b1", "a2", "a1"):
        manager.make(name)
    found = ask(manager, "snapshots?_sort=-id&_size=2&_offset=1&_include=id").json
    assert found["items"] == [{"id": "a2"}, {"id": "a1"}]
    pagination = {"total": 3, "size": 2, "offset": 1}
    assert found["metadata"] == {"pagination": pagination, "filtered": None}
    named = ask(manager, "snapshots?_search=A&status=created&_sort=created_at").json
    assert [one["id"] for one in named["items"]] == ["a2", "a1"]
    assert ask(manager, "snapshots").json["metadata"]["pagination"]["size"] == 1000


def test_system_workflows_are_listed_only_where_they_are_asked_for(
    manager: Manager,
):
    made = manager.make("s1")
    assert ask(manager, "executions").json["items"] == []
    path = "executions?_include_system_workflows=true&workflow_id=create_snapshot"
    [found] = ask(manager, f"{path}&_sort=-created_at").json["items"]
    assert (found["id"], found["status_display"]) == (made["id"], "completed")


# --- archives -----------------------------------------------------------------


def test_an_archive_comes_with_its_length_in_parts_and_by_its_head(
    manager: Manager,
):
    manager.make("s1")
    whole = ask(manager, "snapshots/s1/archive")
    assert (whole.status, whole.kind) == (200, "application/octet-stream")
    assert whole.headers["content-disposition"] == 'attachment; filename="s1.zip"'
    assert whole.headers["content-length"] == str(len(whole.body))
    assert whole.headers["accept-ranges"] == "bytes"
    assert {"etag", "last-modified"} <= whole.headers.keys()
    part = ask(manager, "snapshots/s1/archive", "-r", "10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.body)}"
    head = ask(manager, "snapshots/s1/archive", "--head")
    assert (head.status, head.headers["etag"]) == (200, whole.headers["etag"])
    assert head.headers["content-length"] == str(len(whole.body))


def test_a_connection_that_breaks_leaves_less_than_the_length(
    manager: Manager, tmp_path: Path
):
    manager.make("s1")
    whole = ask(manager, "snapshots/s1/archive").body
    manager.faults.cut_after = 100
    ran = subprocess.run(
        ["curl", "-s", "--noproxy", "*", *ASKED, "-o", str(tmp_path / "part"),
         f"{manager.api}/snapshots/s1/archive"],
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 18  # curl: a part of the file came
    assert (tmp_path / "part").read_bytes() == whole[:100]


def test_a_legacy_archive_has_the_tables_and_the_managers_keys(manager: Manager):
    manager.put("deployments", "web", "mail")
    manager.make("s1", legacy=True)
    found = archive(manager, "s1")
    assert set(found.namelist()) >= LEGACY
    metadata = json.loads(found.read("metadata.json"))
    assert metadata["snapshot_version"] == manager.traits.version
    dump = found.read("pg_data").decode()
    block = dump.partition("COPY public.deployments (")[2].partition("\n\\.\n")[0]
    assert [line.split("\t")[1] for line in block.splitlines()[1:]] == ["web", "mail"]
    assert "COPY public.snapshots" not in dump
    assert DATABASE_PASSWORD not in dump


def test_a_new_archive_has_a_file_for_each_kind_of_thing(manager_7: Manager):
    manager_7.put("deployments", "web")
    made = manager_7.make("s1")
    found = archive(manager_7, "s1")
    metadata = json.loads(found.read("metadata.json"))
    assert metadata == {"snapshot_version": "7.0.5", "execution_id": made["id"]}
    pages = [
        json.loads(found.read(name))
        for name in found.namelist()
        if name.startswith("tenants/default_tenant/")
    ]
    items = {page["type"]: [one["id"] for one in page["items"]] for page in pages}
    assert items["deployments"] == ["web"]


def test_an_archive_that_is_being_made_is_nginxs_404_or_the_old_services_500(
    manager: Manager,
):
    manager.faults.worker_dead = True
    create(manager, "s1")
    found = ask(manager, "snapshots/s1/archive")
    if not manager.traits.all_active:
        assert (found.status, found.code) == (500, "internal_server_error")
        return
    assert (found.status, found.kind) == (404, "text/html")
    assert found.headers["content-disposition"] == 'attachment; filename="s1.zip"'


def test_an_upload_is_taken_whatever_it_is(manager: Manager, tmp_path: Path):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no zip at all")
    found = upload(manager, "s1", garbage)
    assert (found.status, found.json["status"]) == (201, "uploaded")
    assert ask(manager, "snapshots/s1/archive").body == b"no zip at all"


def test_two_tenants_snapshots_of_one_id_have_one_archive(
    start_manager: StartManager, tmp_path: Path
):
    manager = start_manager("7.0.5", more_tenants=("other",))
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.write_bytes(b"mine")
    theirs.write_bytes(b"theirs")
    assert upload(manager, "s1", mine).status == 201
    path = f"{manager.api}/snapshots/s1/archive"
    login, other = ASKED[:2], ("-H", "Tenant: other")
    sent = ("-X", "PUT", "--data-binary", f"@{theirs}")
    assert curl(path, *login, *other, *sent).json["tenant_name"] == "other"
    assert ask(manager, "snapshots/s1/archive").body == b"theirs"
    [one] = ask(manager, "snapshots").json["items"]
    assert one["tenant_name"] == "default_tenant"
    everything = ask(manager, "snapshots?_all_tenants=true").json["items"]
    assert [one["tenant_name"] for one in everything] == ["default_tenant", "other"]


def test_an_upload_in_chunks_is_taken(manager: Manager, tmp_path: Path):
    sent = tmp_path / "sent"
    sent.write_bytes(b"x" * 300_000)
    found = ask(manager, "snapshots/s1/archive", "-T", str(sent), "-H",
                "Transfer-Encoding: chunked")  # fmt: skip
    assert found.status == 201
    assert ask(manager, "snapshots/s1/archive").body == sent.read_bytes()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the files in the test's folder; its address."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_an_upload_by_url_is_fetched_by_the_manager(
    manager: Manager, web: str, tmp_path: Path
):
    (tmp_path / "s1.zip").write_bytes(b"from elsewhere")
    path = f"snapshots/s1/archive?snapshot_archive_url={web}"
    missing = ask(manager, f"{path}/s9.zip", "-X", "PUT")
    assert (missing.status, missing.code) == (400, "bad_parameters_error")
    assert missing.message.startswith(f"Cannot fetch {web}/s9.zip: ")
    found = ask(manager, f"{path}/s1.zip", "-X", "PUT")
    assert (found.status, found.json["status"]) == (201, "uploaded")
    assert ask(manager, "snapshots/s1/archive").body == b"from elsewhere"


def test_an_upload_of_an_id_that_exists_overwrites_it_and_says_nothing(
    manager: Manager, tmp_path: Path
):
    manager.make("s1")
    other = tmp_path / "other"
    other.write_bytes(b"another one")
    found = upload(manager, "s1", other)
    if not manager.traits.all_active:
        assert (found.status, found.code) == (409, "conflict_error")
        assert archive(manager, "s1").testzip() is None
        return
    assert found.status == 201
    assert found.json == dict.fromkeys(SNAPSHOT_KEYS)
    assert ask(manager, "snapshots/s1/archive").body == b"another one"
    assert status(manager, "s1") == "created"
