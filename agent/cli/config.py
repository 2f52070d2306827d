"""`splitguard config`: check the file, and print what may stand in it."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import Output, grid, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.config import Settings

app = typer.Typer(
    help="The configuration file.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("check")
@reads_config
def check(call: Call) -> int:
    """Read the file and the environment; name everything that is wrong."""
    settings = call.settings()
    summary = {
        "cluster": settings.cluster,
        "node": settings.me,
        "nodes": [member.name for member in settings.members],
        "listen": settings.listen,
        "socket": str(settings.socket),
        "capture_dir": str(settings.capture_dir),
    }
    call.out.data(summary, lambda: grid(("KEY", "VALUE"), list(summary.items())))
    for warning in warnings(settings):
        say(f"splitguard: warning: {warning}")
    say("splitguard: the configuration is good")
    return 0


def warnings(settings: "Settings") -> list[str]:
    """Return what is allowed and may still surprise."""
    found = []
    if not settings.channels:
        found.append("no [[channels]]: nobody is told of anything; look at `status`")
    policy = settings.policy()
    if len(policy.voters) == 2:  # noqa: PLR2004 - two cannot outvote each other
        found.append(
            "two voters can never confirm that the other is down;"
            " add [[witnesses]], an agent without a database"
        )
    if managers_choose(settings):
        found.append(
            "managers are configured, and those of the 4.x line keep the newest"
            " database after a split, even that of the smaller side: set"
            ' capture.winner_rule = "newest-commit"; where Patroni decides (5.0.5 and'
            ' later) set "highest-timeline", which is the default'
        )
    unreachable = unreachable_listen(settings)
    if unreachable is not None:
        found.append(unreachable)
    if shares_file_system(settings.capture_dir, settings.local.data_dir):
        found.append(
            f"captures in {settings.capture_dir} share a file system with PGDATA: what"
            " destroys that disk destroys both; see capture.dir"
        )
    return found


def managers_choose(settings: "Settings") -> bool:
    """Whether managers may decide who is kept, and nobody said by which rule."""
    if "winner_rule" in settings.capture.model_fields_set:
        return False
    return any(member.manager is not None for member in settings.members)


def unreachable_listen(settings: "Settings") -> str | None:
    """Return that other machines cannot reach this agent, if they are meant to."""
    from agent.config.forms import host_of, is_loopback

    host, port = settings.listen_address
    away = [
        member.name
        for member in settings.members
        if member.agent is not None and not is_loopback(host_of(member.agent))
    ]
    if not is_loopback(host) or not away:
        return None
    others = ", ".join(name for name in away if name != settings.me)
    return (
        f"listen is {settings.listen}, which only this machine reaches, and the agents"
        f" of {others or settings.me} have addresses on a network: they will call this"
        f' one down. Set listen = "0.0.0.0:{port}" with [tls] and [auth], unless a'
        " proxy stands in front of it"
    )


def shares_file_system(captures: Path, data_dir: Path | None) -> bool:
    """Whether both folders lie on one file system, as far as it can be told."""
    if data_dir is None:
        return False
    there = next(
        (each for each in (captures, *captures.parents) if each.exists()), None
    )
    try:
        return there is not None and there.stat().st_dev == data_dir.stat().st_dev
    except OSError:
        return False


@app.command("schema")
def schema() -> int:
    """Print the JSON schema of the file."""
    from agent.config import schema as made

    value = made()
    Call(output=Output.JSON).out.data(value, _nothing)
    return 0


@app.command("example")
def example() -> int:
    """Print a file with every key, default, unit and consequence."""
    from agent.config import example as made

    Call().out.line(made().rstrip("\n"))
    return 0


def _nothing() -> "RenderableType":
    return ""
