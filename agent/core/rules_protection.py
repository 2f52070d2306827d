"""Rows about the protection of a loser.

Theory of operation. When the server beside this agent holds, or will hold, what the
winner lacks, a capture of it must exist, must not have failed, and must move. Each
agent says so of its own server only; it is the one that can do something about it.
"""

from agent.core.capture import Capture, Grade, Level, Phase
from agent.core.counsel import PIN_LEFT
from agent.core.rule import CLUSTER, Finding, Hold, Rule, Scope
from agent.core.rules_split import lineage_diverged, split_brain
from agent.core.scene import Scene
from agent.core.standing import standing
from agent.core.sufficiency import handed_over
from agent.core.verdict import Family, Severity, VerdictCode


def is_loser(scene: Scene) -> bool:
    """Whether the local server holds, or will hold, what the winner lacks."""
    found = split_brain(scene, CLUSTER) or lineage_diverged(scene, CLUSTER)
    if found is None:
        return False
    return scene.me in str(found.evidence.get("losers", "")).split(",")


def capture_failed(scene: Scene, _: str) -> Finding | None:
    """Find that the loser beside this agent cannot be captured."""
    capture = _capture(scene)
    if capture is None or capture.status.phase is not Phase.FAILED:
        return None
    if not is_loser(scene):
        return None
    return Finding(
        {
            "capture": capture.order.capture_id,
            "reason": capture.status.reason,
            "missing_bytes": capture.status.missing_bytes or None,
        }
    )


def capture_missing(scene: Scene, _: str) -> Finding | None:
    """Nothing captures the loser beside this agent.

    With the news of a split its capture is ordered: only afterwards is it missing.
    """
    if not _known_loser(scene):
        return None
    capture = _capture(scene)
    if capture is not None and capture.status.phase is not Phase.CLOSED:
        return None
    if (capture is not None and _complete(capture)) or not is_loser(scene):
        return None
    if handed_over(scene.state, scene.policy):
        return None  # a resync is at work on what is kept already
    off = not scene.policy.capture_enabled
    return Finding(
        {
            "capture": None,
            "reason": "captures are switched off" if off else "no capture was begun",
        }
    )


def capture_stalled(scene: Scene, _: str) -> Finding | None:
    """Find the capture of the loser beside this agent standing still."""
    capture = _capture(scene)
    if capture is None or _complete(capture):
        return None
    still_s = scene.at.monotonic_s - capture.progressed_s
    if still_s < scene.policy.capture_stall_s or not is_loser(scene):
        return None
    return Finding(
        {
            "capture": capture.order.capture_id,
            "reason": capture.status.reason or "it makes no progress",
            "bytes_done": capture.status.bytes_done,
            "bytes_total": capture.status.bytes_total,
        }
    )


def pin_left(scene: Scene, _: str) -> Finding | None:
    """Find that a server was lost before a copy of it was complete.

    Its files are there under the names of a pin, as far as nobody wrote over them. That
    is no snapshot, and nobody but a person can say what it is worth.
    """
    readiness = scene.state.view.readiness
    if readiness is None or not readiness.pins:
        return None
    found = readiness.pins[0]
    return Finding(
        {
            "capture": found.capture,
            "place": found.place,
            "reason": f"what it held is only in the hard links of {found.place}",
        }
    )


def _known_loser(scene: Scene) -> bool:
    """Whether a standing incident has named the local server a loser already."""
    return any(
        scene.me in str(one.verdict.evidence.get("losers", "")).split(",")
        for one in standing(scene.state)
    )


def _complete(capture: Capture) -> bool:
    status = capture.status
    if Level.FULL in capture.order.levels:
        return status.grade.rank >= Grade.COMPLETE.rank
    return status.phase is Phase.FOLLOWING


def _capture(scene: Scene) -> Capture | None:
    """Return the local server's capture that goes on, or belongs to what stands."""
    ledger = scene.state.ledger
    standing = {one.id for one in ledger.incidents if one.status.standing}
    for capture in reversed(ledger.captures):
        if capture.order.node != scene.me:
            continue
        goes_on = capture.status.phase is not Phase.CLOSED
        if goes_on or standing & set(capture.order.incident_ids):
            return capture
    return None


ROWS = (
    Rule(
        601,
        VerdictCode.UNPROTECTED,
        Family.PROTECTION,
        Severity.CRITICAL,
        Scope.SELF,
        "The server beside this agent is a loser, and its capture has failed.",
        capture_failed,
        accuses=False,
    ),
    Rule(
        603,
        VerdictCode.UNPROTECTED,
        Family.PROTECTION,
        Severity.CRITICAL,
        Scope.SELF,
        "The server beside this agent is a loser, and nothing captures it.",
        capture_missing,
        hold=Hold.WARNING,
        accuses=False,
    ),
    Rule(
        605,
        VerdictCode.UNPROTECTED,
        Family.PROTECTION,
        Severity.CRITICAL,
        Scope.SELF,
        "The server beside this agent is a loser, and its capture stands still.",
        capture_stalled,
        accuses=False,
    ),
    Rule(
        PIN_LEFT,
        VerdictCode.UNPROTECTED,
        Family.PROTECTION,
        Severity.CRITICAL,
        Scope.SELF,
        "The server beside this agent was lost before a copy of it was complete; hard"
        " links of its files wait for a person.",
        pin_left,
        accuses=False,
    ),
)
