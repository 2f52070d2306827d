"""What a server's refusal means, and what to do about it.

Theory of operation. libpq gives no SQLSTATE for an error during connecting, only
text. Its form tells the two cases apart in every language: what the server said
itself begins with a severity, a colon and two spaces; all else came from this
machine's sockets. For the server's own words the code is found by the English
sentence; where the server speaks another language the sentence itself is shown.
Source of the form: libpq, pqBuildErrorMessage3, `"%s:  "`.
"""

import re

from agent.core.observation import Outcome
from agent.probe.result import Result, failure

_SAID_BY_SERVER = re.compile(
    r"failed: (?P<severity>[^\s:]{1,20}):  (?P<text>.*)", re.DOTALL
)
_FAILED = re.compile(r".* failed: (?P<text>.*)", re.DOTALL)

_SENTENCES = (
    ("too many clients already", "53300"),
    ("remaining connection slots are reserved", "53300"),
    ("too many connections for", "53300"),
    ("the database system is", "57P03"),
    ("password authentication failed", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("pg_hba.conf rejects", "28000"),
    ("authentication failed", "28000"),
    ("is not permitted to log in", "28000"),
    ("permission denied for database", "42501"),
    ('role "', "28000"),
    ('database "', "3D000"),
)
"""Words of an English message -> SQLSTATE; the first match wins."""

_HINTS = {
    "53300": "raise max_connections or the probe role's limit; it is alive",
    "57P03": "wait: it is alive and takes no connections yet",
    "28P01": "give the role's password by passfile, and see `splitguard grants`",
    "28000": "add the pg_hba.conf line and the role that `splitguard grants` prints",
    "28": "add the pg_hba.conf line and the role that `splitguard grants` prints",
    "3D000": "name a database that exists, such as dbname=postgres",
    "42501": "grant what `splitguard grants` prints",
    "3F000": "run what `splitguard grants --before-10` prints, in that database",
    "42883": "run what `splitguard grants --before-10` prints, in that database",
    "57014": "the statement took longer than the probe's deadline",
    "57P01": "the server is stopping or somebody ended the probe's session",
    "57P02": "the server has crashed and ends all sessions",
}

_FULL = "53300"
_ENDING = "57P"
"""Class 57, operator intervention, without query_canceled (57014)."""

_CLIENT_SIDE = (
    "root certificate file",
    "does not support SSL",
    "certificate verify failed",
    "SSL error",
    "fe_sendauth: no password supplied",
)
"""Words of libpq itself when somebody answers and libpq will not go on."""


def of_connect(message: str) -> Result:
    """Return what a failed attempt to connect means."""
    said = _SAID_BY_SERVER.search(message)
    if said is not None:
        text = (said["text"].splitlines() or [""])[0]
        code = next((code for words, code in _SENTENCES if words in text), "")
        return of_state(code, text)
    own = _FAILED.search(message)
    text = (own["text"] if own else message).strip()
    first = text.splitlines()[0] if text else "no reason given"
    if any(words in text for words in _CLIENT_SIDE):
        return failure(Outcome.REFUSED, f"{first}; see this node's `postgres` setting")
    return failure(Outcome.UNREACHABLE, first)


def is_full(result: Result) -> bool:
    """Whether the server refused because it has no slot left: it runs as before."""
    return result.outcome is Outcome.REFUSED and result.reason.startswith(_FULL)


def is_ending(code: str) -> bool:
    """Whether an error says that the server shuts down, crashes or ends sessions."""
    return code.startswith(_ENDING)


def of_state(code: str, text: str) -> Result:
    """Return what an error of the server means: REFUSED, with code and hint."""
    hint = _HINTS.get(code) or _HINTS.get(code[:2], "")
    first = text.strip().splitlines()[0] if text.strip() else "refused"
    parts = [f"{code} {first}".strip(), hint]
    return failure(Outcome.REFUSED, "; ".join(part for part in parts if part))
