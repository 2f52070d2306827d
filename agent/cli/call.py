"""What every command is called with: where the agent is, and how to print.

Theory of operation. typer makes options of a function's parameters. The options that
all commands share are written once, here: `asks_agent` and `reads_config` take a
function whose first parameter is a Call, and give typer one that has the shared options
instead. The Call finds agent and configuration only when the command wants them.
"""

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import typer

from agent.cli.console import Out, Output
from agent.errors import SplitguardError

if TYPE_CHECKING:
    from agent.cli.client import AgentClient
    from agent.config import Settings

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""Of whatever has an id: an incident, a snapshot."""
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Call")

CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Configuration file. Default: $SPLITGUARD_CONFIG, else"
        " /etc/splitguard/agent.toml.",
        show_default=False,
    ),
]
_SOCKET = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        help="The agent's unix socket. Default: as configured.",
        show_default=False,
    ),
]
_URL = Annotated[
    str | None,
    typer.Option(
        "--url", help="Ask the agent at this address instead.", show_default=False
    ),
]
_TOKEN_FILE = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with the token for an agent elsewhere. Default: $SPLITGUARD_TOKEN.",
        show_default=False,
    ),
]
OUTPUT = Annotated[
    Output, typer.Option("--output", "-o", help="How data is printed on stdout.")
]


def segment(text: str) -> str:
    """Return an id as one part of a path of the API.

    Raises SplitguardError on what can be no id: `..` would lead to another address.
    """
    if _ID.fullmatch(text) is None:
        raise SplitguardError(
            f"not an id: {text[:80]!r}",
            "`splitguard incidents list` and `splitguard snapshots list` name them",
        )
    return quote(text, safe="")


@dataclass(frozen=True)
class Call:
    """The shared options of one call of a command."""

    config: Path | None = None
    socket: Path | None = None
    url: str | None = None
    token_file: Path | None = None
    output: Output = Output.TABLE

    @cached_property
    def out(self) -> Out:
        """Where to print."""
        return Out(self.output)

    @cached_property
    def agent(self) -> "AgentClient":
        """The agent that is meant. Raises ConfigError."""
        from agent.cli import address
        from agent.cli.client import AgentClient

        found = address.find(self.config, self.socket, self.url, self.token_file)
        return AgentClient(found)

    def settings(self, *, files: bool = True) -> "Settings":
        """Read and check the configuration. Raises ConfigError."""
        from agent.config import load

        return load(self.config, os.environ, files=files)


def asks_agent(command: Callable[Concatenate[Call, P], R]) -> Callable[..., R]:
    """Give a command the options by which it finds the agent."""
    return with_options(
        command,
        Call,
        {
            "output": (OUTPUT, Output.TABLE),
            "config": (CONFIG, None),
            "socket": (_SOCKET, None),
            "url": (_URL, None),
            "token_file": (_TOKEN_FILE, None),
        },
    )


def reads_config(command: Callable[Concatenate[Call, P], R]) -> Callable[..., R]:
    """Give a command the options by which it finds the configuration."""
    return with_options(
        command, Call, {"output": (OUTPUT, Output.TABLE), "config": (CONFIG, None)}
    )


def prints(command: Callable[Concatenate[Call, P], R]) -> Callable[..., R]:
    """Give a command the option by which it prints; it needs nothing else."""
    return with_options(command, Call, {"output": (OUTPUT, Output.TABLE)})


def with_options(
    command: Callable[Concatenate[C, P], R],
    made: type[C],
    shared: dict[str, tuple[Any, object]],
) -> Callable[..., R]:
    """Give a command the shared options, each with its kind and default.

    They fill the Call, of class `made`, that the command gets first.
    """
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    extra = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
        )
        for name, (kind, default) in shared.items()
    ]

    @functools.wraps(command)
    def called(*args: Any, **kwargs: Any) -> R:  # noqa: ANN401 - typer fills them
        options = {name: kwargs.pop(name) for name in shared}
        return command(made(**options), *args, **kwargs)

    parameters = [
        *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
        *extra,
    ]
    called.__signature__ = signature.replace(  # type: ignore[attr-defined]  # typer reads it
        parameters=parameters
    )
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    del called.__wrapped__
    return called
