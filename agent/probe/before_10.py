"""What PostgreSQL 9.5 and 9.6 tell of themselves only in the bytes of pg_control.

Theory of operation. These versions have no SQL function (9.5), or none that may be
relied on, for the system identifier and for a standby's timeline, so the statement
sends pg_control itself and it is read here as it is read from a disk. A standby is on
the timeline that its receiver names (9.6); where nobody names it, on the later one of
its minimum recovery point and its last restart point, as the other statements say.
"""

from collections.abc import Mapping

from agent.postgres.control import control_of


def completed(sight: Mapping[str, object], control: str) -> dict[str, object]:
    """Return the sight with what `control`, in hexadecimal, tells.

    Raises ValueError when that is no hexadecimal, and PostgresError when the server
    was writing the file just then, or it cannot be read for another reason.
    """
    found = control_of(bytes.fromhex(control), "the server")
    timeline = sight.get("timeline")
    if timeline is None:
        timeline = max(found.timeline, found.min_recovery_timeline)
    return {
        **sight,
        "system_id": found.system_id,
        "timeline": timeline,
        "control_timeline": found.timeline,
    }
