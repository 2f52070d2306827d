"""Lists as the service gives them: filtered, searched, sorted, cut into pages.

Source: `rest_decorators.py` and `storage_manager.py` of the REST service.
"""

import re
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from agent.lab.standin.answers import Refusal, Shown, bad_parameter, reply
from agent.lab.standin.asked import Asked

PAGE = 1000
"""The size of a page that nobody asked for, and the largest one."""
_SORT = re.compile(r"[+-]?@?\w+").fullmatch


def listed(asked: Asked, items: Sequence[Shown], fields: Sequence[str]) -> Response:
    """Return a page of the things. Raises Refusal."""
    found = _sorted(asked, _filtered(asked, items, fields), fields)
    everything = asked.flag("_get_all_results", default=False)
    offset = _number(asked, "_offset", 0)
    size = len(found) if everything else _number(asked, "_size", PAGE)
    if size > PAGE and not everything:
        raise bad_parameter(f"Invalid pagination size: {size}.")
    page = [included(asked, item, fields) for item in found[offset : offset + size]]
    pagination = {"total": len(found), "size": size, "offset": offset}
    metadata = {"pagination": pagination, "filtered": None}
    return reply({"items": page, "metadata": metadata})


def included(asked: Asked, item: Shown, fields: Sequence[str]) -> Shown:
    """Return the keys that the client wants. Raises Refusal."""
    wanted = asked.one("_include")
    if not wanted:
        return item
    names = wanted.split(",")
    if unknown := [name for name in names if name not in fields]:
        message = (
            f"Include keys '{unknown}' do not exist. Allowed keys are: {list(fields)}"
        )
        raise Refusal(400, "no_such_include_field_error", message)
    return {name: value for name, value in item.items() if name in names}


def _filtered(
    asked: Asked, items: Iterable[Shown], fields: Sequence[str]
) -> list[Shown]:
    filters = {k: v for k, v in asked.query.items() if not k.startswith("_")}
    _check(filters, fields, "Filter")
    part = (asked.one("_search") or "").lower()
    return [
        item
        for item in items
        if part in str(item.get("id", "")).lower()
        and all(_word(item[name]) in wanted for name, wanted in filters.items())
    ]


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sorted(asked: Asked, items: list[Shown], fields: Sequence[str]) -> list[Shown]:
    for wish in reversed(asked.query.get("_sort", [])):
        if not _SORT(wish):
            raise bad_parameter(f"_sort -> 0: string does not match regex: {wish}")
        name = wish.lstrip("+-")
        _check([name], fields, "Sort")
        items.sort(key=lambda item: str(item[name] or ""), reverse=wish[0] == "-")
    return items


def _check(names: Iterable[str], fields: Sequence[str], action: str) -> None:
    if unknown := [name for name in names if name not in fields]:
        raise bad_parameter(
            f"{action} keys '{unknown}' do not exist. Allowed keys are: {list(fields)}"
        )


def _number(asked: Asked, name: str, default: int) -> int:
    text = asked.one(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise bad_parameter(f"{name}: value is not a valid integer >= 0: {text}")
    return int(text)
