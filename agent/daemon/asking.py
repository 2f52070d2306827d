"""Who is asked, and by which client, because certificates are trusted by three rules.

Theory of operation. Agents are trusted by [tls] ca and shown this agent's own
certificate; managers by [vnfm] ca, which is often another one, and shown none;
receivers of notices by what this machine trusts. Without a manager in the list there is
no client for them.
"""

from dataclasses import dataclass

from agent.config import Settings
from agent.daemon.clock import SystemClock
from agent.daemon.reload import peer_token_of
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient, Tls
from agent.vnfm.connect import http_of


@dataclass(frozen=True, slots=True)
class Clients:
    """The HTTP clients of one agent."""

    peers: HttpClient
    receivers: HttpClient
    managers: HttpClient | None

    @property
    def all(self) -> list[HttpClient]:
        """Return those that there are, to be closed."""
        known = (self.peers, self.receivers, self.managers)
        return [one for one in known if one is not None]


def clients_of(settings: Settings) -> Clients:
    """Return the clients. Raises ConfigError where a file of [tls] is no good."""
    managed = any(member.manager is not None for member in settings.members)
    return Clients(
        HttpClient(_client_tls(settings)),
        HttpClient(),
        http_of(settings) if managed else None,
    )


def prober_of(
    settings: Settings, clock: SystemClock, clients: Clients
) -> NetworkProber:
    """Return who asks every node of the list. Raises ConfigError."""
    targets = {
        member.name: Target(
            name=member.name,
            agent_url=member.agent,
            postgres_dsn=member.postgres,
            manager_url=member.manager,
        )
        for member in settings.members
    }
    shared = ProbeSettings(
        cluster=settings.cluster,
        me=settings.me,
        peer_token=peer_token_of(settings),
        deadline_s=settings.probe.deadline_s,
    )
    return NetworkProber(targets, shared, clock, clients.peers, clients.managers)


def _client_tls(settings: Settings) -> Tls | None:
    tls = settings.tls
    if tls.ca is None and tls.cert is None:
        return None
    return Tls(ca=tls.ca, cert=tls.cert, key=tls.key)
