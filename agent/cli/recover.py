"""`splitguard recover`: the managers' guide's four ways out of trouble, led through.

Theory of operation. The scenarios are data (agent.vnfm.recovery); here is only what a
person gives and gets. A run that was interrupted goes on with the same command. Exit 0
means that the cluster was proven healthy, 1 that the run stopped, with what is not so.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import Output, safe, say, words
from agent.cli.which import IdentityFile, identities_of
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.vnfm.records import Generation
    from agent.vnfm.recovery.ports import Outcome


class Which(StrEnum):
    """The scenarios of the guide."""

    WHOLE_CLUSTER = "whole-cluster"
    NODE_DOWN = "node-down"
    ACTIVE_DOWN = "active-down"
    SPLIT_BRAIN = "split-brain"


class Line(StrEnum):
    """The generations of managers, as a person says it."""

    OLD = "4"
    NEW = "5"

    @property
    def generation(self) -> "Generation":
        """Return it as the recovery knows it."""
        from agent.vnfm.records import Generation

        old = Generation.ACTIVE_STANDBY
        return old if self is Line.OLD else Generation.ALL_ACTIVE


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("recover")(recover)


DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Look, and show every step; do nothing, change nothing."
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Do not ask before Splitguard's own steps. What a person has to do is"
        " waited for all the same.",
    ),
]
To = Annotated[
    Path | None,
    typer.Option(
        "--to",
        metavar="FOLDER",
        help="Where certificates and snapshot are saved; must outlive the managers'"
        " machines. Default: below state_dir, where that is safe.",
        show_default=False,
    ),
]
Node = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NODE",
        help="Which node is down. Default: as seen.",
        show_default=False,
    ),
]
Manager = Annotated[
    str | None,
    typer.Option(
        "--manager",
        metavar="NODE",
        help="whole-cluster: whose manager is restored. Default: the first.",
        show_default=False,
    ),
]
Snapshot = Annotated[
    str | None,
    typer.Option(
        "--snapshot",
        metavar="ID|FILE",
        help="whole-cluster: which snapshot. Default: one more from a manager that"
        " still can, else the newest that is kept.",
        show_default=False,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="whole-cluster: restore onto a manager that is not empty; REPLACES what"
        " it holds.",
    ),
]
ThoughHealthy = Annotated[
    bool,
    typer.Option(
        "--though-healthy",
        help="whole-cluster: tear it down although every manager answers and the"
        " cluster is well; --yes does not stand for this.",
    ),
]
Certificates = Annotated[
    bool,
    typer.Option(
        "--restore-certificates",
        help="whole-cluster: the snapshot's certificates too, for managers that were"
        " not installed with the old ones; reboot them afterwards.",
    ),
]
Winner = Annotated[
    str | None,
    typer.Option(
        "--winner",
        metavar="NODE",
        help="split-brain: pin who is kept; needs --reason.",
        show_default=False,
    ),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Why; it is recorded.", show_default=False),
]
Lost = Annotated[
    list[str] | None,
    typer.Option(
        "--lost",
        metavar="NODE",
        help="This node's machine is gone, and what only it had is given up; may be"
        " given more than once.",
        show_default=False,
    ),
]
Of = Annotated[
    Line | None,
    typer.Option(
        "--generation",
        help="Of the managers, where none answers: 4 (4.x) or 5 (5.0.5 and later).",
        show_default=False,
    ),
]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="The journal of this run; one that is there is gone on with. Default: in"
        " recovery below state_dir.",
        show_default=False,
    ),
]
Anew = Annotated[
    bool,
    typer.Option(
        "--anew", help="Begin a new run, though an earlier one is unfinished."
    ),
]


@asks_agent
def recover(  # noqa: PLR0913 - typer makes an option of each
    call: Call,
    scenario: Annotated[Which, typer.Argument(help="What has happened.")],
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    to: To = None,
    node: Node = None,
    manager: Manager = None,
    snapshot: Snapshot = None,
    identity: IdentityFile = None,
    force: Force = False,
    though_healthy: ThoughHealthy = False,
    restore_certificates: Certificates = False,
    winner: Winner = None,
    reason: Reason = None,
    lost: Lost = None,
    generation: Of = None,
    journal: JournalFile = None,
    anew: Anew = False,
) -> int:
    """Lead through a recovery of the managers' guide, step by step.

    Shows each step before it does it, says what a person has to type, waits until that
    was done, and ends by proving that the cluster is healthy, or says what is not.
    Interrupted, it goes on where it was with the same command. The runbooks in
    deploy/runbooks have all steps to read.
    """
    from agent.cli.recover_run import Wish, play
    from agent.cli.shelf import ends_on_sigterm
    from agent.vnfm.recovery.scenarios import SCENARIOS

    if (winner is None) != (reason is None):
        raise typer.BadParameter("--winner and --reason go together")
    _check_nodes(call, {"--node": node, "--winner": winner}, lost or [])
    given = {
        "named": node,
        "leader": manager,
        "wanted": snapshot,
        "chosen": winner,
        "reason": reason,
        "lost": ",".join(lost) if lost else None,
        "force": "yes" if force else None,
        "though_healthy": "yes" if though_healthy else None,
        "restore_certificates": "yes" if restore_certificates else None,
    }
    wish = Wish(
        dry_run=dry_run,
        yes=yes,
        anew=anew,
        journal=journal,
        generation=generation.generation if generation is not None else None,
        to=to,
        identities=identities_of(identity),
        facts={name: text for name, text in given.items() if text is not None},
    )
    with ends_on_sigterm():
        outcome, screen, where = play(call, SCENARIOS[scenario.value], wish)
    _tell(call, scenario, outcome, screen.steps, where)
    return 0 if outcome.ok else 1


def _check_nodes(call: Call, named: dict[str, str | None], lost: list[str]) -> None:
    known = [one.name for one in call.settings().nodes]
    wanted = [*named.items(), *(("--lost", name) for name in lost)]
    for option, name in wanted:
        if name is not None and name not in known:
            raise ConfigError(
                (f"{option} {safe(name)}: there is no such node",),
                f"there are: {', '.join(known)}",
            )


def _tell(
    call: Call,
    scenario: Which,
    outcome: "Outcome",
    steps: list[dict[str, Any]],
    journal: str,
) -> None:
    """Print the end as data, and in words how to go on."""
    row = {
        "scenario": scenario.value,
        "ok": outcome.ok,
        "dry_run": not journal,
        "stopped_at": outcome.stopped_at or None,
        "told": outcome.told,
        "left": list(outcome.left),
        "journal": journal or None,
        "steps": steps,
    }
    if call.out.output is Output.TABLE:
        if journal:
            call.out.draw(words(outcome.told))
    else:
        call.out.data(row, lambda: words(""))
    for left in outcome.left:
        say(f"splitguard: NOT DONE: {safe(left)}")
    if outcome.left:
        say("splitguard: all else is done; the same command goes on with that")
    elif outcome.hopeless:
        say(f"splitguard: stopped at {outcome.stopped_at}: nothing was begun")
    elif not outcome.ok:
        say(f"splitguard: stopped at {outcome.stopped_at}: the same command goes on")
    elif not journal:
        say("splitguard: a dry run: nothing was done; without --dry-run it begins")
