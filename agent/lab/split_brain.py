"""The story of a split brain: two primaries take writes, one of them loses.

Theory of operation. One client per side commits rows through the active manager it
can reach and keeps every promise. The primary's node is cut off; it stays active,
the others promote. When both sides have enough, the writes on the side that shall
lose pause for a moment, so that the other one's database is the newest when they
meet; then the network heals and both clients write again, right into the loser's
end. The managers choose, the loser asks for its permit and is rewound. At the end
every promise is looked for in the winner and in the opened copies; then what was lost
is put back by the product's own commands, and every promise is looked for once more.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.lab.client import Client, Ledger, Side
from agent.lab.edits import Editor, Key
from agent.lab.evidence import (
    SPLIT,
    Instants,
    SnapshotWatch,
    incidents_out,
    notices_out,
    snapshots_out,
    split_timings,
)
from agent.lab.keep import keep
from agent.lab.plan import Plan
from agent.lab.recovery import Promised, counted_again, recover
from agent.lab.stage import Stage
from agent.lab.tally import Object, Tally, objects_at, rows_kept, rows_of, tally

PRIMARY = "n1"
MAJORITY = ("n2", "n3")
ROWS_BEFORE = 30
ROWS_EACH = 110
"""Acknowledged on each side while they are apart."""
PAUSE_S = 0.5
WRITE_S = 60.0
NOTICE_S = 20.0
SETTLE_S = 90.0
QUIET_S = 25.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person wants of the story."""

    winner: str = "majority"
    keep: Path | None = None
    captures: bool = True
    """False: nothing is captured and nobody asks for a permit."""


class SplitBrain:
    """One performance."""

    def __init__(self, stage: Stage, wanted: Wanted) -> None:
        self._stage = stage
        self._wanted = wanted
        self._instants = Instants()
        layout = stage.lab.layout
        self._ledger = Ledger(layout.acknowledged)
        self._editor = Editor(stage.plan)
        self._watch = SnapshotWatch(stage.plan)
        self._minority = Side("minority", (PRIMARY,))
        self._majority = Side("majority", MAJORITY)
        self._clients = [
            Client(stage.plan, side, self._ledger)
            for side in (self._minority, self._majority)
        ]
        self._winner = ""

    def play(self) -> dict[str, Any]:
        """Play it to the end; return what `--output json` prints.

        Raises LabError when the cluster does not do its part in time.
        """
        self._watch.start()
        for client in self._clients:
            client.start()
        try:
            self._write_together()
            self._part()
            self._write_apart()
            self._meet()
            self._settle()
        finally:
            for client in self._clients:
                client.stop()
            self._ledger.close()
            self._editor.close()
        self._quieten()
        self._watch.stop()
        return self._result()

    def _write_together(self) -> None:
        self._stage.say(f"clients write to the active manager, on {PRIMARY}")
        self._editor.prepare(self._minority)
        self._minority.writing.set()
        self._until_written(self._minority, ROWS_BEFORE)

    def _part(self) -> None:
        stage = self._stage
        stage.lab.ask("partition", node=PRIMARY)
        self._instants.cut_s = time.time()
        stage.say(f"{PRIMARY} is cut off; it stays active and takes writes")
        active = stage.until("the majority to promote", WRITE_S, self._promoted)
        stage.say(f"{active} was promoted by the majority: two primaries now")
        self._majority.writing.set()

    def _promoted(self) -> str | None:
        for standing in self._stage.standings().values():
            if standing.active and standing.name in MAJORITY:
                return standing.name
        return None

    def _write_apart(self) -> None:
        self._until_written(self._minority, ROWS_BEFORE + ROWS_EACH)
        self._until_written(self._majority, ROWS_EACH)
        self._editor.edit(self._sides, self._ledger.all()[:ROWS_BEFORE])
        counts = {s.name: self._ledger.count(s.name) for s in self._sides}
        self._stage.say(f"both sides took writes: {_listed(counts)} acknowledged")
        edits = Counter(edit.side for edit in self._editor.all())
        self._stage.say(f"and changes and deletions: {_listed(edits)}")
        if self._wanted.captures:
            told = self._stage.may(NOTICE_S, lambda: self._told("observer-isolated"))
            self._stage.say(told or "no agent says that it is isolated")

    def _meet(self) -> None:
        stage = self._stage
        losing = self._losing_side
        losing.writing.clear()
        stage.say(f"writes on the {losing.name} pause; the other side's go on")
        time.sleep(PAUSE_S)
        stage.until("the other side to be ahead", NOTICE_S, self._ahead)
        stage.lab.ask("heal")
        self._instants.healed_s = time.time()
        stage.say("the network is whole again; the managers see each other")
        stage.until("the managers to meet", NOTICE_S, self._met)
        losing.writing.set()
        if self._wanted.captures:
            told = stage.may(NOTICE_S, lambda: self._told(*SPLIT))
            stage.say(told or "no agent says that the brain is split")

    def _ahead(self) -> bool | None:
        """Whether the side that goes on has the newest row, as the managers see it.

        What they say of their databases is a look old, and they choose by that.
        """
        losing, winning = [0.0], [0.0]
        for name, standing in self._stage.standings().items():
            if standing.active and standing.server is not None:
                side = losing if name in self._losing_side.nodes else winning
                side.append(standing.server.last_row_at)
        return max(winning) > max(losing) > 0 or None

    def _met(self) -> bool | None:
        return any(s.met for s in self._stage.standings().values()) or None

    def _settle(self) -> None:
        """Wait until one manager is active and all others follow it."""
        notes: dict[str, str] = {}

        def settled() -> str | None:
            standings = self._stage.standings()
            for name, standing in standings.items():
                if notes.get(name) != standing.note:
                    notes[name] = standing.note
                    self._stage.say(f"{name}: {standing.note}")
            active = [s.name for s in standings.values() if s.active]
            timelines = {s.server.timeline for s in standings.values() if s.server}
            quiet = all(s.server and not s.busy for s in standings.values())
            whole = len(standings) == len(self._stage.plan.nodes)
            done = whole and quiet and len(active) == 1 and len(timelines) == 1
            return active[0] if done else None

        self._winner = self._stage.until("the cluster to settle", SETTLE_S, settled)
        losers = MAJORITY if self._winner == PRIMARY else (PRIMARY,)
        self._instants.losers = losers
        self._stage.say(f"{self._winner} has won; {', '.join(losers)} resynced")

    def _quieten(self) -> None:
        """Give the agents time to see that all is well, and to say so."""
        if not self._wanted.captures:
            return
        stage = self._stage

        def resolved() -> bool | None:
            family = [
                t.detail for t in stage.incidents() if t.detail["family"] == "split"
            ]
            over = all(d["resolved"] for d in family)
            return (over and stage.all_agents_answer()) or None

        over = stage.may(QUIET_S, resolved)
        stage.say(
            "the agents call the split resolved"
            if over
            else "the agents have not called the split resolved yet"
        )

    def _result(self) -> dict[str, Any]:
        stage, plan = self._stage, self._stage.plan
        stage.say("looking for every acknowledged row")
        promises = self._ledger.all()
        winner = objects_at(plan.postgres_dsn(self._winner))
        kept = rows_kept(plan, self._instants.losers, stage.say)
        counted = tally(promises, rows_of(winner), kept)
        result = (
            story_result(plan, counted)
            | self._rescued(winner)
            | {
                "winner": self._winner,
                "losers": list(self._instants.losers),
                "timings_s": split_timings(stage, self._instants, self._watch),
                "incidents": incidents_out(stage),
                "notices": notices_out(stage),
                "snapshots": snapshots_out(plan),
            }
        )
        if self._wanted.keep is not None:
            keep(stage, self._wanted.keep, result, self._winner)
        return result

    def _rescued(self, before: Mapping[Key, Object]) -> dict[str, Any]:
        """Put back what was lost, and count again."""
        if not self._wanted.captures:
            return {"loss": None, "rescue": None}
        recovery = recover(self._stage, self._instants.losers, self._winner)
        after = objects_at(self._stage.plan.postgres_dsn(self._winner))
        promised = Promised(
            rows=self._ledger.all(),
            edits=self._editor.all(),
            unanswered=self._editor.unanswered,
            winner=next(s.name for s in self._sides if self._winner in s.nodes),
        )
        counted = counted_again(recovery, promised, before, after)
        return {"loss": recovery.loss, "rescue": counted}

    @property
    def _sides(self) -> tuple[Side, Side]:
        return (self._minority, self._majority)

    @property
    def _losing_side(self) -> Side:
        wins_minority = self._wanted.winner == "minority"
        return self._majority if wins_minority else self._minority

    def _until_written(self, side: Side, rows: int) -> None:
        def written() -> bool | None:
            return self._ledger.count(side.name) >= rows or None

        self._stage.until(f"{rows} writes on the {side.name} side", WRITE_S, written)

    def _told(self, *verdicts: str) -> str | None:
        telling = self._stage.open_incident(*verdicts)
        if telling is None:
            return None
        return f"{telling.agent} says: {telling.detail['sentence']}"


def story_result(plan: Plan, counted: Tally) -> dict[str, Any]:
    """Return the part of the result that is about the writes."""
    return {
        "scenario": "split-brain",
        "postgres_version": version_text(plan.version_num),
        "writes": {
            "acknowledged": counted.acknowledged,
            "in_winner": counted.in_winner,
            "in_snapshot": counted.in_snapshot,
            "lost": counted.lost,
        },
        "without_splitguard": {"lost": counted.without_splitguard},
    }


def version_text(version_num: int) -> str:
    """Return a server's version as people write it, such as 16.14."""
    return f"{version_num // 10000}.{version_num % 10000}"


def truth(result: dict[str, Any]) -> str:
    """Return the one line that the story comes to."""
    writes, without = result["writes"], result["without_splitguard"]["lost"]
    if writes["lost"]:
        return (
            f"{writes['lost']} of {writes['acknowledged']} acknowledged writes are "
            "lost: they are in no database and in no snapshot."
        )
    return (
        f"0 of {writes['acknowledged']} acknowledged writes are lost. The resync wiped "
        f"{without} of them from the cluster; the snapshot held them all. "
        + _way_back(result)
    )


def _way_back(result: dict[str, Any]) -> str:
    rescue, winner = result["rescue"], result["winner"]
    if rescue["missing"] or rescue["overwritten"]:
        return (
            f"The rescue is not whole: {rescue['missing']} promises are missing in "
            f"{winner}, {rescue['overwritten']} of its own rows are overwritten."
        )
    return (
        f"The rescue has put them back into {winner}, and overwrote nothing there; "
        f"{rescue['conflicts_left']} objects that both sides changed are left to a "
        "person, and stand in the report and in the files with both versions."
    )


def failed(result: dict[str, Any]) -> bool:
    """Whether something was lost, is not back, or was overwritten."""
    rescue = result.get("rescue") or {}
    lost = result.get("writes", {}).get("lost")
    return bool(lost or rescue.get("missing") or rescue.get("overwritten"))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} on the {side}" for side, count in counts.items())


Story = Callable[[Stage], dict[str, Any]]
