"""Tokens: who asks, and what that name may do.

Theory of operation. The tokens file holds one JSON object a line, `{"name", "scope",
"sha256"}`: the hash of the token and never the token. All of a token's 192 random bits
are in the token itself, so a plain hash is enough and no salt is needed. The peer token
is one secret that all agents share, in a file of its own. A presented token is hashed
and compared with every entry in constant time.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.errors import ConfigError

FILE_BYTES_MAX = 1_000_000
ENTRIES_MAX = 1000
NAME_LENGTH_MAX = 100
SHA256_HEX_DIGITS = 64
PEER_TOKEN_LENGTH_MIN = 16


class Scope(StrEnum):
    """What a token may do. None includes another."""

    READ = "read"
    OPERATE = "operate"
    DATA = "data"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks."""

    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the tokens file."""

    name: str
    scope: Scope
    sha256: str


def digest(token: str) -> str:
    """Return the hash by which a token is known."""
    return hashlib.sha256(token.encode()).hexdigest()


def create(name: str, scope: Scope) -> tuple[str, str]:
    """Return a new token and its line for the tokens file, without a line end.

    The token is shown once and kept nowhere. Raises ConfigError on a bad name.
    """
    problem = _name_problem(name)
    if problem:
        raise ConfigError((problem,))
    token = f"sg_{scope.value}_{secrets.token_urlsafe(24)}"
    entry = {"name": name, "scope": scope.value, "sha256": digest(token)}
    return token, json.dumps(entry)


class TokenBook:
    """All tokens that this agent accepts."""

    def __init__(self, entries: tuple[Entry, ...], peer_token: str | None) -> None:
        self._entries = entries
        if peer_token is not None:
            peer = Entry("peer", Scope.PEER, digest(peer_token))
            self._entries = (*entries, peer)

    @classmethod
    def load(
        cls, tokens_file: Path | None, peer_token_file: Path | None
    ) -> "TokenBook":
        """Read both files.

        Raises ConfigError with every line that does not fit; no line is quoted.
        """
        problems: list[str] = []
        text = ""
        if tokens_file is not None:
            text = _read_text(tokens_file, "auth.tokens_file", problems)
        entries = _entries(text, problems)
        peer = _read_peer_token(peer_token_file, problems) if peer_token_file else None
        if problems:
            hint = "make a line with `splitguard token create NAME --scope SCOPE`"
            raise ConfigError(tuple(problems), hint)
        return cls(entries, peer)

    @classmethod
    def parse(cls, text: str, peer_token: str | None) -> "TokenBook":
        """Make a book of a tokens file's text. Raises ConfigError."""
        problems: list[str] = []
        entries = _entries(text, problems)
        if problems:
            raise ConfigError(tuple(problems))
        return cls(entries, peer_token)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return what is known of each token; hashes, no tokens."""
        return self._entries

    @property
    def for_people(self) -> bool:
        """Whether anybody but a peer could present a token."""
        return any(entry.scope is not Scope.PEER for entry in self._entries)

    def find(self, token: str) -> Principal | None:
        """Return who presents this token; None when nobody is known by it.

        Every entry is compared, so the time taken tells nothing.
        """
        presented = digest(token)
        found: list[Entry] = [
            entry
            for entry in self._entries
            if hmac.compare_digest(entry.sha256, presented)
        ]
        if not found:
            return None
        return Principal(found[0].name, frozenset(entry.scope for entry in found))


def _read_text(path: Path, key: str, problems: list[str]) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            problems.append(f"{key}: {path} is larger than {FILE_BYTES_MAX} bytes")
            return ""
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problems.append(f"{key}: cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{key}: {path} is not UTF-8 text")
    return ""


def _read_peer_token(path: Path, problems: list[str]) -> str | None:
    before = len(problems)
    token = _read_text(path, "auth.peer_token_file", problems).strip()
    if len(problems) == before and len(token) < PEER_TOKEN_LENGTH_MIN:
        problems.append(
            f"auth.peer_token_file: {path} holds less than "
            f"{PEER_TOKEN_LENGTH_MIN} characters"
        )
    return token or None


def _entries(text: str, problems: list[str]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if len(entries) == ENTRIES_MAX:
            problems.append(f"auth.tokens_file: more than {ENTRIES_MAX} tokens")
            break
        entry = _entry(line)
        if isinstance(entry, Entry):
            entries.append(entry)
        else:
            problems.append(f"auth.tokens_file, line {number}: {entry}")
    return tuple(entries)


def _entry(line: str) -> Entry | str:
    """Return the entry, or what is wrong with the line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "not a JSON object"
    if not isinstance(value, dict) or set(value) != {"name", "scope", "sha256"}:
        return "needs the keys name, scope and sha256, and no other"
    name, scope, sha256 = value["name"], value["scope"], value["sha256"]
    problem = _name_problem(name)
    if problem:
        return problem
    if scope not in list(Scope):
        return f"scope must be one of {', '.join(Scope)}"
    if not _is_sha256(sha256):
        return "sha256 must be 64 hexadecimal digits"
    return Entry(name, Scope(scope), sha256.lower())


def _name_problem(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH_MAX:
        return f"name must be a text of 1 to {NAME_LENGTH_MAX} characters"
    return "" if name.isprintable() else "name must be printable"


def _is_sha256(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == SHA256_HEX_DIGITS
        and all(digit in "0123456789abcdefABCDEF" for digit in value)
    )
