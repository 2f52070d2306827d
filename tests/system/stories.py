"""What happens to a cluster, told once for several tests.

Each story leaves the cluster split: two servers accept writes and a client writes on
each. What the tests differ in is what stands in front of the resync that follows.
"""

from dataclasses import dataclass

from tests.fix_postgres import eventually
from tests.system.cluster import NODES, Cluster, Node
from tests.system.ledger import Client

ROWS = 60
PROVEN_S = 20.0
DEMOTED_S = 30.0


@dataclass
class Split:
    """Two primaries at once."""

    loser: Node
    winner: Node
    on_loser: Client
    on_winner: Client


def frozen(cluster: Cluster, rows: int = ROWS) -> Split:
    """The primary's Patroni freezes, PostgreSQL lives, another is promoted (P1)."""
    loser = next(node for node in cluster.nodes.values() if node.writable())
    on_loser = cluster.client(loser.name, "frozen")
    on_loser.until(rows)
    loser.patroni.freeze()
    others = [name for name in NODES if name != loser.name]
    winner = cluster.until_primary(*others)
    on_winner = cluster.client(winner.name, "promoted")
    on_winner.until(rows)
    on_loser.until(rows)
    return Split(loser, winner, on_loser, on_winner)


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
