"""What a snapshot must be kept for, and how one is removed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.incident import Status
from agent.core.permit import Permit, PermitState
from agent.core.state import Ledger
from agent.errors import SnapshotError
from agent.snapshot import marks
from agent.snapshot.catalogue import Catalogue
from agent.snapshot.marks import Kept
from agent.snapshot.removal import remove
from agent.snapshot.retention import Bond, holds, in_work, settled_now
from tests.fix_desk import resynced, split_brain
from tests.shell.test_snapshot_catalogue import make_snapshot

LEDGER = resynced().agents["n1"].state.ledger
INCIDENT = next(one for one in LEDGER.incidents if one.verdict.subject == "cluster")
PERMIT = Permit(
    "permit-1", "n1", "pg_rewind", PermitState.GRANTED, "", 0.0, 1.0, None, 1, None,
    "n1-1", 0, 0, None, None,
)  # fmt: skip
BOND = Bond("n1-1", closed=True, incident_ids=(INCIDENT.id,))


def ledger(**changes) -> Ledger:
    """The ledger with this one incident, changed, and without permits."""
    return Ledger(incidents=(replace(INCIDENT, **changes),))


@pytest.mark.parametrize(
    ("status", "who", "reason"),
    [
        (Status.PENDING, None, "is pending"),
        (Status.OPEN, None, "is open and not acknowledged"),
        (Status.ACKNOWLEDGED, "ann", "is not over"),
        (Status.RESOLVED, None, "was never acknowledged"),
    ],
)
def test_an_incident_that_is_not_settled_holds_its_snapshot(status, who, reason):
    found = holds(BOND, ledger(status=status, acknowledged_by=who))
    assert found == (f"incident {INCIDENT.id} {reason}",)


def test_a_settled_incident_holds_nothing_also_when_it_is_forgotten():
    over = ledger(status=Status.RESOLVED, acknowledged_by="ann")
    assert holds(BOND, over) == ()
    noted = replace(BOND, settled=settled_now(BOND, over))
    assert holds(noted, Ledger()) == ()


def test_what_nobody_can_say_holds_a_snapshot():
    for nobody in (Ledger(), None):
        [reason] = holds(BOND, nobody)
        assert reason.startswith("nobody here can say whether incident")


def test_a_permit_that_rests_on_a_snapshot_holds_it():
    for state, held in (
        (PermitState.GRANTED, True),
        (PermitState.PENDING, True),
        (PermitState.VOID, False),
        (PermitState.RELEASED, False),
    ):
        one = replace(PERMIT, state=state)
        found = holds(replace(BOND, incident_ids=()), Ledger(permits=(one,)))
        assert bool(found) is held, state


def test_a_pin_holds_a_snapshot_whoever_asks():
    bond = Bond("n1-1", True, (), kept=Kept("ann", "before the upgrade", 1.0))
    assert holds(bond, None) == ("it is pinned by ann: before the upgrade",)


def test_a_snapshot_in_work_is_nobodys_to_remove():
    ledger = split_brain().agents["n1"].state.ledger
    [capture] = ledger.captures
    bond = Bond(capture.order.capture_id, closed=False, incident_ids=())
    assert in_work(bond, ledger)
    assert in_work(bond, None)
    assert not in_work(replace(bond, closed=True), None)


def test_marks_outlive_a_manifest_that_is_written_again(tmp_path: Path):
    make_snapshot(tmp_path)
    folder = tmp_path / "n1-1"
    assert marks.kept(folder) is None
    marks.keep(folder, Kept("ann", "why not", 5.0))
    marks.settle(folder, {"inc-2", "inc-1"})
    make_snapshot(tmp_path / "other")
    (tmp_path / "other" / "n1-1" / "manifest.json").rename(folder / "manifest.json")
    assert marks.kept(folder) == Kept("ann", "why not", 5.0)
    assert marks.settled(folder) == {"inc-1", "inc-2"}
    assert marks.release(folder)
    assert not marks.release(folder)
    assert marks.kept(folder) is None


@pytest.mark.parametrize("text", ["", "{", '{"who": 1}', "[]"])
def test_a_garbled_mark_counts_as_the_careful_case(tmp_path: Path, text: str):
    for name in (marks.KEPT, marks.SETTLED):
        (tmp_path / name).write_text(text)
    assert marks.kept(tmp_path) is marks.UNREADABLE
    assert marks.settled(tmp_path) == frozenset()


def test_a_removal_is_recorded_and_leaves_nothing(tmp_path: Path):
    make_snapshot(tmp_path)
    make_snapshot(tmp_path, "n1-2")
    (tmp_path / ".removed-n1-9" / "data").mkdir(parents=True)
    remove(Catalogue(tmp_path), "n1-1", "ann", "no room", 1_800_000_000.0)
    assert [one.id for one in Catalogue(tmp_path).list()] == ["n1-2"]
    assert {path.name for path in tmp_path.iterdir()} == {"n1-2", "removed.jsonl"}
    [line] = (tmp_path / "removed.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["id"], said["who"], said["reason"]) == ("n1-1", "ann", "no room")
    with pytest.raises(SnapshotError, match="there is no snapshot n1-1"):
        remove(Catalogue(tmp_path), "n1-1", "ann", "", 1_800_000_000.0)
