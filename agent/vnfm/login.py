"""Who asks the managers, and the breaker that keeps the account from being locked.

Theory of operation. Four wrong passwords lock a manager's account, for everybody who
uses it. So a login that a manager refuses is given out no more for that manager until
the file that it came from has changed: not by the next request, nor by the next task
that has the same LoginKept. Passwords and tokens show in no repr, message or log.
Source: `failed_logins_before_account_lock` in the managers' REST service: 4 by default.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ManagerError

UNAUTHORIZED = "unauthorized_error"
Mark = tuple[tuple[int, int, int], ...]
"""How to tell that a file was written anew: time, size and number of each."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password, or a token, and the tenant to work in."""

    username: str
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """Used in place of user and password where it is given."""
    tenant: str = "default_tenant"
    source: str = field(default="", compare=False)
    """What gave password or token, as a person would write it; empty: [vnfm]."""
    tenant_source: str = field(default="", compare=False)
    """What gave the tenant; empty: [vnfm]."""

    def headers(self) -> dict[str, str]:
        """Return what to send with each request."""
        if self.token:
            return {"authentication-token": self.token, "tenant": self.tenant}
        both = f"{self.username}:{self.password}".encode()
        basic = base64.b64encode(both).decode("ascii")
        return {"authorization": f"Basic {basic}", "tenant": self.tenant}

    @property
    def called(self) -> str:
        """Return what a message calls it."""
        return "the token" if self.token else f"user {self.username}"


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    mark: Mark


class LoginKept:
    """A login that is taken back from a manager that refused it.

    `read` returns the login, None for none; it is called again once one of `files`
    has changed. Raises what `read` raises.
    """

    def __init__(
        self, read: Callable[[], Login | None], files: Sequence[Path] = ()
    ) -> None:
        self._read = read
        self._files = tuple(files)
        self._login: tuple[Mark, Login | None] | None = None
        self._given: dict[str, Mark] = {}
        self._refused: dict[str, _Refusal] = {}

    @classmethod
    def of(cls, login: Login | None) -> "LoginKept":
        """Return the breaker of a login that comes from no file: refused for good."""
        return cls(lambda: login)

    def for_manager(self, place: str) -> Login | None:
        """Return the login for the manager at `place`; None when there is none.

        Raises ManagerError (`unauthorized_error`) when that manager refused it.
        """
        mark = self._mark()
        refusal = self._refused.get(place)
        if refusal is not None and refusal.mark == mark:
            raise ManagerError(
                f"{place}: not asked, because it refused this login before"
                f" ({refusal.reason})",
                "four wrong ones lock the account; put the right password or token"
                " into its file, which is read again once it has changed",
                status=401,
                code=UNAUTHORIZED,
            )
        if self._login is None or self._login[0] != mark:
            self._login = (mark, self._read())
        self._given[place] = mark
        return self._login[1]

    def refuse(self, place: str, reason: str) -> None:
        """Note that the manager at `place` refused what it was given last."""
        mark = self._given.get(place, self._mark())
        self._refused[place] = _Refusal(reason, mark)

    def reason(self, place: str) -> str:
        """Return why nothing is asked there; empty when it may be asked."""
        refusal = self._refused.get(place)
        if refusal is None or refusal.mark != self._mark():
            return ""
        return refusal.reason

    def _mark(self) -> Mark:
        return tuple(_mark(path) for path in self._files)


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
