"""What a load balancer is told about the PostgreSQL beside this agent.

Theory of operation. The answer follows the last thing that PostgreSQL itself said. Only
PostgreSQL's own silence closes a check: as many unanswered probes in a row as it takes
to accuse a node. When it is the agent that is in doubt (late, isolated, refused), the
last answer stands and the doubt travels in a header, because a watcher's trouble must
not take a database out of service. With `lb.fail_closed`, a proven split closes
`/primary` on every node but the predicted winner.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from agent.api.present import Frame
from agent.api.present.nodes import lag_bytes
from agent.core.observation import Channel, Outcome
from agent.core.prediction import winner
from agent.core.reporting import doubt
from agent.core.standing import local_facts
from agent.core.verdict import VerdictCode

UNITS = {"": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
LAG = re.compile(r"(\d{1,15})\s*([kKmMgG][bB])?")


class Check(StrEnum):
    """What the load balancer asks for."""

    PRIMARY = "primary"
    REPLICA = "replica"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether traffic may come, why, and what we doubt."""

    passes: bool
    role: str
    reason: str
    doubt: str | None
    lag_bytes: int | None = None


def parse_lag(text: str) -> int:
    """Return a limit such as `1048576`, `512kB` or `16MB` in bytes.

    Raises ValueError when it has another form.
    """
    match = LAG.fullmatch(text.strip())
    if match is None:
        raise ValueError("lag must be a number of bytes, such as 1048576 or 16MB")
    return int(match[1]) * UNITS[(match[2] or "").lower()]


def rule(
    frame: Frame, check: Check, *, lag_max: int | None, fail_closed: bool
) -> Ruling:
    """Answer one check."""
    role, why_not = _standing_role(frame)
    doubted = _doubt(frame)
    if role is None:
        return Ruling(False, "unknown", why_not, doubted)
    if check is Check.HEALTH:
        return Ruling(True, role, f"PostgreSQL answers as a {role}", doubted)
    if check is Check.REPLICA:
        return _replica(frame, role, lag_max, doubted)
    if role != "primary":
        return Ruling(False, role, "PostgreSQL is in recovery", doubted)
    losing = _losing_side(frame) if fail_closed else ""
    return Ruling(not losing, role, losing or "PostgreSQL is out of recovery", doubted)


def _replica(
    frame: Frame, role: str, lag_max: int | None, doubted: str | None
) -> Ruling:
    if role != "standby":
        return Ruling(False, role, "PostgreSQL is out of recovery", doubted)
    lag = lag_bytes(frame, frame.policy.me)
    if lag_max is None:
        return Ruling(True, role, "PostgreSQL is in recovery", doubted, lag)
    if lag is None:
        return Ruling(False, role, "its lag is not known: no primary seen", doubted)
    words = f"{lag} bytes behind, {lag_max} allowed"
    return Ruling(lag <= lag_max, role, words, doubted, lag)


def _standing_role(frame: Frame) -> tuple[str | None, str]:
    """Return PostgreSQL's last answer that still stands, or why none does.

    A server that refuses this agent alone (too many connections) says nothing of its
    role: its last answer stands, and without one what its disk shows.
    """
    me = frame.policy.me
    if not frame.policy.spec(me).has_postgres:
        return None, "there is no PostgreSQL on this node"
    latest = frame.latest(me, Channel.POSTGRES)
    missed = frame.missed(me, Channel.POSTGRES)
    if latest is None:
        return None, "PostgreSQL has not been asked yet"
    if missed >= frame.policy.missed_to_accuse:
        return None, f"PostgreSQL did not answer {missed} times: {latest.reason}"
    sight, facts = frame.sight(me), local_facts(frame.state)
    if sight is not None:
        return "standby" if sight[0].in_recovery else "primary", ""
    if latest.outcome.alive and facts is not None and facts.running:
        return "standby" if facts.standby_signal else "primary", ""
    return None, f"PostgreSQL has not answered yet: {latest.reason}"


def _doubt(frame: Frame) -> str | None:
    """Return why this answer might be wrong; None when nothing speaks against it."""
    own = doubt(frame.state, frame.policy)
    latest = frame.latest(frame.policy.me, Channel.POSTGRES)
    if own is not None or latest is None:
        return own
    age_s = frame.age_s(latest)
    if not frame.fresh(age_s):
        return f"PostgreSQL was last asked {age_s:.0f} s ago"
    if latest.outcome is not Outcome.ANSWERED:
        return f"the last probe: {latest.outcome.value}, {latest.reason}"
    return None


def _losing_side(frame: Frame) -> str:
    """Return why a proven split closes this node; empty when it does not."""
    proven = any(
        verdict.code is VerdictCode.SPLIT_BRAIN for verdict in frame.state.view.verdicts
    )
    if not proven:
        return ""
    predicted = winner(frame.state, frame.policy).node
    if predicted in (None, frame.policy.me):
        return ""
    return f"proven split brain, and {predicted} is predicted to win"
