"""Agents that look at real servers, and the table of what they must say.

Everything is real but the passing of time and the way between the agents: the probe
asks by SQL, the reader reads the disk, the core judges, and reports go from agent to
agent as the JSON that they are on the wire. A round lasts as long as it takes; the
clock is put forward to the next one, so that hold times pass at once.
"""

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import codec
from agent.core import machine
from agent.core.action import AskAgain
from agent.core.event import Event, Observed, ServerRead, Started, Ticked
from agent.core.moment import Moment
from agent.core.observation import Channel, Observation, Outcome, Report, SelfHealth
from agent.core.pageprint import wanted
from agent.core.policy import NodeSpec, Policy
from agent.core.reporting import make_report
from agent.core.state import Knowledge, Ledger, State
from agent.core.verdict import Family, Verdict
from agent.daemon.clock import SystemClock
from agent.postgres.reader import DiskReader
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.fix_postgres import Server

SETTLE_ROUNDS = 8
"""So many that the longest hold (3 s) and two misses are over."""
STEP_S = 0.2
"""The pause between two rounds while something is done to the servers."""
NOT_COMPARED = (Family.PROTECTION, Family.READY, Family.KEEPING)
KEYS = {"verdict", "family", "subject", "by"}


class PutForward:
    """Implements ports.Clock: the machine's clocks, put forward on demand."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._forward_s = 0.0

    def moment(self) -> Moment:
        now, more_s = self._clock.moment(), self._forward_s
        return Moment(now.monotonic_s + more_s, now.wall_s + more_s)

    async def sleep(self, seconds: float) -> None:
        self._forward_s += seconds


@dataclass
class Looker:
    """One agent: the real probe, the real reader, and the state of the real core."""

    policy: Policy
    clock: PutForward
    reader: DiskReader
    prober: NetworkProber
    state: State = field(default_factory=State)
    said: dict[str, Verdict] = field(default_factory=dict)
    """Every verdict that stood for a moment at least, as it was at first."""
    told: set[str] = field(default_factory=set)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.state.view.verdicts

    def step(self, event: Event) -> list[AskAgain]:
        """Take an event in; return what is to be asked at once."""
        step = machine.step(self.state, event, self.policy)
        self.state = step.state
        for one in self.verdicts:
            self.said.setdefault(one.code.value, one)
        standing = (one for one in self.state.ledger.incidents if one.status.standing)
        self.told |= {one.verdict.code.value for one in standing}
        return [one for one in step.actions if isinstance(one, AskAgain)]

    def start(self) -> None:
        self.step(Started(self.clock.moment(), f"boot of {self.policy.me}"))

    async def round(self, peers: dict[str, "Looker"]) -> None:
        """Read the disk, ask every server and every other agent, and judge."""
        facts = self.reader.read(wanted(self.state, self.policy))
        self.step(ServerRead(self.clock.moment(), facts))
        asked = (self._ask(name, Channel.POSTGRES) for name in peers)
        await asyncio.gather(*asked)
        for name, peer in peers.items():
            if peer is not self:
                self._hear(name, peer)
        self.step(Ticked(self.clock.moment(), SelfHealth(0.0, 0.0, 0.0)))

    async def _ask(self, node: str, channel: Channel, *, again: bool = True) -> None:
        seen = await self.prober.probe(node, channel)
        more = self.step(Observed(self.clock.moment(), seen))
        if again:
            for one in more:
                await self._ask(one.node, one.channel, again=False)

    def _hear(self, name: str, peer: "Looker") -> None:
        sent = self.clock.moment()
        told = codec.to_json(make_report(peer.state, sent, peer.policy))
        seen = Observation(
            name, Channel.AGENT, Outcome.ANSWERED, "", sent.monotonic_s,
            self.clock.moment().monotonic_s, report=codec.from_json(told, Report),
        )  # fmt: skip
        self.step(Observed(self.clock.moment(), seen))


class Lookout:
    """The agents of some servers, one beside each."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self.servers = servers
        self.clock = PutForward()
        self.lookers: dict[str, Looker] = {}
        self.addresses: dict[str, str] = {}
        """By server: where the other agents ask for it, if not at its own address."""
        self._http = HttpClient()

    async def begin(self, **instead: Server) -> None:
        """Let new agents start, which know nothing; `instead`: other addresses."""
        await self.end()
        await self._start(self.servers | instead, {})

    async def restart(self, *names: str) -> None:
        """End these agents, or all; new ones start with what the journals hold."""
        left = {n: one.state for n, one in self.lookers.items()}
        for name in names or tuple(left):
            kept = left[name]
            left[name] = State(
                codec.from_json(codec.to_json(kept.ledger), Ledger),
                codec.from_json(codec.to_json(kept.knowledge), Knowledge),
            )
            await self.lookers.pop(name).prober.close()
        await self._start(self.servers, left)

    async def _start(self, servers: dict[str, Server], left: dict[str, State]) -> None:
        """Start the agents that do not run; `left`: what their journals hold."""
        nodes = tuple(
            NodeSpec(
                name, has_postgres=True, has_manager=False,
                upstreams=(f"{server.socket_dir}:{server.port}",),
            )
            for name, server in servers.items()
        )  # fmt: skip
        stopped = [name for name in servers if name not in self.lookers]
        for name in stopped:
            server, state = servers[name], left.get(name, State())
            printed = state.knowledge.printed.get(name)
            self.lookers[name] = Looker(
                Policy("test", name, nodes),
                self.clock,
                DiskReader(server.data_dir, server.programs.bin_dir, printed),
                NetworkProber(
                    self._targets(servers, name),
                    ProbeSettings("test", name),
                    self.clock,
                    self._http,
                ),
                state,
            )
        self.lookers = {name: self.lookers[name] for name in servers}
        for name in stopped:
            self.lookers[name].start()
        await self.look(2)

    def _targets(self, servers: dict[str, Server], me: str) -> dict[str, Target]:
        others = {n: dsn for n, dsn in self.addresses.items() if n != me}
        dsns = {name: one.dsn for name, one in servers.items()} | others
        return {name: Target(name, postgres_dsn=dsn) for name, dsn in dsns.items()}

    async def look(self, rounds: int) -> None:
        """Let so many rounds pass, as fast as they go."""
        for _ in range(rounds):
            began_s = self.clock.moment().monotonic_s
            for looker in self.lookers.values():
                await looker.round(self.lookers)
            took_s = self.clock.moment().monotonic_s - began_s
            await self.clock.sleep(max(0.0, 1.0 - took_s))

    async def while_(self, *steps: Callable[[], object]) -> None:
        """Do these one after the other in a thread; look all the while."""
        for step in steps:
            doing = asyncio.ensure_future(asyncio.to_thread(step))
            while not doing.done():
                await self.look(1)
                await asyncio.wait({doing}, timeout=STEP_S)
            await doing

    async def end(self) -> None:
        for looker in self.lookers.values():
            await looker.prober.close()
        self.lookers = {}

    def unlike(self, case: dict[str, Any]) -> list[str]:
        """What is otherwise than the table has it, in words; and forget what was."""
        found = [
            f"{case['name']!r}: {name}: {text}"
            for name, looker in self.lookers.items()
            for text in _unlike(looker, case)
        ]
        for looker in self.lookers.values():
            looker.said, looker.told = {}, set()
        return found

    async def close(self) -> None:
        await self.end()
        await self._http.close()


@contextlib.asynccontextmanager
async def lookout(*servers: Server) -> AsyncIterator[Lookout]:
    made = Lookout({server.name: server for server in servers})
    try:
        yield made
    finally:
        await made.close()


def table(path: Path) -> dict[str, dict[str, Any]]:
    """The cases of the table, by name."""
    cases = tomllib.loads(path.read_text("utf-8"))["case"]
    found = {case["name"]: case for case in cases}
    assert len(found) == len(cases), "two cases have one name"
    return found


def _unlike(looker: Looker, case: dict[str, Any]) -> list[str]:
    me = looker.policy.me
    wanted = {
        (one["verdict"], one["family"], one["subject"]): one
        for one in case["says"]
        if me in one.get("by", [me])
    }
    stands = {
        (one.code.value, one.family.value, one.subject): one
        for one in looker.verdicts
        if one.family not in NOT_COMPARED
    }
    texts = [
        *(f"does not say {key}" for key in wanted.keys() - stands.keys()),
        *(
            f"says {key}: {stands[key]}"
            for key in stands.keys() - wanted.keys()
            if key[0] not in case.get("may", [])
        ),
    ]
    for key in wanted.keys() & stands.keys():
        evidence, asked = stands[key].evidence, wanted[key]
        texts += [
            f"{key}: not {name}={asked[name]} in {evidence}"
            for name in asked.keys() - KEYS
            if not _fits(evidence, name, asked[name])
        ]
    if missing := set(case["told"]) - looker.told:
        texts.append(f"never told of {missing}, only of {looker.told}")
    texts += [
        f"said, if only for a moment, {looker.said[code]}"
        for code in case["never"]
        if code in looker.said
    ]
    if wrong := set(case.get("never_told", [])) & looker.told:
        texts.append(f"told of {wrong}")
    return texts


def _fits(evidence: Any, name: str, value: object) -> bool:
    if name.endswith("_min"):
        found = evidence.get(name.removesuffix("_min"))
        return isinstance(found, int) and found >= int(str(value))
    return bool(evidence.get(name) == value)
