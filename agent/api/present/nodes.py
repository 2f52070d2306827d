"""Nodes, and who sees whom.

Theory of operation. Three sources tell of a node: this agent's own probes, the reports
of its peers, and what the agent beside the server read from its disk. The freshest
answer wins; a server that answers nobody still has the position that its disk showed.
Nothing here concludes that a node is down: that is a verdict, and verdicts are listed
beside the node.
"""

from typing import Literal

from agent.api.models import ChannelOut, MatrixRow, NodeOut
from agent.api.present.frame import Frame, alive, lsn_text, short
from agent.core.lsn import Lsn
from agent.core.observation import (
    Channel,
    ManagerSight,
    Observation,
    Outcome,
    PostgresSight,
)
from agent.core.policy import NodeSpec
from agent.core.reporting import doubt, protection_line

Role = Literal["primary", "standby", "stopped", "witness", "manager", "unknown"]
OF_NOBODY = "not known: the agent beside it was not heard"


def matrix(frame: Frame) -> list[MatrixRow]:
    """Return who sees whom on which channel, this agent first."""
    me = frame.policy.me
    rows = [
        _row(frame, me, (seen.node, seen.channel, seen.outcome, seen.reason),
             frame.age_s(seen), frame.missed(seen.node, seen.channel))
        for seen in frame.state.view.latest.values()
    ]  # fmt: skip
    for spec in frame.policy.nodes:
        heard = frame.report(spec.name)
        if heard is None or spec.name == me:
            continue
        report, report_age_s = heard
        rows += [
            _row(frame, spec.name, (one.node, one.channel, one.outcome, one.reason),
                 one.age_s + report_age_s, one.missed)
            for one in report.sights
        ]  # fmt: skip
    return rows


def _row(
    frame: Frame,
    observer: str,
    what: tuple[str, Channel, Outcome, str],
    age_s: float,
    missed: int,
) -> MatrixRow:
    node, channel, outcome, reason = what
    return MatrixRow(
        observer=observer,
        node=node,
        channel=channel.value,
        seen=alive(outcome) if frame.fresh(age_s) else None,
        outcome=outcome.value,
        reason=reason,
        age_s=short(age_s),
        missed=missed,
    )


def nodes(frame: Frame) -> list[NodeOut]:
    """Return all nodes, in the order of the configuration."""
    rows = matrix(frame)
    return [node_out(frame, spec, rows) for spec in frame.policy.nodes]


def node_out(frame: Frame, spec: NodeSpec, rows: list[MatrixRow]) -> NodeOut:
    """Return one node; `rows` is the matrix of the same frame."""
    name = spec.name
    sight = frame.sight(name)
    position, position_age_s = _position(frame, name)
    manager = _manager(frame, name)
    lineage = frame.lineage(name)
    postgres = sight[0] if sight else None
    return NodeOut(
        name=name,
        me=name == frame.policy.me,
        voter=spec.is_voter,
        role=role(frame, spec),
        system_id=(postgres.system_id if postgres else None)
        or (lineage.system_id if lineage else None),
        timeline=_timeline(frame, name),
        lsn=lsn_text(position),
        replay_lsn=lsn_text(postgres.replay_lsn if postgres else None),
        lsn_age_s=None if position_age_s is None else short(position_age_s),
        lag_bytes=lag_bytes(frame, name),
        upstream=postgres.upstream if postgres else None,
        postgres_version=postgres.version_num if postgres else None,
        manager_active=manager.active if manager else None,
        manager_version=manager.version if manager else None,
        doubt=_doubt(frame, name),
        agent=_channel(frame, spec, Channel.AGENT, rows),
        postgres=_channel(frame, spec, Channel.POSTGRES, rows),
        manager=_channel(frame, spec, Channel.MANAGER, rows),
        protection=protection(frame, spec),
        verdicts=[
            verdict.code.value
            for verdict in frame.state.view.verdicts
            if name in verdict.subject.split("|")
        ],
    )


def role(frame: Frame, spec: NodeSpec) -> Role:
    """Return what the node is, by its freshest sight."""
    if not spec.has_postgres:
        return "manager" if spec.has_manager else "witness"
    sight, facts = frame.sight(spec.name), frame.facts(spec.name)
    if facts and not facts[0].running and (not sight or facts[1] < sight[1]):
        return "stopped"
    if sight is None:
        return "unknown"
    fresh = frame.fresh(sight[1])
    if not fresh:
        return "unknown"
    return "standby" if sight[0].in_recovery else "primary"


def protection(frame: Frame, spec: NodeSpec) -> str:
    """Return the node's standing protection line."""
    if not spec.has_postgres:
        return "nothing to protect: no PostgreSQL on this node"
    if spec.name == frame.policy.me:
        return protection_line(frame.state, frame.policy)
    heard = frame.report(spec.name)
    if heard is None:
        return OF_NOBODY
    if frame.fresh(heard[1]):
        return heard[0].protection
    return f"{heard[0].protection} (heard {heard[1]:.0f} s ago)"


def lag_bytes(frame: Frame, name: str) -> int | None:
    """Return how far a standby's received WAL is behind its primary's.

    None for a primary, for a standby not seen lately, and where no primary of the same
    timeline is seen.
    """
    mine = frame.sight(name)
    if mine is None or not mine[0].in_recovery or not frame.fresh(mine[1]):
        return None
    if mine[0].flush_lsn is None:
        return None
    ahead = [
        seen[0].flush_lsn
        for other in frame.policy.nodes
        if (seen := frame.sight(other.name)) is not None
        and frame.fresh(seen[1])
        and _leads(seen[0], mine[0])
        and seen[0].flush_lsn is not None
    ]
    return max(0, max(ahead) - mine[0].flush_lsn) if ahead else None


def _leads(other: PostgresSight, standby: PostgresSight) -> bool:
    return not other.in_recovery and (
        (other.system_id, other.timeline) == (standby.system_id, standby.timeline)
    )


def _position(frame: Frame, name: str) -> tuple[Lsn | None, float | None]:
    """Return the furthest flushed position that is known of a node, and its age."""
    sight, facts = frame.sight(name), frame.facts(name)
    if facts and not facts[0].running and (not sight or facts[1] < sight[1]):
        return facts[0].end_lsn or facts[0].checkpoint_lsn, facts[1]
    if sight and sight[0].flush_lsn is not None:
        return sight[0].flush_lsn, sight[1]
    return (facts[0].checkpoint_lsn, facts[1]) if facts else (None, None)


def _timeline(frame: Frame, name: str) -> int | None:
    sight, lineage = frame.sight(name), frame.lineage(name)
    if sight and sight[0].timeline is not None:
        return sight[0].timeline
    return lineage.timeline if lineage else None


def _manager(frame: Frame, name: str) -> ManagerSight | None:
    seen = frame.state.view.alive.get(f"{name}/{Channel.MANAGER}")
    return seen.manager if seen else None


def _doubt(frame: Frame, name: str) -> str | None:
    if name == frame.policy.me:
        return doubt(frame.state, frame.policy)
    heard = frame.report(name)
    return heard[0].doubt if heard and frame.fresh(heard[1]) else None


def _channel(
    frame: Frame, spec: NodeSpec, channel: Channel, rows: list[MatrixRow]
) -> ChannelOut:
    seen: Observation | None = frame.latest(spec.name, channel)
    about = [r for r in rows if r.node == spec.name and r.channel == channel.value]
    return ChannelOut(
        configured={
            Channel.AGENT: spec.has_agent,
            Channel.POSTGRES: spec.has_postgres,
            Channel.MANAGER: spec.has_manager,
        }[channel],
        outcome=seen.outcome.value if seen else None,
        reason=seen.reason if seen else "",
        age_s=short(frame.age_s(seen)) if seen else None,
        missed=frame.missed(spec.name, channel),
        seen_by=sorted({row.observer for row in about if row.seen is True}),
        unseen_by=sorted({row.observer for row in about if row.seen is False}),
    )
