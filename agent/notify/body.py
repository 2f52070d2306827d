"""The JSON that a receiver gets.

Theory of operation. The body is rendered from the state of the very step that
decided the notice, and then never again. The summary's first 120 characters say
cluster, verdict, node, and whether data is safe, because a phone shows no more.
Long things are cut one by one (evidence, then sentences) until the whole is below
20 kB, which receivers of Standard Webhooks are asked to accept.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from agent.core.explain import sentence
from agent.core.incident import Incident, Status
from agent.core.moment import Moment
from agent.core.nextstep import next_step
from agent.core.notice import Notice, NoticeReason
from agent.core.policy import Policy
from agent.core.state import State
from agent.core.verdict import Fact, Family, Severity, Verdict, VerdictCode
from agent.notify.stakes import DataAtStake, data_at_stake

LIMIT_BYTES = 20_000
SUMMARY_LIMIT = 600
SENTENCES_LIMIT = 12
SENTENCE_LIMIT = 500
EVIDENCE_LIMIT = 40
VALUE_LIMIT = 300
NAME_LIMIT = 28
"""Of cluster and subject in the summary, so that its head keeps its promise."""


RUNBOOKS = {
    **dict.fromkeys(
        (
            VerdictCode.SPLIT_BRAIN,
            VerdictCode.SPLIT_BRAIN_SUSPECTED,
            VerdictCode.LINEAGE_DIVERGED,
            VerdictCode.LINEAGE_TWIN,
            VerdictCode.UNPROTECTED,
            VerdictCode.ROLE_MISMATCH,
        ),
        "split-brain.md",
    ),
    **dict.fromkeys(
        (VerdictCode.FAILOVER, VerdictCode.NO_PRIMARY, VerdictCode.STALE_PRIMARY),
        "active-down.md",
    ),
    **dict.fromkeys(
        (
            VerdictCode.NODE_DOWN,
            VerdictCode.NODE_UNREACHABLE,
            VerdictCode.MANAGER_DOWN,
            VerdictCode.POSTGRES_DOWN,
        ),
        "node-down.md",
    ),
}
"""The page of deploy/runbooks for a verdict; the others have none."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a person reads on. `{verdict}` and `{incident}` in them are filled in.

    A runbook's address that ends with a slash is a folder that holds the pages of
    deploy/runbooks: the one for the verdict is added, where there is one.
    """

    page: str | None = None
    runbook: str | None = None


def render(notice: Notice, state: State, at: Moment, policy: Policy, urls: Urls) -> str:
    """Return the body of this notice, below 20 kB.

    Raises LookupError when its incident is not in the ledger.
    """
    incident = _incident(notice, state, at)
    stakes = data_at_stake(incident, state.ledger)
    data = {
        "incident": _incident_out(incident),
        "cluster": policy.cluster,
        "reporter": policy.me,
        "summary": summary(notice.reason, incident, stakes, policy),
        "sentences": _sentences(incident, policy),
        "next_step": _cut(next_step(incident.verdict, incident.id), SENTENCE_LIMIT),
        "runbook_url": _runbook(urls.runbook, incident),
        "page_url": _filled(urls.page, incident),
        "data_at_stake": {
            "state": stakes.state.value,
            "bytes": stakes.bytes,
            "transactions": stakes.transactions,
            "snapshots": list(stakes.snapshots),
        },
        "evidence": _evidence(incident.verdict),
    }
    body: dict[str, Any] = {
        "type": _event_type(notice.reason, incident),
        "timestamp": _time(at.wall_s),
        "data": data,
    }
    return _fitted(body)


def _event_type(reason: NoticeReason, incident: Incident) -> str:
    """Return the body's `type`: what is learnt after the end opens nothing again."""
    over = incident.status is Status.RESOLVED and reason is NoticeReason.LOSS
    return (NoticeReason.RESOLVED if over else reason).event_type


def summary(
    reason: NoticeReason, incident: Incident, stakes: DataAtStake, policy: Policy
) -> str:
    """Return one line: cluster, verdict, node, data; then the verdict's sentence."""
    verdict = incident.verdict
    marks = {NoticeReason.RESOLVED: "resolved: ", NoticeReason.TEST: "test: "}
    head = (
        f"{_cut(policy.cluster, NAME_LIMIT)}: {marks.get(reason, '')}{verdict.code}"
        f" on {_cut(verdict.subject, NAME_LIMIT)}, {stakes.state.words}"
    )
    told = sentence(verdict, policy)
    if reason is NoticeReason.LOSS and incident.losses:
        told = incident.losses[-1].told
    return _cut(f"{head}. {told}", SUMMARY_LIMIT)


def _incident(notice: Notice, state: State, at: Moment) -> Incident:
    for incident in state.ledger.incidents:
        if incident.id == notice.incident_id:
            return incident
    if notice.reason is not NoticeReason.TEST:
        raise LookupError(f"no incident {notice.incident_id} in the ledger")
    return _test_incident(notice.incident_id, at)


def _test_incident(incident_id: str, at: Moment) -> Incident:
    """Return what a test message speaks of: nothing is wrong."""
    verdict = Verdict(
        VerdictCode.HEALTHY, Family.OTHER, "cluster", Severity.OK, rule=0, evidence={}
    )
    return Incident(
        id=incident_id,
        key="test",
        occurrence=1,
        status=Status.OPEN,
        verdict=verdict,
        worst=Severity.OK,
        since_wall_s=at.wall_s,
        opened_wall_s=at.wall_s,
        resolved_wall_s=None,
        clear_since_s=None,
        pending_since_s=at.monotonic_s,
        revision=1,
        acknowledged_by=None,
        history=(),
    )


def _incident_out(incident: Incident) -> dict[str, object]:
    verdict = incident.verdict
    return {
        "id": incident.id,
        "family": verdict.family.value,
        "verdict": verdict.code.value,
        "severity": verdict.severity.value,
        "status": incident.status.value,
        "subject": verdict.subject,
        "since": _time(incident.since_wall_s),
        "occurrence": incident.occurrence,
    }


def _sentences(incident: Incident, policy: Policy) -> list[str]:
    """Return what is so now, what it cost, then how it came to it, newest last."""
    told = [sentence(incident.verdict, policy)]
    told += [loss.told for loss in incident.losses]
    for flip in incident.history[-SENTENCES_LIMIT:]:
        line = f"{_time(flip.wall_s)} {flip.status}: {flip.sentence or flip.verdict}"
        told.append(line)
    return [_cut(line, SENTENCE_LIMIT) for line in told]


def _evidence(verdict: Verdict) -> dict[str, object]:
    facts: dict[str, object] = {"rule": verdict.rule}
    for name, value in list(verdict.evidence.items())[:EVIDENCE_LIMIT]:
        facts[_cut(name, NAME_LIMIT * 2)] = _fact(value)
    return facts


def _fact(value: Fact) -> object:
    if isinstance(value, str):
        return _cut(value, VALUE_LIMIT)
    if isinstance(value, float) and not isfinite(value):
        return None  # JSON has no word for it
    return value


def _runbook(url: str | None, incident: Incident) -> str | None:
    filled = _filled(url, incident)
    if filled is None or not filled.endswith("/"):
        return filled
    return filled + RUNBOOKS.get(incident.verdict.code, "")


def _filled(url: str | None, incident: Incident) -> str | None:
    if url is None:
        return None
    return url.replace("{verdict}", incident.verdict.code.value).replace(
        "{incident}", incident.id
    )


def _time(wall_s: float) -> str:
    """Return the instant in RFC 3339, UTC, to the millisecond."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _fitted(body: dict[str, Any]) -> str:
    """Return the JSON, with evidence and sentences cut until it is short enough."""
    text = _json(body)
    evidence: dict[str, object] = body["data"]["evidence"]
    sentences: list[str] = body["data"]["sentences"]
    while len(text) >= LIMIT_BYTES and (len(evidence) > 1 or sentences):
        if len(evidence) > 1:
            evidence.popitem()
        else:
            sentences.pop()
        text = _json(body)
    return text


def _json(body: Mapping[str, object]) -> str:
    return json.dumps(body, separators=(",", ":"), allow_nan=False)
