"""Small values to start core tests from; each takes what the test is about."""

from dataclasses import replace

from agent.core.capture import (
    Capture,
    CaptureOrder,
    CaptureStatus,
    Grade,
    Level,
    Phase,
)
from agent.core.incident import Incident, Status, incident_id, incident_key
from agent.core.lineage import Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.moment import Moment
from agent.core.observation import (
    Channel,
    Observation,
    Outcome,
    PostgresSight,
    Report,
    ServerFacts,
)
from agent.core.plausible import REPORT_FORMAT
from agent.core.policy import NodeSpec, Policy
from agent.core.state import Ledger, State
from agent.core.verdict import Family, Severity, Verdict, VerdictCode

SYSTEM = "7300000000000000001"


def at(seconds: float) -> Moment:
    return Moment(monotonic_s=seconds, wall_s=1_800_000_000 + seconds)


def policy(me: str = "n1", count: int = 3) -> Policy:
    nodes = tuple(
        NodeSpec(f"n{i}", has_postgres=True, has_manager=False)
        for i in range(1, count + 1)
    )
    return Policy(cluster="test", me=me, nodes=nodes)


def lineage(timeline: int = 1, *switches: tuple[int, int]) -> Lineage:
    return Lineage(
        SYSTEM, timeline, tuple(Switch(number, Lsn(lsn)) for number, lsn in switches)
    )


def facts(
    *, running: bool = True, standby: bool = False, end: int | None = None, **more
) -> ServerFacts:
    return replace(
        ServerFacts(
            identity="boot:1:1",
            data_dir="/data",
            lineage=lineage(),
            control_state="in production" if running else "shut down",
            checkpoint_lsn=Lsn(0x100),
            redo_lsn=Lsn(0x100),
            running=running,
            standby_signal=standby,
            end_lsn=None if end is None else Lsn(end),
            wal_segment_bytes=1 << 24,
            version_num=160014,
        ),
        **more,
    )


def sight(*, in_recovery: bool = False, flush: int = 0x1000, **more) -> PostgresSight:
    return replace(
        PostgresSight(
            system_id=SYSTEM,
            version_num=160014,
            in_recovery=in_recovery,
            timeline=1,
            write_lsn=Lsn(flush),
            flush_lsn=Lsn(flush),
            replay_lsn=Lsn(flush) if in_recovery else None,
            postmaster_started=STARTED,
            next_xid=100,
            upstream=None,
            receiver_mark=None,
            senders=(),
            waiting_for_sync=0,
            waiting_for_sync_s=0.0,
        ),
        **more,
    )


STARTED = "2026-01-01 00:00:00+00"


def postgres(node: str, seen: PostgresSight, sent_s: float) -> Observation:
    """An answer; two servers were never started in the same microsecond."""
    if seen.postmaster_started == STARTED:
        seen = replace(seen, postmaster_started=f"{STARTED} on {node}")
    return Observation(
        node=node,
        channel=Channel.POSTGRES,
        outcome=Outcome.ANSWERED,
        reason="",
        sent_s=sent_s,
        received_s=sent_s + 0.001,
        postgres=seen,
    )


def report(node: str, **more) -> Report:
    return replace(
        Report(
            format=REPORT_FORMAT,
            cluster="test",
            node=node,
            boot_id=f"boot-{node}",
            sequence=1,
            doubt=None,
            sights=(),
            server=None,
            server_age_s=0.0,
            writable=(),
            heard=(),
            incidents=(),
            told=(),
            captures=(),
            protection="ready",
        ),
        **more,
    )


def heard(node: str, told: Report, sent_s: float) -> Observation:
    return Observation(
        node=node,
        channel=Channel.AGENT,
        outcome=Outcome.ANSWERED,
        reason="",
        sent_s=sent_s,
        received_s=sent_s + 0.001,
        report=told,
    )


def verdict(
    code: VerdictCode = VerdictCode.SPLIT_BRAIN,
    family: Family = Family.SPLIT,
    subject: str = "cluster",
    severity: Severity = Severity.CRITICAL,
) -> Verdict:
    return Verdict(code, family, subject, severity, 501, {}, "1")


def incident(said: Verdict | None = None, status: Status = Status.OPEN) -> Incident:
    said = said or verdict()
    key = incident_key(SYSTEM, said.family, said.subject, said.discriminator)
    return Incident(
        id=incident_id(key, 1),
        key=key,
        occurrence=1,
        status=status,
        verdict=said,
        worst=said.severity,
        since_wall_s=at(0).wall_s,
        opened_wall_s=at(0).wall_s,
        resolved_wall_s=None,
        clear_since_s=None,
        pending_since_s=0.0,
        revision=1,
        acknowledged_by=None,
        history=(),
    )


def capture(**status) -> Capture:
    order = CaptureOrder(
        capture_id="n1-1",
        node="n1",
        levels=tuple(Level),
        incident_ids=(incident().id,),
        reason="split-brain",
        confirmed_lsn=None,
        final_lsn=None,
    )
    return Capture(
        order,
        replace(
            CaptureStatus(
                capture_id="n1-1",
                phase=Phase.FOLLOWING,
                grade=Grade.COMPLETE,
                method="copy",
                timeline=1,
                start_lsn=Lsn(0x100),
                tail_lsn=Lsn(0x2000),
                reached_lsn=Lsn(0x2000),
                pin="held",
                bytes_done=1,
                bytes_total=1,
                seconds_left=0.0,
                reason="",
            ),
            **status,
        ),
        at(0).wall_s,
        0.0,
    )


def state(**parts) -> State:
    """A state whose ledger, view and knowledge have the given parts replaced."""
    made = State()
    for name, value in parts.items():
        for part in ("ledger", "knowledge", "view"):
            piece = getattr(made, part)
            if hasattr(piece, name):
                made = replace(made, **{part: replace(piece, **{name: value})})
    return made


def ledger(**parts) -> Ledger:
    return replace(Ledger(), **parts)
