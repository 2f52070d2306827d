"""Every way in which a manager refuses, in words that a person can act upon."""

import asyncio
import re
import ssl
from pathlib import Path

import pytest
import trustme

from agent.errors import ManagerError
from agent.transport import HttpClient, Tls
from agent.vnfm.client import CreateOptions, Login, ManagerClient
from agent.vnfm.refusals import kill_in, with_kill
from tests.fix_network import http
from tests.fix_postgres import free_port
from tests.fix_vnfm import LOGIN, Forward, html, refused, told

LOCKED = (
    "User unauthorized: Authentication failed for <User username=`admin`>."
    " Wrong credentials or locked account"
)
READ_ONLY = (
    "500 INTERNAL SERVER ERROR", "internal_server_error",
    "(psycopg2.errors.X) cannot execute UPDATE in a read-only transaction",
)  # fmt: skip
# The manager's answer; its code; what the message has; what the hint has.
CASES = {
    "no tenant": (
        refused("403 FORBIDDEN", "forbidden_error",
                "Authorization failed: tenant not provided"),
        "forbidden_error", "tenant not provided", "[vnfm] tenant, now 'default_tenant'",
    ),
    "unknown tenant": (
        refused("403 FORBIDDEN", "forbidden_error", "Authorization failed: Tried to"
                " authenticate with invalid tenant name: nope"),
        "forbidden_error", "tenant name: nope", "cfy tenants list",
    ),
    "no administrator": (
        refused("403 FORBIDDEN", "forbidden_error", "User `x` is not permitted to"
                " perform the action snapshot_create in the tenant `t`"),
        "forbidden_error", "snapshot_create", "system administrator",
    ),
    "somebody's content type": (
        refused("415 UNSUPPORTED MEDIA TYPE", "unsupported_content_type_error",
                "Content type must be application/json"),
        "unsupported_content_type_error", "must be application/json",
        "changed the Content-Type",
    ),
    "only https": (
        refused("400 Bad Request", "SSL_REQUIRED", "SSL must be used for API access on"
                " SSL-enabled managers."),
        "SSL_REQUIRED", "SSL must be used", "https:// under [[nodes]] manager",
    ),
    "a standby's database": (
        refused(*READ_ONLY), "internal_server_error", "read-only transaction",
        "database is a standby: it holds each request for 45 s",
    ),
    "no database": (
        refused("500 INTERNAL SERVER ERROR", "internal_server_error",
                "(psycopg2.OperationalError) connection refused"),
        "internal_server_error", "connection refused", "PostgreSQL answers",
    ),
    "maintenance": (
        refused("503 SERVICE UNAVAILABLE", "maintenance_mode_active", "Your request was"
                " rejected since Cloudify manager is currently in maintenance mode"),
        "maintenance_mode_active", "in maintenance mode", "maintenance-mode deactivate",
    ),
    "on the way into maintenance": (
        refused("503 SERVICE UNAVAILABLE", "entering_maintenance_mode", "rejected"),
        "entering_maintenance_mode", "rejected", "about to enter maintenance mode",
    ),
    "a restore goes on": (
        refused("503 SERVICE UNAVAILABLE", "in_snapshot_restore_error", "rejected"),
        "in_snapshot_restore_error", "rejected", "wait for that",
    ),
    "no license": (
        refused("400 BAD REQUEST", "missing_cloudify_license", "This Manager has no"
                " Cloudify License"),
        "missing_cloudify_license", "no Cloudify License", "cfy license upload",
    ),
    "an old license": (
        refused("400 BAD REQUEST", "expired_cloudify_license", "expired"),
        "expired_cloudify_license", "expired", "run out",
    ),
    "not the active one": (
        refused("400 BAD REQUEST", "not_cluster_master", "The client should query the"
                " cluster status to learn the master's address"),
        "not_cluster_master", "query the cluster status", "splitguard vnfm status",
    ),
    "removed": (
        refused("400 BAD REQUEST", "removed_from_cluster", "removed"),
        "removed_from_cluster", "removed", "no part of the cluster any more",
    ),
    "nginx alone": (
        html("502 Bad Gateway"), "", "502 Bad Gateway (text/html, where JSON belongs)",
        "nginx answers there and its REST service does not",
    ),
    "too large": (
        html("413 Request Entity Too Large"), "", "413 Request Entity Too Large",
        "client_max_body_size",
    ),
    "an unknown route": (
        html("404 Not Found"), "", "404 Not Found (text/html", "address a manager's",
    ),
    "somebody else's page": (
        http("200 OK", b"<html><body>It works!</body></html>",
             "content-type: text/html; charset=utf-8"),
        "", "It works! (text/html, where JSON belongs)", "nothing in between",
    ),
    "an array": (told([1]), "", "where JSON belongs", "address a manager's"),
    "nothing": (http("200 OK"), "", "an empty answer", ""),
    "a redirect": (
        http("301 Moved", b"", "location: https://elsewhere/?password=x"),
        "", "HTTP 301: an empty answer", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_refusal_says_what_is_so_and_what_to_do(manager_says, case):
    answer, code, words, advice = CASES[case]
    client, asked = await manager_says(answer)
    with pytest.raises(ManagerError) as caught:
        await client.snapshots()
    error = caught.value
    assert error.code == code
    assert error.message.startswith(f"{client.place}: cannot list the snapshots: HTTP")
    assert words in error.message
    assert advice in error.hint
    assert len(asked) == 1
    for secret in ("s3cret", "secret-of-the-traceback", "password=x"):
        assert secret not in str(error)


async def test_an_error_that_nobody_foresaw_is_named_from_its_traceback(manager_says):
    trace = (
        "Traceback (most recent call last):\n  File x, line 1\n"
        "psycopg2.errors.ReadOnlySqlTransaction: cannot\n\n"
        "sqlalchemy.exc.InternalError: (psycopg2.errors.ReadOnlySqlTransaction) cannot"
        " execute UPDATE in a read-only transaction\n\n[SQL: UPDATE users SET x=%s]\n"
        "[parameters: {'password': 'hunter2'}]\n(Background on this error at: x)\n"
    )
    message = "Internal error occurred in manager REST server - InternalServerError"
    body = {"error_code": "internal_server_error", "message": message,
            "server_traceback": trace}  # fmt: skip
    client, _ = await manager_says(told(body, "500 INTERNAL SERVER ERROR"))
    with pytest.raises(ManagerError, match=r"InternalError: .psycopg2") as caught:
        await client.snapshots()
    assert "execute UPDATE in a read-only transaction" in caught.value.message
    assert "database is a standby" in caught.value.hint
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_sent_once_and_named(manager_says):
    answer = refused("401 UNAUTHORIZED", "unauthorized_error", LOCKED)
    client, asked = await manager_says(answer)
    with pytest.raises(ManagerError, match="Wrong credentials or locked") as caught:
        await client.snapshots()
    assert (caught.value.status, caught.value.code) == (401, "unauthorized_error")
    assert "four wrong ones lock it" in caught.value.hint
    for ask in (client.snapshots, client.version, client.status):
        with pytest.raises(ManagerError, match="not asked") as again:
            await ask()
        assert again.value.code == "unauthorized_error"
    assert len(asked) == 1


async def test_two_who_ask_at_once_send_a_wrong_password_once(manager_says):
    answer = refused("401 UNAUTHORIZED", "unauthorized_error", LOCKED)
    client, asked = await manager_says(answer)
    failed = await asyncio.gather(
        *(client.snapshots() for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(each, ManagerError) for each in failed)
    assert len(asked) == 1


async def test_an_expired_token_is_named_as_one(manager_says):
    message = "User unauthorized: Token is expired"
    answer = refused("401 UNAUTHORIZED", "unauthorized_error", message)
    client, asked = await manager_says(answer, login=Login("admin", token="ctok-a-b"))
    with pytest.raises(ManagerError, match="Token is expired") as caught:
        await client.snapshots()
    assert "[vnfm] token_file" in caught.value.hint
    assert b"authentication-token: ctok-a-b" in asked[0].lower()
    assert b"authorization:" not in asked[0].lower()


async def test_without_a_login_it_says_which_key_is_missing(manager_says):
    message = "User unauthorized: No authentication info provided"
    answer = refused("401 UNAUTHORIZED", "unauthorized_error", message)
    client, asked = await manager_says(answer, login=None)
    with pytest.raises(ManagerError) as caught:
        await client.snapshots()
    assert "password_file or token_file" in caught.value.hint
    assert b"authorization" not in asked[0].lower()


async def test_a_message_of_the_managers_is_one_bounded_printable_line(manager_says):
    wild = "\x1b[31mred\nline ftp://u:hunter2@host/x " + "y" * 5000
    client, _ = await manager_says(refused("400 BAD REQUEST", "bad\x07code", wild))
    with pytest.raises(ManagerError) as caught:
        await client.snapshots()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 600
    assert "hunter2" not in text
    assert "ftp://host/…" in text


async def test_a_manager_that_says_nothing_may_have_a_standby_database(
    network, client_of
):
    there = await network.silence()
    client = client_of(there.url, deadline_s=0.2)
    with pytest.raises(ManagerError, match=r"no answer within 0.2 s") as caught:
        await client.snapshots()
    assert re.search("45 s while its database is a standby", caught.value.hint)
    assert "RabbitMQ" in caught.value.hint
    assert caught.value.status is None


async def test_nobody_there_is_told_with_place_and_port(client_of):
    client = client_of(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ManagerError, match="Connection refused") as caught:
        await client.create("a", CreateOptions())
    assert caught.value.message.startswith(client.place)
    assert "port 80 or 443" in caught.value.hint


async def test_a_certificate_of_an_unknown_authority_names_the_setting(network):
    ours, theirs = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.issue_cert("127.0.0.1").configure_cert(context)
    there = await network.listen(lambda _r, _w: asyncio.sleep(0), ssl=context)
    with ours.cert_pem.tempfile() as trusted:
        client = HttpClient(Tls(ca=Path(trusted)))
        manager = ManagerClient(
            f"https://127.0.0.1:{there.port}", LOGIN, client, Forward()
        )
        with pytest.raises(ManagerError, match="TLS failed") as caught:
            await manager.version()
        await client.close()
    assert "[vnfm] ca" in caught.value.hint
    assert "cloudify_internal_ca_cert.pem" in caught.value.hint


def test_a_failure_is_kept_with_the_command_that_ends_what_hangs():
    busy = ManagerError(
        "n1: busy", "wait, or end it: splitguard vnfm executions kill 4"
    )
    kept = with_kill(busy)
    assert kept == "n1: busy; if it hangs, end it: splitguard vnfm executions kill 4"
    assert kill_in(kept) == "splitguard vnfm executions kill 4"
    general = ManagerError("busy", "end it: splitguard vnfm executions kill ID")
    assert with_kill(general) == "busy"
    assert kill_in("the disk is full") == ""
