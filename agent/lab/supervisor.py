"""The process that a lab is: network, receiver, control socket, machines.

Theory of operation. It claims the state folder, sets the lab up, opens the relays,
starts a machine per node, and says that it is ready once every agent calls the
cluster healthy. Then it does what the control socket asks. However it ends (told
to, interrupted, or because something failed) it takes its machines along and
removes the state folder. After kill -9 the kernel ends the machines, and the next
lab in that folder removes the rest.

As a program it speaks to the command that started it in JSON lines on its standard
output: `{"say": …}`, then `{"ready": true}` or `{"error": …, "hint": …}`.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from agent.codec import from_json
from agent.errors import LabError, SplitguardError
from agent.lab.control import ask, is_answered, listen
from agent.lab.fresh import tear_down
from agent.lab.plan import Layout, Options, Plan
from agent.lab.ports import listen_on
from agent.lab.processes import (
    Launch,
    end,
    kill_leftovers,
    launch,
    outlive_parent,
    record,
)
from agent.lab.receiver import Receiver
from agent.lab.relay import Network
from agent.lab.setup import check_ours, claim, prepare
from agent.lab.sharedmem import remove_orphans
from agent.lab.sights import cluster_trouble, look_at_nodes
from agent.lab.web import send_json, serving

HEALTHY_S = 60.0
LOOK_S = 0.25
MACHINE_STOP_S = 8.0
MACHINE_UP_S = 20.0
PROMOTE_S = 45.0
log = logging.getLogger("lab.supervisor")

Say = Callable[[str], None]


class Supervisor:
    """Owns one lab from its first file to its last."""

    def __init__(self, state_dir: Path, options: Options, say: Say) -> None:
        self._layout = Layout(state_dir)
        self._options = options
        self._say = say
        self._stopping = asyncio.Event()
        self._machines: dict[str, asyncio.subprocess.Process] = {}
        self._plan: Plan | None = None
        self._network: Network | None = None

    def stop(self) -> None:
        """End the lab; `run` returns soon."""
        self._stopping.set()

    async def run(self, ready: Callable[[Plan], None]) -> None:
        """Be the lab until told to stop; calls `ready` when it is healthy.

        Raises LabError when it cannot come up.
        """
        self._make_room()
        try:
            claim(self._layout.state_dir)
            record(self._layout, os.getpid())
            serve = asyncio.create_task(self._serve(ready))
            stop = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({serve, stop}, return_when=asyncio.FIRST_COMPLETED)
            for task in (serve, stop):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serve
        finally:
            # A thread that still copies would put files back while they are removed.
            await asyncio.get_running_loop().shutdown_default_executor()
            self._clear()

    def _make_room(self) -> None:
        """Remove what an earlier lab in this folder left. Raises LabError."""
        check_ours(self._layout.state_dir)
        if not self._layout.mark.exists():
            return
        if answers(self._layout):
            raise LabError(
                f"a lab runs in {self._layout.state_dir} already",
                "end it with: splitguard lab down, or give another --state-dir",
            )
        killed = kill_leftovers(self._layout)
        self._say(f"cleaning up after an earlier lab ({killed} processes left)")
        remove_orphans(self._layout.state_dir)
        shutil.rmtree(self._layout.state_dir)

    async def _serve(self, ready: Callable[[Plan], None]) -> None:
        self._say("setting up three PostgreSQL servers")
        ground = await prepare(self._layout, self._options)
        plan = self._plan = ground.plan
        self._network = Network(plan)
        self._network.open()
        receiver = Receiver(plan.secrets.webhook, self._layout.notices)
        try:
            async with serving(receiver.app, listen_on(plan.receiver_port)):
                control = await listen(self._layout.control, self._do)
                for node in plan.nodes:
                    await self._start(node.name)
                self._say("waiting until the cluster is healthy")
                await self._until_healthy(plan)
                ready(plan)
                await self._stopping.wait()
                control.close()
        finally:
            ends = (end(m, signal.SIGTERM, MACHINE_STOP_S) for m in self._all())
            await asyncio.gather(*ends)
            self._network.close()
            for holder in ground.holders:
                holder.close()

    async def _until_healthy(self, plan: Plan) -> None:
        trouble = "it has not begun"
        try:
            async with asyncio.timeout(HEALTHY_S):
                while trouble:
                    await asyncio.sleep(LOOK_S)
                    trouble = await asyncio.to_thread(cluster_trouble, plan)
        except TimeoutError:
            raise LabError(
                f"the cluster is not healthy after {HEALTHY_S:g} s: {trouble}",
                self._last_words(),
            ) from None

    def _last_words(self) -> str:
        """Return the end of each log: the folder will be gone when it is asked for."""
        said = []
        for path in sorted(self._layout.state_dir.glob("n?/*.log")):
            lines = path.read_text("utf-8", "replace").strip().splitlines()
            name = path.relative_to(self._layout.state_dir)
            said += [f"{name}: {line[:200]}" for line in lines[-2:]]
        return "; ".join(said)

    def _clear(self) -> None:
        kill_leftovers(self._layout)
        remove_orphans(self._layout.state_dir)
        if self._layout.mark.exists():
            shutil.rmtree(self._layout.state_dir, ignore_errors=True)

    def _all(self) -> Iterator[asyncio.subprocess.Process]:
        yield from self._machines.values()

    # --- what can be asked ----------------------------------------------------

    async def _do(self, do: str, wanted: dict[str, Any]) -> object:
        """Do what the control socket asks, by its name."""
        known: dict[str, Callable[..., Awaitable[object]]] = {
            "status": self._status,
            "partition": self._partition,
            "heal": self._heal,
            "delay": self._delay,
            "kill": self._kill,
            "start": self._start,
            "promote": self._promote,
            "machine": self._machine,
            "keep": self._outlive,
            "down": self._down,
        }
        if do not in known:
            raise LabError(f"the lab does not know how to {do}")
        return await known[do](**wanted)

    async def _heal(self) -> None:
        self._net.open()

    async def _delay(self, node: str, delay_s: float) -> None:
        self._net.delay(self._known(node), float(delay_s))

    async def _outlive(self) -> None:
        outlive_parent()

    async def _down(self) -> None:
        self.stop()

    @property
    def _net(self) -> Network:
        if self._network is None:
            raise LabError("the lab is not set up yet", "wait a moment")
        return self._network

    def _known(self, node: str) -> str:
        return self._ready_plan.node(node).name

    @property
    def _ready_plan(self) -> Plan:
        if self._plan is None:
            raise LabError("the lab is not set up yet", "wait a moment")
        return self._plan

    async def _partition(
        self, node: str, direction: str = "both", mute: bool = False
    ) -> None:
        if direction not in ("both", "in", "out"):
            raise LabError(f"no such direction: {direction!r}", "give in or out")
        self._net.partition(self._known(node), direction, mute=mute)

    async def _start(self, node: str) -> None:
        machine = self._machines.get(self._known(node))
        if machine is not None and machine.returncode is None:
            raise LabError(f"{node} runs already")
        home = self._layout.node(node)
        state_dir = str(self._layout.state_dir)
        self._machines[node] = await launch(
            self._layout,
            Launch(
                argv=[sys.executable, "-m", "agent.lab.machine", state_dir, node],
                cwd=home.root,
                log=home.log("machine"),
                env=os.environ,
            ),
        )

    async def _kill(self, node: str) -> None:
        """Kill -9 a whole machine, as if its power had gone."""
        machine = self._machines.get(self._known(node))
        if machine is None or machine.returncode is not None:
            raise LabError(f"{node} does not run", f"start it: lab start {node}")
        machine.kill()
        await machine.wait()

    async def _promote(self, node: str) -> None:
        plan = self._ready_plan
        name = plan.node(node).name
        reply = await asyncio.to_thread(
            send_json,
            "POST",
            f"{plan.manager_url(name)}/lab/v1/promote",
            token=plan.secrets.internal,
            timeout_s=PROMOTE_S,
        )
        if not reply.ok:
            raise LabError(f"{node} was not promoted: {reply.body[:200]!r}")

    async def _machine(self, node: str, deed: str, **wanted: object) -> object:
        """Do at a machine what its operator does there.

        Who installs a manager on a machine that does not run takes a new machine.
        """
        home = self._layout.node(self._known(node))
        machine = self._machines.get(node)
        if machine is None or machine.returncode is not None:
            if deed != "install":
                raise LabError(f"{node} does not run", f"start it: lab start {node}")
            await asyncio.to_thread(tear_down, home)
            await self._start(node)
            await self._until_up(node)
        return await asyncio.to_thread(ask, home.hands, deed, **wanted)

    async def _until_up(self, node: str) -> None:
        """Return once the machine can be asked. Raises LabError."""
        hands = self._layout.node(node).hands
        for _ in range(int(MACHINE_UP_S / LOOK_S)):
            if is_answered(hands):
                return
            await asyncio.sleep(LOOK_S)
        raise LabError(f"{node} does not come up", self._last_words())

    async def _status(self) -> dict[str, object]:
        plan = self._ready_plan
        pids = {
            name: machine.pid
            for name, machine in self._machines.items()
            if machine.returncode is None
        }
        nodes = await asyncio.to_thread(look_at_nodes, plan, pids)
        tokens = {
            "read": plan.secrets.read,
            "operate": plan.secrets.operate,
            "data": plan.secrets.data,
        }
        return {
            "nodes": nodes,
            "receiver_url": plan.receiver_url,
            "tokens": tokens,
            "state_dir": plan.state_dir,
            "config": str(plan.layout.node(plan.nodes[0].name).agent_config),
            "bin_dir": plan.bin_dir,
            "postgres_version": plan.version_num,
            "troubles": list(self._net.troubles()),
        }


def answers(layout: Layout) -> bool:
    """Whether a supervisor runs in this folder."""
    return is_answered(layout.control)


async def supervise(
    state_dir: Path, options: Options, say: Say, ready: Callable[[Plan], None]
) -> None:
    """Run a lab until SIGINT, SIGTERM or SIGHUP, or until it is told to end.

    Raises LabError when it cannot come up.
    """
    supervisor = Supervisor(state_dir, options, say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run(ready)


def main(arguments: str) -> int:
    """Be the lab that a command has started; see the module's first lines."""
    wanted = json.loads(arguments)
    options = from_json(json.dumps(wanted["options"]), Options)

    def tell(**line: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def ready(plan: Plan) -> None:
        tell(ready=True)
        _speak_to_file(plan.layout.state_dir / "supervisor.log")

    try:
        asyncio.run(
            supervise(
                Path(wanted["state_dir"]),
                options,
                lambda words: tell(say=words),
                ready,
            )
        )
    except SplitguardError as error:
        tell(error=error.message, hint=error.hint)
        return 1
    return 0


def _speak_to_file(path: Path) -> None:
    """Let go of the output that the starting command reads no further."""
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    sys.exit(main(sys.argv[1]))
