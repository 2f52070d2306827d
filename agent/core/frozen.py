"""A frozen value with some of its fields changed, made quickly.

Theory of operation. Each step makes several new values out of old ones, and most have
many fields of which one or two change. `dataclasses.replace` goes through the fields'
descriptions each time and through `__init__`, which sets every field by its name. Here
the slots of a class are looked up once; a new value gets all of the old one's, and then
what changes. A class that does more in its making is left to `dataclasses.replace`.
"""

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

__all__ = ["replace"]


def _replaced(of: Any, /, **changes: Any) -> Any:  # noqa: ANN401 - see `replace`
    """Return a copy of a frozen dataclass with these fields changed.

    Raises TypeError when it has no such field.
    """
    slots = _slots(of.__class__)
    if slots is None or not slots.keys() >= changes.keys():
        return dataclasses.replace(of, **changes)
    made = object.__new__(of.__class__)
    for get, put in slots.values():
        put(made, get(of))
    for name, value in changes.items():
        slots[name][1](made, value)
    return made


if TYPE_CHECKING:
    from dataclasses import replace  # a checker knows by it which fields there are
else:
    replace = _replaced


@cache
def _slots(kind: type) -> dict[str, tuple[Any, Any]] | None:
    """Return how each field is read and set; None where that is not all there is."""
    fields = dataclasses.fields(kind)
    plain = hasattr(kind, "__slots__") and not hasattr(kind, "__post_init__")
    if not plain or not all(one.init for one in fields):
        return None
    slots = ((one.name, getattr(kind, one.name)) for one in fields)
    return {name: (slot.__get__, slot.__set__) for name, slot in slots}
