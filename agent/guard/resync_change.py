"""What changes the loser's data folder: rewinding, cloning, its configuration.

Theory of operation. Before each change the note on disk says what is about to happen
(`resync_mark`). A rewind is tried without changes first; when the real one fails all
the same, the folder is nobody's, and a clone takes its place. A clone moves the old
data aside first and puts it back when it fails. Everything is done as the owner of the
data directory, whoever called.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.core.lsn import Lsn
from agent.core.resync import Choice, Method, Step, Trial, tried
from agent.errors import GuardError, PostgresError
from agent.guard import resync_alone, resync_aside, resync_files
from agent.guard.resync_job import Job
from agent.guard.resync_mark import Mark
from agent.guard.resync_server import Say, settle
from agent.postgres import upstream
from agent.postgres.control import read_control
from agent.postgres.owner import acting_as
from agent.postgres.programs import Finished

TRIAL_S = 600.0
LONG_S = 7 * 86_400.0
"""A rewind or a clone may take as long as the network needs."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of one job."""

    job: Job
    say: Say

    def carry_out(self, choice: Choice, mark: Mark, end: Lsn | None) -> Mark:
        """Do what was chosen; return the note. The server is stopped.

        Raises GuardError or PostgresError; the next run goes on from the note.
        """
        job = self.job
        with acting_as(job.owner):
            resync_files.save(job.data_dir, job.notes.saved)
        if choice.method is Method.REWIND:
            return self._rewind(mark, end)
        if choice.method is Method.CLONE:
            return self.clone(mark)
        with acting_as(job.owner):
            return job.notes.advance(mark, Step.REWOUND)

    def _rewind(self, mark: Mark, end: Lsn | None) -> Mark:
        job = self.job
        try:
            self._settled(end)
        except PostgresError as error:
            self._insist(f"its recovery fails: {error.message}")
            return self.clone(mark)
        trial, why = self.tried()
        if trial is Trial.CLONE:
            self._insist(why)
            return self.clone(mark)
        self._alone()
        with acting_as(job.owner):
            mark = job.notes.advance(mark, Step.REWINDING)
        self.say(f"rewinding from {job.source.name}")
        ran = self._pg_rewind()
        trial, why = tried(ran.exit_code, ran.stdout + ran.stderr)
        if trial is not Trial.FITS:
            self.say(f"{why or 'pg_rewind failed'}; the folder is cloned anew")
            return self.clone(mark)
        with acting_as(job.owner):
            return job.notes.advance(mark, Step.REWOUND)

    def _alone(self) -> None:
        """Look once more, right before a change, that nobody works in the folder."""
        resync_alone.refuse_others(self.job.data_dir, self.job.now_s)

    def _insist(self, why: str) -> None:
        """Say that a clone takes the rewind's place, or refuse it."""
        if self.job.wish.value == Method.REWIND.value:
            raise GuardError(
                f"it cannot be rewound: {why}",
                "nothing was changed; leave --method out, and it is cloned",
            )
        self.say(f"{why}: it is cloned instead")

    def _settled(self, end: Lsn | None) -> None:
        if not read_control(self.job.data_dir, self.job.local.programs).shut_down:
            settle(self.job.local, end, self.say)

    def tried(self) -> tuple[Trial, str]:
        """Ask pg_rewind without changing anything. Raises GuardError on STOP."""
        ran = self._pg_rewind("--dry-run")
        trial, why = tried(ran.exit_code, ran.stdout + ran.stderr)
        if trial is Trial.STOP:
            raise GuardError(
                f"{why}: {ran.last_lines}",
                "the role of resync.source needs a line in pg_hba.conf there, and the"
                " rights that deploy/README.md names; or give --method clone",
            )
        return trial, why

    def _pg_rewind(self, *options: str) -> Finished:
        job = self.job
        return job.local.programs.run(
            [
                "pg_rewind",
                "-D",
                job.data_dir,
                "--source-server",
                job.source.dsn,
                "--no-ensure-shutdown",
                *options,
            ],
            as_owner_of=job.data_dir,
            timeout_s=TRIAL_S if options else LONG_S,
            check=False,
        )

    def clone(self, mark: Mark) -> Mark:
        """Move the old data aside and copy the source; put it back if that fails."""
        job = self.job
        self._alone()
        suffix = resync_aside.SUFFIX + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        found = job.source.look()
        half = mark.step is Step.REWINDING
        with acting_as(job.owner):
            resync_aside.check_room(job.data_dir, found.size_bytes)
            mark = replace(mark, suffix=suffix)
            # A half rewound folder that is put back is still half rewound.
            step = Step.REWINDING if half else Step.CLONING
            mark = job.notes.advance(mark, step)
            resync_aside.move(job.data_dir, suffix)
        try:
            self._copy(suffix)
        except BaseException:
            resync_alone.until_copied(job.data_dir, job.now_s)
            with acting_as(job.owner):
                resync_aside.put_back(job.data_dir, suffix)
                if not half:
                    job.notes.remove()
            # A terminal that went away takes no words any more.
            with suppress(OSError):
                self.say("the clone failed: the old data was put back")
            raise
        with acting_as(job.owner):
            return job.notes.advance(mark, Step.CLONED)

    def _copy(self, suffix: str) -> None:
        job = self.job
        aside = resync_aside.place_of(job.data_dir, suffix)
        self.say(f"cloning from {job.source.name}; the old data is kept in {aside}")
        waldir = resync_aside.waldir(job.data_dir, suffix)
        with acting_as(job.owner):
            job.data_dir.resolve().mkdir(mode=0o700)
        job.local.programs.run(
            [
                "pg_basebackup",
                f"--pgdata={job.data_dir}",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-password",
                f"--dbname={job.source.dsn}",
                *([f"--waldir={waldir}"] if waldir is not None else []),
            ],
            as_owner_of=aside,
            timeout_s=LONG_S,
        )

    def configure(self) -> None:
        """Give the server its own configuration again, and whom to follow."""
        job = self.job
        saved = job.notes.saved
        self.say("writing the server's own configuration again")
        with acting_as(job.owner):
            before = resync_files.setting(saved, "primary_conninfo")
            slot = resync_files.setting(saved, "primary_slot_name")
            if slot and not upstream.has_free_slot(job.source.dsn, slot):
                self.say(f"the source has no free slot {slot}: it streams without one")
                slot = ""
            told = resync_files.streaming(
                before, job.source_parts, job.node, job.follow_parts
            )
            resync_files.put_back(saved, job.data_dir)
            resync_files.follow(job.data_dir, told, slot)

    def undo(self, mark: Mark) -> None:
        """Put back what an interrupted clone moved aside."""
        job = self.job
        self.say("an earlier run was interrupted while it cloned: undoing that")
        with acting_as(job.owner):
            resync_aside.put_back(job.data_dir, mark.suffix)
            if mark.step is Step.CLONING:
                job.notes.remove()
