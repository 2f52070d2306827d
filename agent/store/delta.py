"""What has changed from one plain value to the next.

Theory of operation. What an agent sees is nearly the same in every round, so a
journal of rounds keeps each observation as its difference from the one before. A
patch of an object or of a list of equal length is an object that names only what is
another one in it; `{"=": value}` puts a whole new value in its place. `applied` undoes
`difference` exactly.
"""

from collections.abc import Iterator

WHOLE = "="
"""The key under which a whole new object or list stands."""
DEPTH_MAX = 100
"""Deeper than any value of the core; a patch from elsewhere may be deeper."""


def difference(old: object, new: object) -> object:
    """Return the patch that makes `new` of `old`; an empty object for none.

    Both are what JSON knows: objects with text keys, lists and scalars.
    """
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        if WHOLE not in old:
            return _changed((name, old[name], new[name]) for name in new)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return _changed((str(at), *pair) for at, pair in enumerate(pairs))
    return {WHOLE: new} if isinstance(new, dict | list) else new


def _changed(items: Iterator[tuple[str, object, object]]) -> dict[str, object]:
    return {
        name: difference(old, new)
        for name, old, new in items
        if type(old) is not type(new) or old != new
    }


def applied(old: object, patch: object, depth: int = 0) -> object:
    """Return what `patch` makes of `old`, which stays as it is.

    Raises ValueError when the patch does not fit.
    """
    if not isinstance(patch, dict):
        return patch
    if WHOLE in patch:
        return patch[WHOLE]
    if depth > DEPTH_MAX:
        raise ValueError("the patch is nested too deeply")
    if isinstance(old, dict):
        return _merged(old, patch, depth)
    if isinstance(old, list):
        named = {str(at): value for at, value in enumerate(old)}
        return list(_merged(named, patch, depth).values())
    raise ValueError("the patch is for an object or a list, and there is none")


def _merged(
    old: dict[str, object], patch: dict[str, object], depth: int
) -> dict[str, object]:
    unknown = patch.keys() - old.keys()
    if unknown:
        raise ValueError(f"the patch names {min(unknown)!r}, which is not there")
    changed = {name: applied(old[name], patch[name], depth + 1) for name in patch}
    return {**old, **changed}
