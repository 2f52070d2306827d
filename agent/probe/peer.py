"""Asks one peer agent for its report.

Theory of operation. The report is JSON of a known format. Cluster and format are
looked at before anything else, so that a neighbour of another cluster, or one of
another version, is named as such and not as broken. A report that is one format older
or newer is understood (`agent/core/plausible.py` says what may differ). Nothing in a
report is believed that does not have the shape and the sender that were expected, that
names one key twice, or that tells what cannot be.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from agent import codec
from agent.core.observation import Outcome, Report
from agent.core.plausible import REPORT_FORMAT, format_refused, impossible_report
from agent.core.rules_agents import STRANGER
from agent.errors import CodecError
from agent.probe.newer import readable
from agent.probe.result import Result, failure
from agent.probe.target import ProbeSettings
from agent.probe.web import of_transport
from agent.transport import Answer, HttpClient, TransportError

REPORT_PATH = "/v1/report"
OK = 200
UNAUTHORIZED = (401, 403)
SERVER_ERROR = 500


class PeerProbe:
    """The agent channel of one node. One question at a time."""

    def __init__(
        self, node: str, base_url: str, settings: ProbeSettings, http: HttpClient
    ) -> None:
        self._node = node
        self._url = base_url.rstrip("/") + REPORT_PATH
        self._settings = settings
        self._http = http
        self._asked = 0

    async def ask(self) -> Result:
        """Ask once, within the deadline. Raises nothing but a cancellation."""
        try:
            answer = await self._http.get(
                self._url, self._settings.deadline_s, self._headers()
            )
        except TransportError as error:
            return of_transport(error)
        return self._judge(answer)

    async def close(self) -> None:
        """Nothing of its own to close: connections are the client's."""

    def renew(self, token: str) -> None:
        """Show this token from the next question on."""
        self._settings = replace(self._settings, peer_token=token)

    def _headers(self) -> Mapping[str, str]:
        headers = {"x-splitguard-node": self._settings.me}
        if self._settings.peer_token:
            # HTTP forbids a scheme without a token: nothing would be sent at all.
            headers["authorization"] = f"Bearer {self._settings.peer_token}"
        self._asked += 1
        if self._asked % self._settings.fresh_every == 0:
            headers["connection"] = "close"
        return headers

    def _judge(self, answer: Answer) -> Result:
        if answer.status in UNAUTHORIZED:
            return failure(
                Outcome.REFUSED,
                f"HTTP {answer.status}: {STRANGER};"
                " put the same auth.peer_token_file on every node",
            )
        if answer.status >= SERVER_ERROR:
            return failure(Outcome.REFUSED, f"HTTP {answer.status}: {answer.excerpt()}")
        if answer.status != OK:
            return failure(
                Outcome.GARBLED,
                f"HTTP {answer.status} at {REPORT_PATH}: no Splitguard agent answers"
                f" there; see this node's `agent` setting",
            )
        return self._read(answer.body)

    def _read(self, answered: bytes) -> Result:
        try:
            plain = _parsed(answered)
        except (ValueError, RecursionError) as error:
            odd = isinstance(error, _OddError)
            why = str(error) if odd else "the report is not a JSON object"
            return failure(Outcome.GARBLED, why)
        if not isinstance(plain, dict):
            return failure(Outcome.GARBLED, "the report is not a JSON object")
        wrong = self._stranger(plain)
        if wrong is not None:
            return wrong
        told = plain.get("format")
        if isinstance(told, int) and told > REPORT_FORMAT:
            plain = readable(plain)
        try:
            report = codec.from_plain(plain, Report)
        except CodecError as error:
            return failure(Outcome.GARBLED, error.message)
        absurd = impossible_report(report)
        if absurd:
            return failure(
                Outcome.GARBLED,
                f"the report tells what cannot be: {absurd}; look at the agent there",
            )
        return Result(Outcome.ANSWERED, report=report)

    def _stranger(self, plain: Mapping[str, object]) -> Result | None:
        """Return why this report is not from the peer that was asked."""
        cluster, speaks = plain.get("cluster"), plain.get("format")
        if isinstance(cluster, str) and cluster != self._settings.cluster:
            return failure(
                Outcome.FOREIGN,
                f"an agent of cluster {cluster[:60]!r} answers, this one is"
                f" {self._settings.cluster!r}; see this node's `agent` setting",
            )
        refused = format_refused(speaks) if type(speaks) is int else ""
        if refused:
            return failure(Outcome.INCOMPATIBLE, refused)
        name = plain.get("node")
        if isinstance(name, str) and name != self._node:
            return failure(
                Outcome.GARBLED,
                f"an agent that calls itself {name[:60]!r} answers; see the `agent`"
                f" setting of {self._node} and the `node` setting there",
            )
        return None


def _parsed(answered: bytes) -> object:
    """Return what an answer holds. Raises ValueError or RecursionError.

    All its texts can be told on as UTF-8: what could hold a lone surrogate is looked
    at closely.
    """
    plain: object = json.loads(answered, object_pairs_hook=_once_each)
    if b"\\ud" in answered.lower() or b"\xed" in answered:
        try:
            json.dumps(plain, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise _OddError("the report holds text that is no text") from error
    return plain


class _OddError(ValueError):
    """Nobody knows what is meant: one key is named twice, or a text is none."""


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _OddError("the report names one key twice in an object")
    return made
