"""A real trouble, exported by the command as it stands, and judged again elsewhere."""

import json

import pytest

from tests.fix_lab import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def exported(spawned, cluster, name, **environ):
    """The field journal of n1, by the command that an operator types."""
    path = spawned.home / name
    config = cluster.command.state_dir / "n1" / "agent.toml"
    ran = spawned("journal", "export", "--to", path, "--config", config, **environ)
    assert ran.code == 0, ran.words
    return path, ran.words


def isolated(cluster):
    known = [verdict for verdict, _ in cluster.verdicts("n1")]
    return True if "observer-isolated" in known else None


def test_a_cut_is_replayed_as_it_was_also_from_an_agent_that_is_dead(
    lab_cluster, spawned
):
    cluster = lab_cluster
    cluster.command.done("partition", "n1")
    until(30, lambda: isolated(cluster))
    alive, _ = exported(spawned, cluster, "alive.jsonl")
    cluster.command.done("kill", "n1")
    dead, words = exported(spawned, cluster, "dead.jsonl")
    assert "no agent answers" in words
    cluster.command.done("start", "n1")
    cluster.command.done("heal")
    cluster.until_healthy()
    later, _ = exported(spawned, cluster, "later.jsonl")
    for path in (alive, dead, later):
        ran = spawned("replay", path, "--output", "json")
        assert ran.code == 0, ran.out
        found = json.loads(ran.out)
        assert found["node"] == "n1"
        assert found["differences"] == []
        assert "observer-isolated" in {one["after"] for one in found["flips"]}
    for secret in (cluster.command.state_dir / "secrets").iterdir():
        assert secret.read_text().strip() not in later.read_text()
    assert "password" not in later.read_text()
