"""What of a newer peer's report this agent can read.

Theory of operation. An agent one format ahead may know channels, outcomes and whole
kinds of news that this one has no word for. They would make the report unreadable as
a whole, and the newer agent silent to all older ones for as long as an upgrade takes.
So, for a newer format only, every entry of a list that cannot be read is left out, and
a part that a report may lack is taken for lacking. What says who tells, and in which
order, has to be readable still. To leave something out is always safe: this agent then
knows less, and what it does not know is unknown.
"""

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Union, cast, get_args, get_origin, get_type_hints

from agent import codec
from agent.core.observation import Report
from agent.errors import CodecError


def readable(plain: Mapping[str, object]) -> dict[str, object]:
    """Return this report without what a former version cannot read."""
    entries, optional = _shape()
    made = dict(plain)
    for name, kind in entries.items():
        listed = plain.get(name)
        if isinstance(listed, list):
            made[name] = [one for one in listed if _fits(one, kind)]
    for name, kind in optional.items():
        if name in plain and not _fits(plain[name], kind):
            made[name] = None
    return made


@cache
def _shape() -> tuple[dict[str, type], dict[str, type]]:
    """Return a report's lists, with what each holds, and what it may lack."""
    hints = get_type_hints(Report)
    entries = {
        name: cast("type", get_args(kind)[0])
        for name, kind in hints.items()
        if get_origin(kind) is tuple
    }
    optional = {
        name: cast("type", kind)
        for name, kind in hints.items()
        if get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind)
    }
    return entries, optional


def _fits(value: object, kind: type) -> bool:
    try:
        codec.from_plain(value, kind)
    except CodecError:
        return False
    return True
