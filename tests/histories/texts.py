"""What a client writes into a column, and what the server will print of it.

Theory of operation. The oracle never asks a server what a row holds. So every value is
drawn as a pair: the text that goes into the statement, and the text that the type's
output function makes of it (UTC, hexadecimal bytea, shortest floats). Where the two
differ (jsonb, zones, arrays) the second is computed here by the rules of the manual.
What is printed may always be written as well.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from random import Random
from typing import NamedTuple

WORDS = (
    "", "a", "it's", 'say "x"', "back\\slash", "tab\there", "two\nlines", "\\N", "NULL",
    "null", "Größe", "表", "🐘 elephant", " spaces ", "{brace}", "a,b", "\\.", "%s",
)  # fmt: skip
FLOATS = (
    "0", "-0", "0.1", "1.5", "-2.25", "NaN", "Infinity", "-Infinity", "1e+300",
    "1e-05", "12345.678", "0.30000000000000004",
)  # fmt: skip
ZEROS = {"-0": "0"}
NUMBERS = (
    "0", "1.50", "1.5", "-7", "NaN", "Infinity", "0.000001", "123456789012345678901.2",
    "10.00",
)  # fmt: skip
MOODS = ("sad", "ok", "happy", "it's so-so")
EPOCH = date(2026, 1, 1)
BIG_BYTES = (1500, 7000)
"""Twice as many digits: more than a page's quarter, which is where TOAST begins."""


class Cell(NamedTuple):
    """One value: as a statement gives it, as the server prints it."""

    written: str | None
    printed: str | None


def plain(text: str | None) -> Cell:
    """Return what is printed as it was written."""
    return Cell(text, text)


def quote(text: str | None) -> str:
    """Return a literal; the server takes its type from the column."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """Return a quoted identifier."""
    return '"' + text.replace('"', '""') + '"'


@dataclass(frozen=True)
class Kind:
    """A type of column."""

    sql: str
    draw: Callable[[Random], Cell]
    fold: Callable[[str], str] = str
    """What equal keys of this type have in common."""
    meaning: Callable[[str], str] = str
    """What texts have in common that say the same."""


def _text(rng: Random) -> Cell:
    return plain(f"{rng.choice(WORDS)}{rng.choice(WORDS)}{rng.randrange(1000)}")


def _words(rng: Random) -> Cell:
    return plain(rng.choice(WORDS))


def _int(rng: Random) -> Cell:
    return plain(str(rng.randrange(-(2**31), 2**31)))


def _small(rng: Random) -> Cell:
    return plain(str(rng.randrange(5)))


def _big(rng: Random) -> Cell:
    return plain(rng.randbytes(rng.randrange(*BIG_BYTES)).hex())


def _bytes(rng: Random) -> Cell:
    return plain("\\x" + rng.randbytes(rng.randrange(12)).hex())


def _instant(rng: Random) -> Cell:
    zone = timezone(timedelta(minutes=rng.choice((0, 330, -210, 60))))
    at = datetime(2026, 11, 23, tzinfo=zone) + timedelta(
        seconds=rng.randrange(10**6), microseconds=rng.choice((0, 500000, 123456))
    )
    utc = at.astimezone(UTC)
    parts = f"{utc:%Y-%m-%d %H:%M:%S}"
    tail = f".{utc.microsecond:06}".rstrip("0") if utc.microsecond else ""
    return Cell(at.isoformat(), f"{parts}{tail}+00")


def _day(rng: Random) -> Cell:
    return plain((EPOCH + timedelta(days=rng.randrange(720))).isoformat())


def _document(rng: Random) -> dict[str, object]:
    keys = rng.sample(["b", "a", "long key", "zz", "Größe", "k'q"], rng.randrange(1, 5))
    values: tuple[object, ...] = (1, -5, "x", "表", None, True, [1, 2], {"q": "r"}, [])
    return {key: rng.choice(values) for key in keys}


def _jsonb(rng: Random) -> Cell:
    drawn = _document(rng)
    order = sorted(drawn, key=lambda key: (len(key.encode()), key.encode()))
    return Cell(
        json.dumps(drawn, separators=(",", ":")),
        json.dumps({key: drawn[key] for key in order}, ensure_ascii=False),
    )


def _json(rng: Random) -> Cell:
    spaces = rng.choice(((",", ":"), (", ", ": "), (" ,  ", " :")))
    return plain(json.dumps(_document(rng), separators=spaces, ensure_ascii=False))


def spelled(text: str, indent: int | None) -> str:
    """Return a JSON text in another spelling."""
    return json.dumps(json.loads(text), sort_keys=True, indent=indent)


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    if not text or text.lower() == "null" or set(text) & set('{}",\\ \t\n'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _texts(rng: Random) -> Cell:
    drawn = [rng.choice((*WORDS, None)) for _ in range(rng.randrange(4))]
    return plain("{" + ",".join(_element(each) for each in drawn) + "}")


def _ints(rng: Random) -> Cell:
    drawn = [rng.choice(("1", "-7", "NULL", "0")) for _ in range(rng.randrange(4))]
    rows = "{" + ",".join(drawn) + "}"
    return plain(f"{{{rows},{rows}}}" if drawn and rng.random() < 0.3 else rows)


def _range(rng: Random) -> Cell:
    low = rng.randrange(9)
    return Cell(f"[{low},{low + 3}]", f"[{low},{low + 4})")


def _either(*texts: str) -> Callable[[Random], Cell]:
    return lambda rng: plain(rng.choice(texts))


TEXT = Kind("text", _text)
WORD = Kind("text", _words)
INT = Kind("integer", _int)
SMALL = Kind("integer", _small)
BIGINT = Kind("bigint", _int)
BIG = Kind("text", _big)
CODE = Kind("character(4)", _either("abcd", "wxyz", "0000", "ÄÖÜß"))
SHORT = Kind("character varying(20)", _either("", "short", "twenty letters long!"))
FLOAT = Kind("double precision", _either(*FLOATS), lambda text: ZEROS.get(text, text))
REAL = Kind("real", _either("0", "-0", "1.5", "NaN", "1e+30", "0.1"))
NUMBER = Kind("numeric", _either(*NUMBERS))
PRICE = Kind("numeric(10,2)", lambda rng: plain(f"{rng.randrange(10**6) / 100:.2f}"))
BYTES = Kind("bytea", _bytes)
INSTANT = Kind("timestamp with time zone", _instant)
DAY = Kind("date", _day)
JSONB = Kind("jsonb", _jsonb)
JSON = Kind("json", _json, meaning=lambda text: spelled(text, None))
TEXTS = Kind("text[]", _texts)
INTS = Kind("integer[]", _ints)
BOOL = Kind("boolean", _either("t", "f"))
MOOD = Kind("mood", _either(*MOODS))
POSITIVE = Kind("positive", lambda rng: plain(str(rng.randrange(1, 1000))))
SPAN = Kind("int4range", _range)
POINT = Kind("spot", _either("(1,abc)", '(2,"it\'s, so")', "(,)", '(3,"")'))
UUID = Kind("uuid", lambda rng: plain(_uuid(rng.getrandbits(128))))
CITEXT = Kind("citext", _text, str.lower)
LAX = Kind("text COLLATE lax", _text, str.lower)


def _uuid(number: int) -> str:
    digits = f"{number:032x}"
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in pairwise(cuts))


# A key is drawn by its number: one that was not drawn before is free.


def number_key(number: int) -> Cell:
    """Return a key of an integer column."""
    return plain(str(number))


def text_key(number: int) -> Cell:
    """Return a key of a text column."""
    return plain(f"{WORDS[number % len(WORDS)]}-{number}")


def uuid_key(number: int) -> Cell:
    """Return a key of a uuid column, written as people write them too."""
    printed = _uuid(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
    return Cell(printed.upper(), printed)


def mixed_key(number: int) -> Cell:
    """Return a key of a column that does not tell cases apart."""
    return plain(("Key" if number % 2 else "kEY") + str(number))
