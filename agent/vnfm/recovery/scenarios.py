"""All scenarios, by name."""

from collections.abc import Mapping

from agent.vnfm.recovery.active_down import ACTIVE_DOWN
from agent.vnfm.recovery.model import Scenario
from agent.vnfm.recovery.node_down import NODE_DOWN
from agent.vnfm.recovery.split_brain import SPLIT_BRAIN
from agent.vnfm.recovery.whole_cluster import WHOLE_CLUSTER

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each for each in (WHOLE_CLUSTER, NODE_DOWN, ACTIVE_DOWN, SPLIT_BRAIN)
}
