"""Off-site: a snapshot's archive in a folder elsewhere or in an S3 bucket, read back.

Theory of operation. The archive, sealed as configured, is sent in parts while it is
made; its SHA-256 is computed from the bytes that were sent. Then it is asked for again,
part by part, and hashed: only when that is the same digest does the snapshot have a
twin. A store that says yes to everything and keeps nothing is found by that, one that
does not answer by the time that each request has. Beside the archive lies its digest in
the form of `sha256sum -c`, so that nothing of ours is needed to check it later.

Where it lies: URL/CLUSTER/ID.tar, .tar.zst or .tar.zst.age. Nothing there is ever
removed by us.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from agent.errors import SnapshotError
from agent.snapshot.archive import Archive
from agent.snapshot.files import PRIVATE_FOLDER, fsync_path
from agent.snapshot.sealing import Seal, seal

PART_BYTES = 8 << 20
"""Sent and asked for at a time; S3 takes at most 10,000 parts, so at most 80 GB."""
PARTS_MAX = 9_000
RETRIES_MAX = 2
CONNECT_S = 10.0

Store: TypeAlias = S3Store | LocalStore
Check = Callable[[int], None]
"""Called with the bytes of each block that was read; it may wait, and raises to end
the work."""


def _go_on(_: int) -> None:
    """Neither wait nor end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where archives go."""

    url: str
    """`file:///FOLDER` or `s3://BUCKET/PREFIX`."""
    endpoint: str | None = None
    """Of an S3 that is not Amazon's, http:// or https://."""
    region: str = "us-east-1"
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """access_key_id, secret_access_key, session_token; without them what the
    environment or the machine gives."""
    timeout_s: float = 60.0
    """Of one request, a part of 8 MiB included."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An archive that lies there and was read back."""

    url: str
    size: int
    sha256: str


class Offsite:
    """Sends archives to one place. Blocking.

    The place is opened anew for each archive: a folder that is not mounted today is
    an error of today's archives, and of nothing else.
    """

    def __init__(self, place: Place, how: Seal) -> None:
        self._place = place
        self._how = how

    @property
    def url(self) -> str:
        """The place, as configured."""
        return self._place.url

    def send(self, folder: Path, check: Check = _go_on) -> Sent:
        """Send a snapshot's folder and read it back.

        Raises SnapshotError: it cannot be read here, or not be written or read there,
        or what lies there is not what was sent.
        """
        archive = Archive(folder, self._how.recipients)
        manifest = archive.manifest
        name = f"{manifest.cluster}/{manifest.id}"
        return self.deliver(name, archive.stream(), archive.size, check)

    def deliver(
        self,
        name: str,
        tar: Iterator[bytes],
        size: int,
        check: Check = _go_on,
        *,
        sealed: bool = False,
    ) -> Sent:
        """Send a tar of `size` bytes as URL/NAME with the suffix of its seal.

        With `sealed` its secrets are encrypted already, and it goes as it is. It is
        read back. Raises as `send` does, and what `tar` raises.
        """
        how = Seal() if sealed else self._how
        short = name.rpartition("/")[2]
        name += how.suffix
        sent = _Counted(seal(_checked(tar, check), how))
        with _told(f"{short} cannot be sent to {self.url}"):
            there = _There(self._place, name)
            there.put(sent, size)
            there.compare(sent, check)
            line = f"{sent.sha256}  {name.rpartition('/')[2]}\n".encode()
            _There(self._place, f"{name}.sha256").put_small(line)
        return Sent(f"{self.url.rstrip('/')}/{name}", sent.size, sent.sha256)


class _There:
    """One object of the place."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._folder, self._store = _opened(place)

    def put(self, pieces: "_Counted", about_bytes: int) -> None:
        """Send it in parts; it appears when the last one has come."""
        if self._folder is not None:
            # The archive may not be encrypted: nobody else may enter.
            parent = (self._folder / self._name).parent
            parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        obstore.put(
            self._store,
            self._name,
            pieces,
            use_multipart=True,
            chunk_size=max(PART_BYTES, -(-about_bytes // PARTS_MAX)),
            max_concurrency=2,
        )
        self._settle()

    def compare(self, sent: "_Counted", check: Check) -> None:
        """Read it back; raise SnapshotError unless it is what was sent."""
        size = int(obstore.head(self._store, self._name)["size"])
        digest = hashlib.sha256()
        if size == sent.size:
            for start in range(0, size, PART_BYTES):
                end = min(start + PART_BYTES, size)
                check(end - start)
                part = obstore.get_range(self._store, self._name, start=start, end=end)
                digest.update(part)
        if size != sent.size or digest.hexdigest() != sent.sha256:
            raise SnapshotError(
                f"what {self._place.url} gives back of {self._name} is not what was"
                f" sent: {size} bytes of {sent.size}, SHA-256"
                f" {digest.hexdigest()[:12]}… instead of {sent.sha256[:12]}…",
                "it is sent again; if that goes on, the store loses or changes data",
            )

    def put_small(self, content: bytes) -> None:
        """Send a few bytes and read them back."""
        obstore.put(self._store, self._name, content)
        self._settle()
        if bytes(obstore.get(self._store, self._name).bytes()) != content:
            raise SnapshotError(
                f"{self._place.url} gives back another {self._name} than was sent",
                "it is sent again; if that goes on, the store loses or changes data",
            )

    def _settle(self) -> None:
        """Force a file in a folder to its disk; a bucket does so by itself."""
        if self._folder is not None:
            fsync_path(self._folder / self._name)
            fsync_path((self._folder / self._name).parent)


def _checked(pieces: Iterator[bytes], check: Check) -> Iterator[bytes]:
    for piece in pieces:
        check(len(piece))
        yield piece


class _Counted:
    """Passes pieces on, and knows at the end what they were."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._digest.update(piece)
            self.size += len(piece)
            if piece:
                yield piece

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _told:  # noqa: N801 - reads as a statement: with _told(…)
    """Say what a store's error means, without the library's inner lines."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, BaseError | OSError | ValueError):
            said = str(error).partition("\n\nDebug source")[0]
            line = " ".join(said.split())[:500]
            raise SnapshotError(
                f"{self._what}: {line}",
                "look at offsite.url, offsite.endpoint and the credentials; it is"
                " tried again",
            ) from error


def _opened(place: Place) -> tuple[Path | None, Store]:
    """Return the folder, if it is one, and the store."""
    parts = urlsplit(place.url)
    try:
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            return folder, LocalStore(folder)
        return None, _bucket(place, parts.netloc, unquote(parts.path).strip("/"))
    except (BaseError, OSError, ValueError) as error:
        said = str(error).partition("\n\nDebug source")[0]
        raise SnapshotError(
            f"offsite.url = {place.url!r} cannot be used: {said}",
            "give file:///FOLDER that exists, or s3://BUCKET/PREFIX",
        ) from error


def _bucket(place: Place, bucket: str, prefix: str) -> S3Store:
    timeout = timedelta(seconds=place.timeout_s)
    plain = (place.endpoint or "").startswith("http://")
    given = {
        key: value
        for key, value in place.credentials.items()
        if key in {"access_key_id", "secret_access_key", "session_token"}
    }
    config: dict[str, object] = {**given, "region": place.region}
    if place.endpoint is not None:
        config["endpoint"] = place.endpoint
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]  # a TypedDict of 60 optional keys
        client_options={
            "timeout": timeout,
            "connect_timeout": timedelta(seconds=min(CONNECT_S, place.timeout_s)),
            "allow_http": plain,
        },
        retry_config={"max_retries": RETRIES_MAX, "retry_timeout": 2 * timeout},
    )


def read_credentials(path: Path) -> dict[str, str]:
    """Return what a file of `key = value` lines says; keys as of S3's tools.

    Raises SnapshotError, in which no value stands.
    """
    found: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            lines = file.read(65_536).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SnapshotError(f"{path}: {reason}") from error
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", "[")):
            found[key.strip().lower().removeprefix("aws_")] = value.strip().strip("'\"")
    missing = {"access_key_id", "secret_access_key"} - found.keys()
    if missing:
        raise SnapshotError(
            f"{path} lacks {' and '.join(sorted(missing))}",
            "give lines such as aws_access_key_id = … and aws_secret_access_key = …",
        )
    return found
