"""Which occurrences are spent: what agents pass on of troubles that are over.

Theory of operation. An occurrence of which people were told that it is over must not be
told of again. Who was cut off, or began with an empty journal, hears of the number from
whoever is in reach, though nobody in reach has held that trouble open: agents pass on
what they have heard, apart from the incidents that they tell of. The number that was
raised last comes last in the ledger, and a report tells of the last ones. Who has been
away lacks those before any other.
"""

from collections.abc import Iterable, Mapping

from agent.core.frozen import replace
from agent.core.incident import Status
from agent.core.memo import remembered
from agent.core.observation import Report
from agent.core.state import Ledger

OCCURRENCES_MAX = 2_000
"""Keys whose resolved occurrences are remembered, whatever peers tell."""
OCCURRENCE_MAX = 1_000_000_000
"""A number beyond this is no count of incidents."""
KEY_MAX = 1_000
"""Characters; what is longer names no trouble, and is not passed on."""
PASSED_ON = 50
"""Keys that a report tells of, at most."""


@remembered
def passed_on(occurrences: Mapping[str, int]) -> Mapping[str, int]:
    """Return what a report tells of these: what was raised last."""
    return dict(tuple(occurrences.items())[-PASSED_ON:])


def raised(
    known: Mapping[str, int], over: Iterable[tuple[str, int]]
) -> Mapping[str, int]:
    """Return the occurrences by key, raised to those that are over; the same if none.

    What is raised comes last.
    """
    higher: dict[str, int] = {}
    for key, number in over:
        if number > max(known.get(key, 0), higher.get(key, 0)):
            higher[key] = number
    if not higher:
        return known
    return {name: n for name, n in known.items() if name not in higher} | higher


def learnt(ledger: Ledger, report: Report) -> Ledger:
    """Raise the occurrences to the highest that a peer knows to be over.

    Where there is no more room, those of the keys that are known go on being raised.
    """
    known, briefs = ledger.occurrences, report.incidents
    over = [(one.key, one.spent) for one in briefs]
    over += [
        (one.key, one.occurrence) for one in briefs if one.status == Status.RESOLVED
    ]
    over += report.spent.items()
    believed = [one for one in over if one[1] <= OCCURRENCE_MAX]
    occurrences = raised(known, _with_room(known, believed))
    return ledger if occurrences is known else replace(ledger, occurrences=occurrences)


def _with_room(
    known: Mapping[str, int], over: Iterable[tuple[str, int]]
) -> Iterable[tuple[str, int]]:
    """Leave out further keys where as many as may be are remembered."""
    fresh: set[str] = set()
    for key, number in over:
        if key not in known and key not in fresh:
            full = len(known) + len(fresh) >= OCCURRENCES_MAX
            if full or number <= 0 or len(key) > KEY_MAX:
                continue
            fresh.add(key)
        yield key, number
