"""The shipped snapshot programs: read by shellcheck, run against what they call.

btrfs is driven for real in tests/postgres/test_capture_exec.py. A machine that runs
tests has neither ZFS nor LVM, so here their commands are small scripts that keep
volumes as folders, copy them for a snapshot, and refuse what the real ones refuse.
"""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from agent.snapshot.program import MARK, ProgramError, SnapshotProgram

FOLDER = Path(__file__).resolve().parents[2] / "deploy/capture"
SCRIPTS = ("btrfs.sh", "lvm.sh", "zfs.sh")
ZFS = r"""
case $1 in
list)
    case "$*" in
    *snapshot*) for last; do :; done
        [ -d "$TANK/.zfs/snapshot/${last#*@}" ] && echo "$last" ;;
    *) for last; do :; done
        case $last in
        "$TANK"/*) printf 'tank/pg\t%s\n' "$TANK" ;;
        /other*) printf 'tank/other\t/other\n' ;;
        *) echo "cannot open '$last'" >&2; exit 1 ;;
        esac ;;
    esac ;;
snapshot)
    mkdir -p "$TANK/.zfs/snapshot/${3#*@}"
    cp -a "$TANK/data" "$TANK/wal" "$TANK/.zfs/snapshot/${3#*@}" ;;
destroy) rm -r "$TANK/.zfs/snapshot/${3#*@}" ;;
esac
"""
LVM = {
    "id": "echo 0",
    "findmnt": r"""
for last; do :; done
case "$*" in *SOURCE*) column=2 ;; *TARGET*) column=1 ;; *) column=3 ;; esac
while read -r top device kind; do
    case $last in "$top"/*) set -- x "$top" "$device" "$kind" ;; esac
done <"$HERE/mounts"
[ "$1" = x ] || exit 1
shift "$column"; echo "$1"
""",
    "lvs": r"""
case "$*" in
*/dev/vg/*) for last; do :; done
    echo "  vg ${last##*/} $(cat "$HERE/pool")" ;;
*/dev/*) exit 5 ;;
*) for one in "$HERE"/lv/*; do [ -e "$one" ] && echo "  vg ${one##*/}"; done ;;
esac
""",
    "lvcreate": r"""
echo "$*" >>"$HERE/created"
name=; for word; do [ "$before" = -n ] && name=$word; before=$word; done
mkdir "$HERE/lv/$name"; echo "${word##*/}" >"$HERE/lv/$name/of"
""",
    "mount": r"""
for last; do device=$before; before=$last; done
echo "$2" >>"$HERE/options"
volume=$(cat "$HERE/lv/${device##*/}/of")
cp -a "$HERE/$volume/." "$last"; echo "$last" >>"$HERE/mounted"
""",
    "mountpoint": 'for last; do :; done; grep -qx "$last" "$HERE/mounted"',
    "umount": r'for last; do :; done; find "$last" -mindepth 1 -delete',
    "lvremove": 'for last; do :; done; rm -r "$HERE/lv/${last##*/}"',
}


def stand_in(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nHERE={folder}\nTANK={folder}/tank\nbefore=\n{body}\n")
    path.chmod(0o755)


def installed(folder: Path, script: str, *changes: tuple[str, str]) -> SnapshotProgram:
    """The program as an operator adapts it, with our commands before the machine's."""
    text = (FOLDER / script).read_text()
    for old, new in (("set -eu", f"set -eu\nPATH={folder}/bin:$PATH"), *changes):
        assert old in text
        text = text.replace(old, new)
    path = folder / script
    path.write_text(text)
    path.chmod(0o755)
    return SnapshotProgram(path, threading.Event(), 20.0)


def fill(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "file").write_text(f"in {folder.name}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shipped_programs_are_clean_to_shellcheck(script):
    path = FOLDER / script
    assert os.access(path, os.X_OK)
    told = subprocess.run(
        ["shellcheck", "--shell=sh", path], check=False, capture_output=True, text=True
    )
    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", ["../etc", ".", "a b", "a/b", "$(id)"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, script, name):
    program = installed(tmp_path, script)
    with pytest.raises(ProgramError, match="no name for a snapshot"):
        program.remove(name, tmp_path)
    with pytest.raises(ProgramError, match="no name for a snapshot"):
        program.create(name, [tmp_path], tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_called_wrongly_they_say_how_they_are_called(tmp_path, script):
    installed(tmp_path, script)
    for words in ([], ["create"], ["destroy", "x"]):
        told = subprocess.run(
            [tmp_path / script, *words], check=False, capture_output=True, text=True
        )
        assert told.returncode == 1
        assert "usage:" in told.stderr or "no such verb" in told.stderr


def test_on_zfs_one_recursive_snapshot_shows_every_folder(tmp_path):
    stand_in(tmp_path, "zfs", ZFS)
    data, wal = tmp_path / "tank/data", tmp_path / "tank/wal"
    fill(data, wal)
    program = installed(tmp_path, "zfs.sh")
    program.check([data, wal])
    frozen = program.create("n1-1", [data, wal], tmp_path)
    (data / "file").write_text("changed")
    assert [(one / "file").read_text() for one in frozen] == ["in data", "in wal"]
    assert (tmp_path / MARK).read_text() == "n1-1\n"
    again = program.create("n1-1", [data, wal], tmp_path)  # takes the old one's place
    assert (again[0] / "file").read_text() == "changed"
    program.remove("n1", tmp_path)
    assert all(one.exists() for one in frozen)
    program.remove("n1-1", tmp_path)
    program.remove("n1-1", tmp_path)
    assert not any(one.exists() for one in frozen)
    assert not (tmp_path / MARK).exists()
    with pytest.raises(ProgramError, match="is not below tank/pg"):
        program.check([Path("/other/pg")])
    with pytest.raises(ProgramError, match="is not on ZFS"):
        program.create("n1-1", [Path("/srv/pg")], tmp_path)


@pytest.mark.parametrize("pool", ["", "thin"])
def test_on_lvm_each_volume_is_frozen_once_and_mounted(tmp_path, pool):
    for name, body in LVM.items():
        stand_in(tmp_path, name, body)
    data, wal, space = (
        tmp_path / name for name in ("one/data", "one/wal", "two/space")
    )
    fill(data, wal, space)
    (tmp_path / "lv").mkdir()
    (tmp_path / "pool").write_text(pool)
    (tmp_path / "mounts").write_text(
        f"{tmp_path}/one /dev/vg/one ext4\n{tmp_path}/two /dev/vg/two xfs\n"
        "/srv /dev/sda1 ext4\n"
    )
    mounts = ("MOUNTS=/run/splitguard-lvm", f"MOUNTS={tmp_path}/frozen")
    program = installed(tmp_path, "lvm.sh", mounts)
    folders = [data, wal, space]
    program.check(folders)
    frozen = program.create("n1-1", folders, tmp_path)
    assert [(one / "file").read_text() for one in frozen] == [
        "in data", "in wal", "in space",
    ]  # fmt: skip
    created = (tmp_path / "created").read_text().splitlines()
    assert len(created) == 2
    assert all(("-kn" in line) == bool(pool) for line in created)
    plain, xfs = (tmp_path / "options").read_text().splitlines()
    assert plain.startswith("ro,")
    assert xfs == f"{plain},nouuid"
    program.remove("n1-1", tmp_path)
    program.remove("n1-1", tmp_path)
    assert not any(one.exists() for one in frozen)
    assert list((tmp_path / "lv").iterdir()) == []
    with pytest.raises(ProgramError, match="is not a logical volume"):
        program.check([Path("/srv/pg")])
    with pytest.raises(ProgramError, match="lies on no device"):
        program.check([Path("/elsewhere")])


def test_who_is_not_root_asks_sudo_for_volumes(tmp_path):
    stand_in(tmp_path, "id", "echo 70")
    stand_in(tmp_path, "sudo", f'echo "$*" >{tmp_path}/asked; exit 1')
    program = installed(tmp_path, "lvm.sh")
    with pytest.raises(ProgramError):
        program.check([tmp_path])
    asked = (tmp_path / "asked").read_text()
    assert asked == f"-n -- {tmp_path}/lvm.sh check {tmp_path}\n"


def test_what_is_not_on_btrfs_is_refused(tmp_path):
    program = installed(tmp_path, "btrfs.sh")
    with pytest.raises(ProgramError, match="is not on btrfs"):
        program.check([Path("/proc")])
    program.remove("n1-1", tmp_path)  # nothing is there: that is well
