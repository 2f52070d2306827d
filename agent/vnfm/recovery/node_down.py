"""One manager of the cluster is down, and it is not the active one.

Theory of operation. The others go on. The dead one is taken out of the cluster, then
made anew; a member that was only destroyed would stay on the cluster's list, and its
name could not be joined again.
"""

from agent.vnfm.recovery import parts
from agent.vnfm.recovery.model import Each, Kind, Lines, Scenario, Step, Words, both

DOWN_NODE = Step(
    "which",
    Kind.CHECK,
    "Which manager is down",
    both(
        "The one that answers nobody, or that the cluster lists as offline or failed;"
        " --node names it where there are several. An active one is another matter:"
        " `splitguard recover active-down`."
    ),
    act="down-node",
)

OTHERS_STAND = Step(
    "others-stand",
    Kind.CHECK,
    "The others go on",
    Words(
        "Exactly one other manager is active.",
        "Another manager answers, and a database takes writes.",
    ),
    act="one-active",
    wait_s=parts.SETTLE_S,
)

_KEPT = Step(
    "kept",
    Kind.CHECK,
    "{node} has nothing that nobody else has",
    both(
        "It was a standby on the line of today's primary when it was last seen; or a"
        " complete snapshot of it is kept. Was it the primary before a failover, or on"
        " an older timeline, its disk may hold acknowledged writes that nobody else"
        " has: start its agent, or keep the disk; --lost {node} says that it is gone."
    ),
    act="kept-or-standby",
    wait_s=parts.JOIN_S,
)

REMOVE = Step(
    "remove",
    Kind.SAY,
    "Take {node} out of the cluster",
    both(
        "Where you use cfy, by the name that the cluster has for it. It takes nothing"
        " away on {node} itself."
    ),
    commands=Lines(
        (parts.PROFILE, "cfy cluster nodes remove {member}"),
        (parts.PROFILE, "cfy cluster remove {member}"),
    ),
)

REMOVED = Step(
    "removed",
    Kind.CHECK,
    "{node} is no member any more",
    both("{leader} does not list it."),
    act="removed",
    wait_s=parts.JOIN_S,
)

NODE_DOWN = Scenario(
    "node-down",
    "One manager cluster node down",
    "A manager that is not the active one is lost. The cluster goes on without it; this"
    " brings it back to its full number.",
    (
        "Remove manager from the cluster.",
        "Destroy manager.",
        "Bootstrap fresh manager.",
        "Join existing cluster.",
    ),
    (
        parts.LOOK,
        DOWN_NODE,
        OTHERS_STAND,
        _KEPT,
        *parts.certificates_of(Each.ONCE),
        REMOVE,
        REMOVED,
        *parts.destroy(Each.ONCE),
        *parts.install(Each.ONCE),
        *parts.join(Each.ONCE),
        parts.HEALTHY,
    ),
)
