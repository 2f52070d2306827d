"""The folder of a rescue: a file for each table, and an index that explains them.

Theory of operation. The folder is written beside its place and renamed when it is
whole and on disk; what is there already is never overwritten. It holds the losing
side's rows in clear, so nobody else may read it. In the form of SQL each database has a
folder with `rescue.sql`, which checks where it runs, then runs the tables' files in
their order in one transaction; psql runs it. `index.json` names the files in that
order, with hashes, what each would do, and what was left out and why.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from agent import codec
from agent.divergence.managers_words import WAY_BACK, is_managers
from agent.divergence.model import Table
from agent.divergence.rescue_forms import csv_head, csv_lines, json_line
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_script import MAPPING, Target, script_lines
from agent.divergence.rescue_step import Deed
from agent.divergence.rescue_wish import Format
from agent.errors import DivergenceError
from agent.snapshot.files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    fsync_path,
    remove_tree,
    write_atomically,
)

FORMAT = 1
INDEX = "index.json"
SCRIPT = "rescue.sql"
NAME_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a rescue."""

    file: str
    """Below the folder."""
    table: str
    steps: dict[str, int]
    """How many statements, or rows, of which kind."""
    left_out: dict[str, int]
    """How many rows were left out, by reason."""
    size: int
    sha256: str


@dataclass(slots=True)
class Index:
    """What the folder holds."""

    snapshot: str
    form: Format
    how: list[str] = field(default_factory=list)
    """What to do with it, in words."""
    scripts: list[str] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)
    """In the order in which they are to be run."""
    notes: list[str] = field(default_factory=list)
    format: int = FORMAT


class _File:
    """One file, hashed as it is written."""

    def __init__(self, path: Path, table: str = "") -> None:
        self._entry = path.parent.name + "/" + path.name, table
        self.steps: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb")
        self._digest = hashlib.sha256()
        self.size = 0

    def line(self, text: str) -> None:
        block = (text + "\n").encode("utf-8", "surrogateescape")
        self._digest.update(block)
        self.size += len(block)
        self._file.write(block)

    def close(self) -> FileEntry:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        steps, left_out = dict(self.steps), dict(self.left_out)
        digest = self._digest.hexdigest()
        return FileEntry(*self._entry, steps, left_out, self.size, digest)


def write_folder(
    to: Path,
    snapshot: str,
    form: Format,
    plans: Sequence[tuple[Target, Plan]],
    gaps: Sequence[str] = (),
) -> Index:
    """Write the folder; return its index. `gaps` are notes of what is not in it.

    Raises DivergenceError where something is there already or it cannot be written.
    """
    aside = to.with_name(f".{to.name}.new")
    index = Index(snapshot, form, notes=list(gaps))
    try:
        if to.exists() or to.is_symlink():
            raise DivergenceError(f"{to} is there already", "name another --to")
        remove_tree(aside)
        aside.mkdir(mode=PRIVATE_FOLDER)
        try:
            for goal, plan in plans:
                _write_database(aside, index, goal, plan)
            index.how = _how(index)
            write_atomically(aside / INDEX, codec.to_json(index).encode("ascii"))
            aside.rename(to)
            fsync_path(to.parent)
        finally:
            remove_tree(aside)
    except OSError as error:
        raise DivergenceError(f"{to} cannot be written: {error.strerror}") from error
    return index


def _write_database(folder: Path, index: Index, goal: Target, plan: Plan) -> None:
    place = folder / _safe(goal.database)
    place.mkdir(mode=PRIVATE_FOLDER)
    write = _sql_files if index.form is Format.SQL else _row_files
    entries = list(write(place, index.form, plan))
    index.files += entries
    if index.form is Format.SQL:
        script = _File(place / SCRIPT)
        for line in script_lines(goal, plan, [_below(entry) for entry in entries]):
            script.line(line)
        script.close()
        index.scripts.append(f"{place.name}/{SCRIPT}")
    index.notes += notes(goal.database, plan, index.form)
    fsync_path(place)


def notes(database: str, plan: Plan, form: Format = Format.SQL) -> list[str]:
    """Return what a person has to know of a plan beside its rows."""
    rows = "is in the files, but cannot be put in as it is"
    stays = "is left out" if form is Format.SQL else rows
    views = [f"{view.name} is a materialised view" for view in plan.survey.views]
    manager = is_managers(plan.survey.order.tables)
    tables = {table.name: table for table in plan.survey.order.tables}
    return [
        *([f"{database}: {WAY_BACK}"] if manager else []),
        *(f"{database}: {view}: REFRESH it when all is done" for view in views),
        *(
            f"{database}: {table} {stays}: {reason}"
            for table, reason in plan.survey.missing.items()
            if plan.survey.wish.wants(tables[table])
        ),
    ]


def _sql_files(place: Path, _: Format, plan: Plan) -> Iterator[FileEntry]:
    number = 1
    for part in plan.parts():
        suffix = "late.sql" if part.late else "sql"
        file: _File | None = None
        for step in part.steps():
            if file is None:
                file = _begun(place, number, part.table, suffix)
                number += 1
            file.line(step.sql)
            if step.deed is Deed.LEFT_OUT:
                file.left_out[step.reason] += 1
            elif step.deed is not Deed.PREPARED and not step.again:
                file.steps[step.deed.value] += 1
        if file is not None:
            yield file.close()


def _row_files(place: Path, form: Format, plan: Plan) -> Iterator[FileEntry]:
    number = 1
    for table, rows in plan.rows():
        file: _File | None = None
        for one in rows:
            if file is None:
                file = _begun(place, number, table, form.value)
                number += 1
                if form is Format.CSV:
                    file.line(csv_head(table))
            lines = csv_lines(one) if form is Format.CSV else [json_line(table, one)]
            for line in lines:
                file.line(line)
            file.steps[one.kind.value] += 1
        if file is not None:
            yield file.close()


def _begun(place: Path, number: int, table: Table, suffix: str) -> _File:
    stem = f"{number:03}-{_safe(str(table.name))}"
    return _File(place / f"{stem}.{suffix}", str(table.name))


def _below(entry: FileEntry) -> str:
    return entry.file.partition("/")[2]


def _safe(name: str) -> str:
    """Return a name as part of a file's name, whatever it holds."""
    plain = name.encode("utf-8", "surrogateescape")
    return quote(plain, safe=" +=@,()-_").lstrip(".")[:NAME_CHARS_MAX] or "_"


def _how(index: Index) -> list[str]:
    if index.form is Format.SQL:
        runs = [f"psql -X -d DATABASE -f {script}" for script in index.scripts]
        return ["Run as a role that may write: " + "; ".join(runs), *_HOW_SQL]
    return [_HOW_ROWS, _HOW_CSV if index.form is Format.CSV else _HOW_JSONL]


_HOW_SQL = (
    (
        "Each script is one transaction: all of it or nothing. Rows that the winner"
        " refuses stop it; psql -v leave_out=1 leaves them out instead."
    ),
    (
        "It may be run again: what is done already is not done twice. What was changed"
        " on the winner since the comparison is not touched."
    ),
    (
        "New keys are drawn from the winner's sequences when it runs; then"
        f" {MAPPING} is written where psql was started, if there are any."
    ),
)
_HOW_ROWS = (
    "Rows as the losing side had them, a file for each table; nothing is renumbered:"
    " only the winner can give out new keys."
)
_HOW_CSV = (
    "splitguard_kind says what sets a row apart, splitguard_side whose version a line"
    " is."
)
_HOW_JSONL = "`loser`, `winner`, `fork` and `twin` are the versions of a row."
