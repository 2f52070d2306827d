"""Sealing: an archive compressed with zstd and encrypted for age recipients, and back.

Theory of operation. A sealed archive is what `tar | zstd | age` would have made, and
opens with those programs alone. Whoever seals knows public keys only; what was sealed
on a machine cannot be read there. Everything goes through in blocks, so an archive may
be larger than memory and disk: age works in a thread of its own, because it wants to
push where we want to pull. What a file is shows by its first bytes, never by its name.
A cut of the age part or a changed byte is found by age itself; a cut of the rest by the
missing end of the archive.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, cast

import pyrage
import zstandard

from agent.errors import SnapshotError
from agent.snapshot.files import BLOCK_BYTES

LEVEL = 3
"""zstd's own default: faster than most disks."""
WINDOW_BYTES_MAX = 1 << 27
"""A frame that wants more memory to be read is refused; `zstd` itself says so too."""
_ZSTD = b"\x28\xb5\x2f\xfd"
_AGE = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_PEEK = 64
_KEY_BYTES_MAX = 1 << 20
_WAITING_MAX = 8
"""Blocks between the thread of age and whoever reads."""

Identity: TypeAlias = object
"""A private key. Only who opens an archive has one, never the agent."""


@dataclass(frozen=True, slots=True)
class Seal:
    """How an archive is sealed."""

    compress: bool = False
    recipients: tuple[str, ...] = ()
    """Public keys: age1… or ssh-…; none: not encrypted."""

    @property
    def suffix(self) -> str:
        """What the file's name ends with."""
        zst = ".zst" if self.compress else ""
        return f".tar{zst}.age" if self.recipients else f".tar{zst}"


class Reader(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


def check_recipients(
    texts: Sequence[str],
) -> list[object]:
    """Return the public keys. Raises SnapshotError, which names the wrong one."""
    return [_recipient(text) for text in texts]


def _recipient(text: str) -> object:
    if text.startswith("AGE-SECRET-KEY-"):
        raise SnapshotError(
            "a recipient is a private key: it is not to be on this machine",
            "give the public key that age-keygen printed, age1…",
        )
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        made: object = kind.from_str(text)
    except pyrage.RecipientError as error:
        raise SnapshotError(
            f"not a recipient: {text[:100]!r}: {error}",
            "give a public key of age (age1…) or ssh (ssh-ed25519 …)",
        ) from error
    return made


def read_identities(path: Path) -> tuple[Identity, ...]:
    """Return the private keys in a file of age-keygen or ssh-keygen.

    Raises SnapshotError, in which no part of a key stands.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_BYTES_MAX)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    try:
        if b"PRIVATE KEY-----" in content:
            return (pyrage.ssh.Identity.from_buffer(content),)
        lines = [line.strip() for line in content.decode("ascii").splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        found = tuple(pyrage.x25519.Identity.from_str(key) for key in keys)
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        raise SnapshotError(
            f"{path} holds no private key that can be used",
            "give the file that age-keygen or ssh-keygen made, without passphrase",
        ) from error
    if not found:
        raise SnapshotError(f"{path} holds no private key")
    return found


def seal(pieces: Iterator[bytes], how: Seal) -> Generator[bytes, None, None]:
    """Yield what `pieces` become. Raises SnapshotError, and what `pieces` raise."""
    abandoned = threading.Event()
    pieces = _until(abandoned, pieces)
    if how.compress:
        pieces = _compressed(pieces)
    if how.recipients:
        pieces = _encrypted(pieces, how.recipients, abandoned)
    yield from pieces


def _until(abandoned: threading.Event, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces until nobody wants them: much may be read for one block."""
    for piece in pieces:
        if abandoned.is_set():
            return
        yield piece


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    maker = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    for piece in pieces:
        made = maker.compress(piece)
        if made:
            yield made
    yield maker.flush()


def _encrypted(
    pieces: Iterator[bytes], recipients: Sequence[str], abandoned: threading.Event
) -> Iterator[bytes]:
    keys = check_recipients(recipients)
    source = _Pull(pieces)
    try:
        yield from _pushed(lambda to: pyrage.encrypt_io(source, to, keys), abandoned)
    except (pyrage.EncryptError, OSError) as error:
        if source.error is not None:
            raise source.error from error
        raise SnapshotError(f"the archive cannot be encrypted: {error}") from error


def encrypt(content: bytes, recipients: Sequence[str]) -> bytes:
    """Return a small content, encrypted. Raises SnapshotError."""
    made: bytes = pyrage.encrypt(content, check_recipients(recipients))
    return made


def decrypt(content: bytes, identities: Sequence[Identity]) -> bytes:
    """Return a small content, decrypted. Raises SnapshotError."""
    try:
        made: bytes = pyrage.decrypt(content, list(identities))
    except (pyrage.DecryptError, OSError) as error:
        raise _cannot_decrypt("what is encrypted", error) from error
    return made


@contextmanager
def unsealed(path: Path, identities: Sequence[Identity] = ()) -> Iterator[Reader]:
    """Open an archive and give what reads the plain tar in it.

    Raises SnapshotError: it cannot be read, or is encrypted and no key fits; reading
    raises it where a part was changed or cut off.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        head = _head(file)
        if not head.startswith(_AGE):
            yield _inflated(path, _Pull(_blocks(file)))
            return
        if not identities:
            raise SnapshotError(
                f"{path} is encrypted",
                "give the private key of one of its recipients: --identity FILE",
            )
        with closing(_decrypted(path, file, identities)) as pieces:
            yield _inflated(path, _Pull(pieces))


def is_plain(path: Path) -> bool:
    """Whether the archive is neither compressed nor encrypted. Raises OSError."""
    with path.open("rb") as file:
        return not _head(file).startswith((*_AGE, _ZSTD))


def _head(file: BinaryIO) -> bytes:
    head = file.read(_PEEK)
    file.seek(0)
    return head


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _decrypted(
    path: Path, file: BinaryIO, identities: Sequence[Identity]
) -> Generator[bytes, None, None]:
    try:
        yield from _pushed(
            lambda to: pyrage.decrypt_io(file, to, list(identities)), threading.Event()
        )
    except (pyrage.DecryptError, OSError) as error:
        raise _cannot_decrypt(str(path), error) from error


def _cannot_decrypt(what: str, error: Exception) -> SnapshotError:
    if "No matching keys" in str(error):
        return SnapshotError(
            f"{what} is encrypted for somebody else: the given key does not fit",
            "give the private key of one of its recipients",
        )
    return SnapshotError(
        f"{what} was changed or cut off: {error}", "fetch the archive again"
    )


def _inflated(path: Path, source: "_Pull") -> Reader:
    """Return what reads the tar: `source` itself, or what it is when decompressed."""
    if not source.peek(_PEEK).startswith(_ZSTD):
        return source
    try:
        maker = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        reader = maker.stream_reader(cast("BinaryIO", source), read_across_frames=True)
    except zstandard.ZstdError as error:
        raise SnapshotError(f"{path} cannot be decompressed: {error}") from error
    return _Inflating(path, reader)


@dataclass
class _Inflating:
    """Decompresses, and says what went wrong in our words."""

    path: Path
    reader: "zstandard.ZstdDecompressionReader"

    def read(self, size: int, /) -> bytes:
        try:
            return self.reader.read(size)
        except zstandard.ZstdError as error:
            raise SnapshotError(
                f"{self.path} was changed or cut off: {error}",
                "fetch the archive again",
            ) from error


class _Pull:
    """Reads from what yields blocks; keeps the error that ended it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")
        self.error: BaseException | None = None

    def peek(self, size: int) -> bytes:
        """Return the beginning without taking it, at most one block."""
        if not self._left:
            self._fill()
        return bytes(self._left[:size])

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            self._fill()
        if size < 0:
            size = len(self._left)
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)

    def _fill(self) -> None:
        """Take the next block that is not empty; none at the end."""
        try:
            for piece in self._pieces:
                if piece:
                    self._left = memoryview(piece)
                    return
        except BaseException as error:
            self.error = error
            raise


class _AbandonedError(Exception):
    """Nobody reads any more."""


class _Push:
    """Takes what is written and hands it over in blocks."""

    def __init__(self, abandoned: threading.Event) -> None:
        self.blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(
            _WAITING_MAX
        )
        self.abandoned = abandoned
        self._block = bytearray()

    def write(self, piece: bytes, /) -> int:
        self._block += piece
        if len(self._block) >= BLOCK_BYTES:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        if self._block:
            self.put(bytes(self._block))
            self._block.clear()

    def put(self, block: bytes | BaseException | None) -> None:
        while not self.abandoned.is_set():
            try:
                self.blocks.put(block, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _AbandonedError


def _pushed(
    work: Callable[[_Push], None], abandoned: threading.Event
) -> Iterator[bytes]:
    """Yield what `work`, in a thread of its own, writes; raise what it raises."""
    push = _Push(abandoned)

    def run() -> None:
        try:
            try:
                work(push)
                push.flush()
                push.put(None)
            except Exception as error:  # noqa: BLE001 - handed over to who reads
                push.put(error)
        except _AbandonedError:
            return

    thread = threading.Thread(target=run, name="age", daemon=True)
    thread.start()
    try:
        while (block := push.blocks.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
    finally:
        abandoned.set()
        thread.join()
