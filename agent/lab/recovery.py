"""The way back: what the losing side lost is reported, rescued, and counted again.

Theory of operation. The product's own commands are run as a person would run them:
`loss report` and `loss rescue` for each loser's snapshot, first into files and then,
with --apply, into the winner. Whether that went well is not taken from what they say:
the winner's objects before and after are held against what clients were promised, on
both sides. A losing side's standbys have the same rows; whatever was put back before is
found there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.core.kinship import past_fork
from agent.core.lineage import Lineage
from agent.core.state import Position
from agent.divergence import parting
from agent.errors import LabError
from agent.lab.client import Promise
from agent.lab.edits import Edit, Key
from agent.lab.evidence import snapshots_of
from agent.lab.plan import Plan
from agent.lab.stage import Stage
from agent.lab.tally import Object
from agent.snapshot.manifest import Manifest

COMMAND_S = 120.0
STOP_S = 20.0
BUSY_S = 60.0
PAUSE_S = 0.5
BUSY = "by another process"
"""The agent makes a report of its own as soon as it can."""
REASON = "the story puts back what the losing side wrote"
DEEDS = ("inserted", "renumbered", "updated", "deleted")
COUNTS = ("lost", "changed", "deleted", "conflicts", "collisions", "equal")


@dataclass(frozen=True, slots=True)
class Promised:
    """What clients were told, and by which side."""

    rows: tuple[Promise, ...]
    edits: tuple[Edit, ...]
    unanswered: frozenset[Key]
    """Objects that may have been changed: nobody promised anything."""
    winner: str
    """The side whose database is kept."""

    def edited(self, *, by_winner: bool) -> dict[Key, str | None]:
        """Return what one side made of objects: descriptions; None: deleted."""
        return {
            edit.key: edit.description
            for edit in self.edits
            if (edit.side == self.winner) is by_winner
        }


@dataclass(slots=True)
class Recovery:
    """What the commands told."""

    loss: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    renumbered: int = 0
    refused: int = 0
    files: list[Path] = field(default_factory=list)
    """Folders with rescue files."""


def recover(stage: Stage, losers: Iterable[str], winner: str) -> Recovery:
    """Report on the losers' snapshots, and rescue their rows into the winner.

    Raises LabError when a command fails.
    """
    recovery = Recovery()
    line = parting.lineage_of(stage.plan.owner_dsn(winner))
    found = [(node, _snapshot_of(stage.plan, node, line)) for node in losers]
    kept = [(node, snapshot) for node, snapshot in found if snapshot is not None]
    for node, snapshot in kept:
        _report(stage, node, snapshot, winner, recovery)
    for node, snapshot in kept:
        _rescue(stage, node, snapshot, winner, recovery)
    return recovery


def _snapshot_of(plan: Plan, node: str, line: Lineage | None) -> str | None:
    """Return a loser's snapshot that reaches furthest; None where it has none.

    One that was taken after the resync, or holds nothing past the fork from the
    winner's line, is of no losing side.
    """
    whole = [
        (manifest.timeline, manifest.end_lsn or manifest.tail_lsn, manifest.id)
        for owner, manifest, _ in snapshots_of(plan)
        if owner == node and manifest.complete and _lost(manifest, line)
    ]
    return max(whole)[-1] if whole else None


def _lost(manifest: Manifest, line: Lineage | None) -> bool:
    """Whether a snapshot holds what this line lacks; an unknown one may."""
    end = manifest.end_lsn or manifest.tail_lsn
    position = Position(manifest.timeline, end, 0.0)
    return line is None or past_fork(position, manifest.lineage, line) is not None


def _report(
    stage: Stage, node: str, snapshot: str, winner: str, recovery: Recovery
) -> None:
    began_s = time.monotonic()
    page = _folder(stage.plan) / f"{snapshot}.html"
    told = _splitguard(
        stage.plan, node, "report", snapshot, "--against", winner, "--html", str(page)
    )
    stage.say(f"{snapshot} set against {winner}: {told['headline']}")
    totals = told["totals"]
    loss = {
        "snapshot": snapshot,
        **{name: totals[name] for name in COUNTS},
        "transactions": told["loser"]["user"] or told["loser"]["committed"],
        "seconds": round(time.monotonic() - began_s, 3),
    }
    if _weight(loss) > _weight(recovery.loss):
        recovery.loss = loss


def _weight(loss: Mapping[str, Any]) -> int:
    return sum(loss[name] for name in COUNTS) if loss else -1


def _rescue(
    stage: Stage, node: str, snapshot: str, winner: str, recovery: Recovery
) -> None:
    plan = stage.plan
    files = _folder(plan) / snapshot
    _splitguard(plan, node, "rescue", snapshot, "--format", "jsonl", "--to", str(files))
    recovery.files.append(files)
    told = _splitguard(
        plan, node, "rescue", snapshot, "--apply", plan.owner_dsn(winner),
        "--reason", REASON, "--yes", refusing=True,
    )  # fmt: skip
    tables = [
        counts for each in told["databases"] for counts in each["tables"].values()
        if each["committed"]
    ]  # fmt: skip
    rows = sum(counts.get(deed, 0) for counts in tables for deed in DEEDS)
    renumbered = sum(counts.get("renumbered", 0) for counts in tables)
    recovery.rows += rows
    recovery.renumbered += renumbered
    recovery.refused += sum(
        counts.get("refused", 0)
        for each in told["databases"] for counts in each["tables"].values()
    )  # fmt: skip
    stage.say(
        f"rescued {snapshot} into {winner}: {rows} rows, {renumbered} of them under a"
        " new key"
        if rows
        else f"rescued {snapshot}: {winner} has all of its rows already"
    )


def _folder(plan: Plan) -> Path:
    plan.layout.rescued.mkdir(mode=0o700, exist_ok=True)
    return plan.layout.rescued


def _splitguard(
    plan: Plan, node: str, *words: str, refusing: bool = False
) -> dict[str, Any]:
    """Run `splitguard loss …` beside a node and return what it prints as JSON.

    `refusing`: exit code 1 is an answer as well. Raises LabError.
    """
    environ = {n: v for n, v in os.environ.items() if not n.startswith("SPLITGUARD_")}
    environ["SPLITGUARD_CONFIG"] = str(plan.layout.node(node).agent_config)
    argv = [sys.executable, "-m", "agent", "loss", *words, "--output", "json"]
    until_s = time.monotonic() + BUSY_S
    while True:
        try:
            code, out, said = _ran(argv, environ)
        except subprocess.TimeoutExpired as error:
            message = f"`splitguard loss {words[0]}` took longer than {COMMAND_S:g} s"
            raise LabError(message) from error
        busy = code != 0 and BUSY in said
        if not busy or time.monotonic() > until_s:
            break
        time.sleep(PAUSE_S)
    if code != 0 and not (refusing and out):
        raise LabError(f"`splitguard loss {words[0]}` failed: {said.strip()}")
    found: dict[str, Any] = json.loads(out)
    return found


def _ran(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it printed on both.

    An interrupt of ours reaches it once, and it is waited for: it may have a clone of
    the snapshot open. Raises TimeoutExpired.
    """
    child = subprocess.Popen(
        argv, env=environ, cwd="/", stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    with child:
        try:
            out, said = child.communicate(timeout=COMMAND_S)
        except BaseException:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    return child.returncode, out, said


def counted_again(
    recovery: Recovery,
    promised: Promised,
    before: Mapping[Key, Object],
    after: Mapping[Key, Object],
) -> dict[str, Any]:
    """Count what the winner has after the rescue, by what clients were promised."""
    ours, theirs = promised.edited(by_winner=True), promised.edited(by_winner=False)
    alone = {key: made for key, made in theirs.items() if key not in ours}
    both = {key: made for key, made in theirs.items() if key in ours}
    back = sum(_has(after, row) for row in promised.rows)
    filed = _filed(recovery.files, both.values())
    return {
        "rows": recovery.rows,
        "in_winner_after": back,
        "overwritten": _overwritten(before, after, alone, promised.unanswered),
        "renumbered": recovery.renumbered,
        "refused": recovery.refused,
        "missing": len(promised.rows) - back
        + sum(_description(after, key) != made for key, made in alone.items())
        + len(both) - filed,
        "conflicts_left": len(both),
    }  # fmt: skip


def _has(objects: Mapping[Key, Object], row: Promise) -> bool:
    found = objects.get((row.kind, row.id))
    return found is not None and found.content == row.content


def _description(objects: Mapping[Key, Object], key: Key) -> str | None:
    found = objects.get(key)
    return None if found is None else found.description


def _overwritten(
    before: Mapping[Key, Object],
    after: Mapping[Key, Object],
    alone: Mapping[Key, str | None],
    unanswered: frozenset[Key],
) -> int:
    """Count the winner's objects that are not what they were.

    What only the losing side's client changed or deleted (`alone`) was to follow.
    """
    count = 0
    for key, was in before.items():
        wanted: Object | None = was
        if key in alone:
            made = alone[key]
            wanted = None if made is None else replace(was, description=made)
        if after.get(key) not in (was, wanted) and key not in unanswered:
            count += 1
    return count


def _filed(folders: Iterable[Path], wanted: Iterable[str | None]) -> int:
    """Count the descriptions that stand in a file of the rescue."""
    texts = [
        path.read_text("utf-8")
        for folder in folders
        for path in folder.rglob("*.jsonl")
    ]
    return sum(one is not None and any(one in text for text in texts) for one in wanted)
