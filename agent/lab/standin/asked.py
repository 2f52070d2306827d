"""A request as the REST service reads it.

Theory of operation. A body is read as JSON only where the content type is exactly
`application/json`; with a charset behind it, or none, it is 415 before anything else
is looked at. An empty or malformed body is a page of Werkzeug's. What is JSON but no
object fails where the first key is asked for, which nobody foresaw: 500.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from agent.lab.standin.answers import (
    JSON,
    NOT_JSON,
    Misread,
    Refusal,
    Unforeseen,
    bad_parameter,
)


@dataclass(slots=True)
class Asked:
    """One request. `tenant` is there once the login was checked."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes = b""
    spooled: Path | None = None
    """Where an upload's body lies, which is not held in memory."""
    user: str = ""
    tenant_name: str = ""

    @property
    def tenant(self) -> str:
        """The tenant. Raises Refusal: the request names none."""
        if not self.tenant_name:
            message = "Authorization failed: tenant not provided"
            raise Refusal(403, "forbidden_error", message)
        return self.tenant_name

    def one(self, name: str) -> str | None:
        """Return a parameter of the query; None when it is not there."""
        return self.query.get(name, [None])[0]

    def flag(self, name: str, default: bool) -> bool:
        """Return a parameter of the query as a truth value. Raises Refusal."""
        found = self.one(name)
        return default if found is None else truth(name, found)

    def json(self, *required: str) -> "Body":
        """Return the body. Raises Refusal, Misread or Unforeseen."""
        if self.headers.get("content-type") != JSON:
            message = "Content type must be application/json"
            raise Refusal(415, "unsupported_content_type_error", message)
        try:
            plain = json.loads(self.body)
        except ValueError as error:
            raise Misread(400, "Bad Request", NOT_JSON) from error
        for name in required:
            if not isinstance(plain, dict | list | str) or name not in plain:
                raise bad_parameter(f"Missing {name} in json request body")
        return Body(plain)


@dataclass(frozen=True, slots=True)
class Body:
    """What came as JSON, which may be anything."""

    plain: Any = field(default_factory=dict)

    def get(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return a key's value. Raises Unforeseen: it is no object."""
        if not isinstance(self.plain, dict):
            kind = type(self.plain).__name__
            words = f"'{kind}' object has no attribute 'get'"
            raise Unforeseen("AttributeError", words)
        return self.plain.get(name, default)

    def must(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return a key's value. Raises Unforeseen: it is not there."""
        if not isinstance(self.plain, dict):
            words = "list indices must be integers or slices, not str"
            raise Unforeseen("TypeError", words)
        if name not in self.plain:
            raise Unforeseen("KeyError", f"'{name}'")
        return self.plain[name]

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value. Raises Refusal, Unforeseen."""
        return truth(name, self.get(name, default))


def truth(name: str, value: object) -> bool:
    """Return what the service takes for true or false. Raises Refusal."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise bad_parameter(f"{name} must be <true/false>, got {value}")


def query_of(text: str) -> dict[str, list[str]]:
    """Return the parameters of a query string."""
    return parse_qs(text, keep_blank_values=True, max_num_fields=100)
