"""What is kept because of an incident, wherever it lies.

Theory of operation. A capture is ordered by the agent beside the server and stays on
its disk; the others know of it through its reports. Whoever looks at the incident, on
any node and also after its end, is told which snapshot holds whose writes, on which
machine, and by which command it is opened.
"""

from collections.abc import Iterator

from agent.api.models_incidents import KeptOut
from agent.api.present.frame import Frame, lsn_text
from agent.core.capture import Grade, Phase
from agent.core.observation import CaptureBrief


def kept(frame: Frame, incident_id: str) -> list[KeptOut]:
    """Return the snapshots of an incident, those that can be opened first."""
    found = {
        brief.id: _kept_out(brief, beside)
        for beside, brief in briefs(frame)
        if incident_id in brief.incidents
    }
    return sorted(found.values(), key=lambda one: one.command is None)


def briefs(frame: Frame) -> Iterator[tuple[str, CaptureBrief]]:
    """Yield every capture that is known, with the node whose agent has it."""
    for capture in reversed(frame.state.ledger.captures):
        order, status = capture.order, capture.status
        yield (
            frame.policy.me,
            CaptureBrief(
                id=order.capture_id,
                node=order.node,
                phase=status.phase.value,
                grade=status.grade.value,
                reached_lsn=status.reached_lsn,
                incidents=order.incident_ids,
            ),
        )
    for peer in frame.policy.nodes:
        heard = frame.report(peer.name)
        if heard is not None and peer.name != frame.policy.me:
            yield from ((peer.name, brief) for brief in reversed(heard[0].captures))


def holds_copy(brief: CaptureBrief) -> bool:
    """Whether there is a full copy that was read back."""
    return brief.grade != Grade.NONE


def _kept_out(brief: CaptureBrief, beside: str) -> KeptOut:
    copied = holds_copy(brief)
    return KeptOut(
        id=brief.id,
        node=brief.node,
        beside=beside,
        phase=brief.phase,
        grade=brief.grade,
        reached_lsn=lsn_text(brief.reached_lsn),
        sentence=_sentence(brief, beside),
        command=f"splitguard snapshots open {brief.id}" if copied else None,
    )


def _sentence(brief: CaptureBrief, beside: str) -> str:
    name = f"Snapshot {brief.id}, beside {beside},"
    if holds_copy(brief):
        end = "" if brief.reached_lsn is None else f" up to {brief.reached_lsn}"
        return f"{name} holds what {brief.node} had written{end} ({brief.grade})."
    if brief.phase == Phase.FAILED:
        return f"{name} of {brief.node} failed."
    return f"{name} keeps the WAL of {brief.node}; it has no full copy."
