"""`splitguard loss rescue`: what the losing side wrote, as files or into the winner.

Theory of operation. It needs no agent: it reads what a report left beside a snapshot.
Files are the default. With --apply everything is tried on the winner first and rolled
back, what came of it is shown, and only a person's word (an answer, or --yes) makes it
stay. Whatever is left out is counted and listed with its reason; exit code 1 when rows
are not on the winner though nobody chose that.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import Output, grid, safe, say, stacked, words
from agent.cli.which import Dir, Which, place_of
from agent.divergence.rescue_wish import Collisions, Format, OnConflict, Only, Wish
from agent.errors import ConfigError, DivergenceError, SnapshotError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.divergence.rescue import Ordered, Ran, Rescue, Way
    from agent.divergence.rescue_apply import LeftOut, Refusal
    from agent.divergence.rescue_files import Index

TIMEOUT_S = 300.0
SHOWN_MAX = 20
"""Refused rows that are named on the screen."""
COUNTS = (
    "inserted", "renumbered", "updated", "deleted", "already-there", "changed-there",
    "left-out", "refused",
)  # fmt: skip


_Form = Annotated[Format, typer.Option("--format", help="The form of the files.")]
_To = Annotated[
    Path | None,
    typer.Option(
        "--to",
        help="Folder to write, which must not be there. Default: ID-rescue here.",
        show_default=False,
    ),
]
_Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--tables",
        help="Only these, as TABLE or SCHEMA.TABLE with * and ?; may be repeated.",
        show_default=False,
    ),
]
_Database = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Only this one.", show_default=False),
]
_Only = Annotated[
    Only | None,
    typer.Option(
        "--only",
        help="Only rows that the winner lacks, that both sides changed, or whose"
        " key both sides gave out. Default: all, and what was changed or deleted.",
        show_default=False,
    ),
]
_OnConflict = Annotated[
    OnConflict,
    typer.Option(
        "--on-conflict",
        help="Rows that both sides changed: keep the winner's, or write theirs, the"
        " losing side's.",
    ),
]
_Collisions = Annotated[
    Collisions,
    typer.Option("--collisions", help="Rows whose key the winner gave to another row."),
]
_Apply = Annotated[
    str | None,
    typer.Option(
        "--apply",
        metavar="DSN",
        help="Put the rows into this server, the winner, after a dry run. The role"
        " has to own the tables, or be a superuser: it needs SELECT, INSERT, UPDATE,"
        " DELETE, and CREATE on the database for what a rescue notes there.",
        show_default=False,
    ),
]
_Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Why; it is recorded.", show_default=False),
]
_Who = Annotated[
    str | None,
    typer.Option(
        "--who", help="Who orders it. Default: this user.", show_default=False
    ),
]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask after the dry run.")]


def add_rescue(app: typer.Typer) -> None:
    """Add the command to the group `loss`."""
    app.command("rescue")(rescue)


@reads_config
def rescue(  # noqa: PLR0913 - typer makes an option of each
    call: Call,
    snapshot: Which,
    *,
    folder: Dir = None,
    form: _Form = Format.SQL,
    to: _To = None,
    tables: _Tables = None,
    database: _Database = None,
    only: _Only = None,
    on_conflict: _OnConflict = OnConflict.SKIP,
    collisions: _Collisions = Collisions.RENUMBER,
    apply: _Apply = None,
    reason: _Reason = None,
    who: _Who = None,
    yes: _Yes = False,
) -> int:
    """Give back what the losing side wrote: as files, or into the winner with --apply.

    Run `splitguard loss report` first. Nothing that is newer on the winner is written
    over, and what was done once is not done again. A row whose key the winner gave to
    another row gets a new key, and the rows that refer to it follow. Files hold the
    rows in plain, also what a report hides.
    """
    _check_options(apply, to, reason)
    made = _rescue(
        _place(call, snapshot, folder),
        Wish(tuple(tables or ()), only, on_conflict, collisions),
        database,
    )
    unmatched = made.unmatched()
    if unmatched:
        known = made.names()
        more = f" and {len(known) - SHOWN_MAX} more" if len(known) > SHOWN_MAX else ""
        raise typer.BadParameter(
            f"no table matches {', '.join(unmatched)}; the losing side wrote into:"
            f" {', '.join(known[:SHOWN_MAX]) or 'none'}{more}",
            param_hint="--tables",
        )
    if apply is None:
        return _write(call, made, to or Path(f"{Path(snapshot).name}-rescue"), form)
    from agent.cli.keeping import me, now_s
    from agent.cli.loss_anew import compare_anew
    from agent.divergence.rescue import Ordered, Way

    way = Way(apply, _timeout_s(call))
    ordered = Ordered(who or me(), reason or "", now_s())
    place = _place(call, snapshot, folder)
    try:
        compare_anew(call, place, way, ordered.wall_s)
    except OSError as error:
        raise SnapshotError(
            f"the comparison cannot be kept: {error.filename or ''} {error.strerror}",
            "make room, or run this as the user that the agent runs as",
        ) from error
    return _apply(call, made, way, ordered, yes=yes)


def _check_options(apply: str | None, to: Path | None, reason: str | None) -> None:
    if apply is None:
        if reason is not None:
            raise typer.BadParameter("it goes with --apply", param_hint="--reason")
        return
    if to is not None:
        raise typer.BadParameter(
            "it is for files: give either --to or --apply", param_hint="--to"
        )
    if not (reason or "").strip():
        raise typer.BadParameter("--apply needs a reason", param_hint="--reason")
    from agent.config.forms import parse_dsn

    try:
        pairs = parse_dsn(apply)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--apply") from error
    if "password" in pairs:
        raise typer.BadParameter(
            "others can read a password in the process list: put it into ~/.pgpass or"
            " $PGPASSWORD",
            param_hint="--apply",
        )


def _place(call: Call, snapshot: str, folder: Path | None) -> Path:
    """Return the snapshot's folder. Raises SnapshotError."""
    place = place_of(call, snapshot, folder)
    if not place.is_dir():
        raise SnapshotError(
            f"{place} is an archive, which holds no comparison",
            "name the snapshot's folder, or unpack it:"
            " `splitguard snapshots restore`, then `splitguard loss report`",
        )
    return place


def _rescue(place: Path, wish: Wish, database: str | None) -> "Rescue":
    from agent.divergence.rescue import Rescue

    return Rescue(place, wish, database)


def _timeout_s(call: Call) -> float:
    try:
        return float(call.settings(files=False).loss.statement_timeout_s)
    except ConfigError:
        return TIMEOUT_S  # a rescue needs no configuration


def _write(call: Call, made: "Rescue", to: Path, form: Format) -> int:
    index = made.write(to, form)
    for line in (*index.notes, *index.how):
        say(f"splitguard: {safe(line)}")
    shown = {
        "folder": str(to),
        "scripts": [str(to / script) for script in index.scripts],
        "files": [
            {
                "file": each.file,
                "table": each.table,
                "steps": each.steps,
                "left_out": each.left_out,
            }
            for each in index.files
        ],
        "notes": index.notes,
    }
    call.out.data(shown, lambda: _files_table(to, index))
    return 0


def _files_table(to: Path, index: "Index") -> "RenderableType":
    if not index.files:
        return words(f"There is nothing to rescue; {to} says so.")
    rows = [
        [safe(each.file), safe(each.table), _counted(each.steps), _total(each.left_out)]
        for each in index.files
    ]
    return stacked(
        words(f"in {to}:"), grid(("FILE", "TABLE", "ROWS", "LEFT OUT"), rows)
    )


def _counted(counts: dict[str, int]) -> str | None:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or None


def _total(counts: dict[str, int]) -> int | None:
    return sum(counts.values()) or None


def _apply(
    call: Call, made: "Rescue", way: "Way", ordered: "Ordered", *, yes: bool
) -> int:
    """Try it, show what came of it, and do it when that is wanted."""
    tried = list(made.rehearse(way))
    for gap in made.gaps:
        say(f"splitguard: {safe(gap)}")
    if call.out.output is Output.TABLE:
        call.out.draw(_table(tried))
    elif not (yes and _any(tried)):
        call.out.data(_shown(tried), lambda: _table(tried))
    _tell(tried)
    if not _any(tried):
        return _nothing(made, tried, ordered)
    if not yes and not _agreed(tried):
        say("splitguard: nothing was written")
        return 1
    done = []
    for ran in _applied(made, way, ordered):
        done.append(ran)
        say(f"splitguard: database {safe(ran.database)} is committed")
        if ran.details is not None:
            say(f"splitguard: what was renumbered, refused, left out: {ran.details}")
    call.out.data(_shown(done), lambda: _table(done))
    return 1 if _outstanding(done) else 0


def _nothing(made: "Rescue", tried: "list[Ran]", ordered: "Ordered") -> int:
    """Say that nothing can be put in, and what is still not there."""
    left = _outstanding(tried)
    more = f"; {left} rows are not there as the losing side has them" if left else ""
    say(f"splitguard: there is nothing to put into the winner{more}")
    for place in _kept(made, tried, ordered):
        say(f"splitguard: what was refused or left out: {place}")
    return 1 if left else 0


def _kept(made: "Rescue", ran: "Iterable[Ran]", ordered: "Ordered") -> "Iterator[Path]":
    """Write down what cannot be put in; yield where, as far as there is room."""
    for each in ran:
        try:
            place = made.keep(each, ordered)
        except OSError as error:
            say(f"splitguard: what was left out cannot be kept: {error.strerror}")
        else:
            if place is not None:
                yield place


def _applied(made: "Rescue", way: "Way", ordered: "Ordered") -> "Iterator[Ran]":
    try:
        yield from made.apply(way, ordered)
    except OSError as error:
        raise SnapshotError(
            "the rescue cannot be recorded beside the snapshot:"
            f" {error.filename or ''} {error.strerror}",
            "make room, or run this as the user that the agent runs as; what is"
            " committed stays",
        ) from error


def _agreed(tried: "Iterable[Ran]") -> bool:
    """Ask on a terminal. Raises DivergenceError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise DivergenceError(
            "this was a dry run, nothing was written", "give --yes to have it done"
        )
    count = _outstanding(tried)
    left = f", and leave out {count} that it does not take" if count else ""
    return typer.confirm(f"Put these rows into the winner{left}?", err=True)


def _any(ran: "Iterable[Ran]") -> bool:
    """Whether anything would be written."""
    return any(
        counts[name]
        for each in ran
        for counts in each.result.tables.values()
        for name in COUNTS[:4]
    )


def _outstanding(ran: "Iterable[Ran]") -> int:
    """Return how many rows are not put in though nobody chose that."""
    return sum(each.result.outstanding for each in ran)


def _tell(ran: "Iterable[Ran]") -> None:
    """Say what else has to be known: notes, reasons, the first refused rows."""
    for each in ran:
        for note in each.notes:
            say(f"splitguard: {safe(note)}")
        for reason, count in each.result.reasons.items():
            say(f"splitguard: left out {count}: {safe(reason)}")
        for one in each.result.refusals[:SHOWN_MAX]:
            say(f"splitguard: refused {_row(one)}: {safe(one.message)}")
        open_first = sorted(each.result.left_out, key=lambda one: one.chosen)
        for out in open_first[:SHOWN_MAX]:
            say(f"splitguard: left out {_row(out)}: {safe(out.reason)}")


def _row(one: "Refusal | LeftOut") -> str:
    key = ", ".join(f"{name} = {value}" for name, value in one.key.items())
    return f"{safe(one.table)} ({safe(key)})"


def _shown(ran: "Iterable[Ran]") -> dict[str, Any]:
    return {
        "databases": [
            {
                "database": each.database,
                "committed": each.result.committed,
                "tables": {
                    name: dict(counts) for name, counts in each.result.tables.items()
                },
                "left_out": dict(each.result.reasons),
                "outstanding": each.result.outstanding,
                "new_keys": each.result.new_keys,
                "details": str(each.details) if each.details else None,
                "notes": list(each.notes),
            }
            for each in ran
        ]
    }


def _table(ran: "Iterable[Ran]") -> "RenderableType":
    rows = [
        [safe(each.database), safe(name), *(counts[key] or None for key in COUNTS)]
        for each in ran
        for name, counts in each.result.tables.items()
    ]
    headers = ("DATABASE", "TABLE", *(name.upper() for name in COUNTS))
    committed = all(each.result.committed for each in ran)
    title = "done:" if committed else "dry run, rolled back:"
    return stacked(words(title, "bold"), grid(headers, rows))
