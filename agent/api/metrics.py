"""The Prometheus metrics, made anew from the state at each scrape.

Theory of operation. Nothing is counted between scrapes: every sample is read from one
frame, so a metric can not disagree with the status. The registry is our own; the
process and garbage collector metrics of the library stay out. What is not known has no
sample: an absent series is not a zero.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent import __version__
from agent.api.models import CaptureOut, NodeOut, StatusOut
from agent.api.present import Frame, capture_out, status
from agent.core.incident import Status
from agent.core.lsn import Lsn
from agent.core.observation import Channel
from agent.core.verdict import Severity

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def expose(frame: Frame, *, journal_writable: bool) -> bytes:
    """Return all metrics of this frame in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(frame, journal_writable))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, frame: Frame, journal_writable: bool) -> None:
        self._frame = frame
        self._journal_writable = journal_writable

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        frame, now = self._frame, status(self._frame)
        yield _build(now)
        yield from _agent(frame, now, self._journal_writable)
        yield from _verdicts(now)
        yield from _incidents(frame)
        yield from _nodes(now.nodes)
        yield from _captures(frame)


def _gauge(name: str, words: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"splitguard_{name}", words, labels=labels)


def _single(name: str, words: str, value: float) -> GaugeMetricFamily:
    family = _gauge(name, words)
    family.add_metric((), value)
    return family


def _build(now: StatusOut) -> Metric:
    info = InfoMetricFamily("splitguard_build", "This agent.")
    info.add_metric(
        (),
        {"version": __version__, "cluster": now.cluster, "node": now.observer},
    )
    return info


def _agent(frame: Frame, now: StatusOut, journal_writable: bool) -> Iterator[Metric]:
    if now.data_age_s is not None:
        yield _single(
            "data_age_seconds", "Age of the newest probe result.", now.data_age_s
        )
    yield _single("journal_writable", "1 when the journal takes writes.",
                  float(journal_writable))  # fmt: skip
    yield _single("notices_undelivered", "Messages that still wait for a receiver.",
                  frame.outbox.undelivered)  # fmt: skip
    yield _single("notices_dead", "Messages that were given up.", frame.outbox.dead)
    yield _single(
        "headline_severity",
        "0 ok, 1 info, 2 unknown, 3 warning, 4 critical.",
        Severity(now.headline.severity).rank,
    )


def _verdicts(now: StatusOut) -> Iterator[Metric]:
    family = _gauge(
        "verdict", "1 for each thing that is so now.",
        ("verdict", "family", "subject", "severity"),
    )  # fmt: skip
    labels = {(v.verdict, v.family, v.subject, v.severity) for v in now.verdicts}
    for label in sorted(labels):
        family.add_metric(label, 1.0)
    yield family


def _incidents(frame: Frame) -> Iterator[Metric]:
    family = _gauge(
        "incidents", "Incidents that are not over, by severity and status.",
        ("severity", "status"),
    )  # fmt: skip
    for severity in (Severity.INFO, Severity.WARNING, Severity.CRITICAL):
        for stage in (Status.PENDING, Status.OPEN, Status.ACKNOWLEDGED):
            count = sum(
                (one.verdict.severity, one.status) == (severity, stage)
                for one in frame.state.ledger.incidents
            )
            family.add_metric((severity.value, stage.value), count)
    yield family


def _nodes(nodes: list[NodeOut]) -> Iterator[Metric]:
    seen = _gauge(
        "channel_up", "1 when this agent's latest probe found somebody alive.",
        ("node", "channel"),
    )  # fmt: skip
    for node in nodes:
        for channel in Channel:
            out = getattr(node, channel.value)
            if out.outcome is not None:
                seen.add_metric((node.name, channel.value), float(out.missed == 0))
    yield seen
    for name, words, of in OF_NODES:
        family = _gauge(name, words, ("node",))
        for node in nodes:
            value = of(node)
            if value is not None:
                family.add_metric((node.name,), value)
        yield family


def _writable(node: NodeOut) -> float | None:
    known = node.role in ("primary", "standby")
    return float(node.role == "primary") if known else None


def _failing(node: NodeOut) -> float | None:
    return None if node.archiver is None else float(node.archiver.failing)


OF_NODES: tuple[tuple[str, str, Callable[[NodeOut], float | None]], ...] = (
    ("node_writable", "1 when PostgreSQL is out of recovery.", _writable),
    ("node_timeline", "The timeline of the server.", lambda node: node.timeline),
    (
        "node_lsn_bytes",
        "The flushed position of the server.",
        lambda node: None if node.lsn is None else Lsn.parse(node.lsn),
    ),
    (
        "node_lag_bytes",
        "How far a standby is behind its primary.",
        lambda node: node.lag_bytes,
    ),
    (
        "node_replay_lag_bytes",
        "What a standby has received and has yet to replay.",
        lambda node: node.replay_lag_bytes,
    ),
    ("node_archiver_failing", "1 when its last attempt failed.", _failing),
)


def _captures(frame: Frame) -> Iterator[Metric]:
    labels = ("id", "node")
    phase = _gauge("capture", "1 for the phase and grade that a capture is in.",
                   (*labels, "phase", "grade"))  # fmt: skip
    done = _gauge("capture_bytes_done", "Bytes of the full copy that are there.",
                  labels)  # fmt: skip
    total = _gauge("capture_bytes_total", "Bytes that the full copy will have.",
                   labels)  # fmt: skip
    for capture in frame.state.ledger.captures:
        one: CaptureOut = capture_out(capture)
        phase.add_metric((one.id, one.node, one.phase, one.grade), 1.0)
        done.add_metric((one.id, one.node), one.bytes_done)
        total.add_metric((one.id, one.node), one.bytes_total)
    yield from (phase, done, total)
