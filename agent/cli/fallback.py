"""What can be said of the cluster when the agent on this machine does not answer.

Theory of operation. First the peers of the configuration are asked, with the caller's
token. Then every node is looked at once, on all its channels at the same time, as an
agent would; but one look is no verdict, and none is made of it.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any

from agent.cli.address import Address
from agent.cli.client import AgentClient, RefusedError
from agent.cli.console import grid, safe, say
from agent.config import Settings
from agent.config.model import read_secret
from agent.core.observation import Channel, Observation
from agent.daemon.clock import SystemClock
from agent.errors import AgentUnreachableError, ConfigError
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient, Tls

if TYPE_CHECKING:
    from rich.console import RenderableType

PEER_DEADLINE_S = 2.0
LOOK_DEADLINE_S = 2.0
"""One look may take longer than a round: nobody waits for the next one."""


def ask_peers(settings: Settings) -> tuple[str, dict[str, Any]] | None:
    """Return the first peer that answers, and its status."""
    token = os.environ.get("SPLITGUARD_TOKEN", "").strip()
    for member in settings.members:
        if member.agent is None or member.name == settings.node:
            continue
        address = Address(member.agent, token=token, ca=settings.tls.ca)
        try:
            status = AgentClient(address).get("/v1/status", deadline_s=PEER_DEADLINE_S)
        except (AgentUnreachableError, ConfigError):
            continue
        except RefusedError as error:
            say(f"  {member.name}: {error.message} {error.hint}".rstrip())
            continue
        return member.name, status
    return None


def look_once(settings: Settings) -> list[dict[str, Any]]:
    """Return what one probe of every channel of every node found."""
    return [_plain(each) for each in asyncio.run(_look(settings))]


async def _look(settings: Settings) -> list[Observation]:
    http = HttpClient(Tls(settings.tls.ca, settings.tls.cert, settings.tls.key))
    targets = {
        member.name: Target(
            member.name,
            agent_url=member.agent,
            postgres_dsn=member.postgres,
            manager_url=member.manager,
        )
        for member in settings.members
    }
    prober = NetworkProber(
        targets,
        ProbeSettings(
            cluster=settings.cluster,
            me=settings.me,
            peer_token=_peer_token(settings),
            deadline_s=LOOK_DEADLINE_S,
        ),
        SystemClock(),
        http,
    )
    try:
        return await asyncio.gather(
            *(
                prober.probe(name, channel)
                for name in targets
                for channel in prober.channels(name)
            )
        )
    finally:
        await prober.close()
        await http.close()


def _peer_token(settings: Settings) -> str:
    file = settings.auth.peer_token_file
    if file is None:
        return ""
    try:
        return read_secret(file)
    except ConfigError:
        return ""  # agents then refuse, and the look says so


def _plain(seen: Observation) -> dict[str, Any]:
    return {
        "node": seen.node,
        "channel": seen.channel.value,
        "outcome": seen.outcome.value,
        "reason": seen.reason,
        **(_position(seen) if seen.channel is Channel.POSTGRES else {}),
        **({"role": _manager_role(seen)} if seen.channel is Channel.MANAGER else {}),
    }


def _manager_role(seen: Observation) -> str | None:
    if seen.manager is None:
        return None
    return "active" if seen.manager.active else "not active"


def _position(seen: Observation) -> dict[str, Any]:
    sight = seen.postgres
    if sight is None:
        return {"role": None, "timeline": None, "lsn": None}
    return {
        "role": "standby" if sight.in_recovery else "primary",
        "timeline": sight.timeline,
        "lsn": None if sight.flush_lsn is None else str(sight.flush_lsn),
    }


def sights_table(sights: list[dict[str, Any]]) -> "RenderableType":
    """Return the look as a table."""
    rows = [
        [
            each["node"],
            each["channel"],
            each["outcome"],
            each.get("role"),
            each.get("timeline"),
            each.get("lsn"),
            safe(each["reason"]),
        ]
        for each in sights
    ]
    headers = ("NODE", "CHANNEL", "OUTCOME", "ROLE", "TL", "LSN", "REASON")
    return grid(headers, rows, ("bold",))
