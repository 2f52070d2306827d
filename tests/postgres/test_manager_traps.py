"""What a manager answers to one request, row by row, asked with plain curl.

Each row is a trap of the managers' REST API, of either generation: what one sends, and
the status, the type and the words that come back.
"""

from dataclasses import dataclass

import pytest

from tests.fix_curl import curl
from tests.fix_manager import PASSWORD, Manager, StartManager

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

JSON_TYPE = "application/json"
FLASK = "text/html; charset=utf-8"
LOGIN = ("-u", f"admin:{PASSWORD}")
READER = ("-u", "reader:readers-p4ssword")
TENANT = ("-H", "Tenant: default_tenant")
ASKED = (*LOGIN, *TENANT)
JSON = ("-H", f"Content-Type: {JSON_TYPE}")
RESTORE = ("-X", "POST", *JSON)
PUT = ("-X", "PUT")
UNKNOWN = "Requested `Snapshot` with ID `zzz` was not found"
NOBODY = "User unauthorized: No authentication info provided"
TOO_LONG = "a" * 257


def sending(body: str) -> tuple[str, ...]:
    return (*ASKED, *JSON, "-d", body)


def restoring(body: str) -> tuple[str, ...]:
    return (*ASKED, *RESTORE, "-d", body)


@dataclass(frozen=True)
class Trap:
    """One request, and what comes back."""

    name: str
    path: str
    send: tuple[str, ...]
    status: int
    code: str = ""
    """The error's code; a page of HTML has none."""
    says: str = ""
    of: str = "4.5.5 7.0.5"
    """The versions that answer so."""
    kind: str = JSON_TYPE


BOTH = (
    Trap("no tenant", "snapshots", LOGIN, 403, "forbidden_error",
         "Authorization failed: tenant not provided"),
    Trap("an unknown tenant", "snapshots", (*LOGIN, "-H", "Tenant: nope"), 403,
         "forbidden_error", "Authorization failed: Tried to authenticate with invalid "
         "tenant name: nope"),
    Trap("nobody", "snapshots", TENANT, 401, "unauthorized_error", NOBODY),
    Trap("a bearer token", "snapshots", (*TENANT, "-H", "Authorization: Bearer x"),
         401, "unauthorized_error", NOBODY),
    Trap("a name that nobody has", "snapshots", (*TENANT, "-u", "nobody:x"), 401,
         "unauthorized_error", NOBODY),
    Trap("a token of no known form", "snapshots",
         (*TENANT, "-H", "Authentication-Token: x"), 401, "unauthorized_error",
         "Invalid token structure", of="7.0.5"),
    Trap("a token that is unknown", "snapshots",
         (*TENANT, "-H", "Authentication-Token: ctok-abc-def"), 401,
         "unauthorized_error", "User unauthorized: Unauthorized", of="7.0.5"),
    Trap("one who may not", "snapshots/x", (*READER, *TENANT, *PUT, *JSON, "-d", "{}"),
         403, "forbidden_error", "User `reader` is not permitted to perform the action "
         "snapshot_create in the tenant `default_tenant`"),
    Trap("the guide's create", "snapshots/x", (*ASKED, *PUT), 415,
         "unsupported_content_type_error", "Content type must be application/json"),
    Trap("a charset", "snapshots/x",
         (*ASKED, *PUT, "-H", "Content-Type: application/json; charset=utf-8",
          "-d", "{}"), 415, "unsupported_content_type_error"),
    Trap("curl's own type", "snapshots/x", (*ASKED, *PUT, "-d", "{}"), 415,
         "unsupported_content_type_error"),
    Trap("an empty body", "snapshots/x", (*ASKED, *PUT, *JSON), 400, kind=FLASK,
         says="<h1>Bad Request</h1>"),
    Trap("malformed JSON", "snapshots/x", (*PUT, *sending("{")), 400, kind=FLASK,
         says="<h1>Bad Request</h1>"),
    Trap("a JSON array", "snapshots/x", (*PUT, *sending("[]")), 500,
         "internal_server_error"),
    Trap("a route that is not there", "nothing", ASKED, 404, kind=FLASK,
         says="<h1>Not Found</h1>"),
    Trap("the guide's download", "snapshot/made/archive", ASKED, 404, kind=FLASK),
    Trap("version 1", "../v1/snapshots", ASKED, 404, kind=FLASK),
    Trap("a wrong verb", "snapshots/made", (*ASKED, "-X", "POST"), 405, kind=FLASK,
         says="<h1>Method Not Allowed</h1>"),
    Trap("the documented upload by URL", "snapshots/archive?snapshot_archive_url=x",
         (*ASKED, *PUT), 415, "unsupported_content_type_error"),
    Trap("an id that is not there", "snapshots/zzz", ASKED, 404, "not_found_error",
         UNKNOWN),
    Trap("an archive of nothing", "snapshots/zzz/archive", ASKED, 404,
         "not_found_error", UNKNOWN),
    Trap("a delete of nothing", "snapshots/zzz", (*ASKED, "-X", "DELETE"), 404,
         "not_found_error", UNKNOWN),
    Trap("a restore of nothing", "snapshots/zzz/restore",
         restoring('{"force": true, "recreate_deployments_envs": true}'), 404,
         "not_found_error", UNKNOWN),
    Trap("an execution that is not there", "executions/zzz", ASKED, 404,
         "not_found_error", "Requested `Execution` with ID `zzz` was not found"),
    Trap("an id with a digit first", "snapshots/9a", (*PUT, *sending("{}")), 400,
         "bad_parameters_error", "The `snapshot_id` argument must begin with a letter"),
    Trap("an id with a space", "snapshots/a%20b", (*PUT, *sending("{}")), 400,
         "bad_parameters_error", 'Only letters, digits and the characters "-", "." and '
         '"_" are allowed'),
    Trap("an id that is too long", f"snapshots/{TOO_LONG}", (*PUT, *sending("{}")),
         400, "bad_parameters_error", "Maximum allowed length is 256 characters"),
    Trap("no truth value", "snapshots/x", (*PUT, *sending('{"queue": "x"}')), 400,
         "bad_parameters_error", "queue must be <true/false>, got x"),
    Trap("an id that exists", "snapshots/made", (*PUT, *sending("{}")), 409,
         "conflict_error", "<Snapshot id=`made` tenant=`default_tenant`> already "
         "exists on <Tenant name=`default_tenant`> or with global visibility"),
    Trap("no seconds", "snapshots/x", (*PUT, *sending('{"listener_timeout": "x"}')),
         400, "bad_parameters_error", of="7.0.5"),
    Trap("a folder that is not there", "snapshots/x",
         (*PUT, *sending('{"tempdir_path": "/nowhere"}')), 403, "forbidden_error",
         "Temp dir cannot be created inside unwriteable location /nowhere",
         of="7.0.5"),
)  # fmt: skip
MORE = (
    Trap("a restore that does not say force", "snapshots/made/restore",
         restoring('{"recreate_deployments_envs": true}'), 500,
         "internal_server_error"),
    Trap("a restore as 7.x wants it", "snapshots/made/restore",
         restoring('{"force": true}'), 400, "bad_parameters_error",
         "Missing recreate_deployments_envs in json request body", of="4.5.5"),
    Trap("no reboot without certificates", "snapshots/made/restore",
         restoring('{"force": true, "recreate_deployments_envs": true,'
                   '"no_reboot": true}'), 400, "bad_parameters_error",
         "`no_reboot` is only relevant when `restore_certificates` is activated"),
    Trap("a restore of what failed", "snapshots/failed/restore",
         restoring('{"force": true, "recreate_deployments_envs": true}'), 400,
         "snapshot_action_error", "Failed snapshot cannot be restored"),
    Trap("a download of what failed", "snapshots/failed/archive", ASKED, 400,
         "snapshot_action_error", "Failed snapshot cannot be downloaded"),
    Trap("an archive that is gone", "snapshots/gone/archive", ASKED, 404,
         kind="text/html", says="<center>nginx</center>", of="7.0.5"),
    Trap("an archive that is gone", "snapshots/gone/archive", ASKED, 500,
         "internal_server_error", "OSError", of="4.5.5"),
    Trap("an upload of nothing", "snapshots/x/archive", (*ASKED, *PUT), 500,
         "internal_server_error"),
    Trap("an upload as a form", "snapshots/x/archive",
         (*ASKED, *PUT, "-F", "file=abc"), 500, "internal_server_error"),
    Trap("an upload from nowhere",
         "snapshots/x/archive?snapshot_archive_url=http://127.0.0.1:1/x",
         (*ASKED, *PUT), 400, "bad_parameters_error",
         "Cannot fetch http://127.0.0.1:1/x"),
    Trap("an upload from no URL", "snapshots/x/archive?snapshot_archive_url=nowhere",
         (*ASKED, *PUT), 400, "bad_parameters_error", "Invalid URL nowhere"),
    Trap("a key to sort by that is none", "snapshots?_sort=size", ASKED, 400,
         "bad_parameters_error", "Sort keys '['size']' do not exist"),
    Trap("a key to show that is none", "snapshots?_include=size", ASKED, 400,
         "no_such_include_field_error", "Include keys '['size']' do not exist"),
    Trap("a key to look for that is none", "snapshots?size=1", ASKED, 400,
         "bad_parameters_error", "Filter keys '['size']' do not exist"),
    Trap("a page that is too large", "snapshots?_size=5000", ASKED, 400,
         "bad_parameters_error", "Invalid pagination size: 5000."),
    Trap("a page of no size", "snapshots?_size=-1", ASKED, 400,
         "bad_parameters_error"),
    Trap("an action that is none", "executions/done",
         (*ASKED, *RESTORE, "-d", '{"action": "stop"}'), 400, "bad_parameters_error",
         "Invalid action: stop, Valid action values are: ['cancel', 'force-cancel'"),
    Trap("a maintenance that is none", "maintenance/on", (*ASKED, "-X", "POST"), 400,
         "bad_parameters_error", "Invalid action: on"),
    Trap("a status of no known name", "snapshots/made",
         (*ASKED, "-X", "PATCH", *JSON, "-d", '{"status": "well"}'), 500,
         "internal_server_error"),
    Trap("the state of a restore", "snapshot-status", (), 200,
         says='"status": "not-running"', of="7.0.5"),
    Trap("the state of a restore", "snapshot-status", (), 404, kind=FLASK,
         of="4.5.5"),
    Trap("health without a login", "ok", (), 200, says='"OK"', of="7.0.5"),
    Trap("health without a login", "ok", (), 404, kind=FLASK, of="4.5.5"),
    Trap("status without a login", "status", (), 401, "unauthorized_error", NOBODY),
    Trap("status for anybody who is known, without a tenant", "status", READER, 200),
    Trap("version without a login", "version", (), 401, "unauthorized_error", NOBODY),
    Trap("the unversioned version", "../version", LOGIN, 200,
         says='"edition": "premium"'),
    Trap("the cluster's status", "cluster-status", ASKED, 404, kind=FLASK,
         of="4.5.5"),
    Trap("the brokers' passwords", "brokers", ASKED, 200,
         says='"password": "broker-', of="7.0.5"),
    Trap("the database nodes", "db-nodes", ASKED, 200, says='"is_external": false',
         of="7.0.5"),
    Trap("a manager by its name", "managers?hostname=n9", ASKED, 200,
         says='"items": []', of="7.0.5"),
    Trap("the audit log", "audit", ASKED, 404, kind=FLASK, of="4.5.5"),
    Trap("a token that is not there", "tokens/zzz", (*ASKED, "-X", "DELETE"), 404,
         "not_found_error", "Could not find token zzz", of="7.0.5"),
)  # fmt: skip
ROWS = [
    pytest.param(version, trap, id=f"{version}: {trap.name}")
    for trap in (*BOTH, *MORE)
    for version in trap.of.split()
]


@pytest.fixture(scope="module")
def managers(started_managers: StartManager) -> dict[str, Manager]:
    """One manager of each version, with a few snapshots. The rows change nothing."""
    made = {version: started_managers(version) for version in ("4.5.5", "7.0.5")}
    for each in made.values():
        assert each.make("made")["status"] == "terminated"
        for name in ("failed", "gone"):
            each.query(
                "INSERT INTO snapshots (id, tenant_name, status) VALUES (%s, %s, %s)",
                name, each.tenant, "failed" if name == "failed" else "created",
            )  # fmt: skip
    return made


@pytest.mark.parametrize(("version", "trap"), ROWS)
def test_a_manager_answers_so(
    version: str, trap: Trap, managers: dict[str, Manager]
) -> None:
    found = curl(f"{managers[version].api}/{trap.path}", *trap.send)
    assert (found.status, found.kind) == (trap.status, trap.kind), found.text
    if trap.code:
        assert found.code == trap.code
        assert found.json.keys() == {"error_code", "message", "server_traceback"}
    words = found.message if trap.code else found.text
    assert trap.says in words


def test_what_nobody_foresaw_is_told_in_the_traceback_only_from_5_on(
    managers: dict[str, Manager],
) -> None:
    path = "/snapshots/made/restore"
    body = restoring('{"recreate_deployments_envs": true}')
    old = curl(managers["4.5.5"].api + path, *body)
    new = curl(managers["7.0.5"].api + path, *body)
    assert "KeyError: 'force'" in old.message
    assert "KeyError" not in new.message
    assert "KeyError: 'force'" in new.json["server_traceback"]


def test_a_wrong_verb_names_the_right_ones(managers: dict[str, Manager]) -> None:
    url = f"{managers['7.0.5'].api}/snapshots/made"
    found = curl(url, *ASKED, "-X", "POST")
    wanted = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}
    assert set(found.headers["allow"].split(", ")) == wanted


def test_older_versions_of_the_api_answer_too(managers: dict[str, Manager]) -> None:
    for version in ("v2", "v2.1", "v3", "v3.1"):
        url = f"{managers['7.0.5'].url}/api/{version}/snapshots/made"
        assert curl(url, *ASKED).status == 200
