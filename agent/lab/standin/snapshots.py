"""The snapshot routes, in the order of a snapshot's life.

Source: `resources_v2/snapshots.py` of the REST service, 4.5.5 and 7.1, and what a 7.1
manager answered. What is odd here is odd there: an upload of an id that exists
overwrites the archive and answers 201 with nothing but nulls; the answer to a restore
has a snapshot's keys and an execution's id; a restore that is refused because others
are under way leaves its own execution behind.
"""

import os
import re
import shutil
import string
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import FileResponse, Response

from agent.lab.standin.answers import (
    Refusal,
    Shown,
    Unforeseen,
    bad_parameter,
    missing,
    nginx_html,
    reply,
)
from agent.lab.standin.asked import Asked, Body
from agent.lab.standin.desk import Desk
from agent.lab.standin.listing import included, listed
from agent.lab.standin.rows import Order, TakenError, stamp

FIELDS = (
    "created_at",
    "id",
    "visibility",
    "status",
    "error",
    "tenant_name",
    "created_by",
    "resource_availability",
    "private_resource",
)
NAME_MAX = 256
RESTORE_TIMEOUT_S = 300
FETCH_S = 30.0
_URL = re.compile(r"^(https?|ftp)://[^\s/$.?#].[^\s]*$").match
STATUSES = ("creating", "created", "failed", "uploaded")


def snapshots(desk: Desk, asked: Asked) -> Response:
    """List them."""
    everywhere = asked.flag("_all_tenants", default=False)
    rows = desk.rows.snapshots(None if everywhere else asked.tenant)
    return listed(asked, [shown(row) for row in rows], FIELDS)


def snapshot(desk: Desk, asked: Asked, name: str) -> Response:
    """Tell of one."""
    return reply(included(asked, shown(_find(desk, asked, name)), FIELDS))


def create(desk: Desk, asked: Asked, name: str) -> Response:
    """Begin one; the answer is its execution, with the database's password."""
    check_name(name)
    order = Order("create_snapshot", "", asked.user, _wishes(desk, asked.json(), name))
    queue = asked.json().flag("queue", default=False)
    order = Order(order.workflow, asked.tenant, asked.user, order.parameters)
    _add(desk, asked, name, "creating")
    row = desk.rows.add_execution(order)
    others = desk.rows.active_executions(row["id"])
    if others and (order.blocking or queue):
        if not queue:
            desk.rows.drop_execution(row["id"])
            desk.rows.drop_snapshot(asked.tenant, name)
            raise running(others)
        desk.rows.move_execution(row["id"], "queued", ("pending",))
        return reply(desk.shown_execution({**row, "status": "queued"}), 201)
    desk.publish(row)
    return reply(desk.shown_execution(row), 201)


def remove(desk: Desk, asked: Asked, name: str) -> Response:
    """Delete one; 4.x does so while it is being made, too."""
    row = _find(desk, asked, name)
    for each in desk.rows.active_executions() if desk.traits.all_active else ():
        if each["parameters"].get("snapshot_id") == name:
            raise Refusal(
                400,
                "snapshot_action_error",
                f"Cannot delete snapshot `{name}` which has an active "
                f"`{each['workflow_id']}` execution",
            )
    desk.rows.drop_snapshot(asked.tenant, name)
    shutil.rmtree(desk.archive(name).parent, ignore_errors=True)
    return reply(shown(row))


def set_status(desk: Desk, asked: Asked, name: str) -> Response:
    """Set a status, as the workflow does."""
    body = asked.json("status")
    _find(desk, asked, name)
    status = body.must("status")
    if status not in STATUSES:
        words = f'invalid input value for enum snapshot_status: "{status}"'
        raise Unforeseen("DataError", words)
    desk.rows.set_snapshot(asked.tenant, name, status, str(body.get("error", "")))
    return reply(None)


def upload(desk: Desk, asked: Asked, name: str) -> Response:
    """Take an archive, whatever it is."""
    if not desk.traits.all_active:
        check_name(name)
        if desk.rows.snapshot(asked.tenant, name) is not None:
            raise _taken(asked, name)
    _take(desk, asked, name)
    try:
        row = desk.rows.add_snapshot(asked.tenant, name, "uploaded")
    except TakenError:
        return reply(dict.fromkeys(FIELDS), 201)
    return reply(shown(row), 201)


def download(desk: Desk, asked: Asked, name: str) -> Response:
    """Give the archive, as nginx streams it."""
    row = _find(desk, asked, name)
    if row["status"] == "failed":
        message = "Failed snapshot cannot be downloaded"
        raise Refusal(400, "snapshot_action_error", message)
    path = desk.archive(name)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    if path.exists():
        return FileResponse(
            path, headers=headers, media_type="application/octet-stream"
        )
    if not desk.traits.all_active:
        words = f"[Errno 2] No such file or directory: '{name}.zip'"
        raise Unforeseen("OSError", words)
    return nginx_html(404, "Not Found", headers)


def restore(desk: Desk, asked: Asked, name: str) -> Response:
    """Begin to restore one."""
    parameters = _restore_wishes(desk, asked, name)
    row = _find(desk, asked, name)
    if row["status"] == "failed":
        message = "Failed snapshot cannot be restored"
        raise Refusal(400, "snapshot_action_error", message)
    order = Order("restore_snapshot", asked.tenant, asked.user, parameters)
    made = desk.rows.add_execution(order)
    others = desk.rows.active_executions(made["id"])
    if others:
        raise running(others)  # its own execution stays behind, pending for ever
    desk.publish(made)
    return reply(shown(made))


def restore_status(desk: Desk, _: Asked) -> Response:
    """Tell whether a restore runs on this machine, by its mark."""
    running_here = desk.works.mark.exists()
    return reply({"status": "running" if running_here else "not-running"})


def shown(row: Mapping[str, Any]) -> Shown:
    """Return what a client sees of a snapshot, or of an execution in its shape."""
    return {
        "created_at": stamp(row["created_at"]),
        "id": row["id"],
        "visibility": "private",
        "status": row["status"],
        "error": row["error"],
        "tenant_name": row["tenant_name"],
        "created_by": row.get("created_by", "admin"),
        "resource_availability": "private",
        "private_resource": True,
    }


def check_name(name: str) -> None:
    """Check a snapshot's id. Raises Refusal."""
    what = "The `snapshot_id` argument"
    if not name:
        raise bad_parameter(f"{what} is empty")
    if len(name) > NAME_MAX:
        raise bad_parameter(
            f"{what} is too long. Maximum allowed length is {NAME_MAX} characters"
        )
    if quote(name, safe="") != name or "~" in name:
        raise bad_parameter(
            f"{what} contains illegal characters. Only letters, digits and the "
            'characters "-", "." and "_" are allowed'
        )
    if name[0] not in string.ascii_letters:
        raise bad_parameter(f"{what} must begin with a letter")


def running(others: list[Shown]) -> Refusal:
    """Return the answer to who has to wait and does not want to."""
    return Refusal(
        400,
        "existing_running_execution_error",
        "Cannot start execution because there are other executions running e.g.: "
        + ", ".join(each["id"] for each in others),
    )


def _wishes(desk: Desk, body: Body, name: str) -> Shown:
    """Return what the snapshot shall have. Raises Refusal, Unforeseen."""
    traits = desk.traits
    found: Shown = {"snapshot_id": name}
    if traits.numbers < (5,):
        found["include_metrics"] = body.flag("include_metrics", default=False)
    for each in ("include_credentials", "include_logs", "include_events"):
        found[each] = body.flag(each, default=True)
    body.flag("queue", default=False)
    if traits.numbers >= (6,):
        found["tempdir_path"] = _writable(body.get("tempdir_path"))
    if traits.has_new_format:
        found["legacy"] = body.flag("legacy", default=False)
        found["listener_timeout"] = _seconds(body.get("listener_timeout"))
    return found


def _writable(path: object) -> object:
    if path and not os.access(str(path), os.W_OK):
        raise Refusal(
            403,
            "forbidden_error",
            f"Temp dir cannot be created inside unwriteable location {path}",
        )
    return path


def _seconds(value: object) -> float | None:
    if not value:
        return None
    try:
        return float(str(value))
    except ValueError as error:
        message = "listener_timeout must a valid floating point number"
        raise bad_parameter(message) from error


def _restore_wishes(desk: Desk, asked: Asked, name: str) -> Shown:
    """Return how to restore. Raises Refusal, Misread, Unforeseen."""
    found: Shown = {"snapshot_id": name}
    if desk.traits.all_active:
        body = asked.json()
    else:
        _refuse_on_a_cluster(desk)
        body = asked.json("recreate_deployments_envs")
        key = "recreate_deployments_envs"
        found[key] = body.flag(key, default=True)
    body.must("force")
    found["force"] = body.flag("force", default=False)
    for each in ("restore_certificates", "no_reboot"):
        found[each] = body.flag(each, default=False)
    if found["no_reboot"] and not found["restore_certificates"]:
        raise bad_parameter(
            "`no_reboot` is only relevant when `restore_certificates` is activated"
        )
    timeout = body.get("timeout", RESTORE_TIMEOUT_S)
    try:
        found["timeout"] = int(timeout)
    except (TypeError, ValueError) as error:
        words = f"invalid parameter, should be int, got: {timeout}"
        raise bad_parameter(words) from error
    return found


def _refuse_on_a_cluster(desk: Desk) -> None:
    managers = [each for each in desk.office.peers if each.kind == "manager"]
    if len(managers) > 1:
        raise Refusal(
            400,
            "illegal_action_error",
            "Action `restore snapshot` is not available on a cluster with more than "
            "one node",
        )


def _find(desk: Desk, asked: Asked, name: str) -> Shown:
    row = desk.rows.snapshot(asked.tenant, name)
    if row is None:
        raise missing("Snapshot", name)
    return row


def _add(desk: Desk, asked: Asked, name: str, status: str) -> Shown:
    try:
        return desk.rows.add_snapshot(asked.tenant, name, status)
    except TakenError as error:
        raise _taken(asked, name) from error


def _taken(asked: Asked, name: str) -> Refusal:
    tenant = asked.tenant
    return Refusal(
        409,
        "conflict_error",
        f"<Snapshot id=`{name}` tenant=`{tenant}`> already exists on "
        f"<Tenant name=`{tenant}`> or with global visibility",
    )


def _take(desk: Desk, asked: Asked, name: str) -> None:
    """Put what was sent where the archive belongs. Raises Refusal, Unforeseen."""
    url = asked.one("snapshot_archive_url")
    sent = asked.spooled
    if url is not None:
        sent = desk.folder / "snapshots" / ".uploading" / f"{name}.url"
        _fetch(url, sent)
    kind = asked.headers.get("content-type", "")
    if sent is None or not sent.stat().st_size or kind.startswith("multipart/"):
        words = f"[Errno 2] No such file or directory: '.uploading/{name}'"
        raise Unforeseen("FileNotFoundError", words)
    if desk.faults.disk_full:
        raise Unforeseen("OSError", "[Errno 28] No space left on device")
    target = desk.archive(name)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sent.replace(target)


def _fetch(url: str, target: Path) -> None:
    """Fetch an archive from elsewhere. Raises Refusal."""
    if not _URL(url):
        raise bad_parameter(f"Invalid URL {url}")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with (
            closing(opener.open(url, timeout=FETCH_S)) as found,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(found, file)
    except (OSError, ValueError, urllib.error.URLError) as error:
        target.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise bad_parameter(f"Cannot fetch {url}: {error}") from error
