"""A manager's snapshot as a zip: both layouts, written from rows and read back.

Theory of operation. The legacy layout, of every manager up to 6.4 and on demand of
later ones, has the tables as `COPY` blocks in `pg_data`, and the manager's keys beside
it; restoring it replaces what is there. The new one, of 7.x, has a JSON file for each
kind of thing; restoring it adds what is missing and keeps what is there. A manager of
7.x tells them apart by three keys of `metadata.json`, of which the community edition
writes one only: so it takes a legacy snapshot for a new one, finds nothing in it, and
says that all is well.
Source: `snapshots/` of the manager's system workflows.
"""

import base64
import json
import secrets
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from psycopg import Connection, sql

from agent.lab.schema import KINDS
from agent.lab.standin.answers import Shown
from agent.lab.standin.rows import ENDS, Rows, stamp
from agent.lab.standin.traits import Traits

SCHEMA_REVISION = "9516df019579"
PAGE = 500
"""Things in one file of the new layout."""
MEMBER_BYTES_MAX = 256 * 1024 * 1024
DUMPED = (*KINDS, "executions")
"""The tables in a legacy snapshot. Not `snapshots`, tokens, or the audit log."""
NOT_EMPTY = (
    "Snapshot restoration on a non-empty manager is not permitted. Pass the --force "
    "flag to force the restore and delete existing data from the manager"
)


class RestoreError(Exception):
    """A restore's execution fails with this."""


class Writes(Protocol):
    """Writes one layout."""

    def __call__(self, archive: zipfile.ZipFile, source: "Source") -> None:
        """Fill the archive. Raises OSError or psycopg.Error."""
        ...


class Source:
    """What a snapshot is made of."""

    def __init__(self, rows: Rows, traits: Traits, folder: Path, made: Shown) -> None:
        self.rows = rows
        self.traits = traits
        self.made = made
        """The execution that makes it."""
        self._keys = folder / "rest-security.conf"

    def security(self) -> str:
        """Return the manager's hash salt and encryption key, drawn once."""
        if not self._keys.exists():
            drawn = {
                "hash_salt": secrets.token_urlsafe(24),
                "secret_key": secrets.token_urlsafe(24),
                "encryption_key": base64.b64encode(secrets.token_bytes(64)).decode(),
            }
            self._keys.touch(mode=0o600)
            self._keys.write_text(json.dumps(drawn))
        return self._keys.read_text()


def write(path: Path, source: Source, how: Writes) -> None:
    """Write an archive aside, and then under its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    try:
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
            how(archive, source)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def legacy(archive: zipfile.ZipFile, source: Source) -> None:
    """Write the layout of `pg_dump`."""
    metadata = {
        "snapshot_version": source.traits.version,
        "schema_revision": SCHEMA_REVISION,
    }
    if source.traits.edition == "premium":
        metadata["stage_schema_revision"] = "20230130131345-1-wrap-filter-ids.js"
        metadata["composer_schema_revision"] = "20210819182053-7_0-drop.js"
    archive.writestr("metadata.json", json.dumps(metadata))
    archive.writestr("pg_data", b"".join(_dump(source.rows)))
    archive.writestr("admin_account.json", json.dumps({"username": "admin"}))
    archive.writestr("rest-security.conf", source.security())
    key = base64.encodebytes(source.security().encode()).decode()
    pem = f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n"
    archive.writestr("ssl/cloudify_internal_key.pem", pem)
    archive.writestr("agents.json", "{}")
    archive.writestr("networks.json", json.dumps({"default": "127.0.0.1"}))
    folders = ("snapshot-credentials", "blueprints", "uploaded-blueprints")
    for folder in (*folders, "deployments", "plugins", "stage", "composer"):
        archive.writestr(f"{folder}/", b"")


def new(archive: zipfile.ZipFile, source: Source) -> None:
    """Write the layout of one JSON file for each kind of thing."""
    metadata = {
        "snapshot_version": source.traits.version,
        "execution_id": source.made["id"],
    }
    archive.writestr("metadata.json", json.dumps(metadata))
    tenants = source.traits.tenants
    common = (
        ("tenants", [{"name": tenant} for tenant in tenants]),
        ("users", [{"username": "admin", "role": "sys_admin"}]),
    )
    for number, (kind, items) in enumerate(common):
        member = json.dumps({"type": kind, "items": items})
        archive.writestr(f"mgmt/{number:08d}.json", member)
    for tenant in tenants:
        for number, page in enumerate(_pages(source.rows, tenant)):
            member = json.dumps(page)
            archive.writestr(f"tenants/{tenant}/{number:08d}.json", member)


def is_legacy(archive: zipfile.ZipFile, traits: Traits) -> bool:
    """Whether this manager takes it for a legacy one. Raises RestoreError."""
    found = metadata_of(archive)
    if not traits.has_new_format:
        return True
    needed = {"schema_revision", "stage_schema_revision", "composer_schema_revision"}
    return needed <= found.keys()


def metadata_of(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the archive's metadata. Raises RestoreError."""
    try:
        found = json.loads(archive.read("metadata.json"))
    except (KeyError, ValueError) as error:
        raise RestoreError("No metadata found in snapshot.") from error
    if not isinstance(found, dict):
        raise RestoreError("No metadata found in snapshot.")
    return found


def replace_all(
    archive: zipfile.ZipFile, rows: Rows, traits: Traits, *, force: bool
) -> None:
    """Put a legacy archive's rows in the place of those that are there.

    What is under way stays. Raises RestoreError or psycopg.Error.
    """
    version = str(metadata_of(archive).get("snapshot_version", "0"))
    if [int(p) for p in version.split(".") if p.isdigit()] > list(traits.numbers):
        raise RestoreError(
            f"Cannot restore a newer manager's snapshot on this manager [{version} > "
            f"{traits.version}]"
        )
    with rows.connect() as connection, connection.transaction():
        if not force and _has_things(connection):
            raise RestoreError(NOT_EMPTY)
        kinds = sql.SQL(", ").join(map(sql.Identifier, KINDS))
        connection.execute(sql.SQL("TRUNCATE {}").format(kinds))
        connection.execute(
            "DELETE FROM executions WHERE status = ANY(%s)", (list(ENDS),)
        )
        if "pg_data" not in archive.namelist():
            raise RestoreError("pg_data is missing from the snapshot")
        for table, columns, lines in _blocks(_member(archive, "pg_data")):
            _load(connection, table, columns, lines)


def merge(archive: zipfile.ZipFile, rows: Rows) -> None:
    """Add what a new archive has and the database has not. Raises psycopg.Error."""
    for name in sorted(archive.namelist()):
        parts = name.split("/")
        if parts[0] != "tenants" or not name.endswith(".json"):
            continue
        page = json.loads(_member(archive, name))
        if page["type"] in KINDS:
            for item in page["items"]:
                _add(rows, page["type"], parts[1], item)


def _dump(rows: Rows) -> Iterator[bytes]:
    yield b"--\n-- PostgreSQL database dump\n--\n\n"
    with rows.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in DUMPED:
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
            if table == "executions":
                ended = sql.SQL(" WHERE ended_at IS NOT NULL")
                query = query + ended
            cursor = connection.execute(query + sql.SQL(" LIMIT 0"))
            columns = ", ".join(each.name for each in cursor.description or ())
            yield f"COPY public.{table} ({columns}) FROM stdin;\n".encode()
            copy = sql.SQL("COPY ({}) TO STDOUT").format(query)
            with connection.cursor().copy(copy) as pieces:
                yield from (bytes(piece) for piece in pieces)
            yield b"\\.\n\n"
    yield b"--\n-- PostgreSQL database dump complete\n--\n"


def _blocks(dump: bytes) -> Iterator[tuple[str, list[str], list[bytes]]]:
    """Yield the table, the columns and the lines of each COPY block."""
    lines = iter(dump.splitlines(keepends=True))
    for line in lines:
        head = line.decode("utf-8", "replace")
        if not head.startswith("COPY public."):
            continue
        table, _, rest = head.removeprefix("COPY public.").partition(" (")
        columns = rest.partition(")")[0].split(", ")
        block = []
        for row in lines:
            if row.rstrip() == b"\\.":
                break
            block.append(row)
        if table in DUMPED:
            yield table, columns, block


def _load(
    connection: Connection[Any], table: str, columns: list[str], lines: list[bytes]
) -> None:
    """Load one COPY block, and let its serial numbers go on behind it."""
    name = sql.Identifier(table)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(name, names)
    with connection.cursor().copy(statement) as copy:
        for line in lines:
            copy.write(line)
    connection.execute(
        sql.SQL(
            "SELECT setval(pg_get_serial_sequence({}, '_storage_id'), "
            "greatest((SELECT max(_storage_id) FROM {}), 1))"
        ).format(sql.Literal(table), name)
    )


def _has_things(connection: Connection[Any]) -> bool:
    for kind in KINDS:
        query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(kind))
        if connection.execute(query).fetchone():
            return True
    return False


def _pages(rows: Rows, tenant: str) -> Iterator[Shown]:
    kinds = (*(kind for kind in ("plugins", "blueprints", "deployments")), "executions")
    for kind in kinds:
        found = rows.ask(
            f"SELECT * FROM {kind} WHERE tenant_name = %s ORDER BY _storage_id",  # noqa: S608 - a name of ours
            (tenant,),
        )
        items = [_plain(row) for row in found]
        for start in range(0, len(items), PAGE):
            page = {"type": kind, "items": items[start : start + PAGE]}
            latest = items[-1]["created_at"] if items else None
            yield {**page, "latest_timestamp": latest}


def _plain(row: Shown) -> Shown:
    return {
        key: stamp(value) if isinstance(value, datetime) else value
        for key, value in row.items()
        if key not in {"_storage_id", "parameters"}
    }


def _add(rows: Rows, kind: str, tenant: str, item: Shown) -> None:
    rows.ask(
        f"INSERT INTO {kind} (id, tenant_name, content, description, created_at) "  # noqa: S608 - one of KINDS
        "VALUES (%s, %s, %s, %s, coalesce(%s::timestamptz, now())) "
        "ON CONFLICT (tenant_name, id) DO NOTHING",
        (
            str(item["id"]),
            tenant,
            str(item["content"]),
            str(item.get("description", "")),
            item.get("created_at"),
        ),
    )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MEMBER_BYTES_MAX:
        raise RestoreError(f"{name} is too large")
    return archive.read(name)
