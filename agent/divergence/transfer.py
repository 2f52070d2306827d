"""A story on its way from the winner's agent to whoever compares.

Theory of operation. Lines of JSON, each an array that begins with what it holds, long
ones in pieces; files are listed once and then meant by their number. Places are told,
values never: they are not in a story. The last line counts those before it, so that a
story that broke off is known for one. What comes in comes from elsewhere: it is taken
only if it has the shape that we write.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any

from agent.core.lsn import Lsn
from agent.divergence.model import Relation
from agent.divergence.story import Ended, Rows, Story
from agent.errors import DivergenceError

FORMAT = 1
LINE_BYTES_MAX = 1 << 20
STORY_BYTES_MAX = 1 << 30
PIECE = 2000
"""Entries of one line."""
NUMBER_MAX = 1 << 64
HINT = "without it the comparison goes by the winner's rows alone"
_BY_FILE = ("created", "carried", "dropped")
_OF_ROWS = ("moved", "born", "gone")
_NUMBERS = ("databases", "early", "fork_open")


def story_lines(story: Story) -> Iterator[bytes]:
    """Yield a story as lines."""
    count = 0
    for line in _told(story):
        count += 1
        yield json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
    yield json.dumps(["end", count]).encode("ascii") + b"\n"


def _told(story: Story) -> Iterator[list[object]]:
    yield [
        "story",
        FORMAT,
        str(story.fork_lsn),
        str(story.end_lsn),
        story.fork_next_xid,
    ]
    numbers = {file: number for number, file in enumerate(_files(story))}
    files = ([file.tablespace, file.database, file.filenode] for file in numbers)
    yield from _pieces("files", files)
    for file, rows in story.rows.items():
        number = numbers[file]
        yield from _pieces(["moved", number], ([n, w] for n, w in rows.moved.items()))
        yield from _pieces(["born", number], sorted(rows.born))
        yield from _pieces(["gone", number], sorted(rows.gone))
    yield from _pieces("ended", (_ended(one, numbers) for one in story.ended))
    for name in _BY_FILE:
        known: Mapping[Relation, int] = getattr(story, name)
        yield from _pieces(name, ([numbers[f], value] for f, value in known.items()))
    yield from _pieces("committed", ([x, at] for x, at in story.committed.items()))
    yield from _pieces("sequences", sorted(numbers[file] for file in story.sequences))
    yield from _pieces("databases", sorted(story.databases))
    yield from _pieces("early", sorted(story.early))
    yield from _pieces("fork_open", sorted(story.fork_open))
    yield from _pieces("prepared", ([x, name] for x, name in story.prepared.items()))
    yield from _pieces("outside", ([kind, n] for kind, n in story.outside.items()))


def _files(story: Story) -> dict[Relation, None]:
    """Return every file that the story names, in an order of its own."""
    found = dict.fromkeys(story.rows)
    for name in _BY_FILE:
        found.update(dict.fromkeys(getattr(story, name)))
    found.update(dict.fromkeys(sorted(story.sequences)))
    for one in story.ended:
        found.update(dict.fromkeys(sorted(one.touched)))
    return found


def _ended(one: Ended, numbers: Mapping[Relation, int]) -> list[object]:
    touched = sorted(numbers[file] for file in one.touched)
    kinds = sorted(one.kinds)
    return [one.xid, str(one.lsn), one.at_s, one.committed, touched, kinds]


def _pieces(
    name: str | list[object], items: Iterable[object]
) -> Iterator[list[object]]:
    head = [name] if isinstance(name, str) else name
    rest = iter(items)
    while piece := list(islice(rest, PIECE)):
        yield [*head, piece]


class StoryReader:
    """Takes in a story line by line, as it comes. Raises DivergenceError."""

    def __init__(self) -> None:
        self._story: Story | None = None
        self._files: list[Relation] = []
        self._count = 0
        self._whole = False

    def take(self, line: bytes) -> None:
        """Take in the next line."""
        try:
            kind, *rest = json.loads(line[: LINE_BYTES_MAX + 1])
            self._enter(_text(kind), rest)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise DivergenceError(
                f"what the winner's agent tells of its log is no story: {error}"[:300],
                HINT,
            ) from error
        self._count += 1

    def story(self) -> Story:
        """Return the story, once all of it is there."""
        if self._story is None or not self._whole:
            message = "what the winner's agent tells of its log has broken off"
            raise DivergenceError(message, HINT)
        return self._story

    def _enter(self, kind: str, rest: list[Any]) -> None:
        if self._whole:
            raise ValueError("a line behind the end")
        if kind == "story":
            self._begin(*rest)
        elif kind == "end":
            if _number(rest[0]) != self._count:
                raise ValueError(f"{self._count} lines have come, {rest[0]} were sent")
            self._whole = True
        elif self._story is None:
            raise ValueError("it has no beginning")
        elif kind in _OF_ROWS:
            rows = self._story.rows.setdefault(self._file(rest[0]), Rows())
            self._enter_rows(rows, kind, rest[1])
        else:
            self._enter_rest(self._story, kind, rest[0])

    def _begin(self, form: int, fork: str, end: str, next_xid: int | None) -> None:
        if form != FORMAT or self._story is not None:
            raise ValueError(f"it has format {form!r:.20}, we know {FORMAT}")
        self._story = Story(Lsn.parse(_text(fork)), Lsn.parse(_text(end)))
        self._story.fork_next_xid = None if next_xid is None else _number(next_xid)

    def _enter_rows(self, rows: Rows, kind: str, entries: list[Any]) -> None:
        if kind == "moved":
            rows.moved.update((_number(now), _number(was)) for now, was in entries)
        else:
            places: set[int] = getattr(rows, kind)
            places.update(map(_number, entries))

    def _enter_rest(self, story: Story, kind: str, entries: list[Any]) -> None:
        if kind == "files":
            self._files += [Relation(*map(_number, one)) for one in entries]
        elif kind == "ended":
            story.ended += map(self._ended, entries)
        elif kind in _BY_FILE:
            made: dict[Relation, int] = getattr(story, kind)
            made.update((self._file(file), _number(what)) for file, what in entries)
        elif kind == "sequences":
            story.sequences.update(map(self._file, entries))
        elif kind in _NUMBERS:
            numbers: set[int] = getattr(story, kind)
            numbers.update(map(_number, entries))
        else:
            _enter_names(story, kind, entries)

    def _file(self, number: object) -> Relation:
        return self._files[_number(number)]

    def _ended(self, entry: list[Any]) -> Ended:
        xid, lsn, at_s, committed, touched, kinds = entry
        return Ended(
            _number(xid),
            Lsn.parse(_text(lsn)),
            _seconds(at_s),
            bool(committed),
            frozenset(map(self._file, touched)),
            frozenset(map(_text, kinds)),
        )


def _enter_names(story: Story, kind: str, entries: list[Any]) -> None:
    if kind == "committed":
        story.committed.update((_number(xid), _seconds(at)) for xid, at in entries)
    elif kind == "prepared":
        story.prepared.update((_number(xid), _text(name)) for xid, name in entries)
    elif kind == "outside":
        story.outside.update((_text(name), _number(n)) for name, n in entries)
    else:
        raise ValueError(f"nobody knows what {kind!r:.40} is")


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_MAX:
        raise ValueError(f"{value!r:.40} is no number of 64 bits")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{value!r:.40} is no instant")
    return float(value)
