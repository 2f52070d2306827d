"""A new replica by way of the guard: the old data is moved aside, or nothing is."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.guard.shim import REPLICA
from agent.postgres.owner import give, owner_of
from tests.fix_guard import SHELLS, Agent, Gate, Running
from tests.fix_postgres import Server, Stage, eventually

pytestmark = pytest.mark.postgres


def script(gate: Gate, server: Server, agent: Agent | None = None, **paths: Path):
    known = {"real": server.programs.path("pg_basebackup")}
    if agent is not None:
        known |= {"splitguard": agent.command, "socket": agent.socket}
    return gate.shim(REPLICA, **{**known, **paths})


def make(gate: Gate, program, data_dir, source: str, shell="sh", **environ) -> Running:
    """Call it as Patroni does."""
    return gate.start(
        [*SHELLS[shell], program, "--keep_data=True", "--scope=main", "--role=replica",
         f"--datadir={data_dir}", f"--connstring={source}"], **environ,
    )  # fmt: skip


def source_of(server: Server) -> str:
    return f"host={server.socket_dir} port={server.port} user=postgres"


def asides(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.splitguard-aside-*"))


def with_links(server: Server, folder: Path) -> None:
    """Give a stopped server its pg_wal and a tablespace outside its folder."""
    wal = folder / f"{server.name} wal"
    (server.data_dir / "pg_wal").rename(wal)
    (server.data_dir / "pg_wal").symlink_to(wal)
    space = folder / f"{server.name} space"
    space.mkdir()
    for path in (wal, space):
        give(path, owner_of(server.data_dir))
    server.start()
    server.query(f"CREATE TABLESPACE outside LOCATION '{space}'")
    server.query("CREATE TABLE spaced TABLESPACE outside AS SELECT 'old' AS mark")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_old_data_stays_startable_beside_its_clone(
    stage16: Stage, gate: Gate, agent_beside, shell
):
    old, new = stage16.split()
    agent = agent_beside(old)
    old.stop()
    ran = make(gate, script(gate, old, agent), old.data_dir, source_of(new), shell)
    assert ran.ends(60) == 0, ran.said
    assert "granted: snapshot" in ran.said
    [aside] = asides(old.data_dir.parent)
    assert str(aside) in ran.said
    assert marks(old) == {"common", "new"}
    old.stop()
    old.data_dir.rename(old.data_dir.with_name("clone"))
    aside.rename(old.data_dir)
    assert marks(old) == {"common", "old"}


def marks(server: Server) -> set[str]:
    """Start a server that follows nobody, and read what it holds."""
    (server.data_dir / "standby.signal").unlink(missing_ok=True)
    server.configure()
    server.start()
    return {str(row[0]) for row in server.query("SELECT DISTINCT mark FROM kept")}


def test_linked_wal_and_tablespaces_are_moved_with_it(stage16: Stage, gate: Gate):
    """Both sides have the same tablespace: one clone at a time has its place."""
    place = stage16.folder
    old = stage16.server("n1")
    with_links(old, place)
    old.stop()
    kept = stage16.server("n9").start()
    link = place / "link to data"
    link.symlink_to(old.data_dir)
    ran = make(gate, script(gate, old), link, source_of(kept))
    assert ran.ends(60) == 0, ran.said
    assert "no permit: the old data is moved aside all the same" in ran.said
    [aside] = asides(old.data_dir.parent)
    assert len(asides(place)) == 2
    assert (aside / "pg_wal").readlink() in asides(place)
    wal = place / "n1 wal"
    assert (old.data_dir / "pg_wal").readlink() == wal
    assert list(wal.glob("0*"))
    assert not list((place / "n1 space").iterdir())
    old.data_dir.rename(old.data_dir.with_name("clone"))
    aside.rename(old.data_dir)
    old.start()
    assert old.value("SELECT mark FROM spaced") == "old"


def test_a_clone_that_fails_leaves_everything_as_it_was(stage16: Stage, gate: Gate):
    old = stage16.server("n1")
    with_links(old, stage16.folder)
    old.stop()
    before = sorted(stage16.folder.rglob("*"))
    nobody = f"host={stage16.folder} port=1 user=postgres"
    ran = make(gate, script(gate, old), old.data_dir, nobody)
    ran.says("pg_basebackup failed; the old data is in its place again")
    assert ran.waits
    ran.process.kill()
    ran.ends()
    eventually("it is put back", lambda: not asides(old.data_dir.parent))
    assert sorted(stage16.folder.rglob("*")) == before
    old.start()
    assert old.value("SELECT mark FROM spaced") == "old"


@pytest.mark.fact("P6")
def test_patronis_end_finds_the_old_data_aside(stage16: Stage, gate: Gate):
    """Whoever sends SIGTERM deletes the data folder next."""
    old = stage16.server("n1")
    nobody = f"host={stage16.folder} port=1 user=postgres"
    ran = make(gate, script(gate, old), old.data_dir, nobody)
    ran.says("pg_basebackup failed")
    ran.process.terminate()
    assert ran.ends(10) == 143
    [aside] = asides(old.data_dir.parent)
    assert (aside / "PG_VERSION").exists()
    assert not old.data_dir.exists()


def test_an_interrupt_by_a_person_puts_everything_back(stage16: Stage, gate: Gate):
    old = stage16.server("n1")
    slow = gate.program("pg_basebackup", "#!/bin/sh\nexec sleep 600\n")
    ran = make(gate, script(gate, old, real=slow), old.data_dir, "host=nowhere")
    eventually("it clones", lambda: asides(old.data_dir.parent))
    eventually("it clones", old.data_dir.exists)
    ran.process.send_signal(signal.SIGHUP)
    assert ran.ends(10) == 129
    assert not asides(old.data_dir.parent)
    old.start()


def test_a_running_server_is_left_alone(stage16: Stage, gate: Gate):
    old = stage16.primary()
    ran = make(gate, script(gate, old), old.data_dir, source_of(old))
    ran.says("a server runs on")
    assert ran.waits
    assert not asides(old.data_dir.parent)


def test_no_room_for_a_clone_moves_nothing(stage16: Stage, gate: Gate):
    old = stage16.server("n1")
    tools = gate.folder / "tools"
    tools.mkdir()
    (tools / "du").write_text('#!/bin/sh\nprintf "99999999999\\t%s\\n" "$3"\n')
    (tools / "du").chmod(0o755)
    ran = make(
        gate,
        script(gate, old),
        old.data_dir,
        "host=nowhere",
        PATH=f"{tools}:/usr/bin:/bin",
    )
    ran.says("no room for a clone beside the old data")
    assert ran.waits
    assert not asides(old.data_dir.parent)


def test_a_mount_point_is_waited_at(stage16: Stage, gate: Gate):
    """The kernel renames no mount point; nothing is copied and deleted instead."""
    old = stage16.server("n1")
    mounted = ["mount", "--bind", str(old.data_dir), str(old.data_dir)]
    command = " ".join(f"'{word}'" for word in mounted)
    program = script(gate, old)
    as_root = os.geteuid() == 0
    owner = f"setpriv --reuid {owner_of(old.data_dir).uid} --clear-groups"
    inside = (
        f"{command} && exec {owner if as_root else ''} '{program}'"
        f" --datadir='{old.data_dir}' --connstring=x"
    )
    apart = ["unshare", "--mount", *([] if as_root else ["--map-root-user"])]
    log = gate.folder / "mounted"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*apart, "/bin/sh", "-c", inside], stdout=out, stderr=out,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    ran = Running(process, log)
    gate.started.append(ran)
    ran.says("cannot be moved aside; this waits. Is it, or a tablespace, a mount")
    assert ran.waits
    assert (old.data_dir / "PG_VERSION").exists()


def test_an_empty_folder_is_cloned_into_at_once(stage16: Stage, gate: Gate):
    source = stage16.primary()
    empty = gate.folder / "empty"
    ran = make(gate, script(gate, source), empty, source_of(source))
    assert ran.ends(60) == 0, ran.said
    assert (empty / "PG_VERSION").exists()
