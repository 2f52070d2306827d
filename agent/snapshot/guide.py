"""What goes into an archive so that a stranger can open it with tar and pg_ctl.

Theory of operation. An archive carries, beside the snapshot, a README of five
commands and the folder `open` with configuration that reaches nobody: no listening
address, no archiving, no upstream, no foreign libraries. They are made from the
manifest and from the copy's pg_control when the archive is written, because the
server needs some settings at least as large as they were.
"""

from agent.postgres.control import ControlData
from agent.postgres.settings import (
    RECOVERY_CONF_LAST,
    harmless,
    knows,
    needed,
    recovery_file,
)
from agent.snapshot.manifest import Manifest

README = "README.txt"
OPEN = "open"
EXTRA = (README, OPEN)
"""Names beside the snapshot's own that an unpacked archive has."""

_README = """\
Snapshot {id} of node {node}, cluster {cluster}, PostgreSQL {major}.
{grade}

To read it, as the user that is to run the server (not root), with the programs of
PostgreSQL {major} in PATH:

  mkdir -m 700 copy && tar -xf {id}.tar -C copy && cd copy
  rm -rf data/{recovery} data/pg_replslot/*
  cp -r wal/. data/pg_wal/
  cp open/* data/
  pg_ctl -D data -w -l server.log -o "-k /tmp -p 54399" start

Then: psql -h /tmp -p 54399 -U postgres -l lists the databases. While that is refused,
recovery still goes on.
The server listens on that socket only, is read-only by default, and reaches nobody:
what could was replaced by the files of `open`. Stop it with: pg_ctl -D data stop.
The server's own configuration is in state/config.
"""
_WITHHELD = """
Passwords and keys were cut out of these files: {paths}.
{where}
"""
_SENT = """\
The originals are in secrets.tar.age, for those who have the private key of a recipient:
age -d -i KEYFILE secrets.tar.age | tar -xf -   (in the folder copy)"""
_NOT_SENT = "The originals stayed on the machine that the snapshot was taken on."


_CONF = """\
listen_addresses = ''
unix_socket_permissions = 0700
archive_mode = off
restore_command = '/bin/false'
recovery_target_timeline = '{timeline}'
primary_conninfo = ''
hot_standby = {hot_standby}
synchronous_standby_names = ''
shared_preload_libraries = ''
session_preload_libraries = ''
local_preload_libraries = ''
max_logical_replication_workers = 0
autovacuum = off
ssl = off
jit = off
logging_collector = off
huge_pages = off
shared_buffers = 64MB
default_transaction_read_only = on
"""


def texts(
    manifest: Manifest, control: ControlData, *, with_secrets: bool = False
) -> dict[str, bytes]:
    """Return the files that belong into the archive, by path.

    `with_secrets`: what was cut out of configuration goes along, encrypted.
    """
    spans = manifest.copy_timeline != manifest.timeline
    major = manifest.version_num // 10000
    lines = _CONF.format(
        # Off, nobody can read before the end; on, pg_ctl waits for the end by itself,
        # but only where recovery follows no promotion.
        hot_standby="off" if spans else "on",
        timeline=manifest.timeline,
    ).splitlines(keepends=True)
    conf = "".join(line for line in lines if knows(major, line.split(" ")[0]))
    for name, value in {**needed(control, major), **harmless(major)}.items():
        conf += f"{name} = '{value}'\n"
    readme = _README.format(
        id=manifest.id,
        node=manifest.node,
        cluster=manifest.cluster,
        major=major,
        recovery="recovery.conf" if major <= RECOVERY_CONF_LAST else "*.signal",
        grade=f"Grade {manifest.grade.value}, up to WAL position {manifest.end_lsn}.",
    )
    if manifest.withheld:
        readme += _WITHHELD.format(
            paths=", ".join(file.path for file in manifest.withheld),
            where=_SENT if with_secrets else _NOT_SENT,
        )
    made = {
        README: readme,
        f"{OPEN}/postgresql.conf": conf,
        f"{OPEN}/postgresql.auto.conf": "",
        f"{OPEN}/pg_hba.conf": "local all all trust\n",
        f"{OPEN}/pg_ident.conf": "",
    }
    if spans:
        # Its WAL goes over a promotion: only an archive recovery follows there.
        name, text = recovery_file(major, manifest.timeline)
        made[f"{OPEN}/{name}"] = text
    return {
        path: text.encode("utf-8", "surrogateescape") for path, text in made.items()
    }
