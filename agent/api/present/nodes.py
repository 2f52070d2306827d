"""Nodes, and who sees whom.

Theory of operation. Three sources tell of a node: this agent's own probes, the reports
of its peers, and what the agent beside the server read from its disk. The freshest
answer wins; a server that answers nobody still has the position that its disk showed.
Nothing here concludes that a node is down: that is a verdict, and verdicts are listed
beside the node.
"""

from collections.abc import Set as AbstractSet

from agent.api.models import ChannelOut, MatrixRow, NodeOut
from agent.api.present.frame import Frame, alive, lsn_text, short
from agent.api.present.guard import guard
from agent.api.present.kept import briefs, holds_copy
from agent.api.present.lineage import past_fork
from agent.api.present.managers import manager_told
from agent.api.present.position import Role, place
from agent.api.present.replication import archiver, replay_lag_bytes, slots, trouble
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    PostgresSight,
)
from agent.core.policy import NodeSpec
from agent.core.reporting import doubt, protection_line
from agent.core.verdict import Family

OF_NOBODY = "not known: the agent beside it was not heard"
READY = "ready"
NOT_READY = "not ready"
NOT_YET = (
    "nothing is kept of it yet, and it holds writes that a resync may wipe: let the"
    " resync wait for `splitguard guard permit` there"
)


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
    rows, lost = matrix(frame), losing(frame)
    return [node_out(frame, spec, rows, lost) for spec in frame.policy.nodes]


def node_out(
    frame: Frame, spec: NodeSpec, rows: list[MatrixRow], lost: AbstractSet[str]
) -> NodeOut:
    """Return one node; `rows` is the matrix, `lost` the losers of the same frame."""
    name = spec.name
    sight = frame.sight(name)
    here = place(frame, spec)
    manager = manager_told(frame, spec)
    lineage = frame.lineage(name)
    postgres = sight[0] if sight else None
    return NodeOut(
        name=name,
        me=name == frame.policy.me,
        voter=spec.is_voter,
        role=here.role,
        system_id=(postgres.system_id if postgres else None)
        or (lineage.system_id if lineage else None),
        timeline=_timeline(frame, name, here.role),
        lsn=lsn_text(here.lsn),
        replay_lsn=lsn_text(postgres.replay_lsn if postgres else None),
        lsn_age_s=None if here.age_s is None else short(here.age_s),
        lsn_known=here.known,
        lag_bytes=lag_bytes(frame, name),
        replay_lag_bytes=replay_lag_bytes(
            postgres, fresh=sight is not None and frame.fresh(sight[1])
        ),
        slots=slots(postgres),
        archiver=archiver(postgres),
        trouble=trouble(frame, name),
        upstream=postgres.upstream if postgres else None,
        postgres_version=postgres.version_num if postgres else None,
        manager_active=manager.active,
        manager_version=manager.version,
        manager_cluster=manager.cluster,
        manager_kept=manager.kept_at,
        manager_line=manager.line,
        doubt=_doubt(frame, name),
        agent=_channel(frame, spec, Channel.AGENT, rows),
        postgres=_channel(frame, spec, Channel.POSTGRES, rows),
        manager=_channel(frame, spec, Channel.MANAGER, rows),
        protection=protection(frame, spec, lost),
        guard=guard(frame, name),
        verdicts=[
            verdict.code.value
            for verdict in frame.state.view.verdicts
            if name in verdict.subject.split("|")
        ],
    )


def protection(frame: Frame, spec: NodeSpec, lost: AbstractSet[str]) -> str:
    """Return the node's standing protection line.

    What its agent said when it was last heard is no news of now. Ready or not is said
    of what may happen; of a node in `lost`, which holds writes that a resync would
    wipe, it is told what is kept of them.
    """
    if not spec.has_postgres:
        return "nothing to protect: no PostgreSQL on this node"
    if spec.name == frame.policy.me:
        return _of_loser(frame, spec.name, protection_line(frame.state, frame.policy),
                         lost)  # fmt: skip
    heard = frame.report(spec.name)
    if heard is None:
        return OF_NOBODY
    said = _of_loser(frame, spec.name, heard[0].protection, lost)
    if frame.fresh(heard[1]):
        return said
    return f"not known: its agent was last heard {heard[1]:.0f} s ago, and said: {said}"


def _of_loser(frame: Frame, name: str, said: str, lost: AbstractSet[str]) -> str:
    if not said.startswith((READY, NOT_READY)) or name not in lost:
        return said
    standing = {
        incident.id
        for incident in frame.state.ledger.incidents
        if incident.verdict.family is Family.SPLIT and incident.status.standing
    }
    for _, brief in briefs(frame):
        mine = brief.node == name and standing & set(brief.incidents)
        if mine and holds_copy(brief):
            end = "" if brief.reached_lsn is None else f" to {brief.reached_lsn}"
            return f"kept: snapshot {brief.id}, {brief.grade}{end}"
    return f"{NOT_YET}; {said}" if said.startswith(NOT_READY) else NOT_YET


def losing(frame: Frame) -> frozenset[str]:
    """Return the nodes that hold writes which a resync would wipe."""
    past = {node for node, bytes_ in past_fork(frame).items() if bytes_}
    named = {
        name
        for incident in frame.state.ledger.incidents
        if incident.verdict.family is Family.SPLIT and incident.status.standing
        for name in str(incident.verdict.evidence.get("losers") or "").split(",")
        if incident.clear_since_s is None
    }
    return frozenset(past | named)


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


def _timeline(frame: Frame, name: str, role: Role) -> int | None:
    """Return the timeline: as SQL told it, or as the disk of a stopped server shows."""
    sight, lineage = frame.sight(name), frame.lineage(name)
    if role != "stopped" and sight and sight[0].timeline is not None:
        return sight[0].timeline
    return lineage.timeline if lineage else None


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
