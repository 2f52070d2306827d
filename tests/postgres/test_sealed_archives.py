"""Sealed archives of real servers: opened with the stock programs, and by ours.

The commands are those of the README and of the archive's own README.txt, word by word,
run as the servers' user with Debian's tar, zstd and age and PostgreSQL's pg_ctl.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from agent.postgres.owner import give, owner_of
from tests.capturing import ID, capturing
from tests.fix_postgres import Stage
from tests.postgres.test_capture_archive import commands, rows_by

pytestmark = pytest.mark.postgres
README = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
SECRET = "s3cr3t-Zb9"
ROWS = 30


@pytest.fixture
def kept(stage: Stage):
    """The folder of a snapshot of a crashed server whose configuration has a secret."""
    server = stage.server("n1").start()
    server.query(f"ALTER SYSTEM SET primary_conninfo = 'user=repl password={SECRET}'")
    server.write(ROWS)
    with capturing(stage, server) as capture:
        capture.order()
        capture.until_complete()
        server.crash()
        capture.take_the_rest()
        capture.close()
        yield capture.folder


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """A private key of stock age, in its file, and the public one."""
    file = tmp_path / "KEYFILE"
    subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
    return file, file.read_text().split("public key: ")[1].split()[0]


def first_line(mark: str) -> str:
    """The README's line that unpacks the archive whose name ends so."""
    [line] = re.findall(rf"^mkdir .*\bID{re.escape(mark)} .*$", README, re.MULTILINE)
    return str(line)


def opened_by_hand(archive: Path, key: Path, stage: Stage, text: str) -> int:
    """Do what README and README.txt say with an archive; return the rows in it."""
    mark = archive.name.removeprefix(ID)
    place = stage.folder / f"stranger{mark}"
    place.mkdir()
    for path in (archive, key):
        (place / path.name).write_bytes(path.read_bytes())
    _, *rest = [line.strip() for line in commands(text).splitlines()]
    script = "\n".join((first_line(mark).replace("ID", ID, 1), *rest))
    script = script.replace("KEYFILE", str(place / "KEYFILE"))
    return rows_by(script, stage, place)


def test_archives_open_with_tar_zstd_age_and_pg_ctl_alone(
    splitguard, stage: Stage, kept: Path, key: tuple[Path, str], tmp_path: Path
):
    keyfile, public = key
    ask = ("snapshots", "archive", ID, "--dir", kept.parent, "-f", tmp_path)
    for mark, options in (
        (".tar", ()),
        (".tar.zst", ("--compress",)),
        (".tar.zst.age", ("--compress", "--recipient", public)),
    ):
        made = splitguard(*ask, *options)
        assert made.code == 0, made.words
        archive = tmp_path / f"{ID}{mark}"
        assert archive.stat().st_mode & 0o777 == 0o600
        assert SECRET.encode() not in archive.read_bytes()
        text = readme_of(archive, keyfile)
        assert "postgresql.auto.conf" in text
        assert opened_by_hand(archive, keyfile, stage, text) == ROWS


def readme_of(archive: Path, keyfile: Path) -> str:
    """Read the archive's README.txt with stock programs."""
    unpacked = {
        ".tar": f"cat {archive}",
        ".zst": f"zstd -dc {archive}",
        ".age": f"age -d -i {keyfile} {archive} | zstd -dc",
    }[archive.suffix]
    command = f"{unpacked} | tar -xOf - README.txt"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-euc", command],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return ran.stdout


def test_what_was_cut_out_comes_back_with_age_and_tar(
    splitguard, stage16: Stage, tmp_path: Path, key: tuple[Path, str]
):
    keyfile, public = key
    server = stage16.server("n1").start()
    server.query(f"ALTER SYSTEM SET primary_conninfo = 'password={SECRET}'")
    with capturing(stage16, server) as capture:
        capture.order()
        capture.until_complete()
        ask = ("snapshots", "archive", ID, "--dir", capture.capture_dir)
        made = splitguard(*ask, "-r", public, "--no-encrypt", "-f", tmp_path)
    assert made.code == 0, made.words
    subprocess.run(["tar", "-xf", f"{ID}.tar"], cwd=tmp_path, check=True)
    conf = tmp_path / "data" / "postgresql.auto.conf"
    assert SECRET not in conf.read_text()
    [line] = re.findall(r"^age -d .*secrets\.tar\.age.*$", README, re.MULTILINE)
    subprocess.run(
        ["bash", "-euc", line.replace("KEYFILE", str(keyfile))],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert SECRET in conf.read_text()


def test_sealed_archives_are_verified_opened_and_restored(
    spawned, stage16: Stage, tmp_path: Path, key: tuple[Path, str]
):
    keyfile, public = key
    server = stage16.server("n1").start()
    server.write(ROWS)
    with capturing(stage16, server) as capture:
        capture.finished_cold()
        folder = capture.folder
    bin_dir = ("--bin-dir", stage16.programs.bin_dir)
    ask = ("snapshots", "archive", ID, "--dir", folder.parent, "-f", tmp_path)
    assert spawned(*ask, "--compress", "-r", public).code == 0
    archive = tmp_path / f"{ID}.tar.zst.age"
    blind = spawned("snapshots", "verify", archive, *bin_dir)
    assert blind.code == 1
    assert "is encrypted" in blind.words
    assert "--identity FILE" in blind.words
    seen = spawned(
        "snapshots", "verify", archive, "-i", keyfile, *bin_dir, "-o", "json"
    )
    assert seen.code == 0, seen.words
    assert json.loads(seen.out)["grade"] == "complete"
    psql = stage16.programs.bin_dir / "psql"
    asked = spawned(
        "snapshots", "open", archive, "-i", keyfile, *bin_dir, "--",
        psql, "-XAtc", "SELECT count(*) FROM kept",
    )  # fmt: skip
    assert (asked.code, asked.out) == (0, f"{ROWS}\n"), asked.words
    place = stage16.folder / "back"
    back = spawned(
        "snapshots", "restore", archive, "--to", place, "-i", keyfile, *bin_dir
    )
    assert back.code == 0, back.words
    assert owner_of(place) == owner_of(stage16.template)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    for command in ("verify", "open"):
        bad = spawned("snapshots", command, archive, "-i", keyfile, *bin_dir)
        assert bad.code == 1
        assert "was changed or cut off" in bad.words


def test_the_settings_say_how_archives_are_sealed(
    splitguard, tmp_path: Path, stage16: Stage, key: tuple[Path, str]
):
    _, public = key
    server = stage16.server("n1").start()
    with capturing(stage16, server) as capture:
        capture.order()
        capture.until_complete()
        config = tmp_path / "agent.toml"
        config.write_text(
            f'cluster = "c"\nnode = "n1"\nstate_dir = "{tmp_path}"\n'
            f'[capture]\ndir = "{capture.capture_dir}"\ncompress = true\n'
            f'recipients = ["{public}"]\n'
            '[[nodes]]\nname = "n1"\nagent = "http://127.0.0.1:8009"\n'
        )
        ask = ("snapshots", "archive", ID, "--config", config, "-f", tmp_path)
        assert splitguard(*ask).code == 0
        assert splitguard(*ask, "--no-encrypt").code == 0
        assert splitguard(*ask, "--no-compress", "--no-encrypt").code == 0
        wrong = splitguard(*ask, "-r", "age1nonsense")
        assert wrong.code == 1
        assert "not a recipient: 'age1nonsense'" in wrong.words
    assert {path.name for path in tmp_path.glob(f"{ID}*")} == {
        f"{ID}.tar",
        f"{ID}.tar.zst",
        f"{ID}.tar.zst.age",
    }
    give(tmp_path, owner_of(stage16.template))
