"""An installation as deploy/README.md makes it, without asking any package index.

A virtual environment that holds what requirements.lock names and nothing else, and this
project as a wheel. The locked packages are linked from the environment that runs the
tests; a package that the agent needs and the lock does not name is therefore missing
here, as is a file that the wheel forgets.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.postgres.owner import Owner, unprivileged

ROOT = Path(__file__).resolve().parent.parent
LOCKED = re.compile(r"^(?P<name>[a-z0-9-]+)==\S+ *(?P<marker>;.*)?\\$", re.MULTILINE)
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def interpreter_for(owner: Owner) -> str:
    """A Python like the one that runs the tests, which `owner` may run too."""
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{PYTHON}"):
        runs = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0" -c ""', candidate],
            check=False, cwd="/", stderr=subprocess.DEVNULL, **owner.identity(),
        )  # fmt: skip
        if runs.returncode == 0:
            return candidate
    pytest.fail(f"user {owner.name} can run no {PYTHON}: install it in /usr/bin")


def locked_files() -> Iterator[tuple[Path, Path]]:
    """Where each file of a locked package is, and its place in site-packages."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    for locked in LOCKED.finditer(text):
        try:
            files = importlib.metadata.files(locked["name"])
        except importlib.metadata.PackageNotFoundError:
            assert locked["marker"], f"{locked['name']} is locked and not installed"
            continue
        for file in files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                yield Path(str(file.locate())), Path(str(file))


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def uv(*arguments: str | Path) -> None:
    """Run uv, which may ask nobody."""
    ran = subprocess.run(
        [Path(sys.executable).with_name("uv"), "--no-config", "--no-cache", "--offline",
         "--quiet", *arguments],
        check=False, text=True, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout


@pytest.fixture(scope="session")
def installed(postgres_home: Path) -> Path:
    """The folder that stands for /opt/splitguard; everybody may run what is in it."""
    prefix = postgres_home / "opt/splitguard"
    python = prefix / "bin/python"
    made = subprocess.run(
        [interpreter_for(unprivileged()), "-m", "venv", "--without-pip", prefix],
        check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    site_packages = prefix / "lib" / PYTHON / "site-packages"
    for source, place in locked_files():
        link(source, site_packages / place)
    wheels = postgres_home / "wheels"
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable,
       "--out-dir", wheels, ROOT)  # fmt: skip
    uv("pip", "install", "--no-deps", "--python", python, *wheels.glob("*.whl"))
    return prefix
