"""What people have announced or decided, in words."""

from agent.api.models_decisions import MaintenanceOut
from agent.api.present.frame import Frame, rfc3339, rfc3339_or_none
from agent.core.maintenance import running
from agent.core.plan import Maintenance


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


def decisions(frame: Frame) -> list[str]:
    """Return in one sentence each what is announced or decided and in force."""
    return [maintenance_sentence(one) for one in running(frame.state, frame.at)]
