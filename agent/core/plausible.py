"""What an answer may say: the formats of a report, and what cannot be so.

Theory of operation. Everything that comes in has a type already when it comes here;
the type does not keep it from being nonsense. An age below zero would be news from
the future that no later news could replace; a channel that is told twice would give
its teller two votes; a lineage whose switches run backwards has no fork. Such an
answer is not mended and not half believed: it becomes a failure, with one line that
says what cannot be, and what was known before stays as it is.

The format of reports. One that is one format older or newer is understood, so that a
cluster can be upgraded agent by agent. Within a format nothing changes but that fields
are added; each has a default that means "not told", unknown fields are left aside, and
no field is ever given another meaning. A new format may add channels, outcomes and
whole lists besides: what an older agent cannot read of those is left out (see
`agent/probe/newer.py`), never guessed. What is to go is told for one more format.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from agent.core.lineage import Lineage
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    PostgresSight,
    Report,
    ServerFacts,
    Sight,
)

REPORT_FORMAT = 2
"""1: the first, spoken by agents that understand no other. 2: spoken by agents that
understand one format before and one after their own."""

AGE_S_MAX = 1e9
"""Thirty years: no agent has run for so long."""
WALL_S_MAX = 253_402_300_799.0
"""The last second of the year 9999; no date can be written beyond it."""
TIMELINE_MAX = 0xFFFF_FFFF
XID_MAX = 1 << 64
LISTED_MAX = 1_000
"""Entries of one list of a report; an honest one has a few dozen."""
SWITCHES_MAX = 10_000
SEGMENT_BYTES = frozenset(1 << power for power in range(20, 31))
"""PostgreSQL takes powers of two from 1 MiB to 1 GiB for a WAL segment."""


def format_refused(told: int) -> str:
    """Return why a report of this format is not understood; empty when it is."""
    if abs(told - REPORT_FORMAT) <= 1:
        return ""
    older = told < REPORT_FORMAT
    return (
        f"the agent there speaks report format {told}, this one {REPORT_FORMAT} and"
        f" understands {REPORT_FORMAT - 1} to {REPORT_FORMAT + 1}; upgrade splitguard"
        f" {'there' if older else 'here'}, one version after the other"
    )


def misfit(seen: Observation, cluster: str) -> tuple[Outcome, str] | None:
    """Return as what an observation fails, and why; None when it fits.

    It fits when it brings what its channel tells and, if that is a report, one of this
    cluster, in a format that is understood, of the node that was asked.
    """
    report, sight = seen.report, seen.postgres
    absurd = impossible_answer(seen) or (impossible_sight(sight) if sight else "")
    if absurd or report is None:
        return (Outcome.GARBLED, absurd) if absurd else None
    if report.cluster != cluster:
        return Outcome.FOREIGN, f"it belongs to cluster {report.cluster!r}"
    refused = format_refused(report.format)
    if refused:
        return Outcome.INCOMPATIBLE, refused
    if report.node != seen.node:
        return Outcome.GARBLED, f"it says that it is {report.node!r}"
    absurd = impossible_report(report)
    return (Outcome.GARBLED, absurd) if absurd else None


def impossible_answer(seen: Observation) -> str:
    """Return why what a probe brought is no answer of its channel; empty when it is.

    A failure brings nothing, and an answer brings what its channel tells.
    """
    due = seen.channel if seen.outcome is Outcome.ANSWERED else None
    if (
        (seen.postgres is not None) == (due is Channel.POSTGRES)
        and (seen.manager is not None) == (due is Channel.MANAGER)
        and (seen.report is not None) == (due is Channel.AGENT)
    ):
        return ""
    return f"{seen.outcome} on channel {seen.channel}, with news of another kind"


def impossible_report(report: Report) -> str:
    """Return what in a report cannot be; empty when all of it can."""
    lists: tuple[tuple[str, Sequence[object]], ...] = (
        ("sights", report.sights),
        ("writable", report.writable),
        ("heard", report.heard),
        ("incidents", report.incidents),
        ("told", report.told),
        ("captures", report.captures),
        ("maintenance", report.maintenance),
        ("pins", report.pins),
        ("deaf", report.deaf),
    )
    maps = (("settings", report.settings), ("spent numbers", report.spent))
    for name, entries in (*lists, *maps):
        if len(entries) > LISTED_MAX:
            return f"it has {len(entries)} {name}, more than {LISTED_MAX}"
    server = report.server
    return (
        _twice("sights", [(one.node, one.channel) for one in report.sights])
        or _twice("heard", [one.node for one in report.heard])
        or _first(map(_impossible_sight, report.sights))
        or ("" if server is None else impossible_facts(server))
        or _impossible_time(report)
    )


def impossible_sight(sight: PostgresSight) -> str:
    """Return what in a server's answer cannot be; empty when all of it can."""
    timelines = (sight.timeline, sight.control_timeline)
    if any(one is not None and not _is_timeline(one) for one in timelines):
        return f"timeline {sight.timeline}, in pg_control {sight.control_timeline}"
    if sight.next_xid is not None and not 0 <= sight.next_xid < XID_MAX:
        return f"next transaction id {sight.next_xid}"
    if sight.waiting_for_sync < 0 or not _is_age(sight.waiting_for_sync_s):
        return (
            f"{sight.waiting_for_sync} backends wait, for {sight.waiting_for_sync_s} s"
        )
    if len(sight.senders) > LISTED_MAX or len(sight.slots) > LISTED_MAX:
        return f"{len(sight.senders)} senders, {len(sight.slots)} slots"
    return ""


def impossible_facts(facts: ServerFacts) -> str:
    """Return what in a reading of a disk cannot be; empty when all of it can."""
    if facts.wal_segment_bytes not in SEGMENT_BYTES:
        return f"WAL segments of {facts.wal_segment_bytes} bytes"
    marks = facts.marks
    if marks is not None and len(marks.beginnings) > SWITCHES_MAX:
        return f"marks of more than {SWITCHES_MAX} timelines"
    if marks is not None and len(marks.labels) > LISTED_MAX:
        return f"{len(marks.labels)} backup labels"
    return impossible_lineage(facts.lineage)


def impossible_lineage(lineage: Lineage) -> str:
    """Return what in a lineage cannot be; empty when all of it can."""
    switches = lineage.switches
    if not _is_timeline(lineage.timeline):
        return f"timeline {lineage.timeline}"
    if len(switches) > SWITCHES_MAX or len(lineage.fingerprints) > SWITCHES_MAX:
        return f"a lineage of more than {SWITCHES_MAX} timelines"
    if len(lineage.pages) > LISTED_MAX:
        return f"a lineage with prints of {len(lineage.pages)} pages"
    born = (*(one.timeline for one in switches), lineage.timeline)
    if any(earlier >= later for earlier, later in pairwise(born)):
        return "a lineage whose timelines do not ascend"
    lsns = [one.lsn for one in switches]
    if born[0] < 1 or lsns != sorted(lsns):
        return "a lineage whose switches do not ascend"
    return ""


def _impossible_sight(sight: Sight) -> str:
    """Return what cannot be of a channel that a peer has looked at."""
    where = f"{sight.node[:60]!r} by {sight.channel}"
    if not _is_age(sight.age_s) or sight.missed < 0:
        return f"{where}: seen {sight.age_s} s ago, missed {sight.missed} times"
    if sight.postgres is None and sight.manager is None:
        return ""
    fits = (
        sight.outcome is Outcome.ANSWERED
        and (sight.postgres is None or sight.channel is Channel.POSTGRES)
        and (sight.manager is None or sight.channel is Channel.MANAGER)
    )
    if not fits:
        return f"{where}: {sight.outcome}, and with an answer of another channel"
    found = impossible_sight(sight.postgres) if sight.postgres is not None else ""
    return f"{where}: {found}" if found else ""


def _impossible_time(report: Report) -> str:
    """Return what in a report is told of the future, or of no time at all."""
    ages = [report.server_age_s]
    ages += [age for one in report.heard for age in (one.age_s, one.round_trip_s)]
    ages += [one.ended_age_s for one in report.writable]
    ages += [one.started_age_s for one in report.writable]
    if report.care is not None:
        ages.append(report.care.last_good_age_s or 0.0)
    wrong = [age for age in ages if not _is_age(age)]
    if wrong:
        return f"something that is {wrong[0]} s old"
    if any(one.started_age_s < one.ended_age_s for one in report.writable):
        return "a time of writing that ended before it began"
    # Of a wall clock, which people step back: these may lie in the future.
    dates = [
        age
        for one in report.maintenance
        for age in (one.begun_age_s, one.ended_age_s or 0.0, one.remaining_s)
    ]
    dates += [one.age_s for one in report.pins]
    if any(abs(one) > WALL_S_MAX for one in dates):
        return "a decision of another century"
    walls = [one.since_wall_s for one in report.incidents]
    walls += [one.ordered_wall_s or 0.0 for one in report.captures]
    walls.append(report.wall_s or 0.0)
    walls += [one.loss.made_wall_s for one in report.captures if one.loss]
    if not all(0.0 <= one <= WALL_S_MAX for one in walls):
        return "a date that no calendar has"
    return ""


def _twice(name: str, keys: Collection[object]) -> str:
    twice = len(set(keys)) < len(keys)
    return f"its {name} tell of one thing twice" if twice else ""


def _first(found: Iterable[str]) -> str:
    return next((one for one in found if one), "")


def _is_age(seconds: float) -> bool:
    return 0.0 <= seconds <= AGE_S_MAX


def _is_timeline(number: int) -> bool:
    return 1 <= number <= TIMELINE_MAX
