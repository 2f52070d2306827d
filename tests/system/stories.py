"""What happens to a cluster, told once for several tests.

Each story leaves the cluster split: the loser has acknowledged writes that the winner
does not have. What the tests differ in is what stands in front of the resync.
"""

import signal
from dataclasses import dataclass

from agent.core.lsn import Lsn
from tests.fix_postgres import eventually
from tests.system.cluster import NODES, Cluster
from tests.system.node import Node
from tests.system.texts import BIN_DIR

ROWS = 60
PROVEN_S = 20.0
DEMOTED_S = 30.0
BLOCKED_S = 60.0
SMALL = "110m"
"""A volume with room for the WAL of a small cluster, and not for a copy of it."""
RESYNCED_S = 120.0


@dataclass
class Split:
    """A loser and a winner."""

    loser: Node
    winner: Node


def others(node: Node) -> tuple[str, ...]:
    return tuple(name for name in NODES if name != node.name)


def frozen(cluster: Cluster, rows: int = ROWS) -> Split:
    """The primary's Patroni freezes, PostgreSQL lives, another is promoted (P1)."""
    loser = cluster.primary()
    on_loser = cluster.client(loser.name, "frozen")
    on_loser.until(rows)
    loser.patroni.freeze()
    winner = cluster.until_primary(*others(loser))
    cluster.client(winner.name, "promoted").until(rows)
    on_loser.until(rows)
    return Split(loser, winner)


def cut_off(cluster: Cluster, rows: int = ROWS) -> Split:
    """The primary's network is cut; it takes writes until its Patroni demotes it."""
    loser = cluster.primary()
    on_loser = cluster.client(loser.name, "cut")
    on_loser.until(rows)
    cluster.world.cut(loser.name)
    on_loser.until(rows)
    winner = cluster.until_primary(*others(loser))
    cluster.client(winner.name, "promoted").until(rows)
    return Split(loser, winner)


def killed(cluster: Cluster, rows: int = ROWS) -> Split:
    """Standbys stop hearing the primary, which is then killed with its Patroni."""
    loser = cluster.primary()
    on_loser = cluster.client(loser.name, "killed")
    on_loser.until(rows)
    cluster.world.cut(loser.name, *others(loser))
    on_loser.until(rows)
    kill_all(loser)
    winner = cluster.until_primary(*others(loser))
    # Not earlier: the kernel would still send what the dead server had written.
    cluster.world.heal()
    cluster.client(winner.name, "promoted").until(rows)
    return Split(loser, winner)


def kill_all(node: Node) -> None:
    """Kill a node's Patroni and its PostgreSQL."""
    postmaster = node.postmaster()
    node.patroni.kill()
    node.box.signal(postmaster, signal.SIGKILL)


def promote_by_hand(cluster: Cluster, node: Node, rows: int = ROWS) -> None:
    """Promote a node behind the back of its Patroni, and write on it."""
    node.box.run(BIN_DIR / "pg_ctl", "-D", cluster.here / "pg/data", "-w", "promote")
    cluster.client(node.name, "by-hand").until(rows)


def minority(cluster: Cluster, rows: int = ROWS) -> Split:
    """Two nodes go on together; the third, alone with etcd, is promoted.

    The primary's Patroni is frozen, and the standby on its side cannot reach etcd.
    """
    loser = cluster.primary()
    follower, alone = others(loser)
    on_loser = cluster.client(loser.name, "majority")
    on_loser.until(rows)
    loser.patroni.freeze()
    cluster.world.cut(alone, loser.name, follower)
    cluster.world.cut(follower, "etcd")
    winner = cluster.until_primary(alone)
    cluster.client(winner.name, "alone").until(rows)
    on_loser.until(rows)
    return Split(loser, winner)


def deaf(cluster: Cluster, rows: int = ROWS) -> Split:
    """The primary hears nobody any more, though what it sends still arrives."""
    loser = cluster.primary()
    on_loser = cluster.client(loser.name, "deaf")
    on_loser.until(rows)
    boxes = [box for name, box in cluster.world.boxes.items() if name != loser.name]
    loser.box.deafen(*boxes, to_them=False)
    on_loser.until(rows)
    winner = cluster.until_primary(*others(loser))
    cluster.client(winner.name, "promoted").until(rows)
    return Split(loser, winner)


def recover(cluster: Cluster, split: Split) -> None:
    """End the fault: the network is whole, and the loser's Patroni runs."""
    cluster.world.heal()
    if split.loser.patroni.running:
        split.loser.patroni.thaw()
    else:
        cluster.start_patroni(split.loser.name)


def until_all_follow(cluster: Cluster, split: Split) -> None:
    """Wait until every other node follows the winner."""
    left = [cluster[name] for name in others(split.winner)]
    eventually(
        "all follow the winner",
        lambda: all(node.follows(split.winner) for node in left),
        RESYNCED_S,
    )


def until_proven(split: Split) -> None:
    """Wait until an agent says that two nodes accept writes at once."""
    eventually(
        "a split brain is told",
        lambda: any(what == "split-brain" for what, _ in split.loser.verdicts()),
        PROVEN_S,
    )


def until_demoted(split: Split) -> None:
    """Wait until the loser takes no writes any more."""
    eventually("the loser is demoted", lambda: not split.loser.writable(), DEMOTED_S)


def until_resynced(split: Split) -> None:
    """Wait until the loser follows the winner."""
    loser, winner = split.loser, split.winner
    eventually("it is resynced", lambda: loser.follows(winner), RESYNCED_S)


def until_blocked(cluster: Cluster, split: Split) -> None:
    """Wait until a shim stands in front of the loser's rewind."""
    eventually("the shim waits", lambda: cluster.shim_pid(split.loser), BLOCKED_S)


def until_complete(cluster: Cluster, split: Split) -> None:
    """Wait until a complete copy reaches the end of what the loser has written."""
    loser = split.loser
    end = str(loser.query("SELECT pg_current_wal_flush_lsn()::text")[0][0])

    def reached() -> bool:
        kept = [s for s in cluster.snapshots(loser.name) if s["grade"] == "complete"]
        return any(Lsn.parse(s["end_lsn"]) >= Lsn.parse(end) for s in kept)

    eventually("the copy is complete", reached, BLOCKED_S)


def until_unprotected(split: Split) -> None:
    """Wait until the loser's agent says that no copy of it can be made."""
    wanted = ("unprotected", split.loser.name)
    eventually(
        "it is told that the loser is unprotected",
        lambda: wanted in split.loser.verdicts(),
        BLOCKED_S,
    )
