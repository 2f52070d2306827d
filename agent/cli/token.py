"""`splitguard token`: what other machines show to be let in."""

import os
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.call import Call, reads_config
from agent.cli.console import say
from agent.errors import ConfigError

app = typer.Typer(
    help="Tokens for the HTTP interface.", no_args_is_help=True, rich_markup_mode=None
)
MODE = 0o600


@app.command("create")
@reads_config
def create(
    call: Call,
    name: Annotated[str, typer.Argument(help="Who will use it; for the log.")],
    *,
    scope: Annotated[
        str, typer.Option("--scope", help="read, operate, data or peer; one of them.")
    ],
    tokens_file: Annotated[
        Path | None,
        typer.Option(
            "--tokens-file",
            help="Where its hash is added. Default: auth.tokens_file as configured.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Make a token, print it once, and add its hash to the tokens file."""
    from agent.api.tokens import Scope
    from agent.api.tokens import create as made
    from agent.cli.console import words

    if scope not in set(Scope):
        problem = f'--scope = "{scope[:40]}": no such scope'
        raise ConfigError((problem,), f"give one of {', '.join(Scope)}")
    file = tokens_file or call.settings(files=False).auth.tokens_file
    if file is None:
        raise ConfigError(
            ("auth.tokens_file: not set",), "set it in [auth], or give --tokens-file"
        )
    token, line = made(name, Scope(scope))
    append(file, line)
    shown = {"name": name, "scope": scope, "token": token}
    call.out.data(shown, lambda: words(token))
    say(f"splitguard: its hash is in {file}; agents read it when they start")
    return 0


def append(file: Path, line: str) -> None:
    """Add one line to the file, durably; a new file is readable by its owner only.

    Raises ConfigError.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, MODE)
        with os.fdopen(handle, "rb+") as opened:
            size = opened.seek(0, os.SEEK_END)
            last = b"\n"
            if size:
                opened.seek(-1, os.SEEK_END)
                last = opened.read(1)
            # A file whose last line was left unfinished must not swallow this one.
            opened.write((b"" if last == b"\n" else b"\n") + line.encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise ConfigError(
            (f"auth.tokens_file = {file}: {error.strerror}",),
            "its folder must exist and you must be allowed to write there",
        ) from error
