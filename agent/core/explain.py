"""Verdicts in plain sentences, which API, CLI, page and notices share.

Theory of operation. For each verdict there is one text that says what it means, one
that says what is so here and now (who, what, since when, and who has seen it), and
one that says what to do next, as a command or an act. The texts read the evidence of
the verdict and nothing else, so a stored incident explains itself years later.
"""

from collections.abc import Callable, Mapping

from agent.core.incident import Incident, Status
from agent.core.policy import Policy
from agent.core.verdict import Fact, Verdict, VerdictCode

Evidence = Mapping[str, Fact]

_MEANINGS = {
    VerdictCode.HEALTHY: "Everything is known and nothing is wrong.",
    VerdictCode.UNKNOWN: "Not enough fresh observation to say how the cluster is.",
    VerdictCode.OBSERVER_ISOLATED: (
        "This agent sees no majority of the voters; it accuses nobody."
    ),
    VerdictCode.NODE_SUSPECT: "A node missed probes; it is too early to say more.",
    VerdictCode.NODE_UNREACHABLE: (
        "Nobody who can be heard sees the node, but no majority can confirm it."
    ),
    VerdictCode.NODE_DOWN: "A majority of all voters sees the node on no channel.",
    VerdictCode.AGENT_DOWN: "The agent is silent; the node answers on other channels.",
    VerdictCode.POSTGRES_DOWN: (
        "PostgreSQL is silent; the node answers on other channels."
    ),
    VerdictCode.MANAGER_DOWN: (
        "The manager is silent; the node answers on other channels."
    ),
    VerdictCode.LINK_DOWN: "A pair of nodes cannot see each other; others see both.",
    VerdictCode.FAILOVER: "The primary moved to another node.",
    VerdictCode.NO_PRIMARY: "No node that a majority can see accepts writes.",
    VerdictCode.SPLIT_BRAIN_SUSPECTED: (
        "A node accepts writes, cut off from a side that has, or may elect, another."
    ),
    VerdictCode.SPLIT_BRAIN: "Two nodes accepted writes at once; this is proven.",
    VerdictCode.LINEAGE_DIVERGED: (
        "A node holds writes that the primary does not have; a resync destroys them."
    ),
    VerdictCode.LINEAGE_TWIN: (
        "One timeline number stands for two histories; PostgreSQL and pg_rewind see "
        "nothing wrong."
    ),
    VerdictCode.UNPROTECTED: "A losing side exists, and no copy of it is being made.",
    VerdictCode.CAPTURE_NOT_READY: "The next split could not be captured here.",
    VerdictCode.FOREIGN_SYSTEM: "What answers there belongs to another system.",
    VerdictCode.STANDBY_DETACHED: "A standby receives from nobody.",
    VerdictCode.CONFIG_ERROR: "The configuration does not fit the machines.",
}

_NEXT_STEPS = {
    VerdictCode.HEALTHY: "Nothing to do.",
    VerdictCode.UNKNOWN: (
        "Wait for a few rounds; if it lasts, run `splitguard status` and look at what "
        "was not seen."
    ),
    VerdictCode.OBSERVER_ISOLATED: (
        "Check the network of {subject}. If its server accepts writes, stop its "
        "clients; do not resync it before its capture is complete."
    ),
    VerdictCode.NODE_SUSPECT: "Wait; check the network of {subject} if it lasts.",
    VerdictCode.NODE_UNREACHABLE: (
        "Look at {subject} itself: from here nobody can tell whether it is down or cut "
        "off. Do not promote another node before you know."
    ),
    VerdictCode.NODE_DOWN: (
        "Look at {subject}: its power, its console, its network. Before it comes back, "
        "see below whether the primary has moved: if {subject} is only cut off, it may "
        "still accept writes."
    ),
    VerdictCode.AGENT_DOWN: "Run `systemctl restart splitguard` on {subject}.",
    VerdictCode.POSTGRES_DOWN: (
        "Is {subject} a losing side of a split? Then leave it stopped until "
        "`splitguard guard permit` there says granted. Otherwise read PostgreSQL's log "
        "on {subject} and start it through the HA software."
    ),
    VerdictCode.MANAGER_DOWN: "Read the manager's log on {subject} and restart it.",
    VerdictCode.LINK_DOWN: "Check the network and the firewalls between {pair}.",
    VerdictCode.FAILOVER: (
        "Check that the clients follow to {to}, then run "
        "`splitguard incidents ack ID`. Do not resync {from} before "
        "`splitguard status` says that nothing on it has diverged."
    ),
    VerdictCode.NO_PRIMARY: (
        "Run `splitguard status`, take the standby that has received most, and let the "
        "HA software promote it."
    ),
    VerdictCode.SPLIT_BRAIN_SUSPECTED: (
        "Find out whether another node was promoted. Stop clients from writing to "
        "{first} until the link is back; do not resync anything."
    ),
    VerdictCode.SPLIT_BRAIN: (
        "Decide which side is kept, stop clients from writing to the other one, and "
        "resync it only after `splitguard guard permit` has said granted."
    ),
    VerdictCode.LINEAGE_DIVERGED: (
        "Do not resync {losers} by hand. Run `splitguard snapshots list`, and let the "
        "resync wait for `splitguard guard permit` to say granted."
    ),
    VerdictCode.LINEAGE_TWIN: (
        "Do not start {losers} as a standby: it would stream and keep its own rows. "
        "Clone it again once `splitguard snapshots list` shows a complete copy."
    ),
    VerdictCode.UNPROTECTED: (
        "Do not resync {subject}. Mend the reason, then run "
        "`splitguard snapshots create`."
    ),
    VerdictCode.CAPTURE_NOT_READY: "On {subject}: {hint}",
    VerdictCode.FOREIGN_SYSTEM: (
        "Check the address of {subject} in the configuration, and which data folder "
        "its server runs on."
    ),
    VerdictCode.STANDBY_DETACHED: (
        "Check primary_conninfo and PostgreSQL's log on {subject}."
    ),
    VerdictCode.CONFIG_ERROR: (
        "Correct the addresses of {pair} in the configuration; then run "
        "`splitguard config check`."
    ),
}


def meaning(code: VerdictCode) -> str:
    """Return in one sentence what a verdict means, wherever it stands."""
    return _MEANINGS[code]


def next_step(verdict: Verdict) -> str:
    """Return what to do next: an act, or a command to run."""
    return _NEXT_STEPS[verdict.code].format_map(_words(verdict))


def sentence(verdict: Verdict, policy: Policy) -> str:
    """Return in plain words what is so: who, what, since when, seen by whom."""
    return _SENTENCES[verdict.code](verdict, policy)


def incident_story(incident: Incident, policy: Policy) -> tuple[str, ...]:
    """Return an incident's life in sentences, oldest first, and the next step."""
    told = [_flip_words(flip.status, flip.sentence) for flip in incident.history]
    if not told:
        told = [sentence(incident.verdict, policy)]
    if incident.acknowledged_by is not None:
        told.append(f"{incident.acknowledged_by} has taken it.")
    if incident.status is not Status.RESOLVED:
        told.append(f"Next: {next_step(incident.verdict)}")
    return tuple(told)


def _flip_words(status: Status, words: str) -> str:
    starts = {
        Status.PENDING: "First seen: ",
        Status.OPEN: "",
        Status.ACKNOWLEDGED: "Acknowledged: ",
        Status.RESOLVED: "Over: ",
    }
    return starts[status] + words


class _Words(dict[str, str]):
    """Evidence for a text; what is missing reads as such."""

    def __missing__(self, name: str) -> str:
        return f"an unknown {name.replace('_', ' ')}"


def _words(verdict: Verdict) -> _Words:
    known = {k: str(v) for k, v in verdict.evidence.items() if v not in (None, "")}
    pair = verdict.subject.replace("|", " and ")
    return _Words({**known, "subject": verdict.subject, "pair": pair})


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
    reasons = []
    if evidence.get("not_seen"):
        reasons.append(f"no fresh answer from {evidence['not_seen']}")
    if evidence.get("not_read"):
        reasons.append(f"PostgreSQL could not be read on {evidence['not_read']}")
    if evidence.get("primaries") != 1:
        reasons.append(f"{evidence.get('primaries', 'no')} nodes accept writes")
    return f"Not everything is known: {'; '.join(reasons) or 'no reason given'}."


def _isolated(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    writable = " Its server accepts writes." if verdict.evidence.get("writable") else ""
    return (
        f"The agent on {verdict.subject} sees {words['reachable']} of "
        f"{words['voters']} voters, itself included, which is no majority; "
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
    moved = (
        f"The primary moved from {words['from']} (timeline {words['from_timeline']}) "
        f"to {words['to']} (timeline {words['to_timeline']})"
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


def _suspected(verdict: Verdict, _: Policy) -> str:
    words, evidence = _words(verdict), verdict.evidence
    if evidence.get("cut_off_from"):
        return (
            f"{words['first']} accepts writes on timeline {words['first_timeline']} "
            f"and is cut off from {words['cut_off_from']}, who may have another "
            "primary."
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
        f"{words['first']} (timeline {words['first_timeline']}) and {words['second']} "
        f"(timeline {words['second_timeline']}) accepted writes at once, proven by "
        f"{words['method']}; they parted on timeline {words['fork_timeline']}"
        f"{_fork_place(verdict.evidence)}. {_predicted(verdict.evidence)}"
    )


def _fork_place(evidence: Evidence) -> str:
    place = evidence.get("fork_lsn")
    return f" at {place}" if place else ""


def _predicted(evidence: Evidence) -> str:
    predicted = evidence.get("winner")
    if predicted is None:
        return "Nobody can tell which side will be kept."
    return f"{predicted} will probably be kept."


def _diverged(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    return (
        f"{words['losers']} holds writes that {words['first']} does not have: "
        f"{words['past_fork_bytes']} bytes of WAL past the fork at "
        f"{words['fork_lsn']} on timeline {words['fork_timeline']}."
    )


def _twin(verdict: Verdict, _: Policy) -> str:
    words = _words(verdict)
    return (
        f"Timeline {words['second_timeline']} on {words['losers']} is not the one on "
        f"{words['first']}: the two parted on timeline {words['fork_timeline']} at "
        f"{words['fork_lsn']}. No tool will notice; each keeps its own rows."
    )


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
    VerdictCode.MANAGER_DOWN: _plain(
        "The manager on {subject} answers nobody ({reason}); the node answers on "
        "{answers_on}."
    ),
    VerdictCode.LINK_DOWN: _plain(
        "The link between {pair} is down ({direction}, channel {channels}); others "
        "see both."
    ),
    VerdictCode.FAILOVER: _failover,
    VerdictCode.NO_PRIMARY: _plain(
        "No node that can be seen accepts writes; the last primary was {last_primary}."
    ),
    VerdictCode.SPLIT_BRAIN_SUSPECTED: _suspected,
    VerdictCode.SPLIT_BRAIN: _split,
    VerdictCode.LINEAGE_DIVERGED: _diverged,
    VerdictCode.LINEAGE_TWIN: _twin,
    VerdictCode.UNPROTECTED: _plain(
        "{subject} holds writes that would be lost, and it is not captured: {reason}."
    ),
    VerdictCode.CAPTURE_NOT_READY: _plain(
        "The server on {subject} could not be captured: {reason}."
    ),
    VerdictCode.FOREIGN_SYSTEM: _plain(
        "What answers at {subject} does not belong here: {reason}."
    ),
    VerdictCode.STANDBY_DETACHED: _plain(
        "The standby {subject} receives from nobody; it has replayed up to "
        "{replay_lsn}."
    ),
    VerdictCode.CONFIG_ERROR: _plain("{pair}: {reason}."),
}
