"""Incidents, their history, and the captures that belong to them."""

from collections.abc import Iterator

from agent.api.models import CaptureOut
from agent.api.models_incidents import (
    FlipOut,
    IncidentDetail,
    IncidentOut,
    LossBriefOut,
    NoticeOut,
)
from agent.api.present.frame import Frame, lsn_text, rfc3339, rfc3339_or_none
from agent.api.present.kept import briefs, kept
from agent.api.present.side import side
from agent.core.capture import Capture
from agent.core.explain import incident_sentence, incident_story
from agent.core.incident import Incident, Status, stage_since
from agent.core.loss import Loss
from agent.core.nextstep import next_step
from agent.core.settling import KEPT, kept_in, same_split, settled
from agent.core.verdict import VerdictCode


def incident_out(frame: Frame, incident: Incident) -> IncidentOut:
    """Return one trouble in short."""
    incident = _told(frame, incident)
    verdict, snapshots = incident.verdict, kept(frame, incident.id)
    return IncidentOut(
        id=incident.id,
        key=incident.key,
        occurrence=incident.occurrence,
        status=incident.status.value,
        verdict=verdict.code.value,
        family=verdict.family.value,
        subject=verdict.subject,
        severity=verdict.severity.value,
        worst=incident.worst.value,
        since=rfc3339(incident.since_wall_s),
        stage_since=rfc3339(stage_since(incident)),
        opened=rfc3339_or_none(incident.opened_wall_s),
        resolved=rfc3339_or_none(incident.resolved_wall_s),
        acknowledged_by=incident.acknowledged_by,
        sticky=verdict.sticky,
        revision=incident.revision,
        sentence=incident_sentence(incident, frame.policy),
        next_step=_next_step(frame, incident),
        snapshots=snapshots,
        losses=[loss_out(loss) for loss in incident.losses],
    )


def loss_out(loss: Loss) -> LossBriefOut:
    """Return the headline of a loss report."""
    return LossBriefOut(
        snapshot=loss.snapshot,
        node=loss.node,
        winner=loss.winner or None,
        transactions=loss.transactions,
        rows=loss.rows,
        end_lsn=str(loss.end_lsn),
        made=rfc3339(loss.made_wall_s),
        sentence=loss.told,
        command=f"splitguard loss report {loss.snapshot}",
    )


def _told(frame: Frame, incident: Incident) -> Incident:
    """Return the incident as it is told: once that is known, with who was kept."""
    is_split = incident.verdict.code is VerdictCode.SPLIT_BRAIN
    over = incident.status is Status.RESOLVED or KEPT in incident.verdict.evidence
    if not (is_split and over):
        return incident
    kept_side = kept_in(incident, frame.state.ledger.incidents)
    return incident if kept_side is None else settled(incident, kept_side)


def _next_step(frame: Frame, incident: Incident) -> str:
    """Return what to do; after the end, where to find what was wiped.

    A loser's snapshot may be bound to another id of the same split only.
    """
    if incident.status is not Status.RESOLVED:
        return next_step(incident.verdict, incident.id)
    others = same_split(incident, frame.state.ledger.incidents)
    for one in (incident, *others):
        if one.losses:
            told = map(loss_out, one.losses)
            ways = [f"`{loss.command}` on {loss.node}" for loss in told]
            return f"It is over. What was lost, and the way back: {' or '.join(ways)}."
    kept_side = kept_in(incident, frame.state.ledger.incidents)
    for one in (incident, *others):
        ways = _ways(frame, one, kept_side)
        if ways:
            return f"It is over. To read what a resync wiped, run {' or '.join(ways)}."
    return "It is over; nothing to do."


def _ways(frame: Frame, incident: Incident, kept_side: str | None) -> list[str]:
    """Return how each copy is opened of what was not kept."""
    bound = dict(_bound(frame))
    return [
        f"`{one.command}` on {one.beside}"
        for one in kept(frame, incident.id)
        if one.command
        and one.node != kept_side
        and (
            kept_side is not None
            or side(frame, one.node, bound.get(one.id, (incident.id,))) != "winner"
        )
    ]


def _bound(frame: Frame) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each known snapshot with the incidents that it was taken for."""
    return ((brief.id, brief.incidents) for _, brief in briefs(frame))


def incident_detail(frame: Frame, incident: Incident) -> IncidentDetail:
    """Return one trouble with all that belongs to it."""
    out, incident = incident_out(frame, incident), _told(frame, incident)
    return IncidentDetail(
        **out.model_dump(),
        rule=incident.verdict.rule,
        evidence=dict(incident.verdict.evidence),
        sentences=[
            *incident_story(incident, frame.policy),
            *(one.sentence for one in out.losses),
            *(one.sentence for one in out.snapshots),
        ],
        history=[
            FlipOut(
                at=rfc3339(flip.wall_s),
                status=flip.status.value,
                verdict=flip.verdict,
                rule=flip.rule,
                sentence=flip.sentence,
            )
            for flip in incident.history
        ],
        notices=_notices(frame, incident.id),
        captures=[
            capture_out(capture)
            for capture in frame.state.ledger.captures
            if incident.id in capture.order.incident_ids
        ],
    )


def _notices(frame: Frame, incident_id: str) -> list[NoticeOut]:
    return [
        NoticeOut(
            id=entry.notice_id,
            reason=entry.told.reason,
            revision=entry.told.revision,
            delivered=entry.told.delivered,
            by="this agent" if entry.mine else "a peer",
            at=rfc3339(entry.wall_s),
        )
        for entry in frame.state.ledger.told
        if entry.told.incident_id == incident_id
    ]


def capture_out(capture: Capture) -> CaptureOut:
    """Return how far a capture is."""
    order, status = capture.order, capture.status
    return CaptureOut(
        id=order.capture_id,
        node=order.node,
        phase=status.phase.value,
        grade=status.grade.value,
        levels=[level.value for level in order.levels],
        method=status.method,
        pin=status.pin,
        timeline=status.timeline,
        start_lsn=lsn_text(status.start_lsn),
        tail_lsn=lsn_text(status.tail_lsn),
        reached_lsn=lsn_text(status.reached_lsn),
        rows_from=lsn_text(status.rows_from),
        rows_lsn=lsn_text(status.rows_lsn),
        rows_reason=status.rows_reason,
        final_lsn=lsn_text(order.final_lsn),
        bytes_done=status.bytes_done,
        bytes_total=status.bytes_total,
        seconds_left=status.seconds_left,
        reason=status.reason,
        why=order.reason,
        incidents=list(order.incident_ids),
        ordered=rfc3339(capture.ordered_wall_s),
    )
