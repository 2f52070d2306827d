"""What the commands of `splitguard lab` and `splitguard lab manager` have in common.

Theory of operation. Both speak to one lab, which `--state-dir` names by its folder, and
most of them mean one of its three machines.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.lab.plan import default_state_dir

if TYPE_CHECKING:
    from agent.lab.handle import Lab

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        help="The lab's folder. Default: splitguard-lab-UID among temporary files.",
        show_default=False,
    ),
]
Node = Annotated[str, typer.Argument(help="n1, n2 or n3.")]


def folder_of(state_dir: Path | None) -> Path:
    """Return the lab's folder, whether or not a lab is there."""
    return (state_dir or default_state_dir()).absolute()


def lab_of(state_dir: Path | None) -> "Lab":
    """Return the lab that runs there. Raises LabError when none does."""
    from agent.lab.handle import find

    return find(folder_of(state_dir))
