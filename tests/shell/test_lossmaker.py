"""Loss reports are made by a process that gives way, one at a time, and told once."""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from agent import codec
from agent.api.ports import LossPhase
from agent.core.capture import Phase
from agent.core.event import Event, LossTold
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.moment import Moment
from agent.core.state import State
from agent.daemon import losstries
from agent.daemon.losschild import LossChild
from agent.daemon.lossmaker import QUEUE_MAX, SCRATCH, LossMaker
from agent.divergence import report as reports
from agent.divergence import rescue_journal
from agent.divergence.job import Job, Opponent
from agent.divergence.report import Report, Side
from agent.divergence.report import Winner as Compared
from agent.divergence.rescue_apply import Result
from agent.divergence.rescue_journal import Act
from agent.errors import SnapshotError
from agent.snapshot.catalogue import Catalogue
from tests.core import given
from tests.fix_desk import SimulatedDesk, resynced
from tests.shell.test_scheduled import kept

WAIT_S = 20.0
CHILD = """
import json, os, pathlib, sys, threading, time
order = json.loads(sys.stdin.readline())
def say(**line):
    print(json.dumps(line), flush=True)
def until_hung_up():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=until_hung_up, daemon=True).start()
scratch = pathlib.Path(order["scratch"])
(scratch / "clone").write_text("a clone")
say(progress={"doing": "it reads", "done": 3, "total": 7})
print("this is no line of ours", flush=True)
wanted = pathlib.Path(order["folder"], "child-does").read_text()
if wanted == "waits":
    time.sleep(600)
if wanted == "dies":
    os.kill(os.getpid(), 9)
if wanted == "fails":
    say(outcome={"message": "its WAL is not there", "hint": "look elsewhere"})
    sys.exit(1)
made = pathlib.Path(order["folder"], "loss")
made.mkdir(exist_ok=True)
(made / "report.json").write_text(wanted)
say(outcome={"message": "", "hint": ""})
"""


def report(name: str, *, compared: bool = True, made_s: float = 50.0) -> Report:
    return Report(
        cluster="sim",
        node="n1",
        snapshot_id=name,
        incident_ids=(),
        made_s=made_s,
        fork_timeline=1,
        fork_lsn=Lsn(0x3000500),
        end_lsn=Lsn(0x3002D00),
        loser=Side(committed=9, user=7),
        winner=Compared("n2", None, made_s) if compared else None,
        tables=(),
        headline="3 deployments; 7 transactions",
    )


@cache
def played() -> SimulatedDesk:
    """The agent of n1, which has lost and was resynced; played once."""
    return SimulatedDesk(resynced(), "n1")


class StillDesk(SimulatedDesk):
    """The same agent in a world that stands still, but for the clock on the wall."""

    def __init__(self) -> None:
        super().__init__(played().sim, "n1")
        self.still = played().state
        self.passed_s = 0.0

    @property
    def state(self) -> State:
        return self.still

    @state.setter
    def state(self, state: State) -> None:
        self.still = state

    def now(self) -> Moment:
        moment = super().now()
        return replace(moment, wall_s=moment.wall_s + self.passed_s)


class Scene:
    """The agent of n1, which has lost, its catalogue, and a maker of reports."""

    def __init__(self, folder: Path, *, by_itself: bool = True) -> None:
        self.desk = StillDesk()
        (capture,) = self.desk.state.ledger.captures
        self.name = capture.order.capture_id
        self.place = folder
        self.snapshot = folder / self.name
        status = capture.status
        kept(
            folder,
            self.name,
            1.0,
            cluster=self.desk.policy.cluster,
            system_id=self.desk.state.knowledge.lineages["n2"].system_id,
            lineage=replace(
                given.lineage(),
                system_id=self.desk.state.knowledge.lineages["n2"].system_id,
            ),
            end_lsn=status.reached_lsn,
            tail_lsn=status.reached_lsn,
        )
        self.told: list[LossTold] = []
        self.jobs: list[Job] = []
        self.maker = LossMaker(
            self.desk,
            Catalogue(folder),
            self.job,
            self.tell,
            by_itself=by_itself,
            command=(sys.executable, "-c", CHILD),
        )

    def tell(self, event: Event) -> None:
        assert isinstance(event, LossTold)
        self.told.append(event)
        self.desk.state = step(self.desk.state, event, self.desk.policy).state

    def job(self, manifest, parted, folder, scratch) -> Job:
        winner = Opponent(parted.node, "host=/nowhere") if parted.answers else None
        made = Job(
            folder=str(folder),
            scratch=str(scratch),
            fork=parted.fork,
            made_wall_s=9.0,
            bin_dir=None,
            winner=winner,
            redact=("*.*.secret",),
            statement_timeout_s=9.0,
        )
        self.jobs.append(made)
        return made

    def child(self, does: str | Report) -> None:
        text = does if isinstance(does, str) else codec.to_json(does)
        (self.snapshot / "child-does").write_text(text)

    def ended(self, rounds: int = 1) -> None:
        """Look until the child has ended so often."""
        begun = len(self.jobs) + rounds
        end_s = time.monotonic() + WAIT_S
        while True:
            self.maker.look()
            idle = self.phase not in (LossPhase.RUNNING, LossPhase.QUEUED)
            if idle and len(self.jobs) >= begun:
                return
            assert time.monotonic() < end_s
            time.sleep(0.01)

    def running(self) -> None:
        """Look until the child works and has told of it."""
        end_s = time.monotonic() + WAIT_S
        while self.maker.stand(self.name).doing != "it reads":
            self.maker.look()
            assert time.monotonic() < end_s
            time.sleep(0.01)

    def at_work(self) -> LossChild:
        assert self.maker._work is not None
        return self.maker._work[1]

    @property
    def phase(self) -> LossPhase:
        return self.maker.stand(self.name).phase

    @property
    def scratches(self) -> list[Path]:
        return [Path(job.scratch) for job in self.jobs if Path(job.scratch).exists()]

    def later(self, seconds: float) -> None:
        self.desk.passed_s += seconds


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    made.maker.stop()
    work = made.maker._work
    if work is not None:
        work[1].end(1.0)


def test_a_report_is_made_by_itself_and_its_headline_told_once(scene):
    scene.child(report(scene.name))
    scene.ended()
    (job,) = scene.jobs
    assert job.winner is not None
    assert (job.fork.timeline, job.winner.name) == (1, "n2")
    assert scene.phase is LossPhase.MADE
    assert scene.maker.report(scene.name) == report(scene.name)
    scene.maker.look()
    loss = scene.told[0].loss
    assert (loss.node, loss.transactions, loss.winner) == ("n1", 7, "n2")
    assert loss.sentence == "3 deployments; 7 transactions"
    for _ in range(3):
        scene.maker.look()
    assert (len(scene.told), len(scene.jobs)) == (1, 1)
    assert scene.desk.state.ledger.incidents[0].losses[0].sentence == loss.sentence


def test_a_report_that_somebody_made_by_hand_is_told_too(tmp_path):
    scene = Scene(tmp_path, by_itself=False)
    scene.maker.look()
    assert scene.told == []
    folder = scene.snapshot / "loss"
    folder.mkdir()
    reports.save(report(scene.name, compared=False), folder)
    scene.maker.look()
    assert (scene.told[0].loss.winner, scene.jobs) == ("", [])


def test_a_rescue_after_the_report_is_told_once(tmp_path):
    scene = Scene(tmp_path, by_itself=False)
    folder = scene.snapshot / "loss"
    folder.mkdir()
    reports.save(report(scene.name), folder)
    scene.maker.look()
    result = Result({"public.orders": Counter(inserted=3)})
    act = Act("2026-11-23T17:00:00Z", "mira", "why", "shop", "10.0.0.2:5432", {})
    rescue_journal.note(folder, act, "begun")
    rescue_journal.note(folder, act, "done", result)
    for _ in range(3):
        scene.maker.look()
    assert [each.loss.sentence for each in scene.told] == [
        "3 deployments; 7 transactions",
        "3 deployments; 7 transactions; since then 3 rows rescued by mira",
    ]
    (loss,) = scene.desk.state.ledger.incidents[0].losses
    assert loss.sentence == scene.told[-1].loss.sentence


def test_its_progress_can_be_read_and_its_clones_are_gone_afterwards(scene):
    scene.child("waits")
    scene.running()
    stand = scene.maker.stand(scene.name)
    assert (stand.phase, stand.done, stand.total) == (LossPhase.RUNNING, 3, 7)
    (scratch,) = scene.scratches
    assert (scratch / "clone").exists()
    scene.at_work().end(WAIT_S)
    scene.ended(0)
    assert scene.scratches == []


def test_a_capture_that_copies_goes_first_and_the_report_begins_anew(scene):
    scene.child("waits")
    scene.running()
    state = scene.desk.state
    scene.desk.state = busy(state)
    scene.maker.look()
    assert (scene.phase, scene.scratches) == (LossPhase.NONE, [])
    scene.maker.look()
    assert len(scene.jobs) == 1
    scene.desk.state = state
    scene.child(report(scene.name))
    scene.ended()
    assert (len(scene.jobs), scene.phase) == (2, LossPhase.MADE)


def busy(state):
    captures = tuple(
        replace(one, status=replace(one.status, phase=Phase.COPYING))
        for one in state.ledger.captures
    )
    return replace(state, ledger=replace(state.ledger, captures=captures))


def test_who_asks_waits_behind_a_capture_and_is_told_so(tmp_path):
    scene = Scene(tmp_path, by_itself=False)
    assert scene.maker.stand(scene.name).phase is LossPhase.NONE
    state = scene.desk.state
    scene.desk.state = busy(state)
    stand = scene.maker.ask(scene.name)
    assert stand.phase is LossPhase.QUEUED
    assert stand.reason == "a capture or a permit goes first"
    scene.maker.look()
    assert scene.jobs == []
    scene.desk.state = state
    scene.child(report(scene.name))
    scene.ended()
    assert scene.phase is LossPhase.MADE


def test_a_failure_is_stored_with_its_reason_and_tried_a_few_times_only(scene):
    scene.child("fails")
    scene.ended()
    for attempt in range(1, losstries.TRIES_MAX):
        assert scene.phase is LossPhase.FAILED
        scene.maker.look()
        assert len(scene.jobs) == attempt
        scene.later(losstries.AGAIN_S * 2**attempt)
        scene.ended()
    stand = scene.maker.stand(scene.name)
    assert (stand.reason, stand.hint) == ("its WAL is not there", "look elsewhere")
    scene.later(losstries.AGAIN_S * 2**losstries.TRIES_MAX)
    scene.maker.look()
    assert len(scene.jobs) == losstries.TRIES_MAX
    scene.child(report(scene.name))
    assert scene.maker.ask(scene.name).phase is LossPhase.QUEUED
    scene.ended()
    assert scene.phase is LossPhase.MADE
    assert not (scene.snapshot / losstries.NAME).exists()


def test_a_process_that_is_killed_is_a_failure_with_a_reason(scene):
    scene.child("dies")
    scene.ended()
    assert "exit code -9" in scene.maker.stand(scene.name).reason


def test_a_comparison_that_did_not_come_about_is_tried_again_a_few_times(scene):
    scene.child(report(scene.name, compared=False))
    scene.ended()
    assert scene.phase is LossPhase.MADE
    scene.maker.look()
    scene.maker.look()
    assert len(scene.jobs) == 1
    assert scene.told[0].loss.winner == ""
    assert losstries.read(scene.snapshot).attempts == 1
    scene.child(report(scene.name, made_s=60.0))
    scene.later(losstries.AGAIN_S)
    scene.ended()
    scene.maker.look()
    assert scene.told[-1].loss.winner == "n2"


def test_what_is_of_no_losing_side_or_another_cluster_is_refused(tmp_path):
    scene = Scene(tmp_path, by_itself=False)
    for name, why, changes in (
        ("other", "is of cluster", {"cluster": "other"}),
        ("bare", "has no full copy", {"grade": "none"}),
        ("early", "is not known to be of a losing side", {}),
    ):
        there = scene.maker._catalogue.show(scene.name)
        made = {"cluster": there.cluster, "lineage": there.lineage}
        if "grade" in changes:
            changes["grade"] = type(there.grade).NONE
        kept(tmp_path, name, 2.0, **made | changes)
        stand = scene.maker.ask(name)
        assert (stand.phase, why in stand.reason) == (LossPhase.FAILED, True)
        assert stand.hint
        assert "--against" not in stand.hint, "it would be refused there, too"
    with pytest.raises(SnapshotError):
        scene.maker.stand("nowhere")


def test_a_bounded_number_of_people_wait_at_once(tmp_path):
    scene = Scene(tmp_path, by_itself=False)
    there = scene.maker._catalogue.show(scene.name)
    answers = []
    for number in range(QUEUE_MAX + 1):
        kept(
            tmp_path,
            f"more-{number}",
            2.0,
            cluster=there.cluster,
            lineage=there.lineage,
            system_id=there.system_id,
            end_lsn=there.end_lsn,
        )
        answers.append(scene.maker.ask(f"more-{number}"))
    assert {one.phase for one in answers[:-1]} == {LossPhase.QUEUED}
    assert (answers[-1].phase, answers[-1].hint) == (LossPhase.FAILED, "ask later")


def test_the_process_ends_with_the_agent_and_leaves_it_at_once(tmp_path):
    scene = Scene(tmp_path)
    scene.child("waits")
    left = tmp_path / f"{SCRATCH}left"
    left.mkdir()
    scene.maker.start()
    end_s = time.monotonic() + WAIT_S
    while scene.maker.stand(scene.name).doing != "it reads":
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert not left.exists()
    pid = scene.at_work().pid
    assert os.getpgid(pid) == pid
    scene.maker.stop()
    assert not scene.maker._thread.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_full_disk_is_a_reason_and_no_clone_is_begun(scene):
    manifest = scene.maker._catalogue.show(scene.name)
    kept(
        scene.place,
        "huge",
        2.0,
        cluster=manifest.cluster,
        lineage=manifest.lineage,
        end_lsn=manifest.end_lsn,
        size_bytes=1 << 60,
    )
    scene.maker._by_itself = False
    scene.maker.ask("huge")
    scene.maker.look()
    assert scene.maker.stand("huge").reason.startswith("no room to open a clone")
    assert scene.jobs == []
