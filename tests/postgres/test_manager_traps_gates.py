"""The gates before a manager's routes: logins, tokens, maintenance, roles, outages.

Asked with plain curl, as in the field: which states answer what, and how fast.
"""

import concurrent.futures
import time
from pathlib import Path

import pytest

from agent.lab.standin import Peer
from tests.fix_curl import JSON, ask, create, curl, data, kill
from tests.fix_manager import (
    PASSWORD,
    Manager,
    Office,
    StartManager,
    manager_pair,
)
from tests.fix_postgres import Stage

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

TENANT = ("-H", "Tenant: default_tenant")
WRONG = ("-u", "admin:wrong", *TENANT)
READ_ONLY = "cannot execute UPDATE in a read-only transaction"


def post(manager: Manager, path: str) -> tuple[int, str]:
    found = ask(manager, path, "-X", "POST")
    return found.status, found.json["status"] if found.body else ""


# --- logins and tokens ----------------------------------------------------------


def test_four_wrong_passwords_lock_the_account_for_the_right_one_too(
    manager: Manager,
):
    words = (
        "User unauthorized: Authentication failed for <User username=`admin`>. "
        "Wrong credentials or locked account"
    )
    for _ in range(4):
        found = curl(f"{manager.api}/snapshots", *WRONG)
        assert (found.status, found.code, found.message) == (
            401, "unauthorized_error", words,
        )  # fmt: skip
    assert ask(manager, "snapshots").message == words
    manager.unlock()
    assert ask(manager, "snapshots").status == 200


def test_a_right_password_forgets_the_wrong_ones(manager: Manager):
    for _ in range(3):
        curl(f"{manager.api}/snapshots", *WRONG)
    assert ask(manager, "snapshots").status == 200
    assert manager.wrong_passwords() == 0


def test_a_tokens_value_is_shown_once_and_opens_until_it_is_deleted(
    manager_7: Manager,
):
    made = ask(manager_7, "tokens", *JSON, *data({"description": "for a test"}))
    assert made.status == 200
    assert made.json.keys() == {
        "id", "username", "value", "role", "expiration_date", "last_used",
        "description",
    }  # fmt: skip
    name, value = made.json["id"], made.json["value"]
    assert value.startswith(f"ctok-{name}-")
    token = ("-H", f"Authentication-Token: {value}", *TENANT)
    assert curl(f"{manager_7.api}/snapshots", *token).status == 200
    [listed] = ask(manager_7, "tokens").json["items"]
    assert (listed["id"], "********" in listed["value"]) == (name, True)
    gone = ask(manager_7, f"tokens/{name}", "-X", "DELETE")
    assert (gone.status, gone.body) == (204, b"")
    assert curl(f"{manager_7.api}/snapshots", *token).status == 401


def test_a_token_that_has_expired_is_refused(manager_7: Manager):
    made = ask(manager_7, "tokens", *JSON, *data({}))
    manager_7.query("UPDATE tokens SET expiration_date = now() - interval '1 h'")
    token = ("-H", f"Authentication-Token: {made.json['value']}", *TENANT)
    found = curl(f"{manager_7.api}/snapshots", *token)
    assert (found.status, found.message) == (401, "User unauthorized: Token is expired")


def test_a_token_of_4_x_comes_with_get_or_post_and_opens(manager_4: Manager):
    for verb in ("GET", "POST"):
        made = ask(manager_4, "tokens", "-X", verb)
        assert made.json.keys() == {"username", "value", "role"}
        token = ("-H", f"Authentication-Token: {made.json['value']}", *TENANT)
        assert curl(f"{manager_4.api}/snapshots", *token).status == 200


def test_the_audit_log_tells_what_was_done_since(manager_7: Manager):
    manager_7.put("deployments", "web")
    [entry] = ask(manager_7, "audit").json["items"]
    assert (entry["ref_table"], entry["operation"]) == ("deployments", "create")
    assert entry["ref_identifier"] == {"id": "web", "tenant_name": "default_tenant"}
    manager_7.query("DELETE FROM deployments")
    since = ask(manager_7, f"audit?since={entry['created_at']}").json["items"]
    assert [one["operation"] for one in since] == ["create", "delete"]
    later = ask(manager_7, "audit?since=2999-01-01T00:00:00Z").json["items"]
    assert later == []


# --- maintenance ----------------------------------------------------------------


def test_maintenance_lets_snapshots_pass_and_holds_executions(manager: Manager):
    assert post(manager, "maintenance/activate") == (200, "activated")
    assert post(manager, "maintenance/activate") == (304, "")
    held = ask(manager, "executions")
    assert (held.status, held.code) == (503, "maintenance_mode_active")
    bypass = ("-H", "X-BYPASS-MAINTENANCE: True")
    assert ask(manager, "executions", *bypass).status == 200
    for path in ("snapshots", "status", "version", "maintenance"):
        assert ask(manager, path).status == 200
    assert create(manager, "s1").status == 201
    assert post(manager, "maintenance/deactivate") == (200, "deactivated")
    assert post(manager, "maintenance/deactivate") == (304, "")
    assert ask(manager, "maintenance").json["remaining_executions"] is None


def test_maintenance_is_only_entered_while_an_execution_runs(manager: Manager):
    manager.faults.worker_dead = True
    execution = create(manager, "s1").json["id"]
    entering = ask(manager, "maintenance/activate", "-X", "POST").json
    assert entering["status"] == "activating"
    [[remaining]] = entering["remaining_executions"]
    assert remaining["id"] == execution
    [again] = ask(manager, "maintenance").json["remaining_executions"]
    assert again == remaining
    held = create(manager, "s2")
    assert (held.status, held.code) == (503, "entering_maintenance_mode")
    assert ask(manager, "snapshots/s1").status == 200
    kill(manager, execution)
    manager.faults.worker_dead = False
    manager.ended(execution)
    assert ask(manager, "maintenance").json["status"] == "activated"


# --- roles ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["status", "snapshots", "snapshots/s1", "version"])
def test_a_manager_of_4_x_that_is_not_active_says_so_to_anybody(
    manager_4: Manager, path: str
):
    manager_4.office.active = False
    found = curl(f"{manager_4.api}/{path}")
    assert (found.status, found.code) == (400, "not_cluster_master")
    assert "query the cluster status to learn the master's address" in found.message
    manager_4.office.removed = True
    assert curl(f"{manager_4.api}/{path}").code == "removed_from_cluster"


def test_only_the_one_that_is_active_says_status_running(manager_4: Manager):
    found = ask(manager_4, "status")
    assert (found.status, found.json["status"]) == (200, "running")
    assert {one["unit_id"] for one in found.json["services"]} >= {
        "cloudify-consul.service", "cloudify-postgresql.service",
    }  # fmt: skip


def test_a_cluster_without_a_quorum_is_200_and_its_summary_500(
    start_manager: StartManager,
):
    def peers(dead: int) -> tuple[Peer, ...]:
        kinds = ("manager", "db", "broker")
        return tuple(
            Peer(kind, f"{kind}{number}", "127.0.0.1", online=number >= dead)
            for kind in kinds
            for number in range(3)
        )

    office = Office(peers=peers(0))
    manager = start_manager("7.0.5", office=office)
    for dead, word, summary in ((0, "OK", 200), (1, "Degraded", 200), (2, "Fail", 500)):
        office.peers = peers(dead)
        found = ask(manager, "cluster-status")
        assert (found.status, found.json["status"]) == (200, word)
        services = {kind: one["status"] for kind, one in found.json["services"].items()}
        assert services["manager"] == ("OK" if not dead else "Degraded")
        assert services["db"] == services["broker"] == word
        short = ask(manager, "cluster-status?summary=true")
        assert (short.status, short.json) == (summary, {"status": word, "services": {}})


def test_a_service_that_is_down_is_a_200_that_says_fail(manager_7: Manager):
    assert ask(manager_7, "status").json["status"] == "OK"
    manager_7.faults.worker_dead = True
    found = ask(manager_7, "status")
    assert (found.status, found.json["status"]) == (200, "Fail")
    assert found.json["services"]["Management Worker"]["status"] == "Inactive"
    short = ask(manager_7, "status?summary=true")
    assert (short.status, short.json) == (200, {"status": "Fail", "services": {}})


def test_health_looks_for_the_broker_and_takes_its_time(manager_7: Manager):
    manager_7.faults.broker_dead = True
    found = curl(f"{manager_7.api}/ok")
    assert (found.status, found.text) == (500, '"FAIL"\n')
    assert found.seconds >= manager_7.traits.broker_look_s
    assert ask(manager_7, "snapshots").status == 200


# --- outages --------------------------------------------------------------------


def test_a_standby_stalls_every_request_and_then_refuses_the_login(
    stage16: Stage, start_manager: StartManager
):
    _, standby = manager_pair(stage16, audited=True)
    manager = start_manager("7.0.5", server=standby, stall_s=0.6)
    found = ask(manager, "snapshots")
    assert (found.status, found.code) == (500, "internal_server_error")
    assert READ_ONLY in found.json["server_traceback"]
    assert found.seconds >= 0.6
    assert create(manager, "s1").status == 500


def test_a_standby_under_a_manager_of_4_x_refuses_the_login_at_once(
    stage16: Stage, start_manager: StartManager
):
    _, standby = manager_pair(stage16, audited=False)
    manager = start_manager("4.5.5", server=standby, stall_s=30.0)
    found = ask(manager, "snapshots")
    assert (found.status, READ_ONLY in found.message) == (500, True)
    assert found.seconds < 5


def test_four_impatient_requests_block_a_manager_whose_database_is_a_standby(
    stage16: Stage, start_manager: StartManager
):
    _, standby = manager_pair(stage16, audited=True)
    manager = start_manager("7.0.5", server=standby, stall_s=1.0)
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, manager, "snapshots") for _ in range(5)]
        assert {one.result().status for one in asked} == {500}
    assert time.monotonic() - begun >= 2.0


@pytest.mark.parametrize("path", ["ok", "snapshot-status", "snapshots", "status"])
def test_without_a_database_every_route_is_500_at_once(manager_7: Manager, path: str):
    manager_7.server.stop()
    found = ask(manager_7, path)
    assert (found.status, found.code) == (500, "internal_server_error")
    assert "OperationalError" in found.json["server_traceback"]
    assert PASSWORD not in found.text


def test_a_service_that_is_down_is_nginxs_page(manager: Manager):
    manager.faults.html = True
    found = ask(manager, "snapshots")
    assert (found.status, found.kind) == (502, "text/html")
    assert "<h1>502 Bad Gateway</h1>" in found.text


def test_the_plain_port_of_a_manager_with_tls_sends_everybody_away(
    start_manager: StartManager,
):
    manager = start_manager("7.0.5", ssl_required=True)
    found = ask(manager, "snapshots")
    words = "SSL must be used for API access on SSL-enabled managers."
    assert (found.status, found.json) == (
        400, {"message": words, "error_code": "SSL_REQUIRED"},
    )  # fmt: skip


@pytest.mark.parametrize("state", ["missing", "expired"])
def test_without_a_license_no_snapshots_but_the_status(
    start_manager: StartManager, state: str
):
    manager = start_manager("7.0.5", license=state)
    found = ask(manager, "snapshots")
    assert (found.status, found.code) == (400, f"{state}_cloudify_license")
    assert ask(manager, "status").status == 200


def test_faults_are_switched_by_name_and_others_are_refused(manager: Manager):
    manager.faults.switch({"disk_full": True, "cut_after": 10})
    assert (manager.faults.disk_full, manager.faults.cut_after) == (True, 10)
    with pytest.raises(ValueError, match="the faults are"):
        manager.faults.switch({"in_flight": 3})


def test_an_archive_is_nobody_elses_to_read(manager: Manager):
    manager.make("s1")
    path: Path = manager.folder / "snapshots/s1/s1.zip"
    assert path.stat().st_mode & 0o077 == 0
    assert curl(f"{manager.api}/snapshots/s1/archive", *TENANT).status == 401


def test_the_login_is_asked_for_before_the_body_is_looked_at(manager: Manager):
    assert curl(f"{manager.api}/snapshots/s1", "-X", "PUT", *WRONG).status == 401
