"""Finds the line of a TOML file on which a key stands.

Theory of operation. tomllib keeps no positions. This reads the text, which tomllib
has accepted already, once from top to bottom: a header opens a table and counts the
elements of `[[arrays]]`; a key is noted with its full path; values are skipped by
following quotes and brackets, so that nothing inside a text is taken for a key.
Keys inside inline tables have no line of their own: they get the nearest one above.
"""

import re
from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]
"""A key's place: names of tables and keys, and numbers of array elements."""

_PART = r'(?:"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)'
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_KEY})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=[ \t]*")
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*",
    re.DOTALL,
)


def find_lines(text: str) -> Mapping[Path, int]:
    """Return the line, counted from 1, of each table and key of a valid TOML text."""
    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    for line, start in _statements(text):
        header = _HEADER.match(start)
        if header is not None:
            names = _names(header[2])
            table = _opened(names, arrays, is_array=header[1] == "[[")
            found.setdefault(table, line)
            continue
        assignment = _ASSIGNMENT.match(start)
        if assignment is not None:
            path = table
            for part in _names(assignment[1]):
                path = (*path, part)
                found.setdefault(path, line)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """Return the line of `path`, or of the nearest thing around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each line that begins a statement."""
    at = 0
    while at < len(text):
        end = _end_of_statement(text, at)
        yield text.count("\n", 0, at) + 1, text[at:end]
        at = end + 1


def _end_of_statement(text: str, at: int) -> int:
    """Return where the statement that starts at `at` ends.

    That is the first line's end inside no quotes and no brackets.
    """
    depth = 0
    while at < len(text):
        quoted = _TEXT.match(text, at)
        if quoted is not None:
            at = quoted.end()
            continue
        if text[at] == "\n" and depth <= 0:
            return at
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(text[at], 0)
        at += 1
    return at


def _names(dotted: str) -> Path:
    """Return the parts of a dotted key without their quotes."""
    parts = re.findall(_PART, dotted)
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in parts)


def _opened(names: Path, arrays: dict[Path, int], *, is_array: bool) -> Path:
    """Return the path of the table that a header opens, with array numbers in it."""
    path: Path = ()
    for part in names[:-1]:
        path = (*path, part)
        if path in arrays:
            path = (*path, arrays[path])
    path = (*path, names[-1])
    if is_array:
        arrays[path] = arrays.get(path, -1) + 1
    return (*path, arrays[path]) if path in arrays else path
