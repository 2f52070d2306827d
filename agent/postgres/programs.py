"""PostgreSQL's own programs: which ones belong to a data directory, and running them.

Theory of operation. A program of another major version misreads WAL or refuses the
folder, so the right ones are looked for in this order: the folder that was
configured; the executable of the postmaster that runs on the data directory; the
known places for the major version in PG_VERSION. A child runs as the owner of the
files that it reads, with an environment that has no PG* variable in it and
untranslated messages, in bounded time and with bounded output. Programs that were
copied together with their libraries find them by their own relative path; nothing
is put into the library path.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent.errors import PostgresError
from agent.postgres.owner import Owner, owner_of

OUTPUT_BYTES_MAX = 16 * 1024 * 1024
"""More output than this is cut off; what follows is not needed by anybody here."""
TIMEOUT_S = 60.0
VERSION_TIMEOUT_S = 10.0
_STDERR_LINES = 5
_LINE_CHARS = 300
_TWO_PART_VERSIONS = 10
"""From here on a version has two numbers, the first of them the major one."""
_PLACES = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/usr/lib64/pgsql/bin",
    "/usr/local/pgsql/bin",
    "/opt/postgresql/{major}/bin",
    "/opt/postgresql-{major}/bin",
    "/opt/pgsql-{major}/bin",
    "/usr/local/bin",
    "/usr/bin",
)
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and what it said."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_lines(self) -> str:
        """The last lines of its complaints, on one line."""
        return last_lines(self.stderr or self.stdout)


@dataclass(frozen=True, slots=True)
class Programs:
    """One installation of PostgreSQL."""

    bin_dir: Path
    version_num: int
    """Such as 150018 for 15.18."""

    @property
    def major(self) -> int:
        """The major version, such as 15."""
        return self.version_num // 10000

    def has(self, name: str) -> bool:
        """Whether the installation has this program."""
        return os.access(self.bin_dir / name, os.X_OK)

    def path(self, name: str) -> Path:
        """Return the program's path. Raises PostgresError when it is missing."""
        if not self.has(name):
            raise PostgresError(
                f"{name} is not in {self.bin_dir}",
                "install the complete server package of PostgreSQL "
                f"{self.major}, or set local.bin_dir",
            )
        return self.bin_dir / name

    def run(
        self,
        command: Sequence[str | Path],
        *,
        as_owner_of: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        check: bool = True,
        input_text: str = "",
    ) -> Finished:
        """Run `command` to its end; its first word is a program of this installation.

        Raises PostgresError when it is missing, cannot start, takes longer than
        `timeout_s`, or (with `check`) exits with anything but 0.
        """
        name = str(command[0])
        full = [str(self.path(name)), *map(str, command[1:])]
        owner = owner_of(as_owner_of) if as_owner_of is not None else None
        finished = _run(full, owner, timeout_s, input_text)
        if check and finished.exit_code != 0:
            raise PostgresError(
                f"{name} failed with exit code {finished.exit_code}: "
                f"{finished.last_lines or 'it gave no reason'}"
            )
        return finished

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        as_owner_of: Path,
        log: IO[bytes],
        extra_env: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start `command` in a session of its own, writing to `log`, and return.

        Raises PostgresError when it cannot start.
        """
        name = str(command[0])
        full = [str(self.path(name)), *map(str, command[1:])]
        identity = owner_of(as_owner_of).identity()
        try:
            return subprocess.Popen(
                full,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **(extra_env or {})},
                cwd="/",
                start_new_session=True,
                umask=0o077,
                **identity,
            )
        except OSError as error:
            raise _cannot_start(full[0], error) from error


def clean_environment() -> dict[str, str]:
    """Return this process's environment as a server's program should see it.

    Without any PG* variable (they would redirect it), with messages untranslated
    (they are parsed), and in UTC.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PG", "LC_", "LANGUAGE", "SPLITGUARD_"))
    }
    return {**kept, "LC_ALL": "C", "LANG": "C", "TZ": "UTC"}


def last_lines(text: str, lines_max: int = _STDERR_LINES) -> str:
    """Return the last few lines of a log or a complaint, on one line."""
    lines = [line.strip()[:_LINE_CHARS] for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-lines_max:])


def find_programs(bin_dir: Path | None, data_dir: Path | None) -> Programs:
    """Return the installation that belongs to `data_dir`.

    An explicit `bin_dir` is taken as it is, as long as its major version fits.
    Raises PostgresError, with what was looked for, where none is found.
    """
    major = read_major(data_dir) if data_dir is not None else None
    if bin_dir is not None:
        return _checked(bin_dir, major)
    if data_dir is None or major is None:
        raise PostgresError(
            "PostgreSQL's programs cannot be found without a data directory",
            "set local.bin_dir or local.data_dir",
        )
    places = _places(data_dir, major)
    for place in places:
        if not os.access(place / "postgres", os.X_OK):
            continue
        found = Programs(place, read_version(place))
        if found.major == major:
            return found
    raise PostgresError(
        f"no programs of PostgreSQL {major} for {data_dir}; looked in "
        + ", ".join(map(str, places)),
        "set local.bin_dir to the folder that holds postgres and pg_waldump",
    )


def read_major(data_dir: Path) -> int:
    """Return the major version in PG_VERSION. Raises PostgresError.

    For versions before 10 that is the first number, 9.
    """
    path = data_dir / "PG_VERSION"
    try:
        text = path.read_bytes()[:64].decode("ascii", "replace").strip()
    except OSError as error:
        raise PostgresError(
            f"{data_dir} cannot be read as a data directory: PG_VERSION: "
            f"{error.strerror}",
            "set local.data_dir to the server's data directory, and run the agent "
            "as its owner",
        ) from error
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text):
        raise PostgresError(f"{path} does not hold a version: {text[:20]!r}")
    return int(text.partition(".")[0])


def read_release(data_dir: Path) -> int:
    """Return the first version of PG_VERSION's release, such as 90600 or 160000.

    Raises PostgresError.
    """
    major = read_major(data_dir)
    if major >= _TWO_PART_VERSIONS:
        return major * 10000
    second = (data_dir / "PG_VERSION").read_text("ascii").strip().partition(".")[2]
    return major * 10000 + int(second or 0) * 100


def read_version(bin_dir: Path) -> int:
    """Return the installation's version as a number such as 150018.

    Raises PostgresError.
    """
    finished = _run([str(bin_dir / "postgres"), "--version"], None, VERSION_TIMEOUT_S)
    match = _VERSION.search(finished.stdout)
    if finished.exit_code != 0 or match is None:
        raise PostgresError(
            f"{bin_dir}/postgres --version did not answer: {finished.last_lines}"
        )
    first, second, third = (int(part or 0) for part in match.groups())
    if first >= _TWO_PART_VERSIONS:
        return first * 10000 + second
    return first * 10000 + second * 100 + third


def _checked(bin_dir: Path, major: int | None) -> Programs:
    if not os.access(bin_dir / "postgres", os.X_OK):
        raise PostgresError(
            f"there is no program postgres in {bin_dir}",
            "set local.bin_dir to the folder that holds postgres and pg_waldump",
        )
    found = Programs(bin_dir, read_version(bin_dir))
    if major is not None and found.major != major:
        raise PostgresError(
            f"{bin_dir} is PostgreSQL {found.major}, the data directory is of {major}",
            "set local.bin_dir to the programs of the server's own version",
        )
    return found


def _places(data_dir: Path, major: int) -> tuple[Path, ...]:
    known = tuple(Path(place.format(major=major)) for place in _PLACES)
    running = _running_bin_dir(data_dir)
    return (running, *known) if running is not None else known


def _running_bin_dir(data_dir: Path) -> Path | None:
    """Return the folder of the executable that runs on `data_dir`, if it shows."""
    try:
        first = (data_dir / "postmaster.pid").read_bytes()[:20].split(b"\n")[0]
        executable = Path(f"/proc/{int(first)}/exe").readlink()
    except (OSError, ValueError):
        return None
    return executable.parent if executable.name in {"postgres", "postmaster"} else None


def _run(
    full: Sequence[str], owner: Owner | None, timeout_s: float, input_text: str = ""
) -> Finished:
    """Run to the end. All goes through unnamed files, so that no pipe can fill up."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as complaints,
    ):
        given.write(input_text.encode())
        given.seek(0)
        try:
            done = subprocess.run(
                full,
                stdin=given,
                stdout=out,
                stderr=complaints,
                env=clean_environment(),
                cwd="/",
                timeout=timeout_s,
                check=False,
                umask=0o077,
                **(owner.identity() if owner is not None else {}),
            )
        except subprocess.TimeoutExpired as error:
            raise PostgresError(
                f"{Path(full[0]).name} took longer than {timeout_s:g} s and was stopped"
            ) from error
        except OSError as error:
            raise _cannot_start(full[0], error) from error
        return Finished(done.returncode, _text(out), _text(complaints))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_BYTES_MAX).decode("utf-8", "replace")


def _cannot_start(program: str, error: OSError) -> PostgresError:
    return PostgresError(
        f"{program} cannot be started: {error.strerror}",
        "check that the data directory's owner may run it",
    )
