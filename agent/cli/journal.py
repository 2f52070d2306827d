"""`splitguard journal`: what the agent saw, as a file that travels.

Theory of operation. The running agent is asked, and sends what it has up to this
second. When none answers on this machine its journal file is read, without changing
it; so the rounds before an agent's death can be had too.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import bytes_text, say
from agent.errors import AgentUnreachableError, ConfigError

if TYPE_CHECKING:
    from agent.config import Settings

app = typer.Typer(
    help="What the agent saw, round by round.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("export")
@asks_agent
def export(
    call: Call,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="From when on: 30m, 2h, 1d, or an instant. Default: all that is kept.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="File or folder to write. Default: stdout.",
            readable=False,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Write what was seen, for `splitguard replay`: lines of JSON, no secrets.

    With the agent dead its journal is read instead; that wants the agent's user.
    """
    from agent.cli import when, writing

    begin = None if since is None else when.ago(since, "--since")
    file = None if to is None else writing.named(to, "splitguard-journal.jsonl", "--to")
    size = writing.write_archive(_source(call, begin), file)
    if file is not None:
        say(f"splitguard: {bytes_text(size)} written to {file}")
        say(f"  judge it again: splitguard replay {file}")
    return 0


def _source(
    call: Call, begin: datetime | None
) -> Callable[[Callable[[bytes], int]], None]:
    """Return what writes the file: the agent's answer, or its journal."""

    def pour(write: Callable[[bytes], int]) -> None:
        wrote = False

        def written(piece: bytes) -> None:
            nonlocal wrote
            wrote = True
            write(piece)

        query = "" if begin is None else f"?since={begin:%Y-%m-%dT%H:%M:%S.%fZ}"
        try:
            call.agent.download(f"/v1/journal{query}", written)
        except AgentUnreachableError as error:
            if wrote or call.url is not None:
                raise
            for piece in _from_file(call, error, begin):
                write(piece)

    return pour


def _from_file(
    call: Call, error: AgentUnreachableError, begin: datetime | None
) -> Iterator[bytes]:
    """Yield the file from the journal of an agent that does not answer."""
    from agent import __version__
    from agent.daemon.clock import SystemClock
    from agent.store import field, ring
    from agent.store.opening import JOURNAL_FILE

    settings = _settings(call, error)
    path = settings.state_dir / JOURNAL_FILE
    say(f"splitguard: {error.message}; reading {path}")
    header = field.Header(
        splitguard_journal=field.FORMAT,
        agent=__version__,
        cluster=settings.cluster,
        node=settings.me,
        exported_wall_s=SystemClock().moment().wall_s,
        since_wall_s=None if begin is None else begin.timestamp(),
    )
    with ring.reading(path) as rounds:
        yield from field.exported(rounds, header)


def _settings(call: Call, error: AgentUnreachableError) -> "Settings":
    """Return where its journal is; where nobody knows, why the agent is silent."""
    try:
        return call.settings(files=False)
    except ConfigError as unknown:
        hint = f"{error.hint}; without a configuration its journal cannot be found"
        raise AgentUnreachableError(error.message, hint) from unknown
