"""The lab's receiver of webhooks: what stands for the pager of whoever is on call.

Theory of operation. It takes a message only when its Standard Webhooks signature
holds, and answers 401 otherwise. Delivery is at least once, so the same
`webhook-id` may come twice: it is noted as a repetition and counts once. Every
arrival is a line in `notices.jsonl`, with the time at which it was answered.
"""

import json
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response

from agent.notify import signing

BODY_BYTES_MAX = 64 * 1024


class Receiver:
    """Keeps what arrives."""

    def __init__(self, secret: str, path: Path) -> None:
        self._key = signing.key_of(secret)
        self._path = path
        self._known: set[str] = set()
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self.app.add_api_route("/webhook", self._receive, methods=["POST"])

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        message_id = request.headers.get("webhook-id", "")
        refusal = self._refusal(request, body)
        self._note(message_id, body, refusal)
        return Response(refusal, 401) if refusal else Response(status_code=204)

    def _refusal(self, request: Request, body: bytes) -> str:
        """Return why the message is not taken; empty when it is."""
        if len(body) > BODY_BYTES_MAX:
            return "too long"
        try:
            signing.verify(self._key, dict(request.headers), body, time.time())
        except signing.SignatureError as error:
            return error.message
        return ""

    def _note(self, message_id: str, body: bytes, refusal: str) -> None:
        repeated = message_id in self._known
        if not refusal:
            self._known.add(message_id)
        line = {
            "at": time.time(),
            "webhook_id": message_id,
            "accepted": not refusal,
            "refusal": refusal,
            "repeated": repeated,
            "body": _json(body),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_notices(path: Path) -> list[dict[str, Any]]:
    """Return every arrival that the receiver noted, oldest first."""
    try:
        text = path.read_text("utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
