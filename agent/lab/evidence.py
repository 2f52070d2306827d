"""What a story can show for itself: incidents, notices, snapshots and times.

Theory of operation. Everything is read from where it was recorded at the time: the
agents' incident histories, the receiver's arrivals, the manifests on disk, the
managers' notes on their permits. All of them run on this machine, so their wall
clocks are one. Only the instants at which a manifest first was there, and first
was complete, are seen by looking (fifty times a second).
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import SnapshotError
from agent.lab.plan import Plan
from agent.lab.stage import Stage, Telling, flip_at, span, wall_s
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.manifest import NAME, Manifest

LOOK_S = 0.02
SPLIT = ("split-brain", "lineage-diverged", "lineage-twin")


@dataclass(slots=True)
class Watched:
    """One snapshot, as it was seen to come into being."""

    node: str
    id: str
    first_s: float
    """When its first manifest was on disk."""
    complete_s: float | None = None
    """When its manifest first said that the full copy is complete."""


class SnapshotWatch(threading.Thread):
    """Notes when each snapshot first has a manifest, and when it is complete."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(name="snapshot-watch", daemon=True)
        self.seen: dict[tuple[str, str], Watched] = {}
        self._plan = plan
        self._read: dict[Path, int] = {}
        self._ending = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._ending.wait(LOOK_S):
            for node in self._plan.nodes:
                folder = self._plan.layout.node(node.name).captures
                for path in folder.glob(f"*/{NAME}"):
                    self._look(node.name, path)

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        self.join()

    def _look(self, node: str, path: Path) -> None:
        try:
            changed_ns = path.stat().st_mtime_ns
            if self._read.get(path) == changed_ns:
                return
            self._read[path] = changed_ns
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return  # being replaced, or gone: the next look will tell
        at_s = changed_ns / 1e9
        name = path.parent.name
        watched = self.seen.setdefault((node, name), Watched(node, name, at_s))
        if watched.complete_s is None and manifest["grade"] in ("complete", "opened"):
            watched.complete_s = at_s


@dataclass(slots=True)
class Instants:
    """When the story did what, wall seconds."""

    cut_s: float = 0.0
    healed_s: float = 0.0
    losers: tuple[str, ...] = field(default=())


def split_timings(
    stage: Stage, instants: Instants, watch: SnapshotWatch
) -> dict[str, float | None]:
    """Return the timings of a split brain's story, in seconds."""
    tellings = stage.incidents()
    opened = _least(
        wall_s(t.detail["opened"])
        for t in tellings
        if t.detail["worst"] == "critical" and _after(t, instants.cut_s)
    )
    split = _least(flip_at(t, instants.healed_s, *SPLIT) for t in tellings)
    isolated = [
        (t.agent, at)
        for t in tellings
        if (at := flip_at(t, instants.cut_s, "observer-isolated")) is not None
    ]
    return {
        "partition_to_incident": span(instants.cut_s, opened),
        "heal_to_split_brain": span(instants.healed_s, split),
        "verdict_to_webhook": webhook_delay(stage, tellings),
        "isolation_to_tail": _tail_delay(isolated, watch),
        "capture": _capture_time(instants, watch),
        "permit_wait": _permit_wait(stage.plan),
    }


def webhook_delay(stage: Stage, tellings: Iterable[Telling]) -> float | None:
    """Return the longest time from opening an incident to its first delivery."""
    opened = {
        (t.agent, t.detail["id"]): wall_s(t.detail["opened"])
        for t in tellings
        if t.detail["opened"] is not None
    }
    delays = []
    for notice in stage.notices():
        body = notice["body"]
        if not body["type"].endswith(".opened"):
            continue
        data = body["data"]
        begin = opened.get((data["reporter"], data["incident"]["id"]))
        if begin is not None:
            delays.append(max(0.0, notice["at"] - begin))
    return round(max(delays), 3) if delays else None


def incidents_out(stage: Stage) -> list[dict[str, Any]]:
    """Return every incident once, with all agents that tell of it."""
    found: dict[str, dict[str, Any]] = {}
    for telling in stage.incidents():
        detail = telling.detail
        entry = found.setdefault(
            detail["id"],
            {
                "id": detail["id"],
                "family": detail["family"],
                "subject": detail["subject"],
                "occurrence": detail["occurrence"],
                "verdicts": [],
                "worst": detail["worst"],
                "status": detail["status"],
                "since": detail["since"],
                "agents": [],
            },
        )
        entry["agents"].append(telling.agent)
        for flip in detail["history"]:
            if flip["verdict"] not in entry["verdicts"]:
                entry["verdicts"].append(flip["verdict"])
    return sorted(found.values(), key=lambda entry: str(entry["since"]))


def notices_out(stage: Stage) -> list[dict[str, Any]]:
    """Return what the receiver took, in order of arrival."""
    return [
        {
            "webhook_id": notice["webhook_id"],
            "type": notice["body"]["type"],
            "incident": notice["body"]["data"]["incident"]["id"],
            "verdict": notice["body"]["data"]["incident"]["verdict"],
            "reporter": notice["body"]["data"]["reporter"],
            "summary": notice["body"]["data"]["summary"],
        }
        for notice in stage.notices()
    ]


def snapshots_of(plan: Plan) -> list[tuple[str, Manifest, Path]]:
    """Return every snapshot on disk: node, manifest, folder; oldest first."""
    found = []
    for node in plan.nodes:
        catalogue = Catalogue(plan.layout.node(node.name).captures)
        try:
            found += [
                (node.name, manifest, catalogue.folder(manifest.id))
                for manifest in catalogue.list()
            ]
        except SnapshotError:
            continue
    return sorted(found, key=lambda item: item[1].created_wall_s)


def snapshots_out(plan: Plan) -> list[dict[str, Any]]:
    """Return what is kept, as the manifests say."""
    return [
        {
            "id": manifest.id,
            "node": node,
            "grade": manifest.grade.value,
            "levels": [level.value for level in manifest.levels],
            "method": manifest.method,
            "timeline": manifest.timeline,
            "start_lsn": str(manifest.start_lsn),
            "end_lsn": str(manifest.end_lsn) if manifest.end_lsn else None,
            "bytes": manifest.size_bytes,
            "incidents": list(manifest.incident_ids),
            "reason": manifest.reason,
        }
        for node, manifest, _ in snapshots_of(plan)
    ]


def _after(telling: Telling, instant_s: float) -> bool:
    opened = telling.detail["opened"]
    return opened is not None and wall_s(opened) >= instant_s


def _least(instants: Iterable[float | None]) -> float | None:
    return min((each for each in instants if each is not None), default=None)


def _tail_delay(
    isolated: Iterable[tuple[str, float]], watch: SnapshotWatch
) -> float | None:
    """Return the time from an isolation's verdict to the first manifest there."""
    delays = [
        seen.first_s - at
        for agent, at in isolated
        for seen in watch.seen.values()
        if seen.node == agent
    ]
    return round(max(0.0, min(delays)), 3) if delays else None


def _capture_time(instants: Instants, watch: SnapshotWatch) -> float | None:
    """Return the longest time from a loser's first manifest to its complete copy."""
    times = [
        seen.complete_s - seen.first_s
        for seen in watch.seen.values()
        if seen.complete_s is not None and seen.node in instants.losers
    ]
    return round(max(times), 3) if times else None


def _permit_wait(plan: Plan) -> float | None:
    """Return how long the longest wait for a permit was."""
    waits = []
    for node in plan.nodes:
        path = plan.layout.node(node.name).permits
        if path.exists():
            lines = map(json.loads, path.read_text("utf-8").splitlines())
            waits += [line["granted_at"] - line["asked_at"] for line in lines]
    return round(max(waits), 3) if waits else None
