"""What a tail keeps beside WAL: pg_control, configuration, the latest logs.

Theory of operation. These files are small and change rarely; a file is taken again
when its size or time has changed. Configuration outside the data directory is
found through the running server, or through the options with which it was last
started. A file that cannot be read is left out: the WAL is what matters.
"""

import hashlib
import re
from pathlib import Path

from agent.snapshot.files import PRIVATE_FILE, make_folder, write_atomically
from agent.snapshot.manifest import STATE, FileEntry

LOGS_MAX = 2
LOG_BYTES_MAX = 4 << 20
"""Of each log only so much is kept, from its end."""
FILE_BYTES_MAX = 16 << 20
_NAMES = (
    "PG_VERSION", "backup_label", "postgresql.conf", "postgresql.auto.conf",
    "pg_hba.conf", "pg_ident.conf", "postmaster.opts", "postmaster.pid",
    "recovery.signal", "standby.signal", "recovery.conf",
)  # fmt: skip
_CONFIG_OPTION = re.compile(r"config_file=([^\"'\s]+)")


class StateFiles:
    """Keeps the small files of one server in the snapshot's `state` folder."""

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._data_dir = data_dir
        self._keep = folder / STATE
        self._taken: dict[str, tuple[tuple[int, int, int], FileEntry]] = {}
        self.outside: tuple[Path, ...] = ()
        """Configuration files that the running server has named."""

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """What is kept, for the manifest."""
        return tuple(entry for _, entry in self._taken.values())

    def refresh(self) -> bool:
        """Take what has changed; return whether anything had. Raises OSError."""
        make_folder(self._keep / "config")
        make_folder(self._keep / "log")
        taken = [self._take("pg_control", self._data_dir / "global" / "pg_control")]
        taken += [self._take(f"config/{n}", self._data_dir / n) for n in _NAMES]
        taken += [
            self._take(f"config/outside-{path.name}", path)
            for path in self._elsewhere()
        ]
        taken += [
            self._take(f"log/{path.name}", path, LOG_BYTES_MAX) for path in self._logs()
        ]
        return any(taken)

    def _take(self, name: str, source: Path, limit: int = FILE_BYTES_MAX) -> bool:
        try:
            found = source.stat()
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._taken.get(name)
            if known is not None and known[0] == mark:
                return False
            with source.open("rb") as file:
                file.seek(max(0, found.st_size - limit))
                content = file.read(limit)
        except OSError:
            return False
        write_atomically(self._keep / name, content)
        digest = hashlib.sha256(content).hexdigest()
        entry = FileEntry(f"{STATE}/{name}", len(content), digest, PRIVATE_FILE)
        self._taken[name] = (mark, entry)
        return True

    def _elsewhere(self) -> list[Path]:
        home = self._data_dir.resolve()
        found = {path for path in self.outside if home not in path.resolve().parents}
        try:
            options = (self._data_dir / "postmaster.opts").read_text("utf-8", "replace")
        except OSError:
            options = ""
        for match in _CONFIG_OPTION.finditer(options[:65536]):
            config = Path(match[1])
            if home not in config.resolve().parents:
                found |= {config, config.with_name("pg_hba.conf")}
        return sorted(found)

    def _logs(self) -> list[Path]:
        found: list[tuple[float, Path]] = []
        for folder in (self._data_dir / "log", self._data_dir / "pg_log"):
            try:
                found += [
                    (path.stat().st_mtime, path)
                    for path in folder.iterdir()
                    if path.is_file()
                ]
            except OSError:
                continue
        return [path for _, path in sorted(found, reverse=True)[:LOGS_MAX]]
