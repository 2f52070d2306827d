"""Core values to JSON and back, for the journal, for reports and for replay.

Theory of operation. cattrs walks the dataclasses of the core. Numbers, texts and
truth values are taken only as what they are (a text is never made out of a null),
LSNs travel as PostgreSQL prints them, and unknown keys are left aside, so that a
peer one version newer is understood. Numbers beyond 64 bits, and texts that cannot be
written as UTF-8, are nothing that a database or an answer could hold; names of files
alone may be any bytes, as Python's file functions give them. Anything that does not fit
is a CodecError with the path of the value, never another exception.
"""

import json
import math
from collections.abc import Callable
from typing import TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from agent.core.lsn import Lsn
from agent.errors import CodecError

T = TypeVar("T")

INTEGER_MAX = 1 << 64
"""No number here is larger: positions, transaction and system ids have 64 bits."""


def _strict(kind: type) -> Callable[[object, type], object]:
    def take(value: object, wanted: type) -> object:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
        if isinstance(value, str) and not value.isascii():
            # A file's name may be any bytes; another lone surrogate is a ValueError.
            value.encode("utf-8", "surrogateescape")
        if isinstance(value, int) and abs(value) > INTEGER_MAX:
            raise ValueError("expected a number of 64 bits")
        # An enumeration of texts is a str too, and comes here as one.
        return value if wanted is kind else wanted(value)

    return take


def _number(value: object, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected number, got {type(value).__name__}")
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise ValueError("expected a number of 64 bits")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def _lsn(value: object, _: type) -> Lsn:
    if not isinstance(value, str):
        raise ValueError("expected an LSN such as 0/30286D8")
    return Lsn.parse(value)


def _make() -> cattrs.Converter:
    converter: cattrs.Converter = make_converter()
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Lsn, _lsn)
    converter.register_unstructure_hook(Lsn, str)
    return converter


_converter = _make()


def to_plain(value: object) -> object:
    """Return the value as lists, dictionaries and scalars."""
    return _converter.unstructure(value)


def from_plain(plain: object, kind: type[T]) -> T:
    """Return the value of type `kind` that `to_plain` had made this of.

    Raises CodecError.
    """
    try:
        return _converter.structure(plain, kind)
    except (cattrs.BaseValidationError, ValueError, TypeError, KeyError) as error:
        reasons = "; ".join(cattrs.transform_error(error)[:5])
        name = getattr(kind, "__name__", str(kind))
        raise CodecError(f"not a {name}: {reasons[:400]}") from error


def to_json(value: object) -> str:
    """Return the value as one line of JSON."""
    return json.dumps(to_plain(value), separators=(",", ":"), allow_nan=False)


def from_json(text: str | bytes, kind: type[T]) -> T:
    """Return the value of type `kind` that this JSON stands for.

    Raises CodecError.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {str(error)[:200]}") from error
    return from_plain(plain, kind)
