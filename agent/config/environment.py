"""The environment over the file: `SPLITGUARD_PROBE__ROUND_S=2`.

Theory of operation. A variable's name, without the prefix and with `__` between
levels, is the path of a key. The value is taken as it stands for a text or a path,
and read as a TOML value for anything else, so `2`, `true` and
`[{name = "n1"}]` mean what they mean in the file. A variable that is no key is an
error like an unknown key in the file; an empty one counts as not set.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from agent.config.forms import did_you_mean
from agent.config.lines import Path as KeyPath
from agent.config.problems import Problem

PREFIX = "SPLITGUARD_"
NOT_SETTINGS = frozenset(
    {
        "SPLITGUARD_CONFIG",  # which file to read
        "SPLITGUARD_TOKEN",  # the client's token
        "SPLITGUARD_VNFM_PASSWORD",  # as whom the `vnfm` commands ask a manager
        "SPLITGUARD_CRASH_AT",  # tests make the agent die at a named point
        "SPLITGUARD_CRASH_MARK",
    }
)


def overlay(
    plain: dict[str, Any], environ: Mapping[str, str], model: type[BaseModel]
) -> tuple[dict[KeyPath, str], list[Problem]]:
    """Put the environment's values into `plain`.

    Returns the keys that were set, with the variable of each, and the problems.
    """
    keys = variables(model)
    origins: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in keys:
            near = did_you_mean(variable, {*keys, *NOT_SETTINGS})
            problems.append(Problem((), f"no such key{near}", variable=variable))
        elif environ[variable]:
            path, is_text = keys[variable]
            _put(plain, path, _value(environ[variable], is_text=is_text))
            origins[path] = variable
    return origins, problems


def variables(model: type[BaseModel]) -> dict[str, tuple[KeyPath, bool]]:
    """Return for each variable the path of its key, and whether it is a text."""
    return {
        PREFIX + "__".join(str(part) for part in path).upper(): (path, is_text)
        for path, is_text in _walk(model, ())
    }


def _walk(model: type[BaseModel], above: KeyPath) -> list[tuple[KeyPath, bool]]:
    found: list[tuple[KeyPath, bool]] = []
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _walk(kind, (*above, key))
        else:
            found.append(((*above, key), _is_text(kind)))
    return found


def _is_text(kind: object) -> bool:
    """Whether a key takes a text, a path or one of a list of words."""
    if get_origin(kind) in (Union, UnionType):
        return any(_is_text(inner) for inner in get_args(kind))
    if isinstance(kind, type):
        return issubclass(kind, str | Path)
    inner = get_args(kind)
    return bool(inner) and (isinstance(inner[0], str) or _is_text_annotated(kind))


def _is_text_annotated(kind: object) -> bool:
    """Whether an Annotated type is one over a text."""
    return hasattr(kind, "__metadata__") and _is_text(get_args(kind)[0])


def _value(raw: str, *, is_text: bool) -> object:
    if is_text:
        return raw
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _put(plain: dict[str, Any], path: KeyPath, value: object) -> None:
    table: dict[Any, Any] = plain
    for part in path[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # the file has no table there, which is its own problem
        table = inner
    table[path[-1]] = value
