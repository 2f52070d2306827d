"""A shim that gets no permit: it waits, keeps WAL by itself, and nothing is wiped.

Splitguard is made unusable on the loser's machine in one way after the other. Patroni
runs with the flags that let it remove a data folder which it could not rewind (P5), so
any exit of the shim would show at once: the folder would be another one.
"""

from pathlib import Path

import pytest

from tests.fix_postgres import eventually
from tests.system import stories
from tests.system.cluster import Cluster
from tests.system.node import Node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
TURNS = 2
LYING = """#!/bin/sh
echo "$@" >>{attempts}
exit {code}
"""


def children(node: Node, pid: str) -> str:
    return node.box.run("pgrep", "-P", pid, check=False).stdout


def until_it_asked_again(cluster: Cluster, node: Node, turns: int = TURNS) -> None:
    """Wait until the shim has started that many more things."""
    pid = cluster.shim_pid(node)
    seen: set[str] = set()

    def turned() -> bool:
        seen.add(children(node, pid))
        return len(seen) > 2 * turns

    eventually("the shim asks again", turned, stories.BLOCKED_S)


def break_command(cluster: Cluster, node: Node, code: int) -> None:
    """Put something in the place of the command `splitguard` that ends at once."""
    attempts = cluster.here / f"attempts{code}"
    command = cluster.kit.splitguard / "bin/splitguard"
    text = LYING.format(attempts=attempts, code=code)
    node.box.run("tee", command, stdin=text, as_root=True)
    node.box.run("chmod", "755", command, as_root=True)
    asked = node.box.folder / attempts.name
    eventually(
        f"the shim asks what ends with {code}",
        lambda: asked.exists() and len(asked.read_text().splitlines()) >= TURNS,
        stories.BLOCKED_S,
    )


def rescued(node: Node) -> list[Path]:
    """What the shim has copied aside."""
    return list((node.box.folder / "keep/.rescue").glob("[0-9]*/pg_wal"))


@pytest.mark.fact("P5", "P8")
def test_a_shim_without_agent_command_or_interpreter_waits_and_keeps_wal_p5_p8(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    loser, venv = split.loser, cluster.kit.splitguard
    before = loser.data_dir.stat().st_ino
    loser.agent.kill()
    loser.patroni.thaw()
    stories.until_demoted(split)
    eventually("the shim waits", lambda: cluster.shim_pid(loser), stories.BLOCKED_S)
    eventually("the shim has copied WAL", lambda: rescued(loser), stories.BLOCKED_S)
    (rescue,) = rescued(loser)
    loser.box.run("diff", "-r", *(
        cluster.here / path.relative_to(loser.box.folder)
        for path in (rescue, loser.data_dir / "pg_wal")
    ))  # fmt: skip

    loser.box.cover(venv / "lib")  # no package is left: the interpreter fails
    until_it_asked_again(cluster, loser)
    loser.box.uncover(venv / "lib")
    loser.box.cover(venv)  # the whole virtual environment is gone
    until_it_asked_again(cluster, loser)
    loser.box.run("mkdir", venv / "bin", as_root=True)
    break_command(cluster, loser, 0)
    break_command(cluster, loser, 1)
    assert loser.data_dir.stat().st_ino == before
    assert not loser.writable()

    loser.box.uncover(venv)
    cluster.start_agent(loser.name)
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted


@pytest.mark.fact("shim-outlives-patroni")
@pytest.mark.slow_system
def test_a_shim_whose_patroni_is_killed_rewinds_nothing_under_the_next_one(
    cluster: Cluster,
):
    split = stories.frozen(cluster)
    loser = split.loser
    loser.agent.freeze()
    loser.patroni.thaw()
    stories.until_blocked(cluster, split)
    shim = int(cluster.shim_pid(loser))
    before = (loser.data_dir / "PG_VERSION").stat().st_mtime_ns
    loser.patroni.kill()
    eventually("the shim ends", lambda: not loser.box.alive(shim), stories.BLOCKED_S)
    # pg_rewind and a re-clone write this file anew.
    assert (loser.data_dir / "PG_VERSION").stat().st_mtime_ns == before

    loser.agent.thaw()
    cluster.start_patroni(loser.name)
    stories.until_resynced(split)
    cluster.stop_clients()
    counted = cluster.count(split.winner)
    assert counted.lost == 0, counted
    assert counted.without >= stories.ROWS, counted
