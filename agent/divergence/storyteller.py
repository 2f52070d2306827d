"""The process that tells what the server beside an agent did past a fork.

Theory of operation. `python -m agent.divergence.storyteller` gets its question as one
line of JSON on standard input and prints the story as `transfer` writes it, or one line
that says why there is none. It is a process of its own because a story takes memory by
the row, and so that reading gives way to the server. See `behind` for its end.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent import codec
from agent.divergence.behind import ordered
from agent.divergence.job import FAILED, Question
from agent.divergence.losses import story_from
from agent.divergence.story import Story
from agent.divergence.transfer import story_lines
from agent.divergence.winner import Moment, Shown
from agent.errors import DivergenceError, SplitguardError
from agent.postgres.programs import find_programs

QUESTION_BYTES_MAX = 1 << 20


def shown_of(moments: Mapping[str, str]) -> Shown:
    """Return what a reader sees. Raises DivergenceError."""
    try:
        return Shown({int(oid): Moment.parse(text) for oid, text in moments.items()})
    except ValueError as error:
        raise DivergenceError(
            "a snapshot is OID/OLDEST:NEXT:UNDER_WAY, such as 16384/740:745:741,743"
        ) from error


def main() -> int:
    """Tell the story that standard input asks for; return the exit code."""
    try:
        question = codec.from_json(ordered(QUESTION_BYTES_MAX), Question)
        lines = story_lines(_story(question))
    except SplitguardError as error:
        return _print([_failed(error.message, error.hint)], 1)
    except OSError as error:
        reason = f"{error.filename or 'disk'}: {error.strerror or error}"
        return _print([_failed(reason, "")], 1)
    return _print(lines, 0)


def _failed(message: str, hint: str) -> bytes:
    return json.dumps([FAILED, message, hint]).encode("ascii") + b"\n"


def _print(lines: Iterable[bytes], code: int) -> int:
    """Print, as long as there is somebody to read."""
    try:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _story(question: Question) -> Story:
    data_dir = Path(question.data_dir)
    bin_dir = None if question.bin_dir is None else Path(question.bin_dir)
    told = story_from(
        find_programs(bin_dir, data_dir),
        data_dir / "pg_wal",
        question.fork_lsn,
        question.wal_segment_bytes,
    )
    story = told(question.timeline, question.lsn, shown_of(question.shown))
    if story is None:
        raise DivergenceError("nobody can tell the story of this server")
    return story


if __name__ == "__main__":
    sys.exit(main())
