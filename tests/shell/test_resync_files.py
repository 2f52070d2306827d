"""What a resync leaves on disk: the note, the configuration, the old data aside.

Without a server: folders that look like one. With servers: tests/postgres.
"""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.lineage import Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.resync import Step
from agent.errors import GuardError
from agent.guard import managers, resync_aside, resync_files
from agent.guard.resync_mark import Mark, Notes
from agent.guard.resync_server import last_options
from agent.postgres import upstream

SUFFIX = f"{resync_aside.SUFFIX}20261123T060000Z"


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below, with what it holds or where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_text()
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose pg_wal and one tablespace lie elsewhere."""
    folder = tmp_path / "db/data"
    for name in ("global", "pg_tblspc", "base/1"):
        (folder / name).mkdir(parents=True)
    (folder / "global/pg_control").write_text("control")
    (folder / "base/1/2").write_text("rows")
    wal, space = tmp_path / "disk/wal", tmp_path / "disk/space"
    (space / "PG_16_1").mkdir(parents=True)
    (space / "PG_16_1/3").write_text("more rows")
    wal.mkdir()
    (wal / "000000010000000000000001").write_text("wal")
    (folder / "pg_wal").symlink_to(wal)
    (folder / "pg_tblspc/99").symlink_to(space)
    return folder


def test_old_data_goes_aside_with_all_that_it_links_to_and_comes_back(
    data: Path, tmp_path: Path
):
    before = tree(tmp_path)
    resync_aside.move(data, SUFFIX)
    aside = resync_aside.place_of(data, SUFFIX)
    assert not data.exists()
    assert (aside / "pg_wal/000000010000000000000001").read_text() == "wal"
    assert (aside / "pg_tblspc/99/PG_16_1/3").read_text() == "more rows"
    assert not list((tmp_path / "disk/space").iterdir())
    assert not (tmp_path / "disk/wal").exists()
    assert resync_aside.waldir(data, SUFFIX) == tmp_path / "disk/wal"
    resync_aside.put_back(data, SUFFIX)
    assert tree(tmp_path) == before


def test_a_pg_wal_that_is_linked_by_a_relative_path_comes_back_from_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also when the run ended between the rename and the link's new end."""
    link = data / "pg_wal"
    link.unlink()
    link.symlink_to("../../disk/wal")
    before = tree(tmp_path)
    monkeypatch.chdir("/")
    resync_aside.move(data, SUFFIX)
    moved = resync_aside.place_of(data, SUFFIX) / "pg_wal"
    assert moved.resolve().name == f"wal{SUFFIX}"
    moved.unlink()
    moved.symlink_to("../../disk/wal")
    resync_aside.put_back(data, SUFFIX)
    assert tree(tmp_path) == before


def test_half_a_clone_makes_room_for_what_was_there(data: Path, tmp_path: Path):
    before = tree(tmp_path)
    resync_aside.move(data, SUFFIX)
    (data / "base").mkdir(parents=True)
    (data / "backup_label").write_text("half")
    (tmp_path / "disk/wal").mkdir()
    (tmp_path / "disk/space/PG_16_1").mkdir()
    resync_aside.put_back(data, SUFFIX)
    assert tree(tmp_path) == before


def test_a_clone_that_was_started_is_not_thrown_away(data: Path):
    resync_aside.move(data, SUFFIX)
    (data / "global").mkdir(parents=True)
    (data / "global/pg_control").write_text("somebody uses this")
    with pytest.raises(GuardError, match="a server was started there"):
        resync_aside.put_back(data, SUFFIX)
    assert (data / "global/pg_control").read_text() == "somebody uses this"
    assert resync_aside.place_of(data, SUFFIX).exists()


def test_what_cannot_be_moved_leaves_everything_where_it_was(
    data: Path, tmp_path: Path
):
    before = tree(tmp_path)
    (tmp_path / f"disk/space{SUFFIX}").mkdir()
    with pytest.raises(GuardError, match="cannot be moved aside"):
        resync_aside.move(data, SUFFIX)
    assert tree(tmp_path) == before
    with pytest.raises(GuardError, match="bytes are missing on the volume"):
        resync_aside.check_room(data, 1 << 60)


def test_a_place_that_cannot_be_renamed_is_told_before_anything_moves(data: Path):
    """A mount point, for one; /proc stands for any."""
    link = data / "pg_tblspc/77"
    link.symlink_to("/proc")
    with pytest.raises(GuardError, match="volume of its own"):
        resync_aside.check_room(data, None)


def test_nothing_is_put_back_where_nothing_was_moved(data: Path, tmp_path: Path):
    before = tree(tmp_path)
    resync_aside.put_back(data, SUFFIX)
    assert tree(tmp_path) == before


def test_the_servers_own_configuration_comes_back_and_its_state_does_not(
    tmp_path: Path,
):
    data, saved = tmp_path / "data", tmp_path / "state/saved"
    (data / "conf.d").mkdir(parents=True)
    own = {
        "postgresql.conf": "port = 1",
        "postgresql.auto.conf": "primary_conninfo = 'host=old'",
        "pg_hba.conf": "mine",
        "server.key": "key",
        "conf.d/10.conf": "a = 1",
    }
    for name, text in own.items():
        (data / name).write_text(text)
    (data / "server.key").chmod(0o600)
    for name in ("PG_VERSION", "backup_label", "postmaster.opts", "standby.signal"):
        (data / name).write_text("state")
    resync_files.save(data, saved)
    for path in data.iterdir():
        if path.is_file():
            path.write_text("of the source")
    (data / "conf.d/10.conf").unlink()
    resync_files.put_back(saved, data)
    assert {name: (data / name).read_text() for name in own} == own
    assert (data / "server.key").stat().st_mode & 0o777 == 0o600
    assert (data / "PG_VERSION").read_text() == "of the source"
    assert (data / "backup_label").read_text() == "of the source"


def test_the_configuration_is_on_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, saved = tmp_path / "data", tmp_path / "state/saved"
    (data / "conf.d").mkdir(parents=True)
    for name in ("pg_hba.conf", "conf.d/10.conf"):
        (data / name).write_text(name)
    synced: list[str] = []
    sync = os.fsync

    def noted(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        synced.append(str(path.relative_to(tmp_path)))
        sync(number)

    monkeypatch.setattr(os, "fsync", noted)
    resync_files.save(data, saved)
    fresh = "state/saved.new"
    files = [f"{fresh}/conf.d/10.conf", f"{fresh}/pg_hba.conf"]
    assert synced == [*files, f"{fresh}/conf.d", fresh, "state"]
    synced.clear()
    resync_files.put_back(saved, data)
    files = ["data/conf.d/.10.conf.splitguard", "data/.pg_hba.conf.splitguard"]
    assert synced == [*files, "data/conf.d", "data"]


AUTO = """# Do not edit this file manually!
shared_buffers = '1GB'
primary_conninfo = 'host=old user=me password=''it is a "secret"'''
primary_slot_name = 'mine'
recovery_target_timeline = 'current'
restore_command = '/bin/false'
"""


def test_a_server_is_told_whom_to_follow_and_keeps_the_rest(tmp_path: Path):
    (tmp_path / "postgresql.auto.conf").write_text(AUTO)
    (tmp_path / "recovery.signal").touch()
    before = resync_files.setting(tmp_path, "primary_conninfo")
    assert before == "host=old user=me password='it is a \"secret\"'"
    assert resync_files.setting(tmp_path, "primary_slot_name") == "mine"
    assert resync_files.setting(tmp_path, "archive_command") == ""
    parts = {"host": "10.0.0.2", "port": "6432", "user": "rewinder", "dbname": "x"}
    told = resync_files.streaming(before, parts, "n1", None)
    resync_files.follow(tmp_path, told, "")
    text = (tmp_path / "postgresql.auto.conf").read_text()
    assert "shared_buffers = '1GB'" in text
    assert "host=old" not in text
    assert "restore_command" not in text
    assert resync_files.setting(tmp_path, "primary_conninfo") == told
    assert told.startswith("host=10.0.0.2 port=6432 application_name=n1 user=me")
    assert "rewinder" not in told
    assert "it is a" in told
    assert (tmp_path / "standby.signal").exists()
    assert not (tmp_path / "recovery.signal").exists()
    resync_files.follow(tmp_path, told, "")
    assert (tmp_path / "postgresql.auto.conf").read_text() == text


@pytest.mark.parametrize(
    ("before", "configured", "told"),
    [
        ("", None, "host=w port=1 application_name=n1 user=s sslmode=require"),
        ("nonsense", None, "host=w port=1 application_name=n1 user=s sslmode=require"),
        (
            "host=old user=old",
            {"user": "repl", "passfile": "/p"},
            "host=w port=1 application_name=n1 user=repl sslmode=require passfile=/p",
        ),
        (
            "host=old hostaddr=1.1.1.1 user=old application_name=mine",
            None,
            "host=w port=1 application_name=mine user=old",
        ),
    ],
)
def test_it_streams_as_it_did_or_as_it_is_told_to(before, configured, told):
    source = {"host": "w", "port": "1", "user": "s", "sslmode": "require"}
    assert resync_files.streaming(before, source, "n1", configured) == told


def test_the_note_survives_and_a_damaged_one_is_a_persons_matter(tmp_path: Path):
    notes = Notes(tmp_path)
    assert notes.read() is None
    mark = notes.write(Mark(Step.NONE, "/data", "n2", "permit-1"))
    assert notes.advance(mark, Step.REWINDING) == replace(mark, step=Step.REWINDING)
    assert notes.read() == replace(mark, step=Step.REWINDING)
    note = notes.folder / "note.json"
    for text in ("", "{", json.dumps({"step": "sideways"}), "[]"):
        note.write_text(text)
        with pytest.raises(GuardError, match="is damaged"):
            notes.read()
    notes.remove()
    notes.remove()
    assert notes.read() is None


@pytest.mark.parametrize("step", [Step.REWOUND, Step.CLONED])
def test_a_server_that_has_run_since_makes_the_note_void(tmp_path: Path, step: Step):
    control = tmp_path / "data/global/pg_control"
    control.parent.mkdir(parents=True)
    control.write_bytes(b"as it was finished")
    notes = Notes(tmp_path)
    written = notes.write(Mark(Step.NONE, str(tmp_path / "data"), "n2", "permit-1"))
    assert not written.untouched()
    notes.advance(written, step)
    found = notes.read()
    assert found
    assert found.untouched()
    control.write_bytes(b"a server has run")
    assert not found.untouched()
    control.unlink()
    assert not found.untouched()


@pytest.mark.parametrize(
    ("opts", "options"),
    [
        ('/usr/bin/postgres "-D" "/data"\n', ""),
        (
            '/usr/bin/postgres "-D" "/a b" "-c" "config_file=/etc/my conf"\n',
            "-c 'config_file=/etc/my conf'",
        ),
        ("/usr/bin/postgres -D/data -p 5433", "-p 5433"),
        ("", ""),
        ('"unfinished', ""),
    ],
)
def test_the_options_of_the_last_start_are_kept(tmp_path: Path, opts, options):
    (tmp_path / "postmaster.opts").write_text(opts)
    assert last_options(tmp_path) == options


def machine(root: Path, *commands: str, **files: str) -> Path:
    """A root folder with these processes and files."""
    (root / "proc").mkdir(parents=True)
    for number, command in enumerate(commands, start=100):
        process = root / f"proc/{number}"
        process.mkdir()
        (process / "cmdline").write_text("\0".join(command.split()) + "\0")
    for name, text in files.items():
        path = root / "etc" / name.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("commands", "name"),
    [
        (["/usr/bin/python3 /usr/bin/patroni /nowhere/p.yml"], "Patroni"),
        (["/usr/bin/repmgrd -f /nowhere/repmgr.conf"], "repmgrd"),
        (["pg_autoctl run --pgdata DATA"], "pg_auto_failover"),
        (["/usr/bin/pg_autoctl run --pgdata=/other"], None),
        (["/usr/sbin/pacemakerd"], "Pacemaker"),
        (["stolon-keeper --uid k"], "stolon"),
        (["vim patroni.yml"], None),
        (["/usr/lib/postgresql/16/bin/postgres -D /data"], None),
        ([], None),
    ],
)
def test_software_that_runs_is_known_by_its_process(tmp_path: Path, commands, name):
    data = tmp_path / "data"
    data.mkdir()
    commands = [each.replace("DATA", str(data)) for each in commands]
    found = managers.find(data, machine(tmp_path / "root", *commands))
    assert [each.partition(" ")[0] for each in found.running] == [name] * bool(name)
    assert all(": " in each for each in found.running)
    assert not found.configured


@pytest.mark.parametrize(
    ("files", "configured"),
    [
        ({"patroni__yml": "postgresql:\n  data_dir: DATA\n"}, True),
        ({"patroni__yml": "postgresql:\n  data_dir: /other\n"}, False),
        ({"patroni__yml": "not: [yaml"}, True),
        ({"repmgr__conf": "data_directory='DATA'\nfailover='automatic'\n"}, True),
        ({"repmgr__conf": "data_directory='DATA'\nfailover=manual\n"}, False),
        ({"repmgr__conf": "data_directory='/other'\nfailover=automatic\n"}, False),
        ({}, False),
    ],
)
def test_software_that_is_configured_counts_for_its_own_server(
    tmp_path: Path, files, configured
):
    data = tmp_path / "data"
    data.mkdir()
    files = {name: text.replace("DATA", str(data)) for name, text in files.items()}
    found = managers.find(data, machine(tmp_path / "root", **files))
    assert bool(found.configured) is configured
    assert not found.running


def test_the_file_of_another_node_does_not_answer_for_a_running_patroni(
    tmp_path: Path,
):
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    for folder, counts in ((data, True), (other, False)):
        config = tmp_path / "p.yml"
        config.write_text(f"postgresql:\n  data_dir: {folder}\n")
        root = machine(tmp_path / f"root{counts}", f"python3 patroni {config}")
        assert bool(managers.find(data, root).running) is counts


def test_software_that_ends_while_it_is_asked_after_runs_no_more(tmp_path: Path):
    config = tmp_path / "p.yml"
    os.mkfifo(config)
    root = machine(tmp_path / "root", f"python3 patroni {config}")

    def end() -> None:
        with config.open("w"):  # opens once its reader has come
            shutil.rmtree(root / "proc/100")

    ends = threading.Thread(target=end)
    ends.start()
    found = managers.find(tmp_path, root)
    ends.join()
    assert not found.running


LINE = Lineage("1", 3, (Switch(1, Lsn(0x1800000)), Switch(2, Lsn(0x3800000))))
MIB16 = 16 << 20


@pytest.mark.parametrize(
    ("lsn", "timelines"),
    [
        (0x800000, (1,)),
        (0x1900000, (2, 1)),
        (0x2900000, (2, 1)),
        (0x5000000, (3, 2, 1)),
    ],
)
def test_the_newest_timeline_that_was_born_by_then_holds_the_wal(lsn, timelines):
    names = upstream.holders(LINE, Lsn(lsn), MIB16)
    whole = [name for name in names if not name.endswith(".partial")]
    assert tuple(int(name[:8], 16) for name in whole) == timelines
    assert len(names) == 2 * len(whole)


def test_wal_is_compared_within_one_segment(tmp_path: Path):
    assert upstream.below(Lsn(0x1000010), MIB16) == (Lsn(0x1000000), 0x10)
    start, length = upstream.below(Lsn(0x1900000), MIB16)
    assert (start + length, length) == (0x1900000, upstream.COMPARED_BYTES)
    name = upstream.holders(LINE, start, MIB16)[1]
    segment = tmp_path / name
    segment.write_bytes(b"\0" * int(start % MIB16) + os.urandom(length))
    raw = upstream.local_below(tmp_path, LINE, Lsn(0x1900000), MIB16)
    assert raw == segment.read_bytes()[-length:]
    assert upstream.local_below(tmp_path, LINE, Lsn(0x5900000), MIB16) is None
