"""PostgreSQL 9.5 and 9.6, by what real servers of them once said: seen and judged."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli.grants_before_10 import SQL
from agent.config import LocalSettings, NodeSettings, Settings
from agent.core import managercare
from agent.core.capture import CaptureOrder, CaptureStatus, Level, Phase
from agent.core.care import ManagerOrder
from agent.core.observation import Outcome, PostgresSight, ServerFacts
from agent.daemon.beside import ServerBeside
from agent.daemon.clock import SystemClock
from agent.postgres.control import parse_controldata, read_control
from agent.postgres.reader import DiskReader
from agent.probe.postgres import PostgresProbe
from agent.probe.result import Result
from agent.snapshot.reserve import Reserve
from agent.snapshot.settings import MakesWay
from tests.core.cluster import Cluster
from tests.fix_before_10 import STATEMENT, Old, Speaker
from tests.fix_network import Network

STAGES = ("healthy", "promoted", "split")
NODES = ("n1", "n2")
XLOG_MAGIC = {"9.5": "d087", "9.6": "d093"}


async def ask(port: int) -> Result:
    dsn = f"host=127.0.0.1 port={port} dbname=postgres user=splitguard_probe"
    probe = PostgresProbe(dsn, 5.0, 10, SystemClock())
    try:
        return await probe.ask()
    finally:
        await probe.close()


async def sight(network: Network, old: Old, stage: str, node: str) -> PostgresSight:
    result = await ask((await old.serve(network, stage, node)).port)
    assert result.outcome is Outcome.ANSWERED, result.reason
    assert result.postgres is not None
    return result.postgres


@pytest.mark.fact("old-servers")
async def test_the_probe_sees_a_pair_and_its_promotion(network: Network, old: Old):
    up, down = [await sight(network, old, "healthy", node) for node in NODES]
    control = parse_controldata(old.printed("healthy", "n1"))
    assert up.system_id == down.system_id == control.system_id
    assert up.version_num == down.version_num
    assert up.version_num == old.version_num
    assert (up.in_recovery, down.in_recovery) == (False, True)
    assert (up.timeline, down.timeline) == (1, 1)
    (sender,) = up.senders
    assert (sender.name, sender.state, sender.sync_state) == (
        "n2", "streaming", "async",
    )  # fmt: skip
    assert sender.flush_lsn is not None
    assert (up.replay_lsn, up.receiver_mark) == (None, None)
    assert down.replay_lsn is not None
    assert down.flush_lsn is not None
    assert down.replay_lsn <= down.flush_lsn
    assert down.receiver_mark
    assert down.upstream is None, "neither version names the upstream"
    assert up.next_xid == down.next_xid
    promoted = await sight(network, old, "promoted", "n2")
    assert (promoted.in_recovery, promoted.timeline) == (False, 2)
    assert promoted.postmaster_started == down.postmaster_started


async def test_what_is_older_and_a_role_without_the_functions_say_what_to_do(
    network: Network, old: Old
):
    ancient = await network.listen(Speaker("9.4.26", b"").serve)
    result = await ask(ancient.port)
    assert result.outcome is Outcome.INCOMPATIBLE
    assert "9.5 is the oldest" in result.reason
    torn = json.loads(old.answer("healthy", "n2"))
    torn["control"] = "00" + torn["control"][2:]
    half = await network.listen(Speaker(old.version, json.dumps(torn).encode()).serve)
    result = await ask(half.port)
    assert result.outcome is Outcome.GARBLED
    assert "wrong CRC" in result.reason


def test_the_statement_asks_for_functions_that_the_grants_make():
    asked = set(re.findall(rb"splitguard\.(\w+)\(", STATEMENT))
    made = set(re.findall(r"FUNCTION splitguard\.(\w+)\(", SQL))
    assert {name.decode() for name in asked} == made
    assert SQL.count("SECURITY DEFINER") == SQL.count("AS $$ SELECT") - 2
    assert SQL.count("SET search_path = pg_catalog") == SQL.count("AS $$ SELECT")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("node", NODES)
def test_the_control_file_says_what_the_servers_own_program_says(
    tmp_path: Path, old: Old, stage: str, node: str
):
    read = read_control(old.data_dir(tmp_path, stage, node))
    assert read == parse_controldata(old.printed(stage, node))


def facts(old: Old, folder: Path, stage: str, node: str) -> ServerFacts:
    found = DiskReader(old.data_dir(folder, stage, node)).read()
    assert isinstance(found, ServerFacts), found
    return found


def test_the_disk_tells_role_lineage_and_how_the_timeline_began(
    tmp_path: Path, old: Old
):
    first, second = [facts(old, tmp_path, "healthy", node) for node in NODES]
    assert (first.standby_signal, second.standby_signal) == (False, True)
    assert first.version_num == old.version_num // 100 * 100, "no program tells more"
    loser, winner = [facts(old, tmp_path, "split", node) for node in NODES]
    assert not winner.standby_signal, "recovery.conf became recovery.done"
    assert (loser.lineage.timeline, winner.lineage.timeline) == (1, 2)
    (switch,) = winner.lineage.switches
    assert switch.timeline == 1
    (mark,) = winner.lineage.fingerprints
    assert (mark.timeline, mark.lsn) == (2, switch.lsn)
    pages = old.told["beginning"]["pages"]
    magic = bytes.fromhex(pages["0"])[1::-1].hex()
    assert magic == XLOG_MAGIC[old.version[:3]]
    assert "no programs" in loser.end_unknown or "pg_waldump" in loser.end_unknown


class Recorded(Cluster):
    """Two agents beside servers that say what the recorded ones said."""

    def __init__(
        self,
        sights: dict[tuple[str, str], PostgresSight],
        disks: dict[tuple[str, str], ServerFacts],
        **more: Any,
    ) -> None:
        self.stage = "healthy"
        self.sights = sights
        self.disks = disks
        super().__init__(2, **more)

    def _sight(self, server):
        return self.sights[self.stage, server.node]

    def _facts(self, server):
        disk = self.disks[self.stage, server.node]
        return replace(disk, running=True, end_lsn=None, end_unknown="")


async def test_the_core_calls_the_recorded_split_one(
    network: Network, tmp_path: Path, old: Old
):
    places = [(stage, node) for stage in STAGES for node in NODES]
    sights = {place: await sight(network, old, *place) for place in places}
    disks = {place: facts(old, tmp_path, *place) for place in places}
    cluster = Recorded(sights, disks)
    cluster.run(5)
    assert cluster.codes("n1") == cluster.codes("n2") == {"healthy"}
    cluster.cut("n2")
    cluster.stage = "split"
    cluster.run(8)
    assert "observer-isolated" in cluster.codes("n1")
    cluster.heal()
    cluster.run(5)
    (fork,) = disks["split", "n2"].lineage.switches
    for node in NODES:
        found = cluster.verdict(node, "split-brain").evidence
        assert found["tips"] == "n1,n2"
        assert found["fork_lsn"] == str(fork.lsn)


async def test_where_nothing_is_copied_the_managers_of_both_sides_take_a_snapshot(
    network: Network, tmp_path: Path, old: Old
):
    """Every manager through 6.4.2 stands over 9.5; its snapshot is what is kept."""
    places = [(stage, node) for stage in STAGES for node in NODES]
    sights = {place: await sight(network, old, *place) for place in places}
    disks = {place: facts(old, tmp_path, *place) for place in places}
    cluster = Recorded(sights, disks, managers=True)
    cluster.run(5)
    assert not any(wanted_by(cluster, node) for node in NODES)
    cluster.cut("n2")
    cluster.run(5)
    assert "observer-isolated" in cluster.codes("n1")
    assert wanted_by(cluster, "n1") is None, "it has written nothing yet"
    cluster.stage = "split"
    cluster.active["n2"] = True
    cluster.run(5)
    assert "observer-isolated" in str(wanted_by(cluster, "n1"))
    cluster.heal()
    cluster.run(5)
    for node in NODES:
        assert "split-brain" in str(wanted_by(cluster, node))


def wanted_by(cluster: Cluster, node: str) -> ManagerOrder | None:
    agent = cluster.agents[node]
    now_s = cluster.at(node, 0.9).monotonic_s
    return managercare.wanted(agent.state, now_s, agent.policy)


def test_nothing_of_such_a_server_is_copied_and_that_is_said_beforehand(
    tmp_path: Path, old: Old
):
    data_dir = old.data_dir(tmp_path, "split", "n1")
    told: list[CaptureStatus] = []
    settings = Settings(
        cluster="test",
        node="n1",
        state_dir=tmp_path,
        local=LocalSettings(data_dir=data_dir),
        nodes=(NodeSettings(name="n1", postgres="host=127.0.0.1 dbname=postgres"),),
    )
    way = MakesWay(Reserve(tmp_path, 0))
    server = ServerBeside(
        settings, SystemClock().moment, told.append, lambda _: None, way
    )
    (obstacle,) = server.outlook().obstacles
    assert obstacle.reason == f"PostgreSQL {old.version[:3]} is watched and not copied"
    assert "by hand" in obstacle.hint
    server.run(CaptureOrder("n1-1", "n1", (Level.TAIL,), (), "a test", None, None))
    assert [status.phase for status in told] == [Phase.FAILED]
    assert obstacle.reason in told[0].reason
    server.stop()
