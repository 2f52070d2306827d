"""File systems of a test's own, which can do more than the one that the tests are on.

As root a file is made one, through a loop device: XFS or btrfs, both of which share
blocks between files. Who may not mount gets an ordinary folder instead, and learns
from `kind` that it is one: the same test then proves what happens without.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.postgres.owner import give, unprivileged
from tests.fix_postgres import Stage, template_of

IMAGE_BYTES = 3 << 30
"""Of a sparse file; little of it is ever written."""
MAKERS = {
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
}


@dataclass(frozen=True)
class Volume:
    """A place for servers and captures."""

    folder: Path
    kind: str
    """`xfs`, `btrfs`, or empty for an ordinary folder."""

    @property
    def shares(self) -> bool:
        """Whether files on it can share blocks."""
        if self.kind:
            return True
        probe = self.folder / "probe"
        probe.write_text("probe")
        return _succeeds("cp", "--reflink=always", probe, self.folder / "shared")

    def stage(self, name: str, version: str, home: Path) -> Stage:
        """Where a test builds its servers on this volume; close it at the end."""
        programs, template = template_of(version, home)
        folder = self.folder / name
        folder.mkdir()
        give(folder, unprivileged())
        folder.chmod(0o755)
        return Stage(folder, template, programs)


@contextlib.contextmanager
def volume_of(kind: str) -> Iterator[Volume]:
    """A file system of this kind, or a folder where none can be made."""
    with tempfile.TemporaryDirectory(prefix="sgv-") as name:
        home = Path(name)
        home.chmod(0o755)
        image, folder = home / "image", home / "fs"
        folder.mkdir()
        mounted = os.geteuid() == 0 and _mount(kind, image, folder)
        give(folder, unprivileged())
        try:
            yield Volume(folder, kind if mounted else "")
        finally:
            if mounted:
                _unmount(folder)


def _mount(kind: str, image: Path, folder: Path) -> bool:
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run([*MAKERS[kind], image], check=True, capture_output=True)
    # Root in a container may not mount.
    return _succeeds("mount", "-o", "loop", image, folder)


def _unmount(folder: Path) -> None:
    if not _succeeds("umount", folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


def _succeeds(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(params=["xfs", "btrfs"])
def volume(request: pytest.FixtureRequest) -> Iterator[Volume]:
    """A file system that shares blocks; one kind after the other."""
    with volume_of(request.param) as made:
        yield made


@pytest.fixture
def stage_on(postgres_home: Path) -> Iterator[Callable[..., Stage]]:
    """Makes the place of a test's servers on a volume; all end with the test."""
    with contextlib.ExitStack() as stages:

        def make(volume: Volume, name: str = "st", version: str = "16") -> Stage:
            stage = volume.stage(name, version, postgres_home)
            stages.callback(stage.close)
            return stage

        yield make
