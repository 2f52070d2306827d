"""What the winner did, as the agent beside it reads it from its log.

Theory of operation. The comparison runs beside the loser and reads the winner over SQL,
which shows what rows are there and not what became of the others. The winner's log
says that, and lies on the winner's disk; so its agent is asked (`GET /v1/changes`). The
question names the moment that the reader sees, database by database, and the story ends
there. An agent that is gone, older, or busy costs precision and not the report: then
the rows alone are compared.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from agent.core.lsn import Lsn
from agent.divergence.story import Story
from agent.divergence.transfer import LINE_BYTES_MAX, StoryReader
from agent.divergence.winner import Shown, StoryOf
from agent.errors import DivergenceError, SplitguardError
from agent.transport import Request, Tls, download_sync

log = logging.getLogger(__name__)

PATH = "/v1/changes"
SILENCE_S = 330.0
"""The agent may read its log for so long before the first line comes."""
STORY_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class AgentThere:
    """How the agent beside the winner is reached."""

    url: str
    token: str = field(default="", repr=False)
    """The one that all agents of the cluster share."""
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def tls(self) -> Tls | None:
        """What its connection is checked with."""
        if self.ca is None and self.cert is None:
            return None
        return Tls(*(None if one is None else Path(one) for one in self._files))

    @property
    def _files(self) -> tuple[str | None, str | None, str | None]:
        return self.ca, self.cert, self.key

    @property
    def headers(self) -> Mapping[str, str]:
        """What proves who asks."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


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
