"""What the winner did, as the agent beside it reads it from its log.

Theory of operation. The comparison runs beside the loser and reads the winner over SQL,
which shows what rows are there and not what became of the others. The winner's log
says that, and lies on the winner's disk; so its agent is asked (`GET /v1/changes`). The
question names the moment that the reader sees, database by database, and the story ends
there. An agent that is gone, older, or busy costs precision and not the report: then
the rows alone are compared.
"""

import logging
from urllib.parse import urlencode

from agent.core.lsn import Lsn
from agent.divergence.job import AgentThere
from agent.divergence.story import Story
from agent.divergence.transfer import LINE_BYTES_MAX, STORY_BYTES_MAX, StoryReader
from agent.divergence.winner import Shown, StoryOf
from agent.errors import DivergenceError, SplitguardError
from agent.transport import Request, download_sync

log = logging.getLogger(__name__)

PATH = "/v1/changes"
SILENCE_S = 330.0
"""The agent may read its log for so long before the first line comes."""


def story_of_agent(there: AgentThere, fork_lsn: Lsn) -> StoryOf:
    """Return who asks the winner's agent for the winner's story.

    What it returns gives None, and a line in the log, where the agent does not tell.
    """

    def told(timeline: int, lsn: Lsn, shown: Shown) -> Story | None:
        try:
            return _ask(there, _question(timeline, fork_lsn, lsn, shown))
        except SplitguardError as error:
            log.warning("the winner's log is not told: %s", error)
            return None

    return told


def _question(timeline: int, fork_lsn: Lsn, lsn: Lsn, shown: Shown) -> str:
    pairs = [
        ("timeline", str(timeline)),
        ("fork_lsn", str(fork_lsn)),
        ("lsn", str(lsn)),
        *(("shown", f"{oid}/{moment}") for oid, moment in shown.moments.items()),
    ]
    return urlencode(pairs)


def _ask(there: AgentThere, question: str) -> Story:
    url = f"{there.url.rstrip('/')}{PATH}?{question}"
    lines = _Lines()
    request = Request("GET", url, there.headers)
    answer = download_sync(request, lines.take, SILENCE_S, tls=there.tls)
    if not answer.ok:
        raise DivergenceError(
            f"the agent beside the winner answers {answer.status}: {answer.excerpt()}"
        )
    return lines.reader.story()


class _Lines:
    """Cuts what comes into lines, and gives each on at once."""

    def __init__(self) -> None:
        self.reader = StoryReader()
        self._rest = b""
        self._size = 0

    def take(self, piece: bytes) -> None:
        """Take in the next piece. Raises DivergenceError."""
        self._size += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._size > STORY_BYTES_MAX or len(self._rest) > LINE_BYTES_MAX:
            raise DivergenceError("the story that the winner's agent tells is too long")
        for line in lines:
            self.reader.take(line)
