"""Opening a snapshot: a private server on a scratch clone, never on the copy itself.

Theory of operation. Opening changes files, so the kept folder is cloned first (where
the file system can share blocks that costs nothing), the kept WAL is put into the
clone's pg_wal, and `agent.postgres.private` starts it where nobody reaches it and it
reaches nobody. An archive is unpacked into the scratch folder and verified before it
is opened. Clones lie beside the snapshot. Root cannot run a server and its folders
are closed to those who can, so root's clones lie in the folder for temporary files,
unless another one is named.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from agent.core.capture import Grade
from agent.core.lsn import Lsn
from agent.errors import PostgresError, SnapshotError
from agent.postgres.connect import connect, failed
from agent.postgres.private import PrivateServer, prepare
from agent.postgres.programs import Programs, find_programs
from agent.snapshot import manifest as manifests
from agent.snapshot.files import PRIVATE_FOLDER, clone_file, clone_tree, remove_tree
from agent.snapshot.manifest import DATA, TABLESPACES, WAL, Manifest
from agent.snapshot.sealing import Identity
from agent.snapshot.unpacking import unpack
from agent.snapshot.verify import verify_folder

READ_S = 300.0
"""Reading one table may take so long."""


@dataclass(frozen=True, slots=True)
class OpenCopy:
    """A snapshot that can be asked by SQL, until the `with` ends."""

    manifest: Manifest
    server: PrivateServer
    end_lsn: Lsn
    """The end of the last record that recovery replayed."""
    folder: Path
    """The snapshot's folder; of an archive the one that it was unpacked into."""

    @property
    def dsn(self) -> str:
        """The connection string to database template1."""
        return self.server.dsn

    def dsn_for(self, dbname: str) -> str:
        """Return the connection string to one database."""
        return self.server.dsn_for(dbname)


@dataclass(frozen=True, slots=True)
class OpenedCheck:
    """What was read of an opened copy."""

    end_lsn: Lsn
    databases: int
    tables: int
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether everything could be read and nothing is missing at the end."""
        return not self.problems


@contextmanager
def open_copy(
    snapshot: Path,
    scratch_dir: Path | None = None,
    programs: Programs | None = None,
    identities: Sequence[Identity] = (),
) -> Iterator[OpenCopy]:
    """Open a snapshot's folder, or an archive of one, read-only and private.

    `identities` are private keys for an encrypted archive.

    The snapshot is not changed. Raises SnapshotError: it has no full copy, is not
    whole, or there is no room; PostgresError: the server does not open it.
    """
    with _scratch(snapshot, scratch_dir) as scratch:
        folder = snapshot
        if not snapshot.is_dir():
            folder = scratch / "archive"
            unpack(snapshot, folder, identities)
            _insist(folder, programs)
        manifest = manifests.read(folder)
        if not manifest.has_copy:
            raise SnapshotError(
                f"snapshot {manifest.id} has no full copy to open, only "
                + ", ".join(level.value for level in manifest.levels),
                "wait until the capture is complete",
            )
        data = _clone(folder, manifest, scratch)
        found = programs or find_programs(None, data)
        with PrivateServer(data, found, tip_timeline=manifest.timeline) as server:
            yield OpenCopy(manifest, server, server.recovered_lsn, folder)


def check_opened(
    folder: Path,
    scratch_dir: Path | None = None,
    programs: Programs | None = None,
) -> OpenedCheck:
    """Open a snapshot, read every table of every database, record grade `opened`.

    The grade is raised when the copy recovered to the recorded end, everything could
    be read, the capture is finished and the folder is ours. Raises SnapshotError,
    PostgresError.
    """
    with open_copy(folder, scratch_dir, programs) as opened:
        problems: list[str] = []
        wanted = opened.manifest.end_lsn
        if wanted is None:
            problems.append("the WAL of this snapshot was never proven complete")
        elif opened.end_lsn < wanted:
            problems.append(f"it recovered to {opened.end_lsn} only, not to {wanted}")
        databases = _databases(opened)
        tables = 0
        for name in databases:
            tables += _read_all(opened.dsn_for(name), name, problems)
        result = OpenedCheck(
            opened.end_lsn, len(databases), tables, tuple(problems[:100])
        )
    if result.good and folder.is_dir():
        _record(folder, opened.manifest)
    return result


def _record(folder: Path, opened: Manifest) -> None:
    """Raise the grade, unless the capture has gone on, or the folder is not ours.

    Root may write anywhere, but a manifest of root's would be closed to the agent.
    """
    now = manifests.read(folder)
    if not now.closed or now.end_lsn != opened.end_lsn:
        return
    if folder.stat().st_uid != os.geteuid():
        return
    try:
        manifests.raise_grade(folder, now, Grade.OPENED)
    except OSError as error:
        raise SnapshotError(
            f"the grade cannot be written into {folder}: {error.strerror}"
        ) from error


def _insist(folder: Path, programs: Programs | None) -> None:
    result = verify_folder(folder, programs=programs)
    if not result.good:
        raise SnapshotError(
            f"the archive is not what its manifest says: {result.problems[0]}",
            "fetch it again",
        )


@contextmanager
def _scratch(snapshot: Path, named: Path | None) -> Iterator[Path]:
    """Make a folder for the clone that the server's user may enter; remove it."""
    try:
        parent = named or _parent(snapshot)
        made = Path(tempfile.mkdtemp(prefix=".splitguard-open-", dir=parent))
    except OSError as error:
        raise SnapshotError(
            f"no scratch folder can be made: {error.filename or ''}: {error.strerror}",
            "name a scratch folder that is writable",
        ) from error
    try:
        if os.geteuid() == 0:
            made.chmod(0o711)
        yield made
    finally:
        remove_tree(made)


def _parent(snapshot: Path) -> Path:
    """Return where clones go: beside the snapshot, where blocks can be shared."""
    beside = snapshot.absolute().parent
    if os.geteuid() == 0 or not snapshot.is_dir() or not os.access(beside, os.W_OK):
        return Path(tempfile.gettempdir())
    return beside


def _clone(folder: Path, manifest: Manifest, scratch: Path) -> Path:
    """Clone copy and WAL; return the data folder, ready for the private server."""
    _check_room(manifest, scratch)
    data = scratch / DATA
    try:
        clone_tree(folder / DATA, data)
        tablespaces: dict[int, Path] = {}
        if (folder / TABLESPACES).is_dir():
            clone_tree(folder / TABLESPACES, scratch / TABLESPACES)
            if os.geteuid() == 0:
                (scratch / TABLESPACES).chmod(0o711)
            for place in (scratch / TABLESPACES).iterdir():
                tablespaces[int(place.name)] = place
        data.chmod(PRIVATE_FOLDER)
        for segment in sorted((folder / WAL).iterdir()):
            clone_file(segment, data / "pg_wal" / segment.name)
    except OSError as error:
        raise SnapshotError(
            f"the snapshot cannot be cloned: {error.filename}: {error.strerror}"
        ) from error
    prepare(data, tablespaces=tablespaces)
    return data


def _check_room(manifest: Manifest, scratch: Path) -> None:
    free = shutil.disk_usage(scratch).free
    if free < manifest.size_bytes + (64 << 20):
        raise SnapshotError(
            f"no room for a scratch clone in {scratch.parent}: {manifest.size_bytes} "
            f"bytes are needed, {free} are free",
            "name another scratch folder",
        )


def _databases(opened: OpenCopy) -> list[str]:
    with connect(opened.dsn) as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1"
        ).fetchall()
    return [str(name) for (name,) in rows]


def _read_all(dsn: str, name: str, problems: list[str]) -> int:
    """Read one row of every table of one database; return how many tables."""
    try:
        session = connect(dsn, statement_timeout_s=READ_S)
    except PostgresError as error:
        problems.append(f"database {name!r:.80}: {error.message}")
        return 0
    with session:
        tables = session.execute(
            "SELECT nspname, relname FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'm') AND relpersistence = 'p' ORDER BY 1, 2"
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT * FROM {}.{} LIMIT 1").format(
                sql.Identifier(schema), sql.Identifier(table)
            )
            try:
                session.execute(query).fetchone()
            except psycopg.Error as error:
                reason = failed(f"{schema}.{table}", error).message
                problems.append(f"database {name!r:.80}: {reason}")
    return len(tables)
