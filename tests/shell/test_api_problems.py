"""Every refusal is problem details, and nothing else gets out."""

import logging

import pytest

from tests.fix_desk import Served


def is_problem(answer) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"].startswith("urn:splitguard:problem:")
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/status/", 404),
        ("DELETE", "/v1/status", 405),
        ("POST", "/livez", 405),
        ("GET", "/v1/incidents?limit=0", 422),
        ("GET", "/assets/secret", 404),
        ("GET", "/assets/..%2fpage.py", 404),
    ],
)
async def test_what_the_framework_refuses_is_a_problem_too(
    served: Served, method: str, path: str, status: int
):
    async with served.local() as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    is_problem(answer)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"reason": ""}, "body.reason must not be empty."),
        ({}, "body.reason is missing."),
        ({"reason": "x" * 2001}, "body.reason is longer than 2000 characters."),
        ({"reason": 5}, "body.reason must be a text."),
        ({"reason": "x", "why": 1}, "body.why is not known here."),
    ],
)
async def test_what_does_not_fit_is_said_in_a_sentence(served: Served, body, said):
    async with served.local() as client:
        for path in ("/v1/snapshots/one/pin", "/v1/guard/release"):
            answer = await client.post(path, json=body)
            assert answer.status_code == 422
            assert answer.json()["detail"] == f"The request does not fit: {said}"


async def test_what_was_sent_is_not_repeated(served: Served):
    async with served.local() as client:
        answer = await client.post(
            "/v1/guard/release", json={"reason": ["hunter2"], "hunter2x": 1}
        )
        long_path = await client.get("/" + "a" * 3000)
    is_problem(answer)
    assert "['hunter2']" not in answer.text
    assert len(long_path.json()["detail"]) < 400


async def test_a_body_without_end_is_refused(served: Served):
    async with served.local() as client:
        answer = await client.post(
            "/v1/guard/release", json={"reason": "x" * 1_000_000}
        )
    assert answer.status_code == 413
    is_problem(answer)


async def test_an_error_that_nobody_foresaw_is_a_plain_500(
    served: Served, caplog: pytest.LogCaptureFixture
):
    def broken() -> None:
        raise RuntimeError("password=hunter2")

    served.shelf.list = broken  # type: ignore[method-assign,assignment] # a broken shelf
    with caplog.at_level(logging.ERROR, "agent.api.problems"):
        async with served.local() as client:
            answer = await client.get("/v1/snapshots")
    assert answer.status_code == 500
    is_problem(answer)
    assert "hunter2" not in answer.text
    assert "/v1/snapshots" in caplog.text


async def test_every_answer_keeps_a_browser_from_guessing(served: Served):
    async with served.local() as client:
        for path in ("/livez", "/", "/nowhere", "/v1/status", "/assets/page.js"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
