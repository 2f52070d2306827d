"""Rows about readiness: whether the next split would be survived.

Theory of operation. Each agent says so of its own server only, as the shell found out:
whether the disk can be read, whether a full copy would succeed, and whether HA software
is led through the gate. HA software that may delete a loser's data with nothing in
front is said before all that merely leaves the gate open. What could not be found out
fires no row: it stands in the node's protection line.
"""

from agent.core.gate import HaSoftware, Wired
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.verdict import Fact, Family, Severity, VerdictCode

CHECK = (
    "`splitguard guard install` prints what to change, and `splitguard guard check`"
    " what is still missing."
)


def capture_not_ready(scene: Scene, _: str) -> Finding | None:
    """Find that the disk beside this agent cannot be read."""
    failure = scene.read_failure()
    if failure is None or not scene.policy.spec(scene.me).has_postgres:
        return None
    return Finding({"reason": failure.reason, "hint": failure.hint})


def copy_would_fail(scene: Scene, _: str) -> Finding | None:
    """Find that a full copy of the local server, if it were needed now, would fail."""
    outlook = scene.state.view.readiness
    if outlook is None or not outlook.obstacles or not scene.policy.capture_enabled:
        return None
    return Finding({"reason": outlook.reasons, "hint": outlook.obstacles[0].hint})


def destructive_config(scene: Scene, _: str) -> Finding | None:
    """Find HA software that may delete a loser's data before anybody has kept it."""
    for one in _software(scene):
        if one.destructive:
            return Finding({**_of(one), "settings": ",".join(one.destructive)})
    return None


def guard_not_wired(scene: Scene, _: str) -> Finding | None:
    """Find HA software that is not led through the gate, or to a shim that is broken.

    A replica made anew past the gate is no trouble by itself: repmgr can do no other.
    """
    for one in _software(scene):
        if one.wired is Wired.NOT_WIRED:
            return Finding({**_of(one), "guard": "is not wired", "hint": CHECK})
        if one.broken:
            told = {**_of(one), "reason": one.broken}
            return Finding({**told, "guard": "is broken", "hint": CHECK})
    return None


def _software(scene: Scene) -> tuple[HaSoftware, ...]:
    gate = scene.state.view.gate
    return () if gate is None else gate.software


def _of(one: HaSoftware) -> dict[str, Fact]:
    return {"software": one.name, "file": one.file, "reason": "; ".join(one.gaps)}


ROWS = (
    Rule(
        701,
        VerdictCode.CAPTURE_NOT_READY,
        Family.READY,
        Severity.WARNING,
        Scope.SELF,
        "The disk of the server beside this agent cannot be read.",
        capture_not_ready,
        hold=Hold.WARNING,
        accuses=False,
    ),
    Rule(
        703,
        VerdictCode.CAPTURE_NOT_READY,
        Family.READY,
        Severity.WARNING,
        Scope.SELF,
        "A full copy of the local server would fail: programs, grants or room.",
        copy_would_fail,
        hold=Hold.WARNING,
        accuses=False,
    ),
    Rule(
        705,
        VerdictCode.DESTRUCTIVE_CONFIG,
        Family.READY,
        Severity.WARNING,
        Scope.SELF,
        "HA software may delete a loser's data, with no guard in front.",
        destructive_config,
        hold=Hold.WARNING,
        accuses=False,
    ),
    Rule(
        707,
        VerdictCode.CAPTURE_NOT_READY,
        Family.READY,
        Severity.WARNING,
        Scope.SELF,
        "HA software resyncs past the guard, or into a guard that is broken.",
        guard_not_wired,
        hold=Hold.WARNING,
        accuses=False,
    ),
)
