"""Makes the order for one loss report out of settings and state.

Theory of operation. A part of the wiring: what the configuration says of the winner's
server, and what the journal holds of permits that a person released, becomes an order
that the child can carry out by itself. The winner is read as the role of `loss.user`;
how that role proves who it is, is libpq's matter (a passfile, a certificate).
"""

from collections.abc import Callable
from pathlib import Path

from agent.config import Settings
from agent.core.lastseen import past
from agent.core.losses import Parting
from agent.core.permit import Permit, PermitState
from agent.core.state import State
from agent.daemon.reload import peer_token_of
from agent.divergence.job import AgentThere, Job, Opponent
from agent.divergence.report import Delivered, Released, Waiting
from agent.postgres.connect import as_role
from agent.snapshot.manifest import Manifest

Made = Callable[[Manifest, Parting, Path, Path], Job]


def job_maker(
    settings: Settings, state: Callable[[], State], wall_s: Callable[[], float]
) -> Made:
    """Return what makes the order for a snapshot."""

    def make(manifest: Manifest, parted: Parting, folder: Path, scratch: Path) -> Job:
        bin_dir, loss = settings.local.bin_dir, settings.loss
        return Job(
            folder=str(folder),
            scratch=str(scratch),
            fork=parted.fork,
            made_wall_s=wall_s(),
            bin_dir=None if bin_dir is None else str(bin_dir),
            winner=_opponent(settings, parted),
            redact=loss.redact,
            statement_timeout_s=loss.statement_timeout_s,
            released=_released(state(), manifest),
            waiting=_waiting(state(), manifest),
            delivered=_delivered(state(), manifest, parted),
        )

    return make


def _opponent(settings: Settings, parted: Parting) -> Opponent | None:
    """Return whom to compare with; None while it cannot be asked.

    Raises PostgresError when its connection string cannot be read.
    """
    dsn = settings.node_settings(parted.node).postgres
    if dsn is None or not parted.answers:
        return None
    return Opponent(
        parted.node,
        as_role(dsn, settings.loss.user),
        agent_beside(settings, parted.node),
    )


def agent_beside(settings: Settings, node: str) -> AgentThere | None:
    """Return how the agent beside a node's server is asked what that did.

    None where none stands there. Raises ConfigError when the peers' token cannot be
    read.
    """
    url = settings.node_settings(node).agent
    if url is None:
        return None
    tls = settings.tls
    return AgentThere(
        url, peer_token_of(settings), *map(_text, (tls.ca, tls.cert, tls.key))
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _waiting(state: State, manifest: Manifest) -> tuple[Waiting, ...]:
    """Return the commits of which nobody was told, when the server was last seen."""
    seen = state.knowledge.last_seen
    if seen is None or not seen.waiting or seen.timeline != manifest.timeline:
        return ()
    return (Waiting(seen.waiting, seen.since_wall_s, seen.seen_wall_s),)


def _delivered(
    state: State, manifest: Manifest, parted: Parting
) -> tuple[Delivered, ...]:
    """Return the logical slots that had sent what lies past the fork."""
    sent = past(state.knowledge.last_seen, manifest.timeline, parted.fork.lsn)
    return tuple(Delivered(one.slot, one.database, one.plugin, one.lsn) for one in sent)


def _released(state: State, manifest: Manifest) -> tuple[Released, ...]:
    """Return the permits that a person gave before this snapshot was whole."""
    return tuple(
        Released(
            node=permit.node,
            who=permit.released_by or "somebody",
            reason=_reason(permit),
            at_s=permit.asked_wall_s,
            protected_lsn=manifest.end_lsn,
        )
        for permit in state.ledger.permits
        if permit.state is PermitState.RELEASED
        and permit.capture_id in (None, manifest.id)
        and permit.system_id in (None, manifest.system_id)
    )


def _reason(permit: Permit) -> str:
    """Return what the person said: the state's sentence begins with who it was."""
    return permit.reason.partition(": ")[2] or permit.reason
