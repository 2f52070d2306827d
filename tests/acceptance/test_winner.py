"""A winner that is pinned on one side of a real cut, and what becomes of the pin."""

import json

import pytest

from tests.fix_lab import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def command(spawned, cluster, *words):
    config = cluster.command.state_dir / "n1" / "agent.toml"
    ran = spawned(*words, "--config", config)
    assert ran.code == 0, ran.words
    return ran


def suspects(cluster):
    known = [verdict for verdict, _ in cluster.verdicts("n1")]
    return True if "split-brain-suspected" in known else None


def pinned(cluster, name):
    """Whom an agent holds for pinned, and by whom."""
    told = cluster.agent(name, "/v1/winner") or {}
    return (told["pin"]["node"], told["pin"]["who"]) if told.get("pin") else None


def nobody_pinned(cluster):
    return None if any(pinned(cluster, name) for name in ("n1", "n2", "n3")) else True


def test_a_pin_reaches_the_other_side_with_the_heal_and_ends_with_the_split(
    lab_cluster, spawned
):
    cluster = lab_cluster
    cluster.command.done("partition", "n1")
    until(30, lambda: suspects(cluster))
    ran = command(
        spawned, cluster, "winner", "pin", "n1", "--reason", "orders", "--who", "ann"
    )
    assert "until inc-" in ran.out
    assert pinned(cluster, "n3") is None
    cluster.command.done("heal")
    assert until(20, lambda: pinned(cluster, "n3")) == ("n1", "ann")
    cluster.until_healthy()
    until(60, lambda: nobody_pinned(cluster))
    shown = command(spawned, cluster, "winner", "show", "--output", "json")
    assert json.loads(shown.out)["rule"] == "only"
