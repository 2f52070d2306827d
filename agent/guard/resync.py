"""`splitguard resync`: brings a loser back as a standby, where no HA software does.

Theory of operation. First everything that speaks against it is found, while the server
still runs. Then, each step only when the one before it is sure: stop the server; wait
for the permit, which means that its last write is kept; wait until the source's
pg_control names the timeline that it is really on; read both sides again and decide.
From here on the folder changes, and a note on disk says how far that came, so that a
run which was interrupted at any point is taken up by the next one. At the end the
server has its own configuration again, is started, and counts as resynced only when it
follows the source in everything that can be compared.
"""

import time
from dataclasses import replace
from pathlib import Path

from agent.core.lsn import Lsn
from agent.core.resync import Choice, Method, Step, Trial, Wish, choose, left_over
from agent.core.resync_refusal import (
    Around,
    Refusal,
    by_managers,
    refusals,
    standing,
)
from agent.core.resync_success import shortcomings
from agent.errors import GuardError, PostgresError
from agent.guard import managers, resync_alone, resync_aside, resync_look
from agent.guard.resync_change import Changes
from agent.guard.resync_job import Done, Job, Plan, RefusedError
from agent.guard.resync_look import Gate, Standing
from agent.guard.resync_mark import FINISHED, Mark
from agent.guard.resync_server import Say, last_options, start, stop
from agent.postgres import standby, upstream
from agent.postgres.control import read_control
from agent.postgres.owner import acting_as
from agent.postgres.upstream import Upstream

PAUSE_S = 0.2
READY_PAUSE_S = 1.0
READY_S = 900.0
"""How long the source may take for the checkpoint after its promotion."""
SETTLED_READINGS = 10
"""A standby that runs is given so many readings to show that it follows already."""
ROOT = Path("/")


def plan(job: Job, told: Standing, root: Path = ROOT) -> Plan:
    """Look at everything and decide, changing nothing.

    Raises GuardError and PostgresError where one side cannot be looked at.
    """
    around = _around(job, told, root)
    found = job.source.look(job.data_dir)
    mark = note(job)
    if mark is not None:
        against = standing([*by_managers(around), *_other_source(mark, job)], around)
        left = left_over(mark.step) or Choice(
            Method.CLONE,
            ("an interrupted clone is undone first, and then decided anew",),
        )
        return Plan(against, left, job.local.runs, found.ready, mark.step)
    return _fresh(job, told, around, found)


def _fresh(job: Job, told: Standing, around: Around, found: Upstream) -> Plan:
    """Decide for a folder that no earlier run has touched."""
    facts = resync_look.facts(job.data_dir, job.loser.bin_dir)
    loser = resync_look.target(job.node, job.data_dir, facts, told)
    lineage = job.source.lineage(found)
    source = resync_look.source(job.source, found, lineage, job.data_dir, loser)
    later = resync_look.later_timeline(job.data_dir)
    against = refusals(loser, source, replace(around, later_timeline=later))
    choice = choose(loser, source, job.wish)
    # Of a source that is not ready pg_rewind would say that there is nothing to do.
    settled = found.ready and not facts.running
    if not against and choice.method is Method.REWIND and settled:
        choice = _tried(job, choice)
    if not against:
        against = _by_method(job, choice, found)
    return Plan(against, choice, facts.running, found.ready, Step.NONE)


def _tried(job: Job, choice: Choice) -> Choice:
    """Ask pg_rewind, which looks for the last checkpoint before the fork, and more.

    It cannot be asked about a server that crashed.
    """
    if not read_control(job.data_dir, job.local.programs).shut_down:
        return choice
    trial, why = Changes(job, lambda _: None).tried()
    if trial is Trial.FITS:
        return choice
    return Choice(Method.CLONE, (*choice.reasons, why), choice.fork)


def _around(job: Job, told: Standing, root: Path) -> Around:
    found = managers.find(job.data_dir, root)
    return Around(
        running_managers=found.running,
        configured_managers=found.configured,
        line=told.line,
        forced=job.forced,
    )


def _other_source(mark: Mark, job: Job) -> list[Refusal]:
    """Refuse to finish with one source what was copied from another."""
    if mark.source == job.source.name or mark.step is Step.CLONING:
        return []
    return [
        Refusal(
            f"an earlier run has begun to make it a copy of {mark.source}, not of"
            f" {job.source.name}",
            f"finish that first: --source {mark.source}",
        )
    ]


def _by_method(job: Job, choice: Choice, found: Upstream) -> tuple[Refusal, ...]:
    if choice.method is not Method.CLONE:
        return ()
    if job.wish is Wish.REWIND:
        why = "; ".join(choice.reasons)
        help_text = "leave --method out, and it is cloned"
        return (Refusal(f"it cannot be rewound: {why}", help_text),)
    try:
        with acting_as(job.owner):
            resync_aside.check_room(job.data_dir, found.size_bytes)
    except GuardError as error:
        return (Refusal(error.message, error.hint),)
    return ()


def note(job: Job) -> Mark | None:
    """Return what an earlier run left; None when that does not count any more.

    Raises GuardError.
    """
    with acting_as(job.owner):
        mark = job.notes.read()
        if mark is None or mark.data_dir != str(job.data_dir):
            return None
        if mark.step in FINISHED and not mark.untouched():
            return None
    # Half a clone has no server; whoever runs one on the rest has gone on by hand.
    return None if mark.step is not Step.CLONING and job.local.runs else mark


def run(job: Job, gate: Gate, say: Say, root: Path = ROOT) -> Done:
    """Bring the node back. Raises RefusedError, GuardError, PostgresError.

    Whatever it raises, and however it ends: run again, it goes on.
    """
    with resync_alone.alone(job.notes.folder, job.owner):
        resync_alone.refuse_copiers(job.data_dir)
        return _run(job, gate, say, root)


def _run(job: Job, gate: Gate, say: Say, root: Path) -> Done:
    changes = Changes(job, say)
    mark = _taken_up(job, changes)
    told = gate.standing()
    if mark is None and _follows_already(job, told):
        return Done(None, (), "", "", "")
    first = plan(job, told, root)
    _refuse(first)
    if mark is None:
        mark, first = _prepared(job, gate, say, root)
        mark = changes.carry_out(first.choice, mark, told.lsn)
    elif mark.step is Step.REWINDING:
        mark = changes.clone(mark)
    changes.configure()
    start(job.local, mark.options, say)
    with acting_as(job.owner):
        job.notes.remove()
    agreed = confirm(job, say)
    aside = ""
    if mark.suffix and mark.step is Step.CLONED:
        aside = str(resync_aside.place_of(job.data_dir, mark.suffix))
    method = Method.CLONE if mark.step is Step.CLONED else first.choice.method
    return Done(method, first.choice.reasons, mark.permit, aside, str(agreed))


def _taken_up(job: Job, changes: Changes) -> Mark | None:
    """Undo what has to be undone of an earlier run; return what is left of it."""
    mark = note(job)
    if mark is None:
        with acting_as(job.owner):
            job.notes.remove()
        return None
    if mark.suffix and mark.step in (Step.CLONING, Step.REWINDING):
        changes.undo(mark)
    return None if mark.step is Step.CLONING else mark


def _refuse(found: Plan) -> None:
    if found.refusals:
        raise RefusedError(found.refusals)


def _follows_already(job: Job, told: Standing) -> bool:
    """Whether the server runs, follows the source, and nothing speaks against it."""
    if told.told_twin or told.diverged or not job.local.runs:
        return False
    found = job.source.look(job.data_dir)
    if found.in_recovery:
        return False
    lineage = job.source.lineage(found)
    goal = found.flush_lsn
    for _ in range(SETTLED_READINGS):
        seen = job.loser.following(job.source, found, lineage, goal)
        if not shortcomings(seen, found.timeline, goal, lineage):
            return True
        if not seen.streaming:
            return False
        time.sleep(PAUSE_S)
    return False


def _prepared(job: Job, gate: Gate, say: Say, root: Path) -> tuple[Mark, Plan]:
    """Stop, wait for permit and source, and decide once more: now it is final."""
    options = last_options(job.data_dir)
    _stop(job, say)
    try:
        permit, final = _permitted(job, gate, say, root)
    except BaseException:
        say("the server is stopped, and nothing of it was changed")
        raise
    for reason in final.choice.reasons:
        say(f"{final.choice.method.value}: {reason}")
    mark = Mark(Step.NONE, str(job.data_dir), job.source.name, permit, options=options)
    return mark, final


def _permitted(job: Job, gate: Gate, say: Say, root: Path) -> tuple[str, Plan]:
    permit = gate.permit()
    _until_ready(job, say)
    if not gate.holds(permit):
        permit = gate.permit()
    final = plan(job, gate.standing(), root)
    _refuse(final)
    if job.local.runs:
        raise GuardError(
            f"somebody has started the server of {job.data_dir} again",
            "find out who (systemd, HA software); then run this once more",
        )
    return permit, final


def _stop(job: Job, say: Say) -> None:
    is_standby = (job.data_dir / "standby.signal").exists()
    if is_standby and job.local.runs and job.local_dsn is not None:
        with acting_as(job.owner):
            why = standby.restartpoint(job.local_dsn)
        if why:
            say(f"no restartpoint before the stop: {why}")
    stop(job.local, say)


def _until_ready(job: Job, say: Say) -> None:
    """Wait until the source's pg_control names its real timeline."""
    asked = False
    end = job.now_s() + READY_S
    while job.now_s() < end:
        found = job.source.look(job.data_dir)
        if found.ready:
            return
        if not asked:
            asked = True
            say(
                f"{job.source.name} was promoted just now: its pg_control still says"
                f" timeline {found.control_timeline}, it is on {found.timeline};"
                " waiting for its checkpoint"
            )
            with acting_as(job.owner):
                why = upstream.checkpoint(job.source.dsn)
            if why:
                say(f"it cannot be asked for one: {why}")
        time.sleep(READY_PAUSE_S)
    raise GuardError(
        f"{job.source.name} made no checkpoint on its timeline within {READY_S:g} s",
        "run CHECKPOINT there, and this once more",
    )


def confirm(job: Job, say: Say) -> Lsn:
    """Return up to where the server agrees with the source, once it does.

    Raises GuardError when that does not come within resync.wait_s.
    """
    say(f"waiting until it follows {job.source.name}")
    goal: Lsn | None = None
    missing: tuple[str, ...] = ("it does not stream from the source",)
    end = job.now_s() + job.local.wait_s
    while job.now_s() < end:
        try:
            found = job.source.look()
            goal = found.flush_lsn if goal is None else goal
            lineage = job.source.lineage(found)
            seen = job.loser.following(job.source, found, lineage, goal)
            missing = shortcomings(seen, found.timeline, goal, lineage)
        except PostgresError as error:
            missing = (error.message,)
        else:
            if not missing:
                return goal
        time.sleep(PAUSE_S)
    raise GuardError(
        f"{job.node} is not resynced: {'; '.join(missing)}",
        f"it is left running; its log, and {job.local.log}, say more. Run this once"
        " more, with --method clone if it was rewound",
    )
