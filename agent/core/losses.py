"""Which loss reports are wanted, and what incidents learn from them.

Theory of operation. A report is made of a complete snapshot of the server beside this
agent, or of a closed one that has the rows, when that server was on the side of a split
that was not kept: as soon as there is one, once more when a primary of the other line
answers, and once more when the capture was closed and had gone on meanwhile. The shell
makes it and tells its headline. That goes into the ledger's capture, with the report to
peers, and from both into the incident, on every agent alike; the first reading of a
snapshot and its first comparison are told to people, each once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.core.capture import Capture, CaptureStatus, Grade, Phase
from agent.core.event import LossTold
from agent.core.frozen import replace
from agent.core.incident import Incident, Status
from agent.core.incidents import Change
from agent.core.kinship import past_fork
from agent.core.lineage import Fork, Lineage
from agent.core.loss import SENTENCE_MAX, Loss
from agent.core.lsn import Lsn
from agent.core.notice import NoticeReason
from agent.core.observation import Channel
from agent.core.permit import PermitState
from agent.core.policy import Policy
from agent.core.prediction import winner
from agent.core.state import Position, State
from agent.core.verdict import Family, VerdictCode

LOSSES_MAX = 8
"""Headlines that one incident holds: one for each snapshot; further ones are left
to the snapshots themselves."""
AT_WORK = (Phase.ORDERED, Phase.COPYING, Phase.VERIFYING)
"""While a capture is in one of these, disk and processor are left to it."""
PERMIT_FIRST_S = 60.0
"""So long a report gives way to a request for a permit."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A report that should be made now."""

    snapshot_id: str
    winner: str | None
    """The primary to compare with; None while none of the other line answers."""
    closed: bool
    """Whether nothing more is added to the snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What must be known of a snapshot to tell whether it is of a losing side."""

    node: str
    lineage: Lineage
    """Of the timeline that its end is on."""
    end_lsn: Lsn


@dataclass(frozen=True, slots=True)
class Parting:
    """Where one server's writes left the line that is kept, and who has that line."""

    fork: Fork
    node: str
    answers: bool
    """Whether it accepts writes now and can be asked."""


def wanted(state: State, monotonic_s: float, policy: Policy) -> tuple[Wanted, ...]:
    """Return the reports that are missing, of captures that can be read."""
    found = []
    for capture in state.ledger.captures:
        kept = _kept_instead(state, capture, policy)
        reached = _reached(capture.status)
        if kept is None or reached is None:
            continue
        answers = _is_primary(state, kept, monotonic_s, policy)
        if _is_due(capture, reached, answers=answers):
            closed = capture.status.phase is Phase.CLOSED
            name = kept if answers else None
            found.append(Wanted(capture.order.capture_id, name, closed))
    return tuple(found)


def parting(
    state: State, snapshot: Snapshot, monotonic_s: float, policy: Policy
) -> Parting | None:
    """Return where a snapshot's writes left the line that is kept.

    None when it is not known to hold anything that this line lacks: then it is no
    losing side. Of several other lines the predicted winner's counts first.
    """
    predicted = winner(state, policy).node
    others = [node for node in state.knowledge.lineages if node != snapshot.node]
    others.sort(
        key=lambda node: (
            node != predicted,
            not _is_primary(state, node, monotonic_s, policy),
        )
    )
    where = Position(snapshot.lineage.timeline, snapshot.end_lsn, 0.0)
    for node in others:
        theirs = state.knowledge.lineages[node]
        if theirs.system_id != snapshot.lineage.system_id:
            continue
        fork = past_fork(where, snapshot.lineage, theirs)
        if fork is not None:
            answers = _is_primary(state, node, monotonic_s, policy)
            return Parting(fork, node, answers)
    return None


def must_wait(state: State, monotonic_s: float, policy: Policy) -> bool:
    """Whether something goes on here that a report must not be in the way of.

    A copy that is made, or for which there is no room; and whoever has just asked for a
    permit: the last of the log is then taken. What waits for longer waits for something
    else, and a report in the meantime takes nothing from it.
    """
    captures = [one for one in state.ledger.captures if one.order.node == policy.me]
    copying = any(one.status.phase in AT_WORK for one in captures)
    cramped = any(
        one.status.phase is Phase.FAILED and one.status.missing_bytes
        for one in captures
    )
    asked = any(
        one.state is PermitState.PENDING and monotonic_s - one.asked_s < PERMIT_FIRST_S
        for one in state.ledger.permits
    )
    return copying or cramped or asked


def _is_due(capture: Capture, reached: Lsn, *, answers: bool) -> bool:
    loss = capture.loss
    if loss is None or (answers and not loss.winner):
        return True
    return capture.status.phase is Phase.CLOSED and reached > loss.end_lsn


def _kept_instead(state: State, capture: Capture, policy: Policy) -> str | None:
    """Return who is kept, where this capture is of a side of that split that is not."""
    if capture.order.node != policy.me or _reached(capture.status) is None:
        return None
    for incident in reversed(state.ledger.incidents):
        if incident.id not in capture.order.incident_ids or not _named(
            incident, policy
        ):
            continue
        told = incident.verdict.evidence.get("winner")
        kept = winner(state, policy).node or (told if isinstance(told, str) else None)
        if kept is not None and kept != policy.me and _parted(state, capture, kept):
            return kept
    return None


def _reached(status: CaptureStatus) -> Lsn | None:
    """Return up to where a report can be made; None while there is nothing to read.

    Rows without a full copy may still be read out anew, until the capture is closed.
    """
    if status.grade.rank >= Grade.COMPLETE.rank:
        return status.reached_lsn
    return status.rows_lsn if status.phase is Phase.CLOSED else None


def _named(incident: Incident, policy: Policy) -> bool:
    is_split = incident.verdict.family is Family.SPLIT
    return is_split and policy.me in incident.sides


def _parted(state: State, capture: Capture, kept: str) -> bool:
    """Whether the capture holds WAL that is not in the history of who is kept."""
    theirs, status = state.knowledge.lineages.get(kept), capture.status
    reached = _reached(status)
    if theirs is None or status.timeline is None or reached is None:
        return False
    if status.timeline == theirs.timeline:
        return _is_twin(state, capture)
    left = _left(theirs, status.timeline)
    return left is None or reached > left


def _left(lineage: Lineage, timeline: int) -> Lsn | None:
    """Return where a lineage left this timeline; None when it was never on it."""
    for switch in lineage.switches:
        if switch.timeline == timeline:
            return switch.lsn
    return None


def _is_twin(state: State, capture: Capture) -> bool:
    """Whether equal numbers are known to mean two timelines here."""
    return any(
        incident.id in capture.order.incident_ids
        and incident.verdict.code is VerdictCode.LINEAGE_TWIN
        for incident in state.ledger.incidents
    )


def _is_primary(state: State, node: str, now_s: float, policy: Policy) -> bool:
    seen = state.view.latest.get(f"{node}/{Channel.POSTGRES}")
    return (
        seen is not None
        and seen.postgres is not None
        and not seen.postgres.in_recovery
        and now_s - seen.received_s <= policy.fresh_s
    )


def told(state: State, event: LossTold) -> State:
    """Note a report's headline with the capture that it is of."""
    captures = tuple(
        replace(capture, loss=_bounded(event.loss))
        if capture.order.capture_id == event.loss.snapshot
        and event.loss != capture.loss
        else capture
        for capture in state.ledger.captures
    )
    return replace(state, ledger=replace(state.ledger, captures=captures))


def advance(state: State) -> tuple[State, tuple[Change, ...]]:
    """Put what own captures and peers tell into the incidents that it is about."""
    heard = [pair for pair in _heard(state) if pair[1]]
    if not heard:
        return state, ()
    incidents: list[Incident] = []
    changes: list[Change] = []
    for incident in state.ledger.incidents:
        after = incident
        if incident.verdict.family is Family.SPLIT:
            for loss, ids in heard:
                if incident.id in ids:
                    after = _with(after, loss)
        incidents.append(after)
        if after is not incident and incident.status is not Status.PENDING:
            changes += _changes(incident, after)
    if tuple(incidents) == state.ledger.incidents:
        return state, ()
    ledger = replace(state.ledger, incidents=tuple(incidents))
    return replace(state, ledger=ledger), tuple(changes)


def _heard(state: State) -> Iterator[tuple[Loss, tuple[str, ...]]]:
    """Yield every headline that is known here, with its capture's incidents."""
    for capture in state.ledger.captures:
        if capture.loss is not None:
            yield capture.loss, capture.order.incident_ids
    for seen in state.view.reports.values():
        for brief in seen.report.captures if seen.report is not None else ():
            if brief.loss is not None and brief.loss.snapshot == brief.id:
                yield _bounded(brief.loss), brief.incidents


def _bounded(loss: Loss) -> Loss:
    text = " ".join(loss.sentence.split())
    if len(text) > SENTENCE_MAX:
        text = text[: SENTENCE_MAX - 3] + "..."
    return loss if text == loss.sentence else replace(loss, sentence=text)


def _with(incident: Incident, loss: Loss) -> Incident:
    before = next((one for one in incident.losses if _same(one, loss)), None)
    if not loss.follows(before):
        return incident
    if before is None and len(incident.losses) >= LOSSES_MAX:
        return incident
    others = tuple(one for one in incident.losses if not _same(one, loss))
    kept = (*others, loss)
    told = incident.revision + (
        before is None or bool(before.winner) != bool(loss.winner)
    )
    return replace(incident, losses=kept, revision=told)


def _same(first: Loss, second: Loss) -> bool:
    return first.snapshot == second.snapshot


def _changes(before: Incident, after: Incident) -> Iterable[Change]:
    """Return what people are to hear of: what is a first reading or comparison."""
    known = {one.revision for one in before.losses}
    return [
        Change(after, NoticeReason.LOSS, loss.revision)
        for loss in after.losses
        if loss.revision not in known
    ]
