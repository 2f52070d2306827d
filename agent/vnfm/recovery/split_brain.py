"""Split brain: keep what the losing side wrote before the managers wipe it.

Theory of operation. Once they see each other again, managers of 4.x make the one with
the newest database the active one and resync the others; a database under Patroni that
has lost may delete its own data when it rejoins. So the losing sides are captured while
the network is still cut, or while the gate holds the resync back; then the way back is
free, and what was lost is reported.
"""

from dataclasses import replace

from agent.vnfm.recovery import parts
from agent.vnfm.recovery.model import Each, Kind, Scenario, Step, Words, both, lines

_LOOK = replace(
    parts.LOOK,
    text=both(
        "The agent is asked what it and the others see of every PostgreSQL and manager;"
        " no manager is logged in to."
    ),
)

_SIDES = Step(
    "sides",
    Kind.CHECK,
    "Who is on which side",
    both(
        "Which PostgreSQL servers take writes or stand past the fork, which managers"
        " answer as active, and who is predicted to be kept, as far as that can be seen"
        " from here: while the network is cut, the other side cannot be."
    ),
    act="sides",
)

_WINNER = Step(
    "winner",
    Kind.DO,
    "Settle which side is kept",
    both(
        "As predicted, or as --winner NODE --reason TEXT says: that is pinned at the"
        " agent, which orders the captures. A pin promotes nobody: the managers go by"
        " the newest database, so see that it is the same one."
    ),
    act="winner",
    changes=True,
)

_CAPTURE = Step(
    "capture",
    Kind.DO,
    "Have what {node} holds captured",
    both(
        "Where its agent has not done it by itself yet, a full snapshot of {node} is"
        " ordered there. Only a person may do without: --lost {node}."
    ),
    act="capture",
    each=Each.LOSERS,
    changes=True,
)

_CAPTURED = Step(
    "captured",
    Kind.CHECK,
    "What {node} holds is kept",
    both("Its snapshot is complete: read back, and its log checked to the end."),
    act="captured",
    each=Each.LOSERS,
    wait_s=parts.JOIN_S,
)

_ALL_CAPTURED = replace(
    _CAPTURED,
    id="all-captured",
    text=both(
        "The sides that could not be seen before were captured by their own agents: the"
        " snapshot is complete, and here it is known."
    ),
)

_HEAL = Step(
    "heal",
    Kind.SAY,
    "Mend the network",
    Words(
        "Let the machines of all managers reach each other again (ports 80/443, 8300,"
        " 8301, 8500, 15432, 22000). The managers then agree by themselves on the"
        " newest database.",
        "Let the machines reach each other again (443, 5432, 8008, 2379, 2380, 5671,"
        " 25672). If two databases still lead afterwards, stop Patroni on {losers}.",
    ),
    commands=lines("splitguard status"),
)

_MET = Step(
    "met",
    Kind.CHECK,
    "One side is left",
    Words(
        "Exactly one manager answers as active, the one beside {winner}, and one"
        " PostgreSQL takes writes.",
        "One PostgreSQL takes writes, that of {winner}, and the managers answer.",
    ),
    act="met",
    wait_s=parts.INSTALL_S,
)

_BACK = Step(
    "way-back",
    Kind.SAY,
    "Bring {node} back behind {winner}",
    both(
        "A resync that comes through the gate (the managers', Patroni's) waits for its"
        " permit and then goes by itself: `splitguard guard status` on {node} says what"
        " it waits for. Where nothing resyncs {node}, on its machine:"
    ),
    commands=lines("splitguard resync {node}"),
    each=Each.LOSERS,
)

_FOLLOWS = Step(
    "follows",
    Kind.CHECK,
    "{node} follows {winner}",
    both("Its PostgreSQL is a standby that streams, on the winner's timeline."),
    act="follows",
    each=Each.LOSERS,
    wait_s=parts.INSTALL_S,
)

_LOSS = Step(
    "loss",
    Kind.DO,
    "Say what was lost with {node}",
    both(
        "The loss report of its snapshot is made: rows, and the managers' deployments,"
        " blueprints, plugins and secrets, that {winner} does not have. From another"
        " machine than that of {node} this needs --token-file (scopes read and data);"
        " without a report the run does not end well."
    ),
    act="loss",
    each=Each.LOSERS,
)

_RESCUE = Step(
    "rescue",
    Kind.SAY,
    "Decide what of {node} is put back",
    both(
        "On the machine of {node}, where the snapshot lies: look at the report, then"
        " put back what is wanted. Each line tries first and asks before it writes."
        " This may be done later; the snapshot stays until its incident is"
        " acknowledged."
    ),
    commands=lines(
        "splitguard loss report {snapshot_of_node}",
        "splitguard loss rescue {snapshot_of_node} --to {to}/rescue-{node}",
        'splitguard loss rescue {snapshot_of_node} --apply "host={winner_host}'
        ' user=postgres" --reason "split brain"',
    ),
    each=Each.LOSERS,
)

SPLIT_BRAIN = Scenario(
    "split-brain",
    "Split brain",
    "Managers could not see each other for a while, and more than one became active."
    " After the network is back the newest database is kept and all others are made its"
    " copies: what they held is lost to the cluster. This keeps it first, then leads"
    " back to one cluster and says what is missing there. Until then no manager is"
    " logged in to: each login is a write, and would push a clean side past the fork.",
    (
        "After connectivity is back, the master becomes the only one in the cluster.",
        "It's chosen based on the newest version of the PostgreSQL database.",
        "All data from other managers will be synced with the active one.",
        "All data/installed deployments/plugins will get lost.",
    ),
    (
        _LOOK,
        _SIDES,
        _WINNER,
        _CAPTURE,
        _CAPTURED,
        _HEAL,
        _MET,
        _ALL_CAPTURED,
        _BACK,
        _FOLLOWS,
        _LOSS,
        _RESCUE,
        parts.HEALTHY,
    ),
    by_agents=True,
)
