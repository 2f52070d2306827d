"""Passwords and keys in configuration, kept out of what leaves the machine.

Theory of operation. An archive travels, and configuration holds what opens other
doors: the password of the replication user, a private key. So in an archive each line
that gives a password, and each private key, is cut out, and the archive's manifest
names the files as they are then. The originals go along in a member of their own,
encrypted for the recipients; where there is none, they stay here. What cannot be told
from a secret is treated as one: a whole line goes, never a part of it.

Only configuration is looked at. The database files hold password hashes, and whatever
people put into tables; that is what `encrypt for recipients` is for.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from agent import codec
from agent.errors import CodecError, SnapshotError
from agent.snapshot import manifest as manifests
from agent.snapshot.files import write_atomically
from agent.snapshot.manifest import DATA, STATE, FileEntry, Manifest
from agent.snapshot.sealing import Identity, decrypt, encrypt

MEMBER = "secrets.tar.age"
"""In an archive: the originals of the files that something was cut out of."""
FILE_BYTES_MAX = 16 << 20
"""A larger file is no configuration."""
_NOTE = "secrets.json"
_KEY = b"PRIVATE KEY-----"
_KEY_SUFFIXES = {".p12", ".pfx", ".jks", ".keystore", ".key", ".der"}
_PASSFILES = {".pgpass", "pgpass", "pgpass.conf", "passfile"}
_OF_SERVER = ("pg_", "base", "global", "log")
"""How the folders of a data directory begin that hold no configuration."""
_CUT = "# cut out by splitguard: a line with a password or key\n"
_CUT_WHOLE = b"# cut out by splitguard: a private key or a file of passwords\n"
_GIVEN = re.compile(
    r"(?<![\w-])(?!password_encryption\b|md5_password_warnings\b|passwordcheck\."
    r"|ssl_passphrase_command_supports_reload\b)"
    r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api_?key|access_?key"
    r"|scram_client_key|scram_server_key)[\w-]*"
    r"[\"']*\s*[=:]\s*"
    # A value: bare, in quotes, or in doubled quotes. Two quotes alone are an empty one.
    r"(?:[^\s'\"]|['\"](?!['\"])|['\"]{2,}(?:[^\s'\"]|[ \t]+[^\s#'\"]))"
    r"|://[^/\s:@\"']*:[^/\s@\"']+@",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A snapshot as it goes into an archive."""

    manifest: Manifest
    replaced: Mapping[str, bytes]
    """By path: what stands in place of a file."""
    secrets: bytes | None
    """The encrypted originals; None without recipients, or where nothing was cut."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Of which originals and recipients the kept member was made."""

    digest: str


def export(folder: Path, manifest: Manifest, recipients: Sequence[str]) -> Exported:
    """Return what leaves the machine of this snapshot. Raises SnapshotError."""
    originals = dict(_originals(folder, manifest))
    if not originals:
        return Exported(manifest, {}, None)
    replaced = {path: cut(path, content) for path, content in originals.items()}
    files = tuple(_entry(file, replaced.get(file.path)) for file in manifest.files)
    exported = replace(
        manifest,
        files=files,
        withheld=tuple(file for file in manifest.files if file.path in originals),
        size_bytes=manifest.size_bytes + _size(files) - _size(manifest.files),
    )
    secrets = _sealed(folder, originals, recipients) if recipients else None
    return Exported(exported, replaced, secrets)


def put_back(folder: Path, identities: Sequence[Identity]) -> None:
    """Put the originals back into an unpacked archive, and into its manifest.

    Nothing happens where none were sent. Raises SnapshotError: no key fits, or one is
    not what the manifest says.
    """
    manifest = manifests.read(folder)
    member = folder / MEMBER
    if not manifest.withheld or not member.is_file():
        return
    wanted = {file.path: file for file in manifest.withheld}
    try:
        found = _unpacked(decrypt(member.read_bytes(), identities))
        if found.keys() != wanted.keys():
            raise SnapshotError(f"{MEMBER} does not hold what the manifest says")
        for path, content in found.items():
            if hashlib.sha256(content).hexdigest() != wanted[path].sha256:
                raise SnapshotError(f"{MEMBER}: {path!r:.200} was changed")
        for path, content in found.items():
            write_atomically(folder / path, content)
            (folder / path).chmod(wanted[path].mode & 0o777)
    except OSError as error:
        raise SnapshotError(
            f"{error.filename or member} cannot be written: {error.strerror}"
        ) from error
    files = tuple(wanted.get(file.path, file) for file in manifest.files)
    size = manifest.size_bytes + _size(files) - _size(manifest.files)
    whole = replace(manifest, files=files, withheld=(), size_bytes=size)
    manifests.write(folder, whole)


def cut(path: str, content: bytes) -> bytes:
    """Return a configuration file without its passwords and keys."""
    name = PurePosixPath(path).name.removeprefix("outside-")
    binary = b"\0" in content and PurePosixPath(name).suffix in _KEY_SUFFIXES
    if _KEY in content or binary or (name in _PASSFILES and content.strip()):
        return _CUT_WHOLE
    text = content.decode("utf-8", "surrogateescape")
    lines = [_CUT if _GIVEN.search(line) else line for line in _lines(text)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _lines(text: str) -> Iterator[str]:
    """Yield lines; those that a backslash continues are one (pg_hba.conf, 14+)."""
    line = ""
    for part in io.StringIO(text, newline="\n"):
        line += part
        if not part.rstrip("\r\n").endswith("\\"):
            yield line
            line = ""
    if line:
        yield line


def _originals(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Yield the files that something is to be cut out of."""
    for file in manifest.files:
        if not _is_configuration(file) or file.sha256 is None:
            continue
        content = _content(folder, file)
        if cut(file.path, content) != content:
            yield file.path, content


def _content(folder: Path, file: FileEntry) -> bytes:
    try:
        handle = os.open(folder / file.path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as opened:
            content = opened.read(FILE_BYTES_MAX)
    except OSError as error:
        raise SnapshotError(
            f"{folder / file.path} cannot be read: {error.strerror}",
            "verify the snapshot",
        ) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise SnapshotError(
            f"{folder / file.path} was changed, or has not the bytes that the manifest"
            f" says: {len(content)} bytes",
            "verify the snapshot",
        )
    return content


def _is_configuration(file: FileEntry) -> bool:
    parts = PurePosixPath(file.path).parts
    if file.size > FILE_BYTES_MAX or not file.size:
        return False
    if parts[:2] == (STATE, "config"):
        return True
    if parts[0] != DATA:
        return False
    return len(parts) == 2 or not parts[1].startswith(_OF_SERVER)  # noqa: PLR2004 - directly in data


def _size(files: Sequence[FileEntry]) -> int:
    return sum(file.size for file in files)


def _entry(file: FileEntry, content: bytes | None) -> FileEntry:
    if content is None:
        return file
    digest = hashlib.sha256(content).hexdigest()
    return replace(file, size=len(content), sha256=digest)


def _sealed(
    folder: Path, originals: Mapping[str, bytes], recipients: Sequence[str]
) -> bytes:
    """Return the encrypted originals, the same bytes each time if that can be.

    Encryption is never twice the same, so it is kept beside the manifest; where that
    is not allowed, an archive is only as stable as this call.
    """
    text = "\n".join(sorted(recipients)).encode()
    digest = hashlib.sha256(text + _packed(originals)).hexdigest()
    with suppress(OSError, CodecError):
        note = codec.from_json((folder / _NOTE).read_bytes(), _Note)
        if note.digest == digest:
            return (folder / MEMBER).read_bytes()
    made = encrypt(_packed(originals), recipients)
    with suppress(OSError):
        _keep(folder, made, digest)
    return made


def _keep(folder: Path, made: bytes, digest: str) -> None:
    """Keep the member for the next archive; nothing where it would be root's."""
    if folder.stat().st_uid != os.geteuid():
        return
    write_atomically(folder / MEMBER, made)
    note = codec.to_json(_Note(digest)).encode("ascii")
    write_atomically(folder / _NOTE, note)


def _packed(originals: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in sorted(originals.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o600
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _unpacked(packed: bytes) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), errors="surrogateescape") as tar:
            return {
                member.name: opened.read()
                for member in tar
                if (opened := tar.extractfile(member)) is not None
            }
    except (tarfile.TarError, EOFError) as error:
        raise SnapshotError(f"{MEMBER} is no archive: {error}") from error
