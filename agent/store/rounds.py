"""The rounds as the journal keeps them: what came in, and what people were shown.

Theory of operation. A recording is a row of segments. Each begins with a start: the
limits in force and the whole state; then come the events, each as its difference from
the one before of its kind, and after an event that changed it, the outcome. That is
all that is needed to run them through the core again. Entries are gathered into
chunks of compressed lines of JSON; a chunk that begins a segment can be read without
any other. Whatever interrupts a recording (a full disk, a stalled one, a restart) ends
its segment, and a new one begins.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent import codec
from agent.core import event as events
from agent.core.event import Event, Observed
from agent.core.policy import Policy
from agent.core.replay import Outcome
from agent.core.state import State
from agent.errors import CodecError
from agent.ports import Chunk
from agent.store.delta import applied, difference

LIMIT_BYTES = 64 << 20
"""Compressed rounds that a journal keeps; the oldest go first."""
CHUNK_BYTES_MAX = 64 << 20
"""Uncompressed lines of one chunk; more is no chunk of ours."""
KINDS: dict[str, type] = {kind.__name__: kind for kind in events.Event.__args__}
"""Every kind of event by its name."""


@dataclass(frozen=True, slots=True)
class Start:
    """The beginning of a segment: everything that the next event meets."""

    wall_s: float
    agent: str
    """The version of Splitguard that judged."""
    policy: Policy
    state: State
    follows: bool = False
    """Whether no event is missing between it and the entry before it."""


@dataclass(frozen=True, slots=True)
class Noted:
    """One event, and what came of it."""

    event: Event
    committed: bool = True
    """Whether the journal took the ledger after it."""
    outcome: Outcome | None = None
    """What people were shown after it, where that has changed."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Rounds are missing here: they were given up while the others were exported."""


GAP = b'{"gap":true}'
Entry = Start | Noted


@dataclass
class Encoder:
    """Makes lines of entries; remembers what the next difference is from."""

    _last: dict[str, object] = field(default_factory=dict)

    def chunks(self, entries: Iterable[Entry]) -> list[Chunk]:
        """Return these entries as chunks: a start is always the first in its own."""
        parts: list[list[Entry]] = []
        for each in entries:
            if not parts or isinstance(each, Start):
                parts.append([])
            parts[-1].append(each)
        return [self._chunk(part) for part in parts]

    def _chunk(self, entries: list[Entry]) -> Chunk:
        lines = [line for each in entries for line in self._lines(each)]
        times = [_wall_s(each) for each in entries]
        body = zlib.compress("".join(f"{line}\n" for line in lines).encode(), 6)
        starts = isinstance(entries[0], Start)
        return Chunk(0, starts, min(times), max(times), len(lines), body)

    def _lines(self, entry: Entry) -> Iterator[str]:
        if isinstance(entry, Start):
            self._last.clear()
            yield _line({"start": codec.to_plain(entry)})
            return
        plain, place = codec.to_plain(entry.event), _place(entry.event)
        patch = difference(self._last.get(place), plain)
        self._last[place] = plain
        said = {"event": type(entry.event).__name__, "of": place, "patch": patch}
        yield _line(said if entry.committed else {**said, "committed": False})
        if entry.outcome is not None:
            yield _line({"outcome": codec.to_plain(entry.outcome)})


@dataclass
class Decoder:
    """Reads lines back, one at a time, in the order in which they were made."""

    _last: dict[str, tuple[type, object]] = field(default_factory=dict)

    def entry(self, text: str | bytes) -> Start | Noted | Outcome | Gap:
        """Return what this line stands for. Raises CodecError.

        An Outcome is what the agent showed after the event of the line before.
        """
        plain = _parsed(text)
        if "gap" in plain:
            return Gap()
        if "start" in plain:
            self._last.clear()
            return codec.from_plain(plain["start"], Start)
        if "outcome" in plain:
            return codec.from_plain(plain["outcome"], Outcome)
        kind, whole = self._whole(plain)
        return Noted(codec.from_plain(whole, kind), plain.get("committed") is not False)

    def glance(self, text: str | bytes, from_wall_s: float) -> Event | None:
        """Take in a line, and return its event if it is not earlier than that.

        Much faster than `entry` for what is earlier. Raises CodecError.
        """
        plain = _parsed(text)
        if "start" in plain:
            self._last.clear()
        if "event" not in plain:
            return None
        kind, whole = self._whole(plain)
        early = isinstance(whole, dict) and _time(whole) < from_wall_s
        return None if early else codec.from_plain(whole, kind)

    def latest(self, before_wall_s: float) -> list[Event]:
        """Return the last event of each kind taken in, of those before that instant.

        Raises CodecError.
        """
        return [
            codec.from_plain(whole, kind)
            for kind, whole in self._last.values()
            if isinstance(whole, dict) and _time(whole) < before_wall_s
        ]

    def _whole(self, plain: dict[str, object]) -> tuple[type, object]:
        """Return the event that this line makes of the one before of its kind."""
        kind, place = KINDS.get(str(plain.get("event"))), plain.get("of")
        if kind is None or not isinstance(place, str) or "patch" not in plain:
            raise CodecError(f"neither start, event nor outcome: {str(plain)[:80]}")
        _, before = self._last.get(place, (kind, None))
        try:
            whole = applied(before, plain["patch"])
        except ValueError as error:
            raise CodecError(str(error)) from error
        self._last[place] = (kind, whole)
        return kind, whole


def _time(whole: dict[str, object]) -> float:
    """Return when an event came in; beyond all times where it does not say."""
    at = whole.get("at")
    wall_s = at.get("wall_s") if isinstance(at, dict) else None
    return wall_s if isinstance(wall_s, float) else float("inf")


def lines_of(chunk: Chunk) -> list[bytes]:
    """Return a chunk's lines. Raises CodecError when it is not whole."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(chunk.body, CHUNK_BYTES_MAX)
    except zlib.error as error:
        raise CodecError(f"rounds {chunk.seq}: damaged: {error}") from error
    lines = text.splitlines()
    if not unpacker.eof or len(lines) != chunk.lines:
        raise CodecError(f"rounds {chunk.seq}: not whole")
    return lines


def _line(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _parsed(text: str | bytes) -> dict[str, object]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(plain, dict):
        raise CodecError("not a JSON object")
    return plain


def _place(event: Event) -> str:
    """Return what tells the events apart that resemble each other."""
    if isinstance(event, Observed):
        return f"{event.observation.node}/{event.observation.channel}"
    return type(event).__name__


def _wall_s(entry: Entry) -> float:
    return entry.wall_s if isinstance(entry, Start) else entry.event.at.wall_s
