"""One problem of a configuration, in the words that an operator reads.

Theory of operation. A problem knows the key, never prints a secret, and is shown as
`FILE:LINE: key = value: what is wrong; what to do`. pydantic's findings are turned
into such problems here; its own words speak to programmers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from agent.config import forms
from agent.config.forms import did_you_mean, parse_dsn
from agent.config.lines import Path as KeyPath
from agent.config.lines import line_of

SECRET_KEYS = frozenset({"url", "password", "secret", "token"})
"""A channel's `url` holds its key; the others are no keys of ours, but people try."""
DSN_KEYS = frozenset({"postgres", "dsn"})
VALUE_CHARS = 80

_ABSENT = object()

_EXPECTED = {
    "string_type": "not a text; put it into quotes",
    "bool_type": "not true or false",
    "float_type": 'not a number; give seconds as a plain number, such as 1.5, not "2s"',
    "float_parsing": "not a number; give seconds as a plain number, such as 1.5",
    "int_type": "not a whole number",
    "path_type": "not a path; give it as a text in quotes",
    "finite_number": "not a finite number",
    "tuple_type": "not a list; write [[…]] tables, or […] for a list of words",
    "model_type": "not a table; write [KEY] and its keys below it",
    "too_short": "empty; at least one is needed",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one key, and what to do about it."""

    path: KeyPath
    text: str
    value: object = _ABSENT
    """What was given; left out where nothing was, or where it may hold a secret."""
    variable: str = ""
    """The environment variable that it is about, where it is about no key."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where each key of a configuration came from."""

    file: Path
    lines: Mapping[KeyPath, int]
    variables: Mapping[KeyPath, str]
    """Keys that were set by an environment variable, with its name."""

    def place(self, path: KeyPath) -> str:
        """Return `FILE:LINE`, the variable's name, or the file alone."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                return f"environment {self.variables[path[:length]]}"
        line = line_of(self.lines, path)
        return str(self.file) if line is None else f"{self.file}:{line}"

    def show(self, problem: Problem) -> str:
        """Return the problem as one line."""
        if problem.variable:
            return printable(f"environment {problem.variable}: {problem.text}")
        value = shown_value(problem.path, problem.value)
        key = key_text(problem.path) + (f" = {value}" if value else "")
        return printable(f"{self.place(problem.path)}: {key}: {problem.text}")


def key_text(path: KeyPath) -> str:
    """Return a path as people write it: `nodes[1].agent`, counted from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def shown_value(path: KeyPath, value: object) -> str:
    """Return a value for a message: short, on one line, without secrets."""
    if value is _ABSENT or isinstance(value, dict | list):
        return ""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if key in DSN_KEYS:
        value = without_password(str(value))
    elif key in SECRET_KEYS:
        return "(not shown)"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = "?"
    text = re.sub("//[^/@]*@", "//***@", text)
    return text[: VALUE_CHARS - 1] + "…" if len(text) > VALUE_CHARS else text


def printable(text: str) -> str:
    """Return text in one line, without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def without_password(text: str) -> str:
    """Return a connection string without its password."""
    try:
        pairs = parse_dsn(text)
    except ValueError:
        return "(not shown: it may hold a password)"
    # A misspelt parameter may hold what `password` was meant to hold.
    hidden = {
        key: "***"
        for key in pairs
        if key not in forms.DSN_KEYS or re.search("password|secret", key)
    }
    return " ".join(f"{key}={value}" for key, value in (pairs | hidden).items())


def from_pydantic(error: ErrorDetails, model: type[BaseModel]) -> Problem:
    """Turn one of pydantic's findings into a problem."""
    path = tuple(error["loc"])
    kind = error["type"]
    context = error.get("ctx", {})
    given = error["input"]
    if kind == "missing":
        return Problem(path, "missing; this key is needed")
    if kind == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        near = did_you_mean(str(path[-1]), known)
        listed = "" if near else f"; known here: {', '.join(sorted(known))}"
        # Its value stays unsaid: nobody knows whether it is a secret.
        return Problem(path, f"no such key{near}{listed}")
    if kind == "value_error":
        return Problem(path, str(context["error"]), given)
    if kind in {"literal_error", "enum"}:
        expected = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        near = did_you_mean(str(given), expected.split(", "))
        return Problem(path, f"not one of: {expected}{near}", given)
    if kind in {"greater_than_equal", "less_than_equal"}:
        word, limit = (
            ("least", "ge") if kind == "greater_than_equal" else ("most", "le")
        )
        return Problem(path, f"out of range; give at {word} {context[limit]:g}", given)
    return Problem(path, _EXPECTED.get(kind, error["msg"]), given)


def _known_keys(model: type[BaseModel], path: KeyPath) -> set[str]:
    """Return the keys of the table at `path`."""
    current: type[BaseModel] = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        inner = _model_in(field.annotation) if field is not None else None
        if inner is None:
            return set()
        current = inner
    return set(current.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the table type in an annotation such as tuple[NodeSettings, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((inner for inner in found if inner is not None), None)


def plain(value: object) -> object:
    """Return an enum's value, anything else as it is."""
    return value.value if isinstance(value, Enum) else value
