"""A report in which every field says something, damaged anywhere, is no danger.

It goes the way of a real one: out of a state that events have led to, through JSON, and
into the core of a peer. What the codec refuses is the prober's to tell; what it lets
pass must break neither the judgement nor what the peer then tells of it.
"""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from agent import codec
from agent.core.care import CareBrief, ManagerSight
from agent.core.event import Observed, Ticked
from agent.core.explain import sentence
from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.incident import Taken
from agent.core.loss import Loss
from agent.core.lsn import Lsn
from agent.core.machine import step
from agent.core.nextstep import next_step
from agent.core.observation import (
    Archiver,
    CaptureBrief,
    Channel,
    Deaf,
    IncidentBrief,
    MaintenanceBrief,
    PinBrief,
    Report,
    Sender,
    Sight,
    Slot,
    Told,
    WritableSpan,
)
from agent.core.plausible import impossible_report
from agent.core.reporting import make_report
from agent.errors import CodecError
from tests import strategies
from tests.core import given
from tests.core.cluster import FINE, Cluster

INCIDENT = "inc-0123456789ab"
LSN = Lsn(0x2000)


def split() -> Cluster:
    """A split that has just been healed: much stands, and more can come of it."""
    cluster = Cluster(managers=True)
    cluster.run(4)
    cluster.cut("n1")
    cluster.run(5)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.run(2)
    cluster.servers["n1"].write(3)
    cluster.heal()
    cluster.run(4)
    return cluster


CLUSTERS = {"healthy": Cluster(managers=True), "split": split()}
CLUSTERS["healthy"].run(4)


def full_sight(seen: Sight) -> Sight:
    """The same line, with all that a server or a manager can say."""
    if seen.channel is Channel.MANAGER:
        return replace(seen, manager=ManagerSight(active=True, version="7.0.5"))
    if seen.postgres is None:
        return seen
    server = replace(
        seen.postgres,
        senders=(Sender("n3", "streaming", "sync", LSN, "2026-01-01 00:00:00"),),
        slots=(Slot("n3", "physical", active=True, restart_lsn=LSN, lost=False),),
        archiver=Archiver(
            "archive_command", "a" * 64, False, 1, "0" * 24, True, "0" * 24
        ),
        waiting_for_sync=1,
        waiting_for_sync_s=6.0,
    )
    return replace(seen, postgres=server)


def full_report(cluster: Cluster) -> Report:
    """A report of n2 in which every field says something."""
    teller = cluster.agents["n2"]
    told = make_report(teller.state, cluster.at("n2", 0.9), teller.policy)
    brief = IncidentBrief(INCIDENT, "key", 1, "open", "failover", 1.0)
    taken = Taken("failover", "critical", 2.0)
    loss = Loss("n2-1", "n2", "3 rows", 1, 3, LSN, "n1", 1.0)
    return replace(
        told,
        doubt="its loop was late",
        sights=tuple(map(full_sight, told.sights)),
        server=given.facts(),
        writable=(WritableSpan(9.0, 0.5, given.SYSTEM),),
        incidents=(
            *told.incidents,
            replace(brief, taken=taken, moved=True, moved_to=7),
        ),
        told=(*told.told, Told(INCIDENT, "first", 1, delivered=True)),
        captures=(
            CaptureBrief(
                *("n2-1", "n2", "following", "complete", LSN),
                *((INCIDENT,), 2, 5, 1.0, loss),
            ),
        ),
        gate=Gate((HaSoftware("Patroni", "/etc/p.yml", Wired.NOT_WIRED, ("x",)),)),
        maintenance=(MaintenanceBrief("m1", "n2", "ada", "x", 5.0, 60.0, None, ""),),
        pins=(PinBrief("n2", "ada", "x", 1, 2.0, INCIDENT),),
        settings={"probe.round_s": "x"},
        receivers=1,
        deaf=(Deaf("pager", "refused", 3.0),),
        care=CareBrief("7.0.5", True, "Degraded", "n3", 60.0, "a snapshot", "x"),
        spent={**told.spent, "key": 1},
        sequence=told.sequence + 1,
    )


FULL = {name: full_report(cluster) for name, cluster in CLUSTERS.items()}


@pytest.mark.parametrize("name", FULL)
def test_every_field_says_something_and_is_believed(name):
    report = FULL[name]
    silent = [one.name for one in fields(report) if not getattr(report, one.name)]
    assert silent == []
    assert impossible_report(report) == ""
    cluster = CLUSTERS[name]
    agent, at = cluster.agents["n1"], cluster.at("n1", 0.9)
    seen = Observed(at, given.heard("n2", report, at.monotonic_s - 0.01))
    after = step(agent.state, seen, agent.policy).state
    assert after.view.reports["n2"].report == report


@over(st.sampled_from(sorted(FULL)), st.data())
@settings(max_examples=150)
def test_a_full_report_that_is_damaged_breaks_nothing(name, data):
    plain = data.draw(strategies.damaged(json.loads(codec.to_json(FULL[name]))))
    try:
        report = codec.from_plain(plain, Report)
    except CodecError:
        return  # the prober's to tell
    cluster = CLUSTERS[name]
    agent, at = cluster.agents["n1"], cluster.at("n1", 0.9)
    state = agent.state
    seen = Observed(at, given.heard("n2", report, at.monotonic_s - 0.01))
    later = replace(at, monotonic_s=at.monotonic_s + 1.0, wall_s=at.wall_s + 1.0)
    for event in (seen, Ticked(at, FINE), Ticked(later, FINE)):
        state = step(state, event, agent.policy).state
        for verdict in state.view.verdicts:
            assert sentence(verdict, agent.policy)
            next_step(verdict)
    told = make_report(state, later, agent.policy)
    assert impossible_report(told) == ""
    assert codec.from_json(codec.to_json(told), Report) == told
