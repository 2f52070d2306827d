"""Who may come in: Basic logins, tokens, locked accounts, tenants.

Theory of operation. A request that carries nothing which the service understands is
401 "No authentication info provided"; so is a Bearer token, a name that is unknown,
and one that begins with no letter. A wrong password is counted, and so many in a row
lock the account: then the right one is refused in the same words. The count is kept in
memory, because a manager's own row of it would make a clean standby's server write.
A tenant that is named must exist; one that is not named is missed only where it is
needed. The bootstrap administrator may do everything.
Source: `user_handler.py`, `authentication.py` and `authorization.py`.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import string
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from agent.lab.standin.answers import Refusal
from agent.lab.standin.asked import Asked
from agent.lab.standin.rows import Rows
from agent.lab.standin.traits import Traits

ADMIN = "admin"
NOTHING = "No authentication info provided"
TOKEN_PARTS = 3
_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


class Door:
    """Checks logins. Its methods raise Refusal, and psycopg.Error for tokens."""

    def __init__(self, traits: Traits, rows: Rows) -> None:
        self._traits = traits
        self._rows = rows
        self._lock = threading.Lock()
        self.wrong: dict[str, int] = {}
        """How many wrong passwords in a row, by user. Whoever is not in it is free."""
        self._old_tokens: dict[str, str] = {}
        """The tokens of before 6.3, which are signed and in no table: digest, user."""

    def enter(self, asked: Asked) -> None:
        """Check who asks, and the tenant; note both in the request."""
        asked.user = self._user(asked.headers)
        tenant = asked.headers.get("tenant", "")
        if tenant and tenant not in self._traits.tenants:
            message = (
                "Authorization failed: Tried to authenticate with invalid tenant name: "
                f"{tenant}"
            )
            raise Refusal(403, "forbidden_error", message)
        asked.tenant_name = tenant

    def permit(self, asked: Asked, action: str) -> None:
        """Check that the user may do what only administrators do."""
        if asked.user == ADMIN:
            return
        message = f"User `{asked.user}` is not permitted to perform the action {action}"
        if asked.tenant_name:
            message += f" in the tenant `{asked.tenant_name}`"
        raise Refusal(403, "forbidden_error", message)

    def new_token(self) -> tuple[str, str, str]:
        """Return a new token: its id, its value, and the hash of its secret."""
        name = "".join(secrets.choice(_LETTERS) for _ in range(10))
        secret = "".join(secrets.choice(_LETTERS) for _ in range(40))
        return name, f"ctok-{name}-{secret}", digest(secret)

    def old_token(self, user: str) -> str:
        """Return a token of before 6.3."""
        value = secrets.token_urlsafe(60)
        self._old_tokens[digest(value)] = user
        return value

    def _user(self, headers: Mapping[str, str]) -> str:
        """Return who it is."""
        basic = _basic(headers.get("authorization", ""))
        if basic is not None and basic[0] in {ADMIN, *self._traits.others}:
            return self._by_password(*basic)
        token = headers.get("authentication-token", "")
        if token:
            return self._by_token(token)
        raise unauthorized(NOTHING)

    def _by_password(self, user: str, password: str) -> str:
        known = {**self._traits.others, ADMIN: self._traits.password}[user]
        right = hmac.compare_digest(password.encode(), known.encode())
        with self._lock:
            locked = self.wrong.get(user, 0) >= self._traits.lock_after
            if right and not locked:
                self.wrong.pop(user, None)
                return user
            if not right:
                self.wrong[user] = self.wrong.get(user, 0) + 1
        raise unauthorized(
            f"Authentication failed for <User username=`{user}`>. "
            "Wrong credentials or locked account"
        )

    def _by_token(self, token: str) -> str:
        if not self._traits.has_new_format:
            user = self._old_tokens.get(digest(token))
            if user is None:
                raise unauthorized("Authentication failed for token")
            return user
        parts = token.split("-", TOKEN_PARTS - 1)
        if len(parts) != TOKEN_PARTS:
            raise unauthorized("Invalid token structure")
        found = self._rows.ask("SELECT * FROM tokens WHERE id = %s", (parts[1],))
        secret = digest(parts[2])
        if not found or not hmac.compare_digest(secret, found[0]["secret_hash"]):
            raise unauthorized("Unauthorized")
        expires = found[0]["expiration_date"]
        if expires is not None and expires <= datetime.now(UTC):
            raise unauthorized("Token is expired")
        return str(found[0]["username"])


def unauthorized(why: str) -> Refusal:
    """Return the answer to somebody whom nobody knows."""
    return Refusal(401, "unauthorized_error", f"User unauthorized: {why}")


def digest(secret: str) -> str:
    """Return what is kept of a token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _basic(header: str) -> tuple[str, str] | None:
    """Return user and password of a Basic header that the service understands."""
    kind, _, rest = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        text = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    if not colon or not user or user[0] not in string.ascii_letters:
        return None
    return user, password
