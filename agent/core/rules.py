"""The rule table, and the judgement by it.

Theory of operation. Rows are tried in the order of their numbers. Per subject and
family the first that fires wins, so a dead node is not also a node whose PostgreSQL,
agent and manager are down. An agent that is cut off tries no row that accuses others,
and one that has just started says only that it does not know. When nothing fires,
the last rows say `unknown` or `healthy`: the answer is never empty.

Verdicts come gravest first: by severity, then in the order of families in which a
person wants to read them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from agent.core import (
    rules_agents,
    rules_alert,
    rules_keeping,
    rules_manager,
    rules_other,
    rules_primary,
    rules_protection,
    rules_reach,
    rules_ready,
    rules_replication,
    rules_shut,
    rules_split,
)
from agent.core.moment import Moment
from agent.core.policy import Policy
from agent.core.rule import CLUSTER, About, Finding, Rule, Scope
from agent.core.scene import Scene, build
from agent.core.state import State
from agent.core.verdict import Family, Verdict

LAST: tuple[Rule, ...] = rules_other.LAST_ROWS
TABLE: tuple[Rule, ...] = (
    *rules_reach.ROWS,
    *rules_primary.ROWS,
    *rules_split.ROWS,
    *rules_protection.ROWS,
    *rules_ready.ROWS,
    *rules_other.ROWS,
    *rules_replication.ROWS,
    *rules_agents.ROWS,
    *rules_shut.ROWS,
    *rules_alert.ROWS,
    *rules_manager.ROWS,
    *rules_keeping.ROWS,
    *LAST,
)
TRIED = TABLE[: -len(LAST)]
ABOUT = {row.about: row.scope for row in TRIED if row.about is not None}
BY_NUMBER = {row.number: row for row in TABLE}

HEADLINES = (
    Family.SPLIT,
    Family.PROTECTION,
    Family.PRIMARY,
    Family.REACH,
    Family.SELF,
    Family.LINK,
    Family.READY,
    Family.KEEPING,
    Family.ALERT,
    Family.ROLE,
    Family.SETTINGS,
    Family.OTHER,
)
"""Which family goes first among equally grave verdicts."""
_PLACES = {family: place for place, family in enumerate(HEADLINES)}


def judge(state: State, at: Moment, policy: Policy) -> tuple[Verdict, ...]:
    """Return what is so at this instant, gravest first; never empty."""
    return judged(build(state, at, policy))


def judged(scene: Scene) -> tuple[Verdict, ...]:
    """Return the same of a scene that was built already."""
    found = () if scene.starting else tuple(_found(scene))
    return tuple(sorted(found, key=_order)) or (_fallback(scene),)


def _order(verdict: Verdict) -> tuple[int, int, int, str]:
    return (
        -verdict.severity.rank,
        _PLACES[verdict.family],
        verdict.rule,
        verdict.subject,
    )


def _found(scene: Scene) -> Iterator[Verdict]:
    taken: set[tuple[Family, str]] = set()
    subjects, about, isolated = _subjects(scene), _asked_about(scene), scene.isolated
    for row in TRIED:
        tried: Sequence[str] = subjects[row.scope]
        if row.about is not None:
            tried = about[row.about]
        silent = isolated and row.accuses
        for subject in tried:
            if silent and subject != scene.me:
                continue  # cut off, an agent speaks of itself only
            if taken and (row.family, subject) in taken:
                continue
            finding = row.condition(scene, subject)
            if finding is not None:
                taken.add((row.family, subject))
                yield _verdict(row, subject, finding)


def _asked_about(scene: Scene) -> dict[About, list[str]]:
    """Return whom each `about` of the table names, asked once for all its rows."""
    subjects = _subjects(scene)
    return {
        ask: [one for one in ask(scene) if one in subjects[scope]]
        for ask, scope in ABOUT.items()
    }


def _fallback(scene: Scene) -> Verdict:
    """Return the first of the last rows that fires; the very last one always does."""
    return next(
        _verdict(row, CLUSTER, finding)
        for row in LAST
        if (finding := row.condition(scene, CLUSTER)) is not None
    )


def _verdict(row: Rule, subject: str, finding: Finding) -> Verdict:
    return Verdict(
        code=row.code,
        family=row.family,
        subject=subject,
        severity=row.severity,
        rule=row.number,
        evidence=finding.evidence,
        discriminator=finding.discriminator,
        sticky=row.sticky,
    )


def _subjects(scene: Scene) -> Mapping[Scope, tuple[str, ...]]:
    """Return whom each scope's rows can be about."""
    return _of_names(scene.me, tuple(scene.policy.order))


@lru_cache(maxsize=64)
def _of_names(me: str, names: tuple[str, ...]) -> Mapping[Scope, tuple[str, ...]]:
    pairs = combinations(sorted(names), 2)
    return {
        Scope.SELF: (me,),
        Scope.CLUSTER: (CLUSTER,),
        Scope.NODES: names,
        Scope.PAIRS: tuple(f"{first}|{second}" for first, second in pairs),
    }
