"""Machines made of namespaces: boxes on one switch, which can be cut, frozen, killed.

Theory of operation. A world is one set of namespaces (mounts, network, processes; as an
ordinary user also a user namespace in which that user may make more of them). It holds
a bridge. Each box in it is another set, with a network card on that bridge, a host name
and process numbers of its own, and one folder of the world's that every box sees at the
same path, `here`: so all machines can have the same configuration file.

Cuts are nftables rules in the box: what they drop, the kernel keeps retrying, as on a
real network; nothing is reset and connections survive a heal. The first process of
each namespace ends when this process does, and takes everything in there along.

Programs run as `owner`. As root that is another user. An ordinary user is root inside
the world, and PostgreSQL refuses root; there a nested user namespace makes its programs
somebody else again.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.postgres.owner import Owner, give
from tests.fix_install import interpreter_for
from tests.fix_postgres import eventually

INIT = Path(__file__).with_name("box_init.py")
NETWORK = "10.88.0"
READY_S = 20.0
RUN_S = 60.0
CUT_RULES = """
table inet cut {
  set from { type ipv4_addr; }
  set to { type ipv4_addr; }
  chain in { type filter hook input priority 0; ip saddr @from drop; }
  chain out { type filter hook output priority 0; ip daddr @to drop; }
}
"""
SETUP = """
set -e
mount --bind "$1" "$2"
hostname "$3"
ip link set lo up
exec "$4" -I "$5"
"""
Words = Sequence[str | Path]


def tool(name: str) -> str:
    """Return the path of a system program, which may be outside of a user's PATH."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is missing: run tests/setup/system_packages.sh"
    return found


def only_child(pid: int) -> int:
    """Return the innermost descendant of a chain of processes."""
    while True:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not listed:
            return pid
        pid = int(listed[0])


@dataclass
class Namespaces:
    """A set of namespaces, held by its first process."""

    holder: subprocess.Popen[bytes]
    pid: int

    @classmethod
    def hold(cls, argv: Words) -> "Namespaces":
        """Start a first process and return when it has said that it is there."""
        holder = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert holder.stdout is not None
        readable, _, _ = select.select([holder.stdout], [], [], READY_S)
        if not readable or holder.stdout.readline() != b"ready\n":
            holder.kill()
            raise AssertionError(f"no namespaces: {holder.communicate(timeout=9)[1]!r}")
        return cls(holder, only_child(holder.pid))

    def enter(self, *kinds: str) -> list[str]:
        """Return the words that run a program in these namespaces."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return [tool("nsenter"), f"--target={self.pid}", *user, *kinds, "--"]

    def end(self) -> None:
        """Kill everything in it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.holder.kill()
        self.holder.wait(READY_S)
        for pipe in (self.holder.stdin, self.holder.stdout, self.holder.stderr):
            assert pipe is not None
            pipe.close()


@dataclass
class Box:
    """One machine."""

    name: str
    address: str
    folder: Path
    """What this box sees as `here`."""
    here: Path
    owner: Owner
    spaces: Namespaces
    programs: "list[Program]" = field(default_factory=list)
    covered: set[Path] = field(default_factory=set)

    def _inside(self) -> list[str]:
        return self.spaces.enter("--net", "--mount", "--uts", "--pid")

    def _as_owner(self) -> list[str]:
        if os.geteuid() == 0:
            who = [f"--reuid={self.owner.uid}", f"--regid={self.owner.gid}"]
            return [tool("setpriv"), *who, "--clear-groups", "--"]
        who = [f"--map-user={self.owner.uid}", f"--map-group={self.owner.gid}"]
        return [tool("unshare"), "--user", *who, "--"]

    def _environ(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"PATH": path, "LC_ALL": "C", "HOME": str(self.here), **(extra or {})}

    def run(
        self,
        *argv: str | Path,
        environ: Mapping[str, str] | None = None,
        as_root: bool = False,
        check: bool = True,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end; it must succeed unless `check` is false."""
        who = [] if as_root else self._as_owner()
        ran = subprocess.run(
            [*self._inside(), *who, *argv], env=self._environ(environ), check=False,
            timeout=RUN_S, input=stdin, capture_output=True, text=True,
        )  # fmt: skip
        if check:
            said = f"{argv}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
            assert ran.returncode == 0, said
        return ran

    def spawn(
        self, name: str, *argv: str | Path, environ: Mapping[str, str] | None = None
    ) -> "Program":
        """Start a program and leave it running; it writes to `name`.log."""
        script = 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"'
        pid_file = self.folder / f"{name}.pid"
        pid_file.unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [*self._inside(), *self._as_owner(), "/bin/sh", "-c", script,
                 self.here / pid_file.name, *argv],
                env=self._environ(environ), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        eventually(f"{name} starts on {self.name}", pid_file.exists, READY_S)
        program = Program(self, name, int(pid_file.read_text()), started)
        self.programs.append(program)
        return program

    def end(self) -> None:
        """Switch the machine off."""
        self.spaces.end()
        for program in self.programs:
            program.started.kill()
            program.started.wait(READY_S)

    def signal(self, pid: int, signum: int, *, group: bool = False) -> None:
        """Send a signal to a process, by its number in here; it may be gone."""
        self.run(
            "/bin/kill", f"-{signum}", "--", f"-{pid}" if group else str(pid),
            as_root=True, check=False,
        )  # fmt: skip

    def alive(self, pid: int) -> bool:
        """Whether a process of this number runs in here; a zombie does not."""
        ran = self.run("/bin/sed", "-n", "s/^State:\t//p", f"/proc/{pid}/status",
                       check=False)  # fmt: skip
        return ran.returncode == 0 and not ran.stdout.startswith("Z")

    def deafen(self, *others: "Box", from_them: bool = True, to_them: bool = True):
        """Drop, from now on, what comes from others or goes to them."""
        rules = ""
        for other in others:
            if from_them:
                rules += f"add element inet cut from {{ {other.address} }}\n"
            if to_them:
                rules += f"add element inet cut to {{ {other.address} }}\n"
        self.run(tool("nft"), "-f", "-", as_root=True, stdin=rules)

    def heal(self) -> None:
        """Drop nothing any more."""
        flush = "flush set inet cut from\nflush set inet cut to\n"
        self.run(tool("nft"), "-f", "-", as_root=True, stdin=flush)

    def cover(self, path: Path, size: str = "50%") -> None:
        """Put an empty file system of memory over a folder, in this box only.

        It belongs to the owner. Once more: the size is changed.
        """
        # An ordinary user is number 0 in the world, whatever its number outside.
        who = self.owner if os.geteuid() == 0 else Owner(0, 0)
        options = f"size={size},mode=700,uid={who.uid},gid={who.gid}"
        if path in self.covered:
            options = f"remount,size={size}"
        mount = [tool("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        self.run(*mount, as_root=True)
        self.covered.add(path)

    def uncover(self, path: Path) -> None:
        """Take it away again, also while somebody holds files in it."""
        self.run(tool("umount"), "--lazy", path, as_root=True)
        self.covered.remove(path)


@dataclass
class Program:
    """Something that runs in a box."""

    box: Box
    name: str
    pid: int
    """Its number inside of the box."""
    started: "subprocess.Popen[Any]"

    @property
    def log(self) -> str:
        return (self.box.folder / f"{self.name}.log").read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self.started.poll() is None

    def signal(self, signum: int) -> None:
        self.box.signal(self.pid, signum)

    def freeze(self) -> None:
        """Stop it where it is; what it started goes on."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, and with it the nsenter that started it and froze along."""
        self.signal(signal.SIGCONT)
        self.started.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it without warning, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.started.wait(READY_S)

    def end(self) -> None:
        """Ask it to end, and wait."""
        self.signal(signal.SIGTERM)
        self.started.wait(READY_S)


@dataclass
class World:
    """All boxes of one cluster, and the switch between them."""

    folder: Path
    owner: Owner
    spaces: Namespaces
    boxes: dict[str, Box] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, owner: Owner) -> "World":
        """Make an empty world in a folder."""
        rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        (folder / "here").mkdir()
        spaces = Namespaces.hold(
            [tool("unshare"), *rootless, "--net", "--mount", "--pid", "--fork",
             "--kill-child", "--mount-proc", sys.executable, "-I", str(INIT)]
        )  # fmt: skip
        world = cls(folder, owner, spaces)
        world.ip("link", "add", "switch", "type", "bridge")
        world.ip("link", "set", "switch", "up")
        return world

    def ip(self, *words: str) -> None:
        """Configure the switch's network."""
        ran = subprocess.run(
            [*self.spaces.enter("--net"), tool("ip"), *words], check=False,
            capture_output=True, text=True, timeout=RUN_S,
        )  # fmt: skip
        assert ran.returncode == 0, f"ip {words}: {ran.stderr}"

    def box(self, name: str) -> Box:
        """Make one more machine, connected to all others."""
        folder = self.folder / name
        folder.mkdir()
        give(folder, self.owner)
        here = self.folder / "here"
        python = interpreter_for(self.owner)
        spaces = Namespaces.hold(
            [*self.spaces.enter("--net", "--mount", "--pid"), tool("unshare"),
             "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child",
             "--mount-proc", "/bin/sh", "-c", SETUP, "sh",
             str(folder), str(here), name, python, str(INIT)]
        )  # fmt: skip
        number = len(self.boxes) + 1
        box = Box(name, f"{NETWORK}.{number}", folder, here, self.owner, spaces)
        self.ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0",
                "netns", str(spaces.pid))  # fmt: skip
        self.ip("link", "set", f"to-{name}", "master", "switch", "up")
        for words in (["addr", "add", f"{box.address}/24", "dev", "eth0"],
                      ["link", "set", "eth0", "up"]):  # fmt: skip
            box.run(tool("ip"), *words, as_root=True)
        box.run(tool("nft"), "-f", "-", as_root=True, stdin=CUT_RULES)
        self.boxes[name] = box
        return box

    def cut(self, one: str, *others: str) -> None:
        """Part a box from others, both ways; no others means all."""
        names = others or tuple(name for name in self.boxes if name != one)
        self.boxes[one].deafen(*(self.boxes[name] for name in names))

    def heal(self) -> None:
        """Make the network whole again."""
        for box in self.boxes.values():
            box.heal()

    def close(self) -> None:
        """End everything that runs in it, also when one box resists."""
        with contextlib.ExitStack() as ending:
            ending.callback(self.spaces.end)
            for box in self.boxes.values():
                ending.callback(box.end)


@contextlib.contextmanager
def world_in(folder: Path, owner: Owner) -> Iterator[World]:
    """Offer a world, and end it whatever happens."""
    world = World.make(folder, owner)
    try:
        yield world
    finally:
        world.close()
