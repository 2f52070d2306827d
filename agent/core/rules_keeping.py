"""The row about what is kept of the manager beside this agent.

Theory of operation. The shell tells how the manager fares and how its snapshots went
(see `care`). Here that is judged, the cause before what follows from it: a login that
is refused, brokers without a majority, a snapshot that failed, a schedule without a
good one for too long. Each agent speaks of its own manager only. It is a family of its
own: a database that could not be captured does not hide a manager that is not kept.
"""

from datetime import UTC, datetime

from agent.core.care import ManagerCare
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.verdict import Family, Severity, VerdictCode

LOGIN = (
    "put the right password into the file of [vnfm] password_file, or a token that is"
    " valid into that of token_file; it is read again by itself. Nothing is tried"
    " before, because four wrong passwords lock the account."
)
BROKERS = (
    "start RabbitMQ on {members}, and look with `cfy_manager brokers list` on a"
    " manager. `splitguard vnfm executions list` shows what hangs since,"
    " `splitguard vnfm executions kill ID` ends it."
)
AGAIN = (
    "run `splitguard vnfm status`, mend what the reason and it show, then have one"
    " taken: `splitguard vnfm snapshots keep`."
)


def not_kept(scene: Scene, _: str) -> Finding | None:
    """Find that no snapshot of the manager here can be relied on."""
    care = scene.state.view.care
    if care is None or not scene.policy.spec(scene.me).has_manager:
        return None
    found = _reason(care, scene.at.wall_s)
    if found is None:
        return None
    return Finding({"reason": found[0], "hint": found[1]})


def _reason(care: ManagerCare, wall_s: float) -> tuple[str, str] | None:
    """Return why, and what to do; None when nothing is wrong."""
    if care.refused_login:
        return f"it refuses the login ({care.refused_login})", LOGIN
    lacking = care.lacking("broker")
    if lacking:
        members = ", ".join(one.name for one in lacking)
        reason = f"its brokers have no majority ({members}), so one would hang for ever"
        return reason, BROKERS.format(members=members)
    if care.failed:
        return f"the last one failed: {care.failed.rstrip('.')}", AGAIN
    late = _late(care, wall_s)
    return None if late is None else (late, AGAIN)


def _late(care: ManagerCare, wall_s: float) -> str | None:
    """Return in words that there was no good one for too long."""
    # Another agent's turn before this one's is no time without a good one.
    known = [care.since_wall_s, care.last_good_wall_s]
    since_s = max((one for one in known if one is not None), default=None)
    if not care.scheduled or care.alert_after_s <= 0 or since_s is None:
        return None
    if wall_s - since_s <= care.alert_after_s:
        return None
    limit = f"more than {care.alert_after_s / 3600:g} h ago"
    if care.last_good_wall_s is None:
        return f"there is none, though they were due from {limit}"
    when = datetime.fromtimestamp(care.last_good_wall_s, UTC)
    return f"the last good one is of {when:%Y-%m-%d %H:%M} UTC, {limit}"


ROWS = (
    Rule(
        881,
        VerdictCode.CAPTURE_NOT_READY,
        Family.KEEPING,
        Severity.WARNING,
        Scope.SELF,
        "No snapshot of the manager beside this agent can be relied on.",
        not_kept,
        hold=Hold.WARNING,
        accuses=False,
    ),
)
