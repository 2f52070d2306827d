"""What a real Patroni would do to a loser is said before there is one (P5, P6, P12).

The cluster's shared configuration has all flags on that Cloudify's installer sets, and
nothing of that stands in a file: the agents have to ask Patroni itself.
"""

from functools import partial

import pytest

from tests.fix_postgres import eventually
from tests.system.cluster import Cluster
from tests.system.node import Node
from tests.system.texts import WIPES

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SEEN_S = 90.0
FLAGS = [name for name in WIPES if name.startswith("remove_data_directory")]


def lines(cluster: Cluster, name: str) -> dict[str, str]:
    """Every node's protection line, as one node's agent tells it."""
    told = cluster[name].ask("/v1/status") or {"protection": {}}
    return {node: each["line"] for node, each in told["protection"].items()}


def says(node: Node) -> bool:
    """Whether a node's agent names its own configuration as one that wipes."""
    return ("destructive-config", node.name) in node.verdicts()


@pytest.mark.fact("P5", "P6", "P12")
def test_flags_that_wipe_are_named_until_the_guard_stands_in_front_p5_p6_p12(
    unguarded: Cluster,
):
    for name, node in unguarded.nodes.items():
        eventually(
            f"{name} says that its data would be deleted",
            partial(says, node),
            SEEN_S,
        )
        (found,) = [
            each for each in node.ask("/v1/nodes")["nodes"] if each["name"] == name
        ]
        (software,) = found["guard"]["software"]
        assert (software["name"], software["wired"]) == ("Patroni", "not wired")
        assert software["destructive"] == FLAGS
    wipes = "Patroni is set to delete a loser's data"
    eventually(
        "n1 tells it of every node",
        lambda: all(wipes in line for line in lines(unguarded, "n1").values()),
        SEEN_S,
    )

    unguarded.wire(replica=True)
    eventually(
        "every node's guard is said to be wired",
        lambda: all("; guard wired;" in x for x in lines(unguarded, "n2").values()),
        SEEN_S,
    )
    for name, node in unguarded.nodes.items():
        assert ("destructive-config", name) not in node.verdicts()
