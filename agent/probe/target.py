"""Who is asked, and what all probes share."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """One node's addresses; None where the node has no such channel."""

    name: str
    agent_url: str | None = None
    """Base address of the agent there, such as `https://10.0.0.1:8009`."""
    postgres_dsn: str | None = field(default=None, repr=False)
    """A libpq connection string; may hold a password, so it is never shown."""
    manager_url: str | None = None
    """Base address of the manager there, without `/api`."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What all probes of this agent share."""

    cluster: str
    me: str
    peer_token: str = field(default="", repr=False)
    deadline_s: float = 0.8
    """The whole probe, connecting included, ends within this."""
    fresh_every: int = 10
    """Each so many rounds a new connection is made, to see whether any is taken."""
