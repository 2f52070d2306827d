"""`splitguard vnfm`: the managers of the cluster, and the snapshots that they make.

Theory of operation. The commands of the managers' guide, with its options, against the
real REST API: what the guide's own lines get wrong (a typographic dash, a missing
address, options that no version has) is said or put right. They speak to a manager
themselves and need no agent, but may take its configuration.
"""

import asyncio
from typing import TYPE_CHECKING

import typer

from agent.cli import vnfm_executions, vnfm_snapshots
from agent.cli.vnfm_call import ManagerCall, asks_manager
from agent.cli.vnfm_dashes import PlainDashes

if TYPE_CHECKING:
    from agent.cli.vnfm_look import Look

app = typer.Typer(
    cls=PlainDashes,
    help="The cluster's managers, and their snapshots.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(vnfm_snapshots.app, name="snapshots")
app.add_typer(vnfm_executions.app, name="executions")


@app.command("status")
@asks_manager
def status(call: ManagerCall) -> int:
    """Show which managers answer, and which are active.

    With version, services, cluster and maintenance mode of each. Exit 0 when one is
    active, and of the 4.x line no other; else 1. A refused login is not tried on the
    others. A manager notes each login in its database: on a side of a split that has
    written nothing yet, that is a write of its own.
    """
    from agent.cli import vnfm_look

    looks: list[Look] = asyncio.run(vnfm_look.look(call.profile()))
    judged = vnfm_look.judge(looks)
    plain = [vnfm_look.plain(one) for one in looks]
    call.out.data(
        {"managers": plain, "active": judged.active, "wrong": judged.wrong},
        lambda: vnfm_look.table(looks, judged),
        items=plain,
    )
    return 1 if judged.wrong else 0
