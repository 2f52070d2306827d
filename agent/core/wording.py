"""Evidence as people read it: lists of names, durations, bytes, yes and no.

Theory of operation. Rules write evidence for programs: names joined by commas, units
at the end of a key, nothing where nothing is known. Here the same facts become a label
and a text. What is not known is left out, because a line that says so tells nothing
that the sentence above it does not. A key that has no label of its own gets one made
from its name, so that a new rule's evidence reads too.
"""

from collections.abc import Mapping

from agent.core.verdict import Fact, Verdict

LISTS = frozenset(
    {
        "answers_on",
        "channels",
        "cut_off_from",
        "direction",
        "failing",
        "held_by",
        "losers",
        "missing",
        "nodes",
        "not_read",
        "not_seen",
        "read_by",
        "receivers",
        "settings",
        "standbys",
        "tips",
    }
)
"""Evidence that is names joined by commas."""
UNSURE = ("", "?")
"""Texts by which a rule says that it could not find out."""

_LABELS = {
    "answers_on": "node answers on",
    "configured": "receivers there are",
    "confirmed_by": "voters that see it nowhere",
    "direction": "what is broken",
    "expected": "expected system id",
    "end_lsn": "it goes as far as",
    "failing": "last attempt failed on",
    "first": "one side",
    "fork_lsn": "they parted at",
    "fork_timeline": "they parted on timeline",
    "held_by": "last seen to hold it",
    "lacking_bytes": "WAL that is missing",
    "losers": "would be resynced",
    "method": "proven by",
    "missing": "voters it misses",
    "missing_bytes": "room that is missing",
    "not_replicated_bytes": "not replicated, at least",
    "not_seen": "no fresh answer from",
    "old_seen": "old primary known to take no writes",
    "overlap_s": "both took writes for at least",
    "page_lsn": "their WAL differs in the page at",
    "pinned_because": "because",
    "pinned_by": "pinned by",
    "pins_disputed": "pins that exclude each other",
    "planned_because": "because of",
    "planned_by": "announced by",
    "past_fork_bytes": "WAL past the fork, at most",
    "primaries": "nodes that accept writes",
    "reachable": "voters it sees",
    "reached_lsn": "was seen to reach",
    "reached_timeline": "on timeline",
    "receivers": "receivers that take nothing",
    "seen_on": "when the primary was",
    "second": "other side",
    "since_age_s": "last sign of life before that",
    "tips": "sides",
    "winner": "probably kept",
    "winner_otherwise": "probably kept without the pin",
    "winner_rule": "who is kept follows from",
    "writable": "its server accepts writes",
}
_OF_COUNTS = {"failing": "how many of them that is"}
"""Labels of evidence that elsewhere is a list of names."""
_WINNER_RULES = {
    "frozen": "the first prediction of this split",
    "highest-timeline": "the highest timeline",
    "newest-commit": "the newest commit, which no reading shows",
    "none": "nothing that is known yet",
    "pinned": "what an operator decided",
    "only": "its being the only one that accepts writes",
}


def names(joined: str) -> str:
    """Return `n1, n2 and n3` for `n1,n2,n3`."""
    *others, last = [each.strip() for each in joined.split(",")]
    return f"{', '.join(others)} and {last}" if others else last


def is_known(value: Fact) -> bool:
    """Whether a piece of evidence says anything."""
    return value is not None and value not in UNSURE


def shown(name: str, value: Fact) -> str:
    """Return a known piece of evidence as a text for a sentence."""
    if isinstance(value, str) and name in LISTS:
        return names(value)
    return str(value)


class Words(dict[str, str]):
    """Evidence for a text; what is missing reads as such."""

    def __missing__(self, name: str) -> str:
        return f"an unknown {name.replace('_', ' ')}"


def words(verdict: Verdict) -> Words:
    """Return a verdict's evidence for a text, with its subject, alone and as a pair."""
    evidence = verdict.evidence.items()
    known = {name: shown(name, value) for name, value in evidence if is_known(value)}
    pair = verdict.subject.replace("|", " and ")
    return Words({**known, "subject": verdict.subject, "pair": pair})


def facts(evidence: Mapping[str, Fact]) -> tuple[tuple[str, str], ...]:
    """Return label and text of every piece of evidence that is known."""
    return tuple(
        (_label(name, value), _text(name, value))
        for name, value in evidence.items()
        if is_known(value)
    )


def way(direction: str) -> str:
    """Return in words who does not see whom, for one or two ways such as `n1>n2`."""
    ways = [tuple(each.split(">")) for each in direction.split(",")]
    (seer, node), *others = ways
    if others:
        return f"{seer} and {node} do not see each other"
    return f"{seer} does not see {node}"


def _label(name: str, value: Fact) -> str:
    if isinstance(value, int) and name in _OF_COUNTS:
        return _OF_COUNTS[name]
    if name in _LABELS:
        return _LABELS[name]
    stem = name.removesuffix("_bytes").removesuffix("_s")
    return stem.replace("_", " ").replace("lsn", "LSN")


def _text(name: str, value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _figure(name, value)
    if name == "direction":
        return way(str(value))
    if name == "winner_rule":
        return _WINNER_RULES.get(str(value), str(value))
    return shown(name, value)


def _figure(name: str, value: float) -> str:
    if name.endswith("_s"):
        return f"{value:.1f} s"
    return f"{value} bytes" if name.endswith("_bytes") else str(value)
