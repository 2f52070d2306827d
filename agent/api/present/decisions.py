"""What people have announced or decided, in words."""

from agent.api.models_decisions import MaintenanceOut, WinnerOut, WinnerPinOut
from agent.api.present.frame import Frame, rfc3339, rfc3339_or_none
from agent.core.maintenance import running
from agent.core.pinning import decision
from agent.core.plan import Maintenance, Pin
from agent.core.prediction import winner


def maintenance_out(frame: Frame, one: Maintenance) -> MaintenanceOut:
    """Return one announcement."""
    return MaintenanceOut(
        id=one.id,
        node=one.node,
        owner=one.owner,
        reason=one.reason,
        begun=rfc3339(one.begun_wall_s),
        ends=rfc3339(one.end_wall_s),
        ended=rfc3339_or_none(one.ended_wall_s),
        ended_by=one.ended_by or None,
        in_force=one.runs(frame.at.wall_s),
        sentence=maintenance_sentence(one),
    )


def maintenance_sentence(one: Maintenance) -> str:
    """Return who announced what, until when, and why."""
    node = "" if one.node is None else f" to {one.node}"
    until = rfc3339(one.end_wall_s)
    return f"{one.owner} announced a switchover{node} until {until}: {one.reason}"


def winner_out(frame: Frame) -> WinnerOut:
    """Return who would be kept after a split, and what people decided about it."""
    predicted = winner(frame.state, frame.policy)
    decided = decision(frame.state)
    return WinnerOut(
        node=predicted.node,
        rule=predicted.rule,
        reason=predicted.reason,
        otherwise=predicted.otherwise,
        pin=None if decided.pin is None else _pin_out(decided.pin),
        disputed=[_pin_out(pin) for pin in decided.disputed],
    )


def _pin_out(pin: Pin) -> WinnerPinOut:
    return WinnerPinOut(
        node=pin.node,
        who=pin.who,
        reason=pin.reason,
        since=rfc3339(pin.wall_s),
        incident=pin.incident,
    )


def pin_sentence(pin: Pin) -> str:
    """Return who decided what, and why."""
    if pin.node is None:
        return f"{pin.who} took the pin of the winner back"
    return f"{pin.node} is pinned as the winner by {pin.who} because {pin.reason}"


def decisions(frame: Frame) -> list[str]:
    """Return in one sentence each what is announced or decided and in force."""
    told = [maintenance_sentence(one) for one in running(frame.state, frame.at)]
    decided = decision(frame.state)
    if decided.pin is not None:
        told.append(pin_sentence(decided.pin))
    if decided.disputed:
        said = "; ".join(pin_sentence(pin) for pin in decided.disputed)
        told.append(f"pins of the winner exclude each other, none counts: {said}")
    return told
