"""Standard Webhooks 1.0: who has sent this, and that nobody changed it.

Theory of operation. The signature is an HMAC-SHA256 over `id.timestamp.body` with
the secret that sender and receiver share (`whsec_` and base64). A receiver
compares in constant time and refuses what is older or newer than its tolerance,
so that a recorded message cannot be played back to it later.
Source: the Standard Webhooks specification 1.0, "Signature scheme".
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from agent.errors import ConfigError, SplitguardError

PREFIX = "whsec_"
SHORTEST_KEY_BYTES = 16
TOLERANCE_S = 300.0


class SignatureError(SplitguardError):
    """A message is not from the holder of the secret, or not of now."""


def key_of(secret: str) -> bytes:
    """Return the key of a `whsec_` secret. Raises ConfigError; never shows it."""
    text = secret.strip().removeprefix(PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(("the webhook's secret is not base64",), _HINT) from error
    if len(key) < SHORTEST_KEY_BYTES:
        raise ConfigError(("the webhook's secret is too short",), _HINT)
    return key


_HINT = "write whsec_ and 24 to 64 random bytes in base64 into secret_file"


def signature(key: bytes, message_id: str, timestamp: int, body: str) -> str:
    """Return the value of `webhook-signature`."""
    content = f"{message_id}.{timestamp}.{body}".encode()
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def headers(
    key: bytes | None, message_id: str, wall_s: float, body: str
) -> dict[str, str]:
    """Return the three headers of a message; without a key it is not signed."""
    timestamp = int(wall_s)
    made = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if key is not None:
        made["webhook-signature"] = signature(key, message_id, timestamp, body)
    return made


def verify(
    key: bytes,
    received: Mapping[str, str],
    body: bytes,
    wall_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Return the message's id when the signature holds.

    `received` are the HTTP headers, in any case. Raises SignatureError.
    """
    given = {name.lower(): value for name, value in received.items()}
    message_id = given.get("webhook-id", "")
    timestamp = given.get("webhook-timestamp", "")
    if not message_id or not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError("webhook-id or webhook-timestamp is missing or no number")
    if abs(wall_s - int(timestamp[:12])) > tolerance_s:
        raise SignatureError("webhook-timestamp is too far from now")
    content = f"{message_id}.{timestamp}.".encode() + body
    wanted = hmac.new(key, content, hashlib.sha256).digest()
    for part in given.get("webhook-signature", "").split()[:10]:
        version, _, text = part.partition(",")
        if version == "v1" and hmac.compare_digest(_decoded(text), wanted):
            return message_id
    raise SignatureError("no webhook-signature fits this body and secret")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
