"""One loss report from beginning to end: read, compare, word, keep.

Theory of operation. What the losing side wrote is found out first and kept, whoever the
winner is. A winner that does not answer, or is none, makes a gap in the report and no
failure: what was written is worth knowing without it, and an earlier comparison of the
same rows stands. The report lies beside the rows as `loss/report.json`; an earlier one
gives way to it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.divergence import besides, compared, losses, shelf
from agent.divergence import report as reports
from agent.divergence.extracted import Unread
from agent.divergence.losses import Task
from agent.divergence.redaction import Redaction, printable
from agent.divergence.report import Delivered, Released, Report, Waiting, Winner
from agent.divergence.report_making import TOP, Found, Style, build
from agent.divergence.rescued import rescues_in
from agent.divergence.winner import Door
from agent.errors import DivergenceError, PostgresError
from agent.postgres.connect import for_writing
from agent.snapshot import manifest as manifests

SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a report should show, and what only its caller knows."""

    redact: Sequence[str]
    """Columns that are not shown, as `[loss] redact` has them."""
    top: int = TOP
    """Examples of each kind of difference that a table gets."""
    released: tuple[Released, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    delivered: tuple[Delivered, ...] = ()


def make_report(task: Task, door: Door | None, known: Circumstances) -> Report:
    """Make the report of a snapshot, keep it there, and return it.

    Without a winner, or with one that cannot be read, it says what was written; the
    gap is then named like the winner. Raises SnapshotError, PostgresError,
    DivergenceError when the losing side cannot be read, or is none; OSError.
    """
    extraction, _ = losses.examine(task, None)
    folder = shelf.folder_of(task.snapshot)
    gaps: tuple[Unread, ...] = ()
    if door is not None:
        try:
            losses.compare_with(task, extraction, door)
        except (PostgresError, DivergenceError) as error:
            gaps = (Unread(door.name, str(error)),)
    comparison = compared.load(folder)
    aside = besides.Besides() if comparison is None else besides.load(folder)
    found = Found(
        objects=aside.objects,
        managers=aside.managers,
        gaps=aside.gaps + gaps,
        released=known.released,
        waiting=known.waiting,
        delivered=known.delivered,
    )
    redaction = Redaction(known.redact, secrets.token_bytes(SALT_BYTES))
    made_s = task.made_wall_s  # when it began; the winner was read after that
    if comparison is not None:
        made_s = max(made_s, comparison.against.at_s)
    style = Style(redaction, made_s, known.top)
    manifest = manifests.read(task.snapshot)
    report = build(manifest, extraction, comparison, folder, style, found)
    report = replace(report, winner=_reached(report.winner, door))
    shelf.own(reports.save(report, folder))
    return replace(report, rescues=rescues_in(folder))


def _reached(winner: Winner | None, door: Door | None) -> Winner | None:
    """Return the winner with the way to it; a snapshot's private server has none."""
    if winner is None or door is None or door.dsn_for is not None:
        return winner
    if winner.name != printable(door.name):
        return winner  # an earlier comparison, with somebody else
    return replace(winner, dsn=printable(for_writing(door.dsn)))
