"""Verdicts in plain sentences, which API, CLI, page and notices share.

Theory of operation. For each verdict there is one text that says what it means, one
that says what is so here and now (who, what, since when, and who has seen it), and
one that says what to do next, as a command or an act. The texts read the evidence of
the verdict and nothing else, so a stored incident explains itself years later. What is
fixed for a verdict stands in `counsel`, what to do is chosen in `nextstep`, and what is
so here is put together below.
"""

from collections.abc import Callable, Mapping

from agent.core import explain_managers as managers
from agent.core.counsel import LATE_REPLAY, MANAGER_KEPT, MEANINGS, PIN_LEFT
from agent.core.explain_twins import twin
from agent.core.incident import Incident, Status
from agent.core.nextstep import next_step
from agent.core.policy import Policy, WinnerRule
from agent.core.verdict import Fact, Verdict, VerdictCode
from agent.core.wording import is_known, names, way
from agent.core.wording import words as _words

Evidence = Mapping[str, Fact]
_BY_SIDES = (VerdictCode.LINEAGE_DIVERGED,)
"""Verdicts whose sentence says of each loser by itself what it holds."""


def meaning(code: VerdictCode) -> str:
    """Return in one sentence what a verdict means, wherever it stands."""
    return MEANINGS[code]


def sentence(verdict: Verdict, policy: Policy) -> str:
    """Return in plain words what is so: who, what, since when, seen by whom."""
    return _SENTENCES[verdict.code](verdict, policy)


def incident_sentence(incident: Incident, policy: Policy) -> str:
    """Return what is so in an incident's present stage, or was in its last one.

    Sides of a split that an earlier stage named, and this one does not, are named too:
    one was resynced before the other.
    """
    told = sentence(incident.verdict, policy)
    evidence = incident.verdict.evidence
    if incident.verdict.code not in _BY_SIDES or not evidence.get("losers"):
        return told
    now = {str(evidence.get("winner")), *str(evidence["losers"]).split(",")}
    before = [name for name in incident.sides if name not in now]
    if not before:
        return told
    return f"{told} {names(','.join(before))} held such writes before."


def incident_story(incident: Incident, policy: Policy) -> tuple[str, ...]:
    """Return an incident's life in sentences, oldest first, and the next step.

    What did not change between two entries of the history is told once.
    """
    told: list[str] = []
    last = ""
    for flip in incident.history:
        if flip.sentence != last:
            first = flip.status is Status.PENDING and not told
            told.append(f"First seen: {flip.sentence}" if first else flip.sentence)
        last = flip.sentence
    now = incident_sentence(incident, policy)
    if now != last:
        told.append(f"Then: {now}" if told else now)
    if incident.acknowledged_by is not None:
        told.append(f"{incident.acknowledged_by} has taken it.")
    if incident.status is Status.RESOLVED:
        told.append("It is over.")
    else:
        told.append(f"Next: {next_step(incident.verdict, incident.id)}")
    return tuple(told)


def _plain(template: str) -> Callable[[Verdict, Policy], str]:
    """Return a sentence that needs no more than the evidence."""

    def tell(verdict: Verdict, _: Policy) -> str:
        return template.format_map(_words(verdict))

    return tell


def _since(evidence: Evidence) -> str:
    age_s = evidence.get("since_age_s")
    if not isinstance(age_s, int | float):
        return ""
    return f"; the last sign of life came {age_s:.0f} s before"


def _healthy(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    if "primary" not in words:
        return f"All {words['nodes']} nodes answer."
    return f"All {words['nodes']} nodes answer, and {words['primary']} is the primary."


def _unknown(verdict: Verdict, _: Policy) -> str:
    evidence = verdict.evidence
    if evidence.get("starting"):
        return "This agent has just started and has not looked at every node yet."
    words, reasons = _words(verdict), []
    if evidence.get("not_seen"):
        reasons.append(f"no fresh answer from {words['not_seen']}")
    if evidence.get("not_read"):
        reasons.append(f"PostgreSQL could not be read on {words['not_read']}")
    if evidence.get("primaries") != 1:
        reasons.append(f"{evidence.get('primaries', 'no')} nodes accept writes")
    return f"Not everything is known: {'; '.join(reasons) or 'no reason given'}."


def _isolated(verdict: Verdict, policy: Policy) -> str:
    words, rank = _words(verdict), policy.order.get(verdict.subject)
    writable = " Its server accepts writes." if verdict.evidence.get("writable") else ""
    votes = rank is None or policy.nodes[rank].is_voter
    itself = ", itself included" if votes else ""
    return (
        f"The agent on {verdict.subject} sees {words['reachable']} of "
        f"{words['voters']} voters{itself}, which is no majority; "
        f"it misses {words['missing']}{_since(verdict.evidence)}.{writable}"
    )


def _down(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    return (
        f"{verdict.subject} is down: {words['confirmed_by']} of {words['voters']} "
        f"voters have looked and see it on no channel{_since(verdict.evidence)}."
    )


def _unreachable(verdict: Verdict, policy: Policy) -> str:
    words = _words(verdict)
    return (
        f"{verdict.subject} cannot be reached: {words['confirmed_by']} of "
        f"{words['voters']} voters see it on no channel, and {policy.majority} would "
        f"be needed to call it down{_since(verdict.evidence)}. It may be cut off and "
        "still accept writes."
    )


def _suspect(verdict: Verdict, _: Policy) -> str:
    witness = verdict.evidence.get("replication_seen_by")
    lives = "" if witness is None else f"; replication on {witness} shows that it lives"
    subject = verdict.subject
    return f"{subject} missed its last probe{_since(verdict.evidence)}{lives}."


def _failover(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    lost = evidence.get("not_replicated_bytes")
    who = "The primary"
    if is_known(evidence.get("planned_by")):
        announced = f"{words['planned_by']} announced ({words['planned_because']})"
        who = f"As {announced}, the primary"
    moved = (
        f"{who} moved from {_on_timeline(verdict, 'from')} "
        f"to {_on_timeline(verdict, 'to')}"
    )
    parts = [moved]
    if evidence.get("switch_lsn"):
        parts.append(f" at {words['switch_lsn']}")
    if isinstance(lost, int) and lost > 0:
        parts.append(f"; at least {lost} bytes of {words['from']} were not replicated")
    parts.append(".")
    if not evidence.get("old_seen"):
        parts.append(
            f" If {words['from']} is only cut off, it may still accept writes."
        )
    return "".join(parts)


def _stale(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    where = f"{verdict.subject} accepts writes on timeline {words['timeline']}"
    if evidence.get("timeline") == evidence.get("reached_timeline"):
        found = (
            f"{where} at {words['end_lsn']}, as if it was set back: that timeline was "
            f"seen to reach {words['reached_lsn']}"
        )
    else:
        found = (
            f"{where}, which left timeline {words['reached_timeline']} at "
            f"{words['end_lsn']}: that one was seen to reach {words['reached_lsn']}"
        )
    held = f" {words['held_by']} held them last." if evidence.get("held_by") else ""
    return (
        f"{found} on {words['seen_on']}. {words['lacking_bytes']} bytes of WAL are "
        f"missing.{held}"
    )


def _suspected(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    if evidence.get("cut_off_from"):
        return (
            f"{_on_timeline(verdict, 'first')} accepts writes and is cut off from "
            f"{words['cut_off_from']}, where there may be another primary."
        )
    if evidence.get("manager_says"):
        return (
            f"{words['first']} is the primary, but the manager on {words['second']} "
            "says that it is active, and nobody can read the PostgreSQL beside it."
        )
    return (
        f"{words['first']} and {words['second']} were both read as accepting writes "
        f"(by {words['read_by']}); the proof is still missing."
    )


def _split(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    return (
        f"{_on_timeline(verdict, 'first')} and {_on_timeline(verdict, 'second')} "
        f"accepted writes at once, proven by {words['method']}; "
        f"{_parted(verdict.evidence)}. {_predicted(verdict.evidence)}"
    )


def _on_timeline(verdict: Verdict, side: str) -> str:
    """Return a node's name, with its timeline where that is known."""
    words, timeline = _words(verdict), f"{side}_timeline"
    if not is_known(verdict.evidence.get(timeline)):
        return words[side]
    return f"{words[side]} (timeline {words[timeline]})"


def _parted(evidence: Evidence) -> str:
    timeline, place = evidence.get("fork_timeline"), evidence.get("fork_lsn")
    if not is_known(timeline):
        return "where they parted is not known yet"
    return f"they parted on timeline {timeline}{f' at {place}' if place else ''}"


def _predicted(evidence: Evidence) -> str:
    predicted = evidence.get("winner")
    if evidence.get("kept"):
        return f"{evidence['kept']} was kept."
    if evidence.get("pins_disputed"):
        said = evidence["pins_disputed"]
        return f"Two pins exclude each other ({said}), so neither counts."
    if is_known(evidence.get("pinned_by")):
        return (
            f"{predicted} is to be kept: pinned by {evidence['pinned_by']} because "
            f"{evidence.get('pinned_because')}."
        )
    if predicted is not None:
        return f"{predicted} will probably be kept."
    if evidence.get("winner_rule") == WinnerRule.NEWEST_COMMIT:
        return "Nobody can tell which side will be kept: the newest commit decides."
    return "Nobody can tell which side will be kept."


def _diverged(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    several = "," in str(verdict.evidence.get("losers", ""))
    return (
        f"{words['losers']} {'hold' if several else 'holds'} writes that "
        f"{words['first']} does not have: up to {words['past_fork_bytes']} bytes of "
        f"WAL past the fork at {words['fork_lsn']} on timeline "
        f"{words['fork_timeline']}."
    )


def _not_ready(verdict: Verdict, policy: Policy) -> str:
    words = _words(verdict)
    if verdict.rule == MANAGER_KEPT:
        return managers.not_kept(verdict, policy)
    if "guard" not in words:
        return (
            f"The server on {verdict.subject} could not be captured: {words['reason']}."
        )
    return (
        f"A resync of {verdict.subject} would not wait until its data is kept: the "
        f"guard {words['guard']} ({words['software']}, {words['file']}): "
        f"{words['reason']}."
    )


def _lagging(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    limit = f"the limit is {words['limit_bytes']}"
    if verdict.rule != LATE_REPLAY:
        return (
            f"{verdict.subject} has received {words['receive_lag_bytes']} bytes less "
            f"than {words['primary']} has written; {limit}."
        )
    paused = " Its replay is paused." if evidence.get("replay_paused") else ""
    return (
        f"{verdict.subject} has replayed {words['replay_lag_bytes']} bytes less than "
        f"it has received; {limit}.{paused}"
    )


def _archives(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    failing = ""
    if evidence.get("failing"):
        failing = f" The last attempt of {words['failing']} has failed."
    first = _on_timeline(verdict, "first")
    return (
        f"{first} and {_on_timeline(verdict, 'second')} have parted "
        f"at {words['fork_lsn']} on timeline {words['fork_timeline']}, and both "
        f"archive by the same {words['setting']}.{failing}"
    )


def _link(verdict: Verdict, _: Policy) -> str:
    words, direction = _words(verdict), verdict.evidence.get("direction")
    what = ""
    if isinstance(direction, str):
        what = f": {way(direction)} (on {words['channels']})"
    return f"The link between {words['pair']} is down{what}; others see both."


def _unprotected(verdict: Verdict, policy: Policy) -> str:
    if verdict.rule == PIN_LEFT:
        return _plain(
            "{subject} was wiped, cloned or rewound before a copy of it was complete"
            " ({capture}); what it held is only in the hard links of {place}, as far as"
            " nothing was written over them, and waits for a person."
        )(verdict, policy)
    return _plain(
        "{subject} holds writes that would be lost, and it is not captured: {reason}."
    )(verdict, policy)


def _deaf(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    several = evidence.get("configured") != evidence.get("failing")
    which = f"{words['failing']} of {words['configured']} receivers"
    who = words["receivers"] if several else f"anybody ({words['receivers']})"
    told = f", {which}" if several else ""
    return f"{verdict.subject} cannot tell {who}{told}: {words['reason']}."


_SENTENCES: dict[VerdictCode, Callable[[Verdict, Policy], str]] = {
    VerdictCode.HEALTHY: _healthy,
    VerdictCode.UNKNOWN: _unknown,
    VerdictCode.OBSERVER_ISOLATED: _isolated,
    VerdictCode.NODE_SUSPECT: _suspect,
    VerdictCode.NODE_UNREACHABLE: _unreachable,
    VerdictCode.NODE_DOWN: _down,
    VerdictCode.AGENT_DOWN: _plain(
        "The agent on {subject} answers nobody ({reason}); the node answers on "
        "{answers_on}."
    ),
    VerdictCode.POSTGRES_DOWN: _plain(
        "PostgreSQL on {subject} answers nobody ({reason}); the node answers on "
        "{answers_on}."
    ),
    VerdictCode.MANAGER_DOWN: managers.down,
    VerdictCode.LINK_DOWN: _link,
    VerdictCode.FAILOVER: _failover,
    VerdictCode.NO_PRIMARY: _plain(
        "No node that can be seen accepts writes; the last primary was {last_primary}."
    ),
    VerdictCode.STALE_PRIMARY: _stale,
    VerdictCode.WRITES_BLOCKED: _plain(
        "{waiting} commits on {subject} have waited for a synchronous standby for more "
        "than {limit_s} s; nobody has been told that they are done."
    ),
    VerdictCode.SPLIT_BRAIN_SUSPECTED: _suspected,
    VerdictCode.SPLIT_BRAIN: _split,
    VerdictCode.LINEAGE_DIVERGED: _diverged,
    VerdictCode.LINEAGE_TWIN: twin,
    VerdictCode.UNPROTECTED: _unprotected,
    VerdictCode.CAPTURE_NOT_READY: _not_ready,
    VerdictCode.DESTRUCTIVE_CONFIG: _plain(
        "{software} on {subject} deletes a losing side's data before anybody has kept "
        "it ({settings} in force, by {file} or the cluster's own): {reason}."
    ),
    VerdictCode.FOREIGN_SYSTEM: _plain(
        "What answers at {subject} does not belong here: {reason}."
    ),
    VerdictCode.STANDBY_LAGGING: _lagging,
    VerdictCode.ARCHIVE_CONFLICT: _archives,
    VerdictCode.STANDBY_DETACHED: _plain(
        "The standby {subject} receives from nobody; it has replayed up to "
        "{replay_lsn}."
    ),
    VerdictCode.CONFIG_ERROR: _plain("{pair}: {reason}."),
    VerdictCode.CONFIG_DRIFT: _plain(
        "Settings that must be the same on all nodes differ: {reason}."
    ),
    VerdictCode.ROLE_MISMATCH: managers.mismatch,
    VerdictCode.CANNOT_ALERT: _deaf,
}
