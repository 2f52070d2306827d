"""Rows about the protection of a loser.

Theory of operation. When the server beside this agent holds, or will hold, what the
winner lacks, a capture of it must exist, must not have failed, and must move. Each
agent says so of its own server only; it is the one that can do something about it.
"""

from agent.core.capture import Phase
from agent.core.counsel import PIN_LEFT
from agent.core.observation import ReadFailure
from agent.core.rule import CLUSTER, Finding, Hold, Rule, Scope
from agent.core.rules_split import lineage_diverged, split_brain
from agent.core.scene import Scene
from agent.core.standing import ELSEWHERE
from agent.core.sufficiency import is_bare, is_whole, own_capture
from agent.core.verdict import Family, Severity, VerdictCode

BARE_ROUNDS = 3
"""A loser without any capture is told of after so many rounds."""


def is_loser(scene: Scene) -> bool:
    """Whether the local server holds, or will hold, what the winner lacks."""
    found = split_brain(scene, CLUSTER) or lineage_diverged(scene, CLUSTER)
    if found is None:
        return False
    return scene.me in str(found.evidence.get("losers", "")).split(",")


def capture_failed(scene: Scene, _: str) -> Finding | None:
    """Find that the loser beside this agent cannot be captured."""
    capture = own_capture(scene.state, scene.policy)
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
    """Nothing captures the loser beside this agent, and has not for some rounds.

    One capture gives way to the next within a round or two: when the server begins
    another line of WAL, or when a grant that rested on the first one is void.
    """
    since_s = scene.state.view.bare_s
    if since_s is None or not is_bare(scene.state, scene.policy):
        return None
    if not scene.policy.capture_enabled:
        return _missing(scene, "captures are switched off")
    if scene.at.monotonic_s - since_s < BARE_ROUNDS * scene.policy.round_s:
        return None
    if not scene.policy.spec(scene.me).local:
        return _missing(scene, ELSEWHERE)
    server = scene.state.view.server
    if isinstance(server, ReadFailure):
        return _missing(scene, f"no capture can begin: {server.reason}")
    return _missing(scene, "no capture was begun")


def _missing(scene: Scene, reason: str) -> Finding | None:
    return Finding({"capture": None, "reason": reason}) if is_loser(scene) else None


def capture_stalled(scene: Scene, _: str) -> Finding | None:
    """Find the capture of the loser beside this agent standing still."""
    capture = own_capture(scene.state, scene.policy)
    if capture is None or is_whole(capture):
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
