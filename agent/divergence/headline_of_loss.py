"""One sentence on what was lost, and what to do next: for a notice, a page, a person.

Theory of operation. A manager's things are named by kind, because that is what a person
at night knows them by; rows of other tables are counted. Then come the transactions
with the time in which they were made, in UTC; the day is told only where the time runs
over midnight. What is none is left out, and what is not known is not told.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from agent.divergence.report import (
    Counts,
    ManagersLoss,
    Report,
    Side,
    TableLoss,
    Winner,
    Wrote,
)
from agent.divergence.rescued import uncounted

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FATES = (
    ("changed", "changed"),
    ("deleted", "deleted"),
    ("conflicts", "changed on both sides"),
    ("collisions", "made on both sides"),
)


def headline(
    loser: Side,
    tables: Sequence[TableLoss],
    managers: Sequence[ManagersLoss] = (),
    *,
    compared: bool = True,
) -> str:
    """Return what was lost in one sentence, without a full stop.

    Such as "3 deployments, 1 plugin, 2 users; 439 transactions from 16:53:01 to
    16:54:10".
    """
    told = [_managers_words(each) for each in managers]
    theirs = {each.database for each in managers} if any(told) else set()
    others = [each for each in tables if each.database not in theirs]
    if not compared:
        rows = _written(tables)
    elif theirs:
        rows = _rows(others, "in other databases ", calm="")
    else:
        rows = _rows(others, "", calm="no row is missing on the winner")
    parts = [", ".join(filter(None, told)), rows, transactions(loser)]
    return "; ".join(filter(None, parts))


def transactions(side: Side) -> str:
    """Return how many transactions a side committed, and when.

    Those of users where it is known which they are; empty where nothing is known.
    """
    count = side.committed if side.user is None else side.user
    if count is None:
        return ""
    words = counted(count, "transaction")
    if count == 0 or side.first_s is None or side.last_s is None:
        return words
    first, last = instants(side.first_s, side.last_s)
    return f"{words} at {last}" if first == last else f"{words} from {first} to {last}"


def instants(first_s: float, last_s: float) -> tuple[str, str]:
    """Return two instants as times of day in UTC; with the day where it changes."""
    first, last = _whole_second(first_s), _whole_second(last_s)
    form = "%H:%M:%S" if first.date() == last.date() else "%Y-%m-%d %H:%M:%S"
    return first.strftime(form), last.strftime(form)


def next_step(report: Report) -> str:
    """Return what to do with this report; commands stand in backquotes."""
    snapshot = report.snapshot_id
    if report.winner is None:
        return (
            "Keep the snapshot, and compare it with the winner as soon as that answers:"
            f" `splitguard loss report {snapshot} --against NODE`"
        )
    if uncounted(report):
        return (
            f"Rows were put into {report.winner.name} after this comparison, so the"
            " counts are from before that. Have them counted anew: `splitguard loss"
            f" report {snapshot} --against {_whom(report.winner)}`"
        )
    if report.counts.differing:
        return (
            f"Nothing is put into {report.winner.name} by itself. Have it tried there,"
            " which is rolled back, shown, and done only if you say so, as a role that"
            f" may write these tables: `splitguard loss rescue {snapshot} --apply"
            f' {_way_to(report.winner)} --reason "WHY"`; or have it as files to read:'
            f" `splitguard loss rescue {snapshot} --format sql --to"
            f" /tmp/rescue-{snapshot}`"
        )
    if report.objects:
        return (
            "No row is missing; look at what else differs, with the losing side open"
            f" beside the winner: `splitguard snapshots open {snapshot}`"
        )
    if report.gaps:
        return (
            "No row is missing as far as it could be compared; look at what could not"
            f" be: `splitguard snapshots open {snapshot}`"
        )
    return "Nothing is missing on the winner; nothing needs to be brought back."


def _whom(winner: Winner) -> str:
    """Return what names the winner in a command: a node, a snapshot, or the way."""
    return winner.name if _NAME.fullmatch(winner.name) else _way_to(winner)


def _way_to(winner: Winner) -> str:
    """Return the winner's connection string as a shell takes it, if it is known."""
    known = winner.dsn and not set(winner.dsn) & set("`'")
    return f'"{winner.dsn}"' if known else "DSN"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 row` or `2 rows`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def _managers_words(manager: ManagersLoss) -> str:
    lost = [counted(each.lost, each.kind) for each in manager.counts if each.lost]
    rest = [
        f"{counted(getattr(each, name), each.kind)} {words}"
        for name, words in _FATES
        for each in manager.counts
        if getattr(each, name)
    ]
    return ", ".join(lost + rest)


def _written(tables: Iterable[TableLoss]) -> str:
    """Return what the losing side wrote, where nobody has compared it yet."""
    touched = [each for each in tables if each.wrote.rows]
    if not touched:
        return "not compared yet"
    wrote = Wrote(
        sum(each.wrote.born for each in touched),
        sum(each.wrote.changed for each in touched),
        sum(each.wrote.gone for each in touched),
    )
    parts = _enumerated(
        (wrote.born, "inserted"), (wrote.changed, "changed"), (wrote.gone, "deleted")
    )
    where = counted(_tables(touched), "table")
    return f"not compared yet: {parts} in {where}"


def _rows(tables: Sequence[TableLoss], where: str, *, calm: str) -> str:
    touched = [each for each in tables if each.counts.differing]
    counts = sum((each.counts for each in tables), Counts())
    within = f" in {counted(_tables(touched), 'table')}"
    fates = (
        (counts.lost, "lost"),
        (counts.changed, "changed"),
        (counts.deleted, "deleted"),
    )
    words: list[str] = []
    for count, fate in fates:
        if count:
            head = str(count) if words else counted(count, "row") + within
            words.append(f"{head} {fate}")
    for count, noun in (
        (counts.conflicts, "conflict"),
        (counts.collisions, "collision"),
    ):
        if count:
            words.append(counted(count, noun) + ("" if words else within))
    if counts.unknown:
        words.append(f"{counted(counts.unknown, 'row')} could not be compared")
    return where + ", ".join(words) if words else calm


def _enumerated(*amounts: tuple[int, str]) -> str:
    words: list[str] = []
    for count, what in amounts:
        if count:
            words.append(f"{count if words else counted(count, 'row')} {what}")
    return ", ".join(words)


def _tables(touched: Iterable[TableLoss]) -> int:
    """Return how many tables these are; partitions of one table are one."""
    return len({(each.database, each.root or each.name) for each in touched})


def _whole_second(instant_s: float) -> datetime:
    return datetime.fromtimestamp(int(instant_s), UTC)
