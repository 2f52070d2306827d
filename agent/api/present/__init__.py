"""The state of the core in the words of the API: pure functions, no I/O and no clock.

Theory of operation. A `Frame` is the state, the policy and one instant. Every
function here takes a frame and returns a model of `agent.api.models`, so the routes,
the page and the command line say the same thing of the same state. Judging has
happened before; what is worded here is read, never concluded anew.
"""

from agent.api.present.frame import Frame
from agent.api.present.incidents import capture_out, incident_detail, incident_out
from agent.api.present.lineage import lineage
from agent.api.present.nodes import losing, matrix, node_out, nodes
from agent.api.present.permits import permit_out
from agent.api.present.status import headline, status

__all__ = [
    "Frame",
    "capture_out",
    "headline",
    "incident_detail",
    "incident_out",
    "lineage",
    "losing",
    "matrix",
    "node_out",
    "nodes",
    "permit_out",
    "status",
]
