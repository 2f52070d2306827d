"""The rounds: ask every node on every channel, once per round.

Theory of operation. Rounds start on a monotonic grid, so a stepped wall clock
moves nothing. Within a round every channel of every node is asked at once, each
with a deadline of its own; an answer becomes an event the moment it is there, and
a channel whose last question is still open is left out, so that a hung peer delays
nothing but itself. The disk of the server beside the agent is read in a thread on
the same grid, and four times as often while somebody waits for a permit.
"""

import asyncio
from collections.abc import Callable

from agent.core.event import Event, Observed, ServerRead, Ticked
from agent.core.observation import Channel, ReadFailure, ServerFacts
from agent.core.pageprint import wanted
from agent.core.permit import PermitState
from agent.core.policy import Policy
from agent.core.state import State
from agent.daemon.clock import SelfWatch
from agent.ports import Clock, Prober, ServerReader

HURRY = 4
"""How much more often the disk is read while a permit is pending."""


class Cadence:
    """Paces probes and disk readings until cancelled."""

    def __init__(
        self,
        prober: Prober,
        reader: ServerReader | None,
        clock: Clock,
        policy: Policy,
        post: Callable[[Event], None],
        state: Callable[[], State],
    ) -> None:
        self._prober = prober
        self._reader = reader
        self._clock = clock
        self._policy = policy
        self._post = post
        self._state = state
        self._open: dict[tuple[str, Channel], asyncio.Task[None]] = {}
        self._read_now = asyncio.Event()

    def hurry(self) -> None:
        """Read the disk at once: somebody asked for a permit."""
        self._read_now.set()

    async def run(self) -> None:
        """Ask, round by round."""
        watch = SelfWatch()
        due_s = self._clock.moment().monotonic_s
        while True:
            lag_s = self._clock.moment().monotonic_s - due_s
            self._start_probes()
            self._post(Ticked(self._clock.moment(), watch.reading(lag_s)))
            now_s = self._clock.moment().monotonic_s
            missed = max(0, int((now_s - due_s) // self._policy.round_s))
            due_s += self._policy.round_s * (missed + 1)
            await self._clock.sleep(due_s - now_s)

    async def read_disk(self) -> None:
        """Read the local server's disk, round by round, faster when it matters."""
        if self._reader is None:
            return
        while True:
            self._read_now.clear()
            facts = await asyncio.to_thread(self._read)
            self._post(ServerRead(self._clock.moment(), facts))
            pace_s = self._policy.round_s / (HURRY if self._waited_for() else 1)
            try:
                async with asyncio.timeout(pace_s):
                    await self._read_now.wait()
            except TimeoutError:
                continue

    def _read(self) -> ServerFacts | ReadFailure:
        if self._reader is None:
            raise RuntimeError("no server beside this agent")
        return self._reader.read(wanted(self._state(), self._policy))

    def _waited_for(self) -> bool:
        return any(
            permit.state is PermitState.PENDING
            for permit in self._state().ledger.permits
        )

    def _start_probes(self) -> None:
        for node in self._policy.nodes:
            channels = [
                *([Channel.POSTGRES] if node.has_postgres else []),
                *([Channel.MANAGER] if node.has_manager else []),
                *([Channel.AGENT] if self._asks_agent(node.name) else []),
            ]
            for channel in channels:
                self._start(node.name, channel)

    def _asks_agent(self, node: str) -> bool:
        return node != self._policy.me and self._policy.spec(node).has_agent

    def _start(self, node: str, channel: Channel) -> None:
        running = self._open.get((node, channel))
        if running is None or running.done():
            self._open[node, channel] = asyncio.create_task(self._ask(node, channel))

    async def _ask(self, node: str, channel: Channel) -> None:
        observation = await self._prober.probe(node, channel)
        self._post(Observed(self._clock.moment(), observation))
