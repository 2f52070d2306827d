"""The shim, a shell script, where Splitguard is missing, broken or killed.

No agent answers here, and what stands for the real pg_rewind only says how it was
called. With real servers and agents: tests/postgres/test_guard_shim.py.
"""

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from agent.errors import GuardError
from agent.guard import shim as shims
from agent.postgres.owner import give, unprivileged
from tests.fix_guard import SHELLS, Gate, Running
from tests.fix_postgres import eventually

DSN = "host=10.0.0.2 password=hunter2 user=postgres"
NO_PERMIT = "no permit"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return SHELLS[request.param]


def start(gate: Gate, shell, shim, *words: object, **environ: str) -> Running:
    return gate.start([*shell, shim, *map(str, words)], **environ)


KILLS_ITS_GRANDPARENT = """#!/bin/sh
while read -r key value _; do
    [ "$key" = PPid: ] && kill -9 "$value"
done </proc/$PPID/status
exit 93
"""


def called(gate: Gate, shell, shim, data) -> Running:
    """A shim whose caller is a process of its own."""
    return gate.start(
        ["/bin/sh", "-c", '"$@"; exit $?', "caller", *shell, shim, "-D", data]
    )


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]


@pytest.mark.fact("P8")
@pytest.mark.parametrize("option", ["--help", "-?"])
def test_help_is_the_real_programs_own(gate: Gate, shell, option):
    ran = start(gate, shell, gate.shim(), option)
    assert ran.ends() == 0
    assert ran.said == "usage: pg_rewind\n"


def test_the_version_is_the_real_programs_own(gate: Gate, shell):
    ran = start(gate, shell, gate.shim(), "--version")
    assert ran.ends() == 0
    assert ran.said == "pg_rewind (PostgreSQL) 15.0\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--source-server", DSN], "10.0.0.2:5432"),
        (["--source-server=host=n2.example port=6432"], "n2.example:6432"),
        (["--source-server", "password='p host=secret' host = '/run/pg'"],
         "/run/pg:5432"),
        (["--source-server", "postgresql://me:hunter2@10.0.0.3:6/db?sslmode=require"],
         "10.0.0.3:6"),
        (["--source-server", "host=x hostaddr=10.0.0.4 password=hunter2"],
         "10.0.0.4:5432"),
        (["--source-server", "service=mine"], None),
        (["--source-pgdata", "/elsewhere"], None),
    ],
)  # fmt: skip
def test_the_agent_is_told_the_source_and_no_password(gate: Gate, shell, words, told):
    asked = gate.folder / "asked"
    program = f'#!/bin/sh\nprintf "%s " "$@" >{asked}\nexit 93\n'
    shim = gate.shim(splitguard=gate.program("splitguard", program))
    ran = start(gate, shell, shim, "-D", gate.data(), *words)
    assert ran.ends() == 7, ran.said
    found = asked.read_text()
    assert ("--source" in found) is (told is not None)
    assert told is None or f"--source {told} " in found
    assert "hunter2" not in found
    assert "secret" not in found


@pytest.mark.fact("P8")
def test_help_works_while_the_real_program_is_away(gate: Gate, shell):
    """Patroni deletes the data folder where it takes a rewind for impossible."""
    ran = start(gate, shell, gate.shim(real=gate.folder / "gone"), "--help")
    assert ran.ends() == 0


@pytest.mark.parametrize(
    "words",
    [
        ("-n", "-D", "DATA", "--source-server", DSN),
        ("-PnD", "DATA", f"--source-server={DSN}"),
        ("--dry-run", "--target-pgdata=DATA", "--source-pgdata", "-n"),
        ("--dr", "--targ", "DATA"),
        ("--source-server", DSN),
        ("--source-pgdata", "-D"),
        (),
    ],
)
def test_what_changes_nothing_goes_straight_through(gate: Gate, shell, words):
    data = str(gate.data())
    named = [word.replace("DATA", data) for word in words]
    ran = start(gate, shell, gate.shim(), *named)
    assert ran.ends(5) == 7
    assert gate.calls.read_text().splitlines() == (named or [""])


@pytest.mark.parametrize(
    "words",
    [
        ("-D", "DATA", "--source-server", DSN),
        ("-DDATA", "--source-server", DSN),
        ("-PRDDATA",),
        ("--target-pgdata", "DATA", "-P"),
        ("--target-pgdata=DATA", "--source-server", "-n"),
        ("--t", "DATA", "--config-file", "--dry-run"),
        ("--targ=DATA", "--source-s", "--help"),
        ("-P", "--help", "-D", "DATA"),
        ("-D", "/nowhere", "-D", "DATA"),
        ("--an-option-of-tomorrow", "-n", "-D", "DATA"),
        ("-X", "-n", "-D", "DATA"),
    ],
)
def test_whatever_may_rewind_waits(gate: Gate, shell, words):
    data = gate.data("a folder")
    named = [word.replace("DATA", str(data)) for word in words]
    ran = start(gate, shell, gate.shim(), *named)
    ran.says(NO_PERMIT)
    assert ran.waits
    assert not gate.rewound
    assert "hunter2" not in ran.said


BROKEN = {
    "away": None,
    "an empty file": "",
    "says yes to everything": "#!/bin/sh\nexit 0\n",
    "without its interpreter": "#!/opt/gone/bin/python\n",
    "failing": "#!/bin/sh\nexit 1\n",
    "killed": "#!/bin/sh\nkill -9 $$\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_splitguard_is_a_reason_to_wait_and_to_copy_wal(
    gate: Gate, shell, kind
):
    text = BROKEN[kind]
    splitguard = gate.folder / "gone" if text is None else gate.program("broken", text)
    data = gate.data()
    ran = start(gate, shell, gate.shim(splitguard=splitguard), "-D", data)
    ran.says("are copied to")
    assert ran.waits
    assert not gate.rewound
    [kept] = gate.rescued
    wal = kept / "pg_wal"
    assert (wal / "000000010000000000000001").read_bytes() == b"wal" * 1000
    assert (wal / "00000002.history").is_file()
    assert (kept / "pg_control").read_bytes() == b"control"
    assert kept.stat().st_mode & 0o077 == 0
    assert "control" in (data / "global/pg_control").read_text()


def test_wal_is_copied_once_for_each_position(gate: Gate, shell):
    data = gate.data()
    ran = start(gate, shell, gate.shim(), "-D", data)
    ran.says("are copied to")
    again = start(gate, shell, gate.shim(), "-D", data)
    again.says("another resync works on")
    (data / "global/pg_control").write_bytes(b"another position")
    eventually("it says so", lambda: ran.said.count("are copied to") == 2)
    assert len(gate.rescued) == 2
    assert ran.said.count(NO_PERMIT) == 1


def test_linked_wal_is_copied_whole(gate: Gate, shell):
    data = gate.data()
    shutil.move(data / "pg_wal", gate.folder / "wal elsewhere")
    (data / "pg_wal").symlink_to(gate.folder / "wal elsewhere")
    link = gate.folder / "linked data"
    link.symlink_to(data)
    ran = start(gate, shell, gate.shim(), "-D", link)
    ran.says("are copied to")
    [kept] = gate.rescued
    assert (kept / "pg_wal/000000010000000000000001").is_file()
    assert not (kept / "pg_wal").is_symlink()


def test_a_rescue_folder_that_cannot_be_written_is_said(gate: Gate, shell):
    ran = start(gate, shell, gate.shim(rescue=Path("/proc/rescue")), "-D", gate.data())
    ran.says("cannot write to /proc/rescue")
    assert ran.waits


def test_no_more_copies_are_kept_than_somebody_can_look_through(gate: Gate, shell):
    for number in range(4):
        (gate.rescue / f"{number}-{number}-7").mkdir(parents=True)
    give(gate.rescue, unprivileged())
    ran = start(gate, shell, gate.shim(), "-D", gate.data())
    ran.says("holds 4 already")
    assert ran.waits


def test_a_full_rescue_volume_is_not_filled(gate: Gate, shell):
    tools = gate.folder / "tools"
    tools.mkdir()
    du = tools / "du"
    du.write_text('#!/bin/sh\necho 99999999999 "$3"\n')
    du.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    ran = start(gate, shell, gate.shim(), "-D", gate.data(), PATH=path)
    ran.says("of 99999999999 KiB")
    assert not gate.rescued
    assert ran.waits


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_wait_without_a_rewind(gate: Gate, shell, number):
    ran = start(gate, shell, gate.shim(), "-D", gate.data())
    ran.says(NO_PERMIT)
    ran.process.send_signal(number)
    assert ran.ends(5) == 128 + number
    assert "nothing is rewound" in ran.said
    assert not gate.rewound


@pytest.mark.parametrize(
    ("name", "code"),
    [("patroni", 0), ("patroni.py", 0), ("patronictl", 143), ("fix-patroni", 143)],
)
def test_patroni_is_given_no_reason_to_delete_the_data_when_it_is_stopped(
    gate: Gate, shell, name, code
):
    """It ends what it runs first, and may delete the data when a rewind failed."""
    told = gate.folder / "code"
    program = gate.program(name, f'#!/bin/sh\n"$@"\necho $? >{told}\n')
    patroni = gate.start([program, *shell, gate.shim(), "-D", gate.data()])
    patroni.says(NO_PERMIT)
    [shim] = children_of(patroni.process.pid)
    os.kill(shim, signal.SIGTERM)
    patroni.ends(10)
    assert int(told.read_text()) == code
    assert not gate.rewound


def test_a_signal_ends_it_while_splitguard_hangs(gate: Gate, shell):
    hanging = gate.program("hanging", "#!/bin/sh\nexec sleep 600\n")
    ran = start(gate, shell, gate.shim(splitguard=hanging), "-D", gate.data())
    eventually("it asks", lambda: len(children_of(ran.process.pid)) == 2)
    asked = children_of(ran.process.pid)
    ran.process.terminate()
    assert ran.ends(5) == 143
    eventually("its children are gone", lambda: all(map(gone, asked)), 5)


@pytest.mark.fact("shim-outlives-patroni")
@pytest.mark.parametrize("splitguard", ["exec sleep 600", "exit 1"])
def test_an_orphan_ends_without_a_rewind(gate: Gate, shell, splitguard):
    """Patroni's unit kills Patroni alone; what it started lives on."""
    program = gate.program("splitguard", f"#!/bin/sh\n{splitguard}\n")
    caller = called(gate, shell, gate.shim(splitguard=program), gate.data())
    [pid] = eventually("the shim asks", lambda: children_of(caller.process.pid))
    eventually("the shim asks", lambda: children_of(pid))
    caller.process.kill()
    eventually("the orphan ends", lambda: gone(pid), 10)
    assert "whoever called this is gone" in caller.said
    assert not gate.rewound


def test_an_orphan_that_is_told_to_go_on_does_not(gate: Gate, shell):
    program = gate.program("splitguard", KILLS_ITS_GRANDPARENT)
    caller = called(gate, shell, gate.shim(splitguard=program), gate.data())
    eventually("it ends", lambda: "whoever called this is gone" in caller.said)
    assert not gate.rewound


def test_a_permit_for_another_position_is_not_used(gate: Gate, shell):
    data = gate.data()
    control = data / "global/pg_control"
    change = f"[ -e {gate.folder}/told ] || echo more >>{control}"
    program = gate.program(
        "splitguard", f"#!/bin/sh\n{change}\n: >{gate.folder}/told\nexit 93\n"
    )
    ran = start(gate, shell, gate.shim(splitguard=program), "-D", data)
    ran.says("is not what it was when the permit was asked for")
    assert ran.ends() == 7
    assert gate.rewound


def test_a_reader_who_left_does_not_end_the_wait(gate: Gate, shell):
    command = [*shell, str(gate.shim()), "-D", str(gate.data())]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/",
        start_new_session=True, **unprivileged().identity(),
    )  # fmt: skip
    gate.started.append(Running(process, gate.folder / "nothing"))
    assert process.stderr is not None
    process.stderr.close()
    eventually("WAL is copied", lambda: gate.rescued)
    assert process.poll() is None


def test_a_second_shim_waits_for_the_first(gate: Gate, shell):
    data = gate.data()
    link = gate.folder / "the same"
    link.symlink_to(data)
    first = start(gate, shell, gate.shim(), "-D", data)
    first.says(NO_PERMIT)
    second = start(gate, shell, gate.shim(), "-D", link)
    second.says("another resync works on")
    first.process.kill()
    second.says(NO_PERMIT)
    assert second.waits


def test_the_lock_lasts_as_long_as_the_rewind_and_no_longer(gate: Gate, shell):
    data, go_on = gate.data(), gate.folder / "go-on"
    real = gate.program(
        "slow", f"#!/bin/sh\nuntil [ -e {go_on} ]; do sleep 0.05; done\n"
    )
    passing = gate.program("passing", "#!/bin/sh\nexit 93\n")
    ran = start(gate, shell, gate.shim(real=real, splitguard=passing), "-D", data)
    eventually("the rewind began", lambda: "slow" in command_of(ran.process.pid))
    folder = os.open(data, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        go_on.touch()
        assert ran.ends() == 0
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_without_flock_a_link_locks_and_a_dead_holder_is_passed_over(gate: Gate, shell):
    place = gate.shim()
    place.write_text(place.read_text().replace("command -v flock", "false"))
    data = gate.data()
    first = start(gate, shell, place, "-D", data)
    first.says(NO_PERMIT)
    second = start(gate, shell, place, "-D", data)
    second.says("another resync works on")
    first.process.kill()
    second.says(NO_PERMIT)
    second.process.terminate()
    assert second.ends(5) == 143
    assert not list(gate.rescue.glob("lock-*"))


def test_a_folder_that_is_not_there_is_waited_for(gate: Gate, shell):
    ran = start(gate, shell, gate.shim(), "-D", gate.folder / "later")
    ran.says("is no folder that can be read")
    gate.data("later")
    ran.says(NO_PERMIT)


def test_a_shim_is_read_back_as_it_was_written(gate: Gate):
    odd = gate.folder / "it's $HOME `x`"
    place = gate.shim(rescue=odd)
    found = shims.read(place)
    assert found is not None
    assert found.rescue == odd
    assert found.real == gate.folder / "real_pg_rewind"
    shims.write(place, found)
    assert shims.current(place, found)


def test_a_foreign_program_is_neither_replaced_nor_removed(gate: Gate):
    place = gate.program("pg_rewind", "#!/bin/sh\n")
    assert shims.read(place) is None
    known = shims.read(gate.shim())
    assert known is not None
    with pytest.raises(GuardError, match="not written by Splitguard"):
        shims.write(place, known)
    with pytest.raises(GuardError, match="no shim"):
        shims.remove(place)
    assert place.read_text() == "#!/bin/sh\n"


def test_a_shim_that_somebody_changed_is_said(gate: Gate):
    place = gate.shim()
    place.write_text(place.read_text().replace("SOCKET=", "SOKCET="))
    with pytest.raises(GuardError, match="changed by hand"):
        shims.read(place)


def test_a_path_that_no_line_can_hold_is_refused(gate: Gate):
    for path in (Path("relative"), Path("/two\nlines")):
        with pytest.raises(GuardError, match="not an absolute path"):
            gate.shim(rescue=path)


@pytest.mark.parametrize("script", [shims.PROGRAM, shims.REPLICA])
def test_the_scripts_are_clean_to_shellcheck(gate: Gate, script):
    checked = subprocess.run(
        ["shellcheck", "--shell=sh", gate.shim(script)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
