"""`splitguard lab manager`: what an operator's hands do to the managers.

Theory of operation. The recovery of a cluster asks a person for what no program can
do: take a machine down, install a manager on it, join it to the others. In the lab
these commands are that person. Each returns when it is done.
"""

from enum import StrEnum
from typing import Annotated

import typer

from agent.cli.console import say
from agent.cli.lab_options import Node, StateDir, lab_of

app = typer.Typer(
    help="Remove, install, start, join, drop managers, and switch faults.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Fault(StrEnum):
    """What can be wrong with a manager."""

    WORKER_DEAD = "worker-dead"
    BROKER_DEAD = "broker-dead"
    DATABASE_DOWN = "database-down"
    DISK_FULL = "disk-full"
    HTML = "html"
    NONE = "none"


@app.command()
def remove(node: Node, *, state_dir: StateDir = None) -> None:
    """Take a manager off its machine, as `cfy_manager remove` does.

    Its database, its snapshots and its certificates are gone. The agent stays.
    """
    from agent.lab import hands

    hands.remove(lab_of(state_dir), node)
    say(f"{node} has no manager any more")


@app.command()
def install(node: Node, *, state_dir: StateDir = None) -> None:
    """Install a manager on a machine that has none, as `cfy_manager install` does.

    It is empty, alone and active, and its database is a new one with a system id of
    its own. Certificates that lie in the administrator's folder are used. A machine
    that was killed is replaced by a new one.
    """
    from agent.lab import hands

    hands.install(lab_of(state_dir), node)
    say(f"{node} has a fresh manager; `lab manager start` or `join` makes use of it")


@app.command()
def start(node: Node, *, state_dir: StateDir = None) -> None:
    """Make a cluster of one manager, as `cfy cluster start` does."""
    from agent.lab import hands

    hands.start(lab_of(state_dir), node)
    say(f"{node} is a cluster of one")


@app.command()
def join(
    node: Node,
    leader: Annotated[str, typer.Argument(help="The active node of the cluster.")],
    *,
    state_dir: StateDir = None,
) -> None:
    """Join an empty manager to a cluster, as `cfy cluster join` does.

    It becomes the leader's standby by a fresh copy of the database.
    """
    from agent.lab import hands

    hands.join(lab_of(state_dir), node, leader)
    say(f"{node} follows {leader}")


@app.command()
def drop(node: Node, *, state_dir: StateDir = None) -> None:
    """Take a manager off the cluster's list, as `cfy cluster nodes remove` does.

    Nothing is done to the machine; a dead one can be taken off as well.
    """
    from agent.lab import hands

    hands.drop(lab_of(state_dir), node)
    say(f"{node} is no member of the cluster any more")


@app.command()
def set_active(node: Node, *, state_dir: StateDir = None) -> None:
    """Make another manager the active one, without a loss.

    As `cfy cluster set-active` does, and `cfy_manager dbs set-master` from 5 on.
    """
    from agent.lab import hands

    hands.set_active(lab_of(state_dir), node)
    say(f"{node} is the active one")


@app.command()
def fault(
    node: Node,
    name: Annotated[Fault, typer.Argument(help="What is wrong; none: nothing is.")],
    *,
    state_dir: StateDir = None,
) -> None:
    """Break a manager, or mend it."""
    from agent.lab import hands

    hands.fault(lab_of(state_dir), node, name.value)
    say(f"{node}: {name.value}")
