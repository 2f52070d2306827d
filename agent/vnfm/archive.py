"""Whether an archive of a manager's opens, and what is in it. No network; it blocks.

Theory of operation. Managers give no checksum, take any bytes as an archive, and make
some that are cut. So every member is read to its end, which compares its CRC, within
bounds: an archive that would unpack to a hundred times its size is refused, and so is
one with a password. On the way the rows are counted: in the legacy format the lines of
each COPY in `pg_data`, which must have its end, in the new one the items of its JSON
files. Nothing is unpacked.
Source: the workflows that make snapshots, 4.5.5 to 7.1.
"""

import hashlib
import json
import lzma
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ManagerError
from agent.vnfm.refusals import line

BLOCK_BYTES = 1 << 20
MEMBERS_MAX = 500_000
RATIO_MAX = 100
"""SQL and JSON shrink to a tenth, logs to a thirtieth."""
FREE_BYTES = 1 << 30
"""However small the archive, so much it may unpack to."""
METADATA = "metadata.json"
METADATA_MAX_BYTES = 1 << 20
ROWS = "pg_data"
JSON_MAX_BYTES = 64 << 20
"""A larger JSON file is read and not counted; managers write some hundred KiB."""
_ENCRYPTED = 0x1
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    RuntimeError, ValueError, OverflowError,
)  # fmt: skip
_ANEW = "make the snapshot anew, and keep this file until the new one is there"


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that opens."""

    format: str
    """`legacy` (a restore replaces everything) or `new` (7.x: a restore merges)."""
    version: str
    """Of the manager that made it."""
    members: int
    size_bytes: int
    sha256: str
    """Of the file as it lies there."""
    counts: Mapping[str, int]
    """Rows per table, or items per type."""


def check_archive(path: Path) -> Archive:
    """Read the whole archive; return what it is. It reads it twice, and blocks.

    Raises ManagerError where it is no zip, is broken, is none of a manager's, or is
    beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
            if not size:
                raise ManagerError(f"{path} is empty", "fetch or make it again")
            try:
                with zipfile.ZipFile(file) as archive:
                    return _read(archive, path, size, digest.hexdigest())
            except _BROKEN as error:
                raise _broken(path, error) from error
    except OSError as error:
        raise ManagerError(f"{path}: {error.strerror or error}") from error


def _read(archive: zipfile.ZipFile, path: Path, size: int, sha256: str) -> Archive:
    members = archive.infolist()
    _check_bounds(members, path, size)
    metadata = _metadata(archive, path)
    counts: Counter[str] = Counter()
    for member in members:
        _read_member(archive, member, counts)
    version = metadata.get("snapshot_version")
    names = {member.filename for member in members}
    return Archive(
        format=_format(metadata, names, path),
        version=line(version, 40) if isinstance(version, str) else "",
        members=len(members),
        size_bytes=size,
        sha256=sha256,
        counts=dict(sorted(counts.items())),
    )


def _check_bounds(members: list[zipfile.ZipInfo], path: Path, size: int) -> None:
    if len(members) > MEMBERS_MAX:
        raise ManagerError(
            f"{path} has {len(members)} members, more than {MEMBERS_MAX}",
            "no manager makes such an archive",
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > RATIO_MAX * size + FREE_BYTES:
        raise ManagerError(
            f"{path} would unpack to {unpacked} bytes, from {size}",
            "no manager makes such an archive; it is not read",
        )
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise ManagerError(
            f"{path} is a zip with a password", "managers set none: it is another file"
        )


def _metadata(archive: zipfile.ZipFile, path: Path) -> Mapping[str, object]:
    try:
        member = archive.getinfo(METADATA)
    except KeyError as error:
        raise ManagerError(
            f"{path} is a zip, but no snapshot of a manager's: it has no {METADATA}",
            "give the file that `snapshots download` wrote",
        ) from error
    if member.file_size > METADATA_MAX_BYTES:
        raise ManagerError(f"{path}: its {METADATA} is {member.file_size} bytes long")
    plain = json.loads(archive.read(member))
    return plain if isinstance(plain, dict) else {}


def _format(metadata: Mapping[str, object], names: set[str], path: Path) -> str:
    if ROWS in names:
        return "legacy"
    if "schema_revision" in metadata:
        raise ManagerError(
            f"{path} is a snapshot of the legacy format without its rows: it has no"
            f" {ROWS}",
            _ANEW,
        )
    if "execution_id" in metadata or any(name.startswith("mgmt/") for name in names):
        return "new"
    raise ManagerError(
        f"{path} is a snapshot of neither format: it has no {ROWS} and no mgmt/", _ANEW
    )


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, counts: Counter[str]
) -> None:
    """Read a member to its end, which compares its CRC; count what it holds."""
    rows = _Rows(counts) if member.filename == ROWS else None
    kept: list[bytes] | None = [] if _has_items(member) else None
    with archive.open(member) as file:
        while block := file.read(BLOCK_BYTES):
            if rows is not None:
                rows.feed(block)
            elif kept is not None:
                kept.append(block)
    if rows is not None and rows.unfinished:
        # A dump that broke off; a restore would take it for the whole.
        raise ValueError(f"{ROWS} ends in the middle of table {rows.unfinished}")
    if kept is not None:
        _count_items(b"".join(kept), counts)


def _has_items(member: zipfile.ZipInfo) -> bool:
    folder = member.filename.partition("/")[0]
    is_json = member.filename.endswith(".json") and folder in ("mgmt", "tenants")
    return is_json and member.file_size <= JSON_MAX_BYTES


def _count_items(content: bytes, counts: Counter[str]) -> None:
    """Count one JSON file of the new format; one of another shape counts nothing."""
    plain = json.loads(content)
    if isinstance(plain, dict) and isinstance(plain.get("type"), str):
        items = plain.get("items")
        counts[line(plain["type"], 80)] += len(items) if isinstance(items, list) else 0


class _Rows:
    """Counts the lines of each COPY, block by block."""

    _head = b"COPY "
    _end = b"\\.\n"

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rest = b""
        self._table: str | None = None

    @property
    def unfinished(self) -> str:
        """The table whose end has not come, at the end of the file; empty for none."""
        return "" if self._rest.rstrip() == b"\\." else self._table or ""

    def feed(self, block: bytes) -> None:
        """Take the next block of the file."""
        block = self._rest + block
        last = block.rfind(b"\n") + 1
        self._rest = block[last:]
        if not last and len(self._rest) > JSON_MAX_BYTES:
            self._rest = b""  # a line that nobody counts: it has no end
        whole, position = block[:last], 0
        while position < len(whole):
            position = (
                self._outside(whole, position)
                if self._table is None
                else self._inside(whole, position)
            )

    def _outside(self, text: bytes, start: int) -> int:
        found = _at_line(text, self._head, start)
        if found < 0:
            return len(text)
        end = text.index(b"\n", found) + 1
        words = text[found:end].split(maxsplit=2)
        if text[found:end].rstrip().endswith(b"FROM stdin;") and len(words) > 1:
            name = words[1].decode("utf-8", "replace").rpartition(".")[2].strip('"')
            self._table = line(name, 80)
            self._counts[self._table] += 0
        return end

    def _inside(self, text: bytes, start: int) -> int:
        assert self._table is not None  # noqa: S101 - who calls looks
        found = _at_line(text, self._end, start)
        end = len(text) if found < 0 else found
        self._counts[self._table] += text.count(b"\n", start, end)
        if found < 0:
            return end
        self._table = None
        return end + len(self._end)


def _at_line(text: bytes, word: bytes, start: int) -> int:
    """Return where a line begins with `word`, from `start` on, which begins one."""
    if text.startswith(word, start):
        return start
    found = text.find(b"\n" + word, start)
    return found + 1 if found >= 0 else -1


def _broken(path: Path, error: BaseException) -> ManagerError:
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"age-encryption.org/"):
        return ManagerError(
            f"{path} is sealed with age", "open it first: age -d -i KEY -o FILE"
        )
    if not start.startswith(b"PK"):
        beginning = line(start.decode("utf-8", "replace"), 60)
        return ManagerError(
            f"{path} is no zip: it begins with {beginning!r}",
            "give the file that `snapshots download` wrote",
        )
    return ManagerError(f"{path} is a broken zip: {line(str(error), 200)}", _ANEW)
