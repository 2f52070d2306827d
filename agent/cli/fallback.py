"""What can be said of the cluster when the agent on this machine does not answer.

Theory of operation. Whoever gives a token has the peers of the configuration asked for
their status. Without one, or when no peer answers, every node is looked at once, on all
its channels at the same time, as an agent would; but one look is no verdict, and none
is made of it. That look uses what is at hand: with the peer token of the configuration,
where the caller may read it, it brings what the other agents report of themselves.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.cli.address import Address
from agent.cli.client import AgentClient, RefusedError
from agent.cli.console import grid, safe, say, stacked, words
from agent.config import Settings
from agent.config.secret import read_secret
from agent.core.incident import Status
from agent.core.observation import Channel, Observation, Report
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


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at everybody found."""

    sights: list[dict[str, Any]]
    """Each channel of each node."""
    reports: list[dict[str, Any]]
    """What the agents that answered say of themselves."""
    token_error: str
    """Why no agent could be asked for its report; empty when they could."""


def ask_peers(settings: Settings, token: str) -> tuple[str, dict[str, Any]] | None:
    """Return the first peer that answers, and its status."""
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


def look_once(settings: Settings) -> Look:
    """Return what one probe of every channel of every node found."""
    token, token_error = _peer_token(settings)
    found = asyncio.run(_look(settings, token))
    reports = [_said(each.report) for each in found if each.report is not None]
    return Look([_plain(each) for each in found], reports, token_error)


async def _look(settings: Settings, peer_token: str) -> list[Observation]:
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
            peer_token=peer_token,
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


def _peer_token(settings: Settings) -> tuple[str, str]:
    """Return the secret that agents share, or an empty text and why there is none."""
    file = settings.auth.peer_token_file
    if file is None:
        return "", "auth.peer_token_file is not set"
    try:
        return read_secret(file), ""
    except ConfigError as error:
        return "", f"auth.peer_token_file {error.message}"


def _said(report: Report) -> dict[str, Any]:
    return {
        "reporter": report.node,
        "doubt": report.doubt,
        "protection": report.protection,
        "incidents": [
            {
                "id": brief.id,
                "verdict": brief.verdict,
                "status": brief.status,
                "since": datetime.fromtimestamp(brief.since_wall_s, UTC).isoformat(
                    timespec="seconds"
                ),
            }
            for brief in report.incidents
            if brief.status in (Status.OPEN, Status.ACKNOWLEDGED)
        ],
    }


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
    if seen.manager is None or seen.manager.silent:
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


def look_view(look: Look) -> "RenderableType":
    """Return the look as people read it."""
    parts = [_sights_table(look.sights)]
    for each in look.reports:
        doubt = f"; it doubts itself: {each['doubt']}" if each["doubt"] else ""
        text = f"{each['reporter']} reports: protection {each['protection']}{doubt}"
        parts += [words(""), words(safe(text))]
        parts += [
            words(safe(f"  {one['id']} {one['verdict']}, {one['status']} since "
                       f"{one['since']}"))
            for one in each["incidents"]
        ] or [words("  no incident is open")]  # fmt: skip
    return stacked(*parts)


def _sights_table(sights: list[dict[str, Any]]) -> "RenderableType":
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
