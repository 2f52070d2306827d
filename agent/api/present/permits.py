"""The guard's answers."""

from agent.api.models_keeping import PermitOut
from agent.api.present.frame import Frame, lsn_text, rfc3339, short
from agent.core.permit import Permit, PermitState


def permit_out(frame: Frame, permit: Permit) -> PermitOut:
    """Return one permit, with how long a grant still holds."""
    return PermitOut(
        id=permit.id,
        node=permit.node,
        purpose=permit.purpose,
        state=permit.state.value,
        reason=permit.reason,
        asked=rfc3339(permit.asked_wall_s),
        valid_s=_valid_s(frame, permit),
        system_id=permit.system_id,
        timeline=permit.timeline,
        final_lsn=lsn_text(permit.final_lsn),
        capture=permit.capture_id,
        bytes_done=permit.bytes_done,
        bytes_total=permit.bytes_total,
        seconds_left=permit.seconds_left,
        released_by=permit.released_by,
        source=permit.source,
    )


def _valid_s(frame: Frame, permit: Permit) -> float | None:
    if permit.state is not PermitState.GRANTED or permit.granted_s is None:
        return None
    used_s = frame.at.monotonic_s - permit.granted_s
    return short(max(0.0, frame.policy.permit_valid_s - used_s))
