"""The active manager is down: see who took over, then mend it or make it anew.

Theory of operation. Before anything of the old one is destroyed two things must be
known: the new active one stands on the newest database, and what only the old one has
is kept. Whether it is mended or replaced is seen from what the operator does: it comes
back, or it is taken out of the cluster.
"""

from dataclasses import replace

from agent.vnfm.recovery import node_down, parts
from agent.vnfm.recovery.model import Each, Kind, Scenario, Step, Words, both

_REPLACED = ("way", "replace")

_WHO = Step(
    "which",
    Kind.CHECK,
    "Which manager was the active one",
    both(
        "The one that answers nobody although its PostgreSQL was the primary before the"
        " latest failover; --node names it where that is not to be seen."
    ),
    act="down-active",
)

_TOOK_OVER = Step(
    "took-over",
    Kind.CHECK,
    "Another manager became active",
    Words(
        "Exactly one other manager answers as active; that takes it a minute or so.",
        "Another manager answers, and a database takes writes; that takes a minute or"
        " so.",
    ),
    act="one-active",
    wait_s=parts.SETTLE_S,
)

_NEWEST = Step(
    "newest",
    Kind.CHECK,
    "It stands on the newest database",
    both(
        "Of all PostgreSQL servers that are left the one beside {leader} (from 5.x on:"
        " the primary) is on the highest timeline, and nobody is further on it. A"
        " database that is behind one that was ever seen is `stale-primary`: then stop,"
        " and have another one promoted."
    ),
    act="newest",
    wait_s=parts.SETTLE_S,
)

_KEPT = Step(
    "kept",
    Kind.CHECK,
    "What only {node} has is kept",
    both(
        "Its PostgreSQL has nothing past the fork, or a complete snapshot of it is kept"
        " (`splitguard snapshots list`). Where its machine cannot be asked, its disk"
        " may hold acknowledged writes that nobody else has: start its agent, or keep"
        " the disk; --lost {node} says that it is gone."
    ),
    act="kept",
    wait_s=parts.JOIN_S,
)

_INVESTIGATE = Step(
    "investigate",
    Kind.SAY,
    "Find out why {node} fell, and mend it; or take it out of the cluster",
    Words(
        "`splitguard explain` and `splitguard incidents list` say what was seen. On"
        " {node}: /var/log/cloudify/cloudify-cluster.log, `systemctl --failed`,"
        " `df -h`. Once it is mended it comes back by itself, as a standby. If it"
        " cannot be, take it out; this run sees which of both you did, and goes on with"
        " that.",
        "`splitguard explain` and `splitguard incidents list` say what was seen. On"
        " {node}: /var/log/cloudify/, `cfy_manager status`, `cfy_manager dbs list`,"
        " `df -h`. Once it is mended it comes back by itself. If it cannot be, take it"
        " out; this run sees which of both you did, and goes on with that.",
    ),
    commands=node_down.REMOVE.commands,
)

_WAY = Step(
    "mended-or-removed",
    Kind.CHECK,
    "{node} is back, or out of the cluster",
    both("{leader} lists it as online and well, or does not list it any more."),
    act="back-or-removed",
    wait_s=parts.INSTALL_S,
)

ACTIVE_DOWN = Scenario(
    "active-down",
    "Active manager node down",
    "The manager that was active is lost, and another one took its place. With 5.x and"
    " later every manager is active: there this is about the one whose database was the"
    " primary.",
    (
        "Other healthy manager from the cluster automatically becomes active manager.",
        "Investigate error.",
        "Either: fix problem; or destroy manager, install manager, join cluster.",
    ),
    (
        parts.LOOK,
        _WHO,
        _TOOK_OVER,
        _NEWEST,
        _KEPT,
        _INVESTIGATE,
        _WAY,
        *(
            replace(step, when=_REPLACED)
            for step in (
                *parts.certificates_of(Each.ONCE),
                *parts.destroy(Each.ONCE),
                *parts.install(Each.ONCE),
                *parts.join(Each.ONCE),
            )
        ),
        parts.HEALTHY,
    ),
)
