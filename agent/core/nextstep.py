"""What to do next about a verdict: the text that fits, with its names filled in.

Theory of operation. `counsel` has a step for each verdict, and others for what changes
it: a row of its own, a failover that was announced, a side that somebody has decided to
keep. The evidence picks the text and fills in who. Told without a verdict, as in the
README, a word in capitals stands where the evidence would name somebody.
"""

from agent.core.counsel import (
    IN_GENERAL,
    KEPT_IS_PINNED,
    NEXT_STEPS,
    PAGES_DIFFER,
    PINS_EXCLUDE,
    PLANNED_NEXT,
    STEPS_OF_ROWS,
    WAY_BACK,
)
from agent.core.verdict import Family, Verdict, VerdictCode
from agent.core.wording import Words, is_known, words


def next_step(verdict: Verdict, incident: str = "ID") -> str:
    """Return what to do next: an act, or a command to run.

    `incident` is the id to put into a command; where it is not known, `ID` stands.
    """
    told = Words(
        {
            "connected": "nobody",
            "furthest": "the standby that has received most",
            "held_by": "whoever received more",
            **words(verdict),
            "incident": incident,
            "way_back": _way_back(verdict),
        }
    )
    return _step(verdict).format_map(told)


def general_step(code: VerdictCode, rule: int = 0) -> str:
    """Return what to do about a verdict, wherever it stands; of one row if named.

    Where the evidence would name somebody, a word in capitals stands.
    """
    step = STEPS_OF_ROWS.get(rule, NEXT_STEPS[code])
    back = WAY_BACK.format(node="NODE", place="it")
    general = {**IN_GENERAL, "incident": "ID", "way_back": back}
    return step.format_map(_General(general))


class _General(dict[str, str]):
    """What a text says where no evidence fills it in."""

    def __missing__(self, name: str) -> str:
        return name.upper().replace("_", " ")


def _step(verdict: Verdict) -> str:
    """Return the step that fits, with braces for what the evidence says."""
    evidence = verdict.evidence
    if is_known(evidence.get("planned_by")):
        return PLANNED_NEXT
    if verdict.code is VerdictCode.SPLIT_BRAIN:
        if is_known(evidence.get("pins_disputed")):
            return PINS_EXCLUDE
        if is_known(evidence.get("pinned_by")):
            return KEPT_IS_PINNED
    if verdict.code is VerdictCode.LINEAGE_TWIN and is_known(evidence.get("page_lsn")):
        return PAGES_DIFFER
    return STEPS_OF_ROWS.get(verdict.rule, NEXT_STEPS[verdict.code])


def _way_back(verdict: Verdict) -> str:
    """Return how whoever is to be resynced comes back; without a name in doubt."""
    evidence = verdict.evidence
    named = evidence.get("from") or evidence.get("losers")
    if verdict.family is not Family.SPLIT:
        named = named or verdict.subject
    elif evidence.get("winner") is None:
        named = None  # nobody can tell yet which of them it will be
    known = [] if not is_known(named) else str(named).split(",")
    if len(known) == 1:
        return WAY_BACK.format(node=known[0], place=known[0])
    return WAY_BACK.format(node="NODE", place="it" if not known else "each")
