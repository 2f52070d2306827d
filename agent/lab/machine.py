"""One host of the lab: its manager, its PostgreSQL and its agent in one process tree.

Theory of operation. The process has the agent as its child, and, where one is
installed, the stand-in manager with the server that belongs to it. A dead agent is
started again after half a second, as systemd would; a dead server stays dead. On a
socket in the node's folder it does what the hands of an operator do to a machine:
take the manager and all that it had off it, install a fresh one, put it into a
cluster. The agent is part of the machine and goes on through that. On SIGTERM
everything ends; on kill -9 the kernel takes the children along.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from agent.errors import LabError
from agent.lab import deeds, fresh
from agent.lab.control import listen
from agent.lab.front import front
from agent.lab.manager import Manager
from agent.lab.plan import Plan, load_plan
from agent.lab.processes import Launch, end, launch
from agent.lab.sharing import share
from agent.lab.standin.app import Standin

AGENT_AGAIN_S = 0.5
AGENT_STOP_S = 5.0

log = logging.getLogger("lab.machine")


class Machine:
    """One node's host."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name
        self.layout = plan.layout.node(name)
        self.manager: Manager | None = None
        self._managing: asyncio.Task[None] | None = None
        self._standin: Standin | None = None
        self._hands = asyncio.Lock()
        """Held by whatever an operator does: one thing after the other."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Be this host until told to stop."""
        self.layout.hands.unlink(missing_ok=True)
        tasks = []
        if fresh.is_installed(self.layout):
            self._switch_on()
        control = await listen(self.layout.hands, self._do)
        if self.plan.options.agents:
            tasks.append(asyncio.create_task(self._keep_agent()))
        try:
            await stopping.wait()
        finally:
            control.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._switch_off()

    # --- the hands of an operator -------------------------------------------

    async def _do(self, do: str, wanted: dict[str, Any]) -> object:
        """Do what an operator's hands do here, by its name. Raises LabError."""
        known: dict[str, Callable[..., Awaitable[object]]] = {
            "install": self._install,
            "remove": self._remove,
            "start": self._start_cluster,
            "add": self._add,
            "drop": self._drop,
            "join": self._join,
            "set-active": self._set_active,
        }
        if do not in known:
            raise LabError(f"a machine does not know how to {do}")
        async with self._hands:
            try:
                return await known[do](**wanted)
            except (psycopg.Error, OSError, TimeoutError) as error:
                raise LabError(f"{self.name} could not {do}: {error}") from error

    async def _install(self) -> None:
        if self.manager is not None:
            raise LabError(
                f"{self.name} has a manager already",
                f"take it off first: splitguard lab manager remove {self.name}",
            )
        await fresh.install(self.plan, self.name)
        self._switch_on()

    async def _remove(self) -> None:
        self._installed()
        await self._switch_off()
        await asyncio.to_thread(fresh.tear_down, self.layout)

    async def _start_cluster(self) -> None:
        deeds.start_cluster(self._installed())

    async def _add(self, name: str) -> object:
        return deeds.add_member(self._installed(), name)

    async def _drop(self, name: str) -> None:
        deeds.remove_member(self._installed(), name)

    async def _join(self, shown: dict[str, object]) -> None:
        await deeds.join(self._installed(), shown)

    async def _set_active(self, to: str) -> None:
        await deeds.hand_over(self._installed(), to)

    def _installed(self) -> Manager:
        if self.manager is None:
            raise LabError(
                f"{self.name} has no manager",
                f"install one: splitguard lab manager install {self.name}",
            )
        return self.manager

    def _switch_on(self) -> None:
        self.manager = Manager(self.plan, self.name)
        app, self._standin = front(self.manager)
        self.manager.soon(share(self.manager))
        self._managing = asyncio.create_task(self.manager.run(app))

    async def _switch_off(self) -> None:
        managing, self._managing, self.manager = self._managing, None, None
        if self._standin is not None:
            self._standin.close()
            self._standin = None
        if managing is not None:
            managing.cancel()
            (failure,) = await asyncio.gather(managing, return_exceptions=True)
            if isinstance(failure, Exception):
                log.warning("the manager had ended: %r", failure)

    # --- the agent ----------------------------------------------------------

    async def _keep_agent(self) -> None:
        """Run the agent, and run it again when it ends."""
        while True:
            agent = await launch(self.plan.layout, self._agent_launch())
            try:
                await agent.wait()
            finally:
                await end(agent, signal.SIGTERM, AGENT_STOP_S)
            log.warning("the agent ended with %s", agent.returncode)
            await asyncio.sleep(AGENT_AGAIN_S)

    def _agent_launch(self) -> Launch:
        config = str(self.layout.agent_config)
        return Launch(
            argv=[sys.executable, "-m", "agent", "run", "--config", config],
            cwd=self.layout.root,
            log=self.layout.log("agent"),
            env=os.environ | self._crash_point(),
        )

    def _crash_point(self) -> dict[str, str]:
        """Return the environment that makes the agent die at its crash point."""
        for wanted in self.plan.options.crash_at:
            node, _, point = wanted.partition(":")
            if node == self.name:
                mark = self.layout.root / "crashed"
                return {
                    "SPLITGUARD_CRASH_AT": point,
                    "SPLITGUARD_CRASH_MARK": str(mark),
                }
        return {}


async def run_machine(state_dir: Path, name: str) -> None:
    """Run one machine until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await Machine(load_plan(state_dir), name).run(stopping)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    asyncio.run(run_machine(Path(sys.argv[1]), sys.argv[2]))
