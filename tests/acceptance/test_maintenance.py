"""A switchover of real servers that was announced."""

import json
import os
import signal

import pytest

from tests.fix_lab import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def command(spawned, cluster, *words):
    config = cluster.command.state_dir / "n1" / "agent.toml"
    ran = spawned(*words, "--config", config, "--output", "json")
    assert ran.code == 0, ran.words
    return json.loads(ran.out)


def failovers(cluster):
    """What each agent says of the failover, if all of them do."""
    found = [one for one in cluster.incidents() if one["verdict"] == "failover"]
    return found if {one["agent"] for one in found} == {"n1", "n2", "n3"} else None


def misses(cluster):
    """How often in a row each agent has missed the PostgreSQL of n1."""
    told = (cluster.agent(name, "/v1/nodes") for name in ("n1", "n2", "n3"))
    return [
        node["postgres"]["missed"]
        for one in told
        for node in one["nodes"]
        if node["name"] == "n1"
    ]


def down(cluster):
    """By whom the PostgreSQL of n1 is said to be down."""
    found = [one for one in cluster.incidents() if one["verdict"] == "postgres-down"]
    return {one["agent"] for one in found if one["subject"] == "n1"}


def test_an_announced_switchover_is_info_to_every_agent(lab_cluster, spawned):
    cluster = lab_cluster
    made = command(
        spawned, cluster, "maintenance", "start", "n2", "--switchover",
        "--reason", "patch n1", "--owner", "ann",
    )  # fmt: skip
    until(10, lambda: cluster.agent("n3", "/v1/status")["decisions"] or None)
    pid = (cluster.command.state_dir / "n1" / "pgdata" / "postmaster.pid").read_text()
    os.kill(int(pid.split()[0]), signal.SIGINT)
    cluster.command.done("promote", "n2")
    for one in until(30, lambda: failovers(cluster)):
        assert (one["severity"], one["worst"]) == ("info", "info"), one
        assert one["acknowledged_by"] == "ann"
        assert one["sentence"].startswith("As ann announced (patch n1), the primary")
    until(30, lambda: min(misses(cluster)) > 4 or None)
    assert down(cluster) == set()  # it may restart meanwhile
    ended = command(spawned, cluster, "maintenance", "end", made["id"])
    assert ended["in_force"] is False
    until(10, lambda: not cluster.agent("n3", "/v1/status")["decisions"] or None)
    until(10, lambda: down(cluster) == {"n1", "n2", "n3"} or None)
    cluster.command.done("kill", "n1")
    cluster.command.done("start", "n1")
    cluster.until_healthy()
