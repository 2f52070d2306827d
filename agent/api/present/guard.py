"""Whether a node's HA software is led through the gate, in the form of an answer.

Each agent looks at its own machine and reports it. What was reported by an agent that
is no longer heard is no news of now, and is left out.
"""

from agent.api.models import GuardOut, HaSoftwareOut
from agent.api.present.frame import Frame
from agent.core.gate import Gate, HaSoftware


def guard(frame: Frame, node: str) -> GuardOut | None:
    """Return what is known of a node's gate; None when nothing is."""
    gate = _gate(frame, node)
    if gate is None:
        return None
    return GuardOut(line=gate.line, software=[_software(one) for one in gate.software])


def _gate(frame: Frame, node: str) -> Gate | None:
    if node == frame.policy.me:
        return frame.state.view.gate
    heard = frame.report(node)
    if heard is None or not frame.fresh(heard[1]):
        return None
    return heard[0].gate


def _software(one: HaSoftware) -> HaSoftwareOut:
    return HaSoftwareOut(
        name=one.name,
        file=one.file,
        wired=one.wired.value,
        destructive=list(one.destructive),
        gaps=list(one.gaps),
        notes=list(one.notes),
        broken=one.broken,
        unknown=one.unknown,
    )
