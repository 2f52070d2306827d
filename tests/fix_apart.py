"""Tests on file systems of their own: small ones, and views that nobody can write to.

Theory of operation. A test marked `apart` is run by a second pytest in mount namespaces
of its own, as any user, and what that one says is the result. `small_disk` is a file
system in memory, of the size that the mark asks for; `frozen_view` is the same one,
read-only; `other_disk` is a second one. All are gone when the test ends.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import eventually

INSIDE = "SPLITGUARD_TEST_APART"
SMALL, OTHER, VIEW = "small", "other", "view"
SIZE = "256m"
WITHIN_S = 110.0
MIB = 1 << 20
PLAIN = 1000
MOUNT = f"""
set -eu
mount -t tmpfs -o "size=$2,mode=0777" tmpfs "$1/{SMALL}"
mount -t tmpfs -o "size=$3,mode=0777" tmpfs "$1/{OTHER}"
mount --bind "$1/{SMALL}" "$1/{VIEW}"
mount -o remount,ro,bind "$1/{VIEW}"
shift 3
exec "$@"
"""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        "apart(small, other, plain): runs on file systems of its own, so large; plain:"
        " as a user whom permissions bind, root or not",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test in a process of its own, unless this is that one."""
    mark = pyfuncitem.get_closest_marker("apart")
    if mark is None or INSIDE in os.environ:
        return None
    with tempfile.TemporaryDirectory(prefix="sg-apart-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for each in (SMALL, OTHER, VIEW):
            (folder / each).mkdir()
        sizes = (mark.kwargs.get("small", SIZE), mark.kwargs.get("other", SIZE))
        again = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            f"--rootdir={pyfuncitem.config.rootpath}", pyfuncitem.nodeid,
        ]  # fmt: skip
        ran = subprocess.run(
            [*apart(), "sh", "-c", MOUNT, "sh", folder, *sizes,
             *back(plain=mark.kwargs.get("plain", False)), *again],
            cwd=pyfuncitem.config.rootpath, capture_output=True, text=True,
            env={**os.environ, INSIDE: name}, timeout=WITHIN_S, check=False,
        )  # fmt: skip
    if ran.returncode != 0:
        pytest.fail(f"{ran.stdout}\n{ran.stderr}", pytrace=False)
    return True


def apart() -> list[str]:
    """The command that runs another one in a mount namespace, with the right to it."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--propagation", "private", "--"]


def back(*, plain: bool) -> list[str]:
    """The command that becomes this user again, whom a server takes for no root.

    With `plain` root gets another number and none of its rights, but its files.
    """
    if os.geteuid() == 0 and not plain:
        return []
    who = [
        f"--map-user={os.geteuid() or PLAIN}", f"--map-group={os.getegid() or PLAIN}"
    ]  # fmt: skip
    return ["unshare", "--user", *who, "--"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A small file system of this test alone."""
    yield from _inside(SMALL)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A second one."""
    yield from _inside(OTHER)


@pytest.fixture
def frozen_view() -> Iterator[Path]:
    """The small file system, as a place where nothing can be written."""
    yield from _inside(VIEW)


def _inside(name: str) -> Iterator[Path]:
    # Outside of the namespaces only its name is asked for: the test runs elsewhere.
    yield Path(os.environ.get(INSIDE, "/nowhere")) / name


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def fill(folder: Path, leave_bytes: int) -> Path:
    """Somebody else's file, which leaves so much free; it can grow again."""
    path = folder / "of-somebody-else"
    with path.open("ab") as file:
        size = path.stat().st_size + free_bytes(folder) - leave_bytes
        os.posix_fallocate(file.fileno(), 0, max(1, size))
    eventually("it is that full", lambda: free_bytes(folder) <= leave_bytes + MIB)
    return path
