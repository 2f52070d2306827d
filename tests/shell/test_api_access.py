"""Who may ask what: scopes, the socket, the page, and what a refusal says."""

import base64
from pathlib import Path

import httpx
import pytest

from tests.fix_desk import PEER_TOKEN, Served, healthy, listening, serve

READ = ["/v1/status", "/v1/nodes", "/v1/nodes/n1", "/v1/lineage", "/v1/incidents",
        "/v1/snapshots", "/metrics"]  # fmt: skip
OPEN = ["/livez", "/readyz", "/primary", "/health", "/openapi.json", "/assets/page.css"]


@pytest.mark.parametrize("path", OPEN)
async def test_open_routes_need_no_token(served: Served, path: str):
    async with served.client() as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", [*READ, "/v1/report", "/v1/events", "/"])
async def test_everything_else_says_401_and_how_to_ask(served: Served, path: str):
    async with served.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["www-authenticate"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Who asks?"


async def test_who_has_a_new_token_is_told_when_it_is_read(served: Served):
    for scope, wanted in (("read", 403), (None, 401)):
        async with served.client(scope) as client:
            new = {} if scope else {"authorization": "Bearer sg_data_new"}
            path = "/v1/snapshots/n1-1/archive"
            answer = await client.get(path, headers=new)
        assert answer.status_code == wanted
        assert "reads tokens when it starts, and on SIGHUP" in answer.json()["hint"]


@pytest.mark.parametrize("path", READ)
async def test_read_reads_and_no_other_scope_does(served: Served, path: str):
    async with served.client("read") as client:
        assert (await client.get(path)).status_code == 200
    for scope in ("operate", "data", "peer"):
        async with served.client(scope) as client:
            answer = await client.get(path)
        assert answer.status_code == 403
        assert answer.json()["scope"] == "read"
        assert "scope read" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/incidents/inc-1/ack", "operate"),
        ("POST", "/v1/snapshots", "operate"),
        ("POST", "/v1/snapshots/s-1/verify", "operate"),
        ("GET", "/v1/snapshots/s-1/archive", "data"),
        ("POST", "/v1/guard/permits", "operate"),
        ("POST", "/v1/guard/release", "operate"),
        ("GET", "/v1/report", "peer"),
        ("GET", "/v1/changes?timeline=2&fork_lsn=0/1&lsn=0/2", "peer"),
    ],
)
async def test_no_scope_includes_another(
    served: Served, method: str, path: str, scope: str
):
    for other in {"read", "operate", "data", "peer"} - {scope}:
        async with served.client(other) as client:
            answer = await client.request(method, path, json={"reason": "r"})
        assert answer.status_code == 403
        assert answer.json()["scope"] == scope
    async with served.client(scope) as client:
        answer = await client.request(method, path, json={"reason": "r"})
    assert answer.status_code not in (401, 403)


async def test_over_the_unix_socket_nobody_needs_a_token(served: Served):
    async with served.local() as client:
        for path in (*READ, "/v1/report", "/"):
            assert (await client.get(path)).status_code == 200


def test_the_real_socket_is_told_from_the_real_port(tmp_path: Path):
    place = tmp_path / "agent.sock"
    claims = {"X-Forwarded-For": "", "X-Real-IP": "unix", "Forwarded": "for=unix"}
    with listening(serve(healthy()), place):
        transport = httpx.HTTPTransport(uds=str(place))
        with httpx.Client(transport=transport, base_url="http://agent") as client:
            assert client.get("/v1/status").status_code == 200
    with listening(serve(healthy())) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/status", headers=claims).status_code == 401


@pytest.mark.parametrize("said", ["Bearer wrong", "Bearer ", "Bearer", "Basic eA==",
                                  f"Bearer {'x' * 5000}", "Bearer é"])  # fmt: skip
async def test_a_wrong_token_is_refused_and_never_repeated(served: Served, said: str):
    async with served.client() as client:
        headers = {b"Authorization": said.encode()}
        answer = await client.get("/v1/status", headers=headers)
    assert answer.status_code == 401
    assert "wrong" not in answer.text


async def test_the_page_takes_the_token_as_a_password(served: Served):
    def basic(password: str) -> dict[str, str]:
        packed = base64.b64encode(f"anyone:{password}".encode()).decode()
        return {"Authorization": f"Basic {packed}"}

    async with served.client() as client:
        asked = await client.get("/")
        assert asked.headers["www-authenticate"].startswith("Basic ")
        good = await client.get("/", headers=basic(served.tokens["read"]))
        assert good.status_code == 200
        other = await client.get("/", headers=basic(served.tokens["data"]))
        assert other.status_code == 403
        bad = await client.get("/", headers=basic("guess"))
        assert bad.status_code == 401
        # For the API a password is no token: a browser sends it unasked.
        api = await client.get("/v1/status", headers=basic(served.tokens["read"]))
        assert api.status_code == 401


async def test_without_tokens_the_page_is_open_on_loopback_and_nothing_else_is():
    served = serve(healthy(), with_tokens=False)
    async with served.client() as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/v1/status")).status_code == 401
        rebound = await client.get("/", headers={"Host": "evil.example"})
        assert rebound.status_code == 403
    beyond = serve(healthy(), with_tokens=False, loopback=False)
    async with beyond.client() as client:
        assert (await client.get("/")).status_code == 401


async def test_the_peer_token_opens_the_report_and_the_asker_is_believed_by_list(
    served: Served,
):
    async with served.client() as client:
        headers = {"Authorization": f"Bearer {PEER_TOKEN}"}
        for name in ("n2", "stranger"):
            named = {**headers, "X-Splitguard-Node": name}
            answer = await client.get("/v1/report", headers=named)
            assert answer.status_code == 200
            assert answer.json()["node"] == "n1"
    assert served.desk.heard_by == ["n2", None]
