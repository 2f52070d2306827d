"""What became of attempts to make a loss report, beside the snapshot's manifest.

Theory of operation. One small file, written aside and renamed, so that a restart
neither hurries nor begins the count anew, and a person can read why there is no report.
What cannot be read counts as no attempt: then one more is made.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent import codec
from agent.divergence.job import Outcome
from agent.errors import CodecError
from agent.snapshot.files import write_atomically

log = logging.getLogger(__name__)

NAME = "loss-tries.json"
BYTES_MAX = 1 << 16
TRIES_MAX = 3
"""A report that failed so often is made again only when somebody asks."""
AGAIN_S = 60.0
"""The pause after the first failure; it doubles."""


@dataclass(frozen=True, slots=True)
class Aim:
    """One report that is to be made."""

    snapshot_id: str
    winner: str = ""
    closed: bool = False
    asked: bool = False
    """By a person, who waits for it."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts to make one report, all of them failed."""

    winner: str = ""
    closed: bool = False
    """Against whom, and of what, it was to be made: another aim counts anew."""
    attempts: int = 0
    again_wall_s: float = 0.0
    reason: str = ""
    hint: str = ""

    def due(self, aim: Aim, wall_s: float) -> bool:
        """Whether this may be tried now."""
        if (self.winner, self.closed) != (aim.winner, aim.closed):
            return True
        # A clock that went back must not put it off for ever.
        waits = wall_s < self.again_wall_s <= wall_s + AGAIN_S * 2**TRIES_MAX
        return self.attempts < TRIES_MAX and not waits


def read(snapshot: Path) -> Tries:
    """Return what is noted in a snapshot's folder."""
    with suppress(OSError, CodecError), (snapshot / NAME).open("rb") as file:
        return codec.from_json(file.read(BYTES_MAX), Tries)
    return Tries()


def note(snapshot: Path, aim: Aim, outcome: Outcome, wall_s: float) -> None:
    """Note a failure, or with an empty outcome forget those before. Never raises."""
    path = snapshot / NAME
    if not outcome.message:
        with suppress(OSError):
            path.unlink()
        return
    log.warning("loss report of %s: %s", aim.snapshot_id, outcome.message)
    before = read(snapshot)
    same = (before.winner, before.closed) == (aim.winner, aim.closed)
    attempts = 1 + (before.attempts if same and not aim.asked else 0)
    tries = Tries(
        winner=aim.winner,
        closed=aim.closed,
        attempts=attempts,
        again_wall_s=wall_s + AGAIN_S * 2 ** (attempts - 1),
        reason=outcome.message,
        hint=outcome.hint,
    )
    try:
        write_atomically(path, codec.to_json(tries).encode("ascii"))
    except OSError as error:
        log.warning("%s: %s", path, error.strerror)
