"""Records that lie beside a snapshot's rows: read back as what was written, or refused.

Theory of operation. Each record is one JSON file of one shape, with the number of its
format. A file that is not there is no error; one that is too large, garbled or of
another format is, and the error says how it is made anew.
"""

from pathlib import Path
from typing import Protocol, TypeVar

from agent import codec
from agent.errors import CodecError, SnapshotError

BYTES_MAX = 1 << 30
"""A larger record is none of ours."""


class Numbered(Protocol):
    """A record that names its format."""

    @property
    def format(self) -> int:
        """The number of the format that it has."""
        ...


T = TypeVar("T", bound=Numbered)


def read(
    path: Path, kind: type[T], form: int, again: str, bytes_max: int = BYTES_MAX
) -> T | None:
    """Return the record of a file; None where there is none.

    Raises SnapshotError when it cannot be read or is not what we wrote in format
    `form`; `again` says how it is made anew.
    """
    try:
        if path.stat().st_size > bytes_max:
            raise SnapshotError(f"{path} is too large to be ours", again)
        found = codec.from_json(path.read_bytes(), kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    except CodecError as error:
        raise SnapshotError(f"{path} is garbled: {error.message}", again) from error
    if found.format != form:
        raise SnapshotError(
            f"{path} has format {found.format}, this version reads {form}", again
        )
    return found
