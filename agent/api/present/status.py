"""The verdicts, the headline, and the status that holds everything together.

The headline is the gravest verdict of now, or a critical incident of which nobody can
say at present that it is over. A trouble that is over but waits for somebody to
acknowledge it counts among the open incidents and does not stay in the headline.
"""

from collections.abc import Set as AbstractSet

from agent.api.models import (
    Headline,
    NoticesOut,
    ProtectionOut,
    StatusOut,
    VerdictOut,
)
from agent.api.present.decisions import decisions
from agent.api.present.frame import Frame, rfc3339, rfc3339_or_none, short
from agent.api.present.incidents import capture_out
from agent.api.present.nodes import losing, matrix, node_out, protection
from agent.core.explain import sentence
from agent.core.headline import unsettled
from agent.core.incident import Incident, Status, stage_since
from agent.core.nextstep import next_step
from agent.core.policy import NodeSpec
from agent.core.standing import standing
from agent.core.verdict import Verdict

NOT_OVER = "So it was when it was last seen; nobody can say yet that it is over."


def status(frame: Frame) -> StatusOut:
    """Return everything that is so now."""
    rows, lost = matrix(frame), losing(frame)
    ages = [frame.age_s(seen) for seen in frame.state.view.latest.values()]
    return StatusOut(
        cluster=frame.policy.cluster,
        observer=frame.policy.me,
        as_of=rfc3339(frame.at.wall_s),
        data_age_s=short(min(ages)) if ages else None,
        headline=headline(frame),
        verdicts=[verdict_out(frame, one) for one in frame.state.view.verdicts],
        nodes=[node_out(frame, spec, rows, lost) for spec in frame.policy.nodes],
        matrix=rows,
        protection={
            spec.name: _protection(frame, spec, lost)
            for spec in frame.policy.nodes
            if spec.has_postgres
        },
        incidents_open=len(standing(frame.state)),
        notices=NoticesOut(undelivered=frame.outbox.undelivered),
        decisions=decisions(frame),
    )


def headline(frame: Frame) -> Headline:
    """Return the gravest thing that is so now, or not known to be over."""
    incident = unsettled(frame.state)
    if incident is not None:
        return _unsettled(frame, incident)
    if not frame.state.view.verdicts:
        return Headline(
            verdict="unknown",
            severity="unknown",
            subject="cluster",
            since=None,
            sentence="This agent has just started and has not finished a probe round.",
            next_step="",
        )
    first = verdict_out(frame, frame.state.view.verdicts[0])
    return Headline(**first.model_dump(include=set(Headline.model_fields)))


def _unsettled(frame: Frame, incident: Incident) -> Headline:
    """Return an incident as the headline while its cause is not seen."""
    now = [sentence(one, frame.policy) for one in frame.state.view.verdicts[:1]]
    last = verdict_out(frame, incident.verdict)
    told = " ".join((last.sentence, NOT_OVER, *now))
    kept = last.model_dump(include=set(Headline.model_fields))
    return Headline(**kept | {"sentence": told})


def verdict_out(frame: Frame, verdict: Verdict) -> VerdictOut:
    """Return one conclusion in words."""
    incident = _incident_of(frame, verdict)
    return VerdictOut(
        verdict=verdict.code.value,
        family=verdict.family.value,
        subject=verdict.subject,
        severity=verdict.severity.value,
        since=rfc3339_or_none(stage_since(incident) if incident else None),
        rule=verdict.rule,
        sentence=" ".join((sentence(verdict, frame.policy), *_cost(incident))),
        next_step=next_step(verdict, incident.id if incident else "ID"),
        incident=incident.id if incident else None,
        evidence=dict(verdict.evidence),
    )


def _cost(incident: Incident | None) -> list[str]:
    """Return what an incident has cost, as far as that is known."""
    return [] if incident is None else [loss.told for loss in incident.losses]


def _incident_of(frame: Frame, verdict: Verdict) -> Incident | None:
    """Return the incident that this verdict is the present stage of."""
    about = (verdict.family, verdict.subject, verdict.discriminator)
    for incident in reversed(frame.state.ledger.incidents):
        stage = incident.verdict
        same = (stage.family, stage.subject, stage.discriminator) == about
        if same and incident.status is not Status.RESOLVED:
            return incident
    return None


def _protection(frame: Frame, spec: NodeSpec, lost: AbstractSet[str]) -> ProtectionOut:
    captures = [
        capture
        for capture in frame.state.ledger.captures
        if capture.order.node == spec.name
    ]
    return ProtectionOut(
        line=protection(frame, spec, lost),
        capture=capture_out(captures[-1]) if captures else None,
    )
