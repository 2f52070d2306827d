"""Asks every node on its channels and turns what comes back into observations.

Theory of operation. One probe object per node and channel, each with its own
connection. Two questions to one channel never overlap: the later one waits, and
counts as sent only when it leaves, so that its answer is truly newer than the
former one. Whatever goes wrong becomes an observation; a bug in a probe is one
too, so that it silences one channel and not the agent.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from agent.core.observation import Channel, Observation, Outcome
from agent.ports import Clock
from agent.probe.manager import Line, ManagerProbe
from agent.probe.peer import PeerProbe
from agent.probe.postgres import PostgresProbe
from agent.probe.result import Result, failure
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient

_log = logging.getLogger(__name__)


class _Probe(Protocol):
    async def ask(self) -> Result: ...

    async def close(self) -> None: ...


class NetworkProber:
    """Implements ports.Prober over the network.

    `http` asks agents, `manager_http` managers (the same when None): their
    certificates are seldom signed by the same authority. Both stay the caller's
    to close.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        settings: ProbeSettings,
        clock: Clock,
        http: HttpClient,
        manager_http: HttpClient | None = None,
    ) -> None:
        self._clock = clock
        self._probes: dict[tuple[str, Channel], _Probe] = {}
        self._turns: dict[tuple[str, Channel], asyncio.Lock] = {}
        clients = (http, manager_http or http)
        line = Line()
        for target in targets.values():
            probes = _probes(target, settings, clock, clients, line)
            for channel, probe in probes.items():
                self._probes[target.name, channel] = probe
                self._turns[target.name, channel] = asyncio.Lock()

    def channels(self, node: str) -> tuple[Channel, ...]:
        """Return the channels on which this node can be asked."""
        return tuple(c for c in Channel if (node, c) in self._probes)

    async def probe(self, node: str, channel: Channel) -> Observation:
        """Ask once, within the deadline. Never raises: a failure is a value."""
        key = (node, channel)
        if key not in self._probes:
            now_s = self._clock.moment().monotonic_s
            reason = f"{node} has no address for this channel in [[nodes]]"
            return Observation(node, channel, Outcome.UNREACHABLE, reason, now_s, now_s)
        async with self._turns[key]:
            sent_s = self._clock.moment().monotonic_s
            result = await self._ask(key)
            received_s = self._clock.moment().monotonic_s
        return Observation(
            node=node,
            channel=channel,
            outcome=result.outcome,
            reason=result.reason,
            sent_s=sent_s if result.sent_s is None else result.sent_s,
            received_s=received_s,
            postgres=result.postgres,
            manager=result.manager,
            report=result.report,
        )

    async def _ask(self, key: tuple[str, Channel]) -> Result:
        try:
            return await self._probes[key].ask()
        except Exception as error:  # noqa: BLE001 - one channel fails, not the agent
            _log.exception("probe of %s on %s failed", *key)
            return failure(
                Outcome.TIMED_OUT,
                f"this agent's own probe failed ({type(error).__name__}); see its log",
            )

    def renew(self, peer_token: str) -> None:
        """Show this token to peers from the next question on."""
        for probe in self._probes.values():
            if isinstance(probe, PeerProbe):
                probe.renew(peer_token)

    async def close(self) -> None:
        """Let go of all kept connections."""
        for probe in self._probes.values():
            await probe.close()


def _probes(
    target: Target,
    settings: ProbeSettings,
    clock: Clock,
    clients: tuple[HttpClient, HttpClient],
    line: Line,
) -> Mapping[Channel, _Probe]:
    """Return a probe for each channel that the node has."""
    probes: dict[Channel, _Probe] = {}
    http, manager_http = clients
    if target.agent_url is not None:
        probes[Channel.AGENT] = PeerProbe(target.name, target.agent_url, settings, http)
    if target.postgres_dsn is not None:
        probes[Channel.POSTGRES] = PostgresProbe(
            target.postgres_dsn, settings.deadline_s, settings.fresh_every, clock
        )
    if target.manager_url is not None:
        probes[Channel.MANAGER] = ManagerProbe(
            target.manager_url, settings.deadline_s, clock, manager_http, line
        )
    return probes
