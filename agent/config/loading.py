"""File and environment become settings, or one error that lists every problem.

Theory of operation. Read the file, lay the environment over it, let the model check
each value and `checks` what they say together, find out which node this machine is,
and raise one ConfigError with all problems in the order of the file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.config.checks import Machine, check_all, check_files, find_me
from agent.config.environment import overlay
from agent.config.lines import find_lines, line_of
from agent.config.model import Settings
from agent.config.problems import Problem, Source, from_pydantic
from agent.errors import ConfigError

DEFAULT_PATH = Path("/etc/splitguard/agent.toml")
SIZE_LIMIT_BYTES = 1 << 20

_HINT = "`splitguard config example` prints every key with its default"
_NO_FILE_HINT = (
    "give --config FILE or SPLITGUARD_CONFIG; `splitguard config example` prints a file"
    " to start from"
)


def config_path(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return which file is read: the argument, SPLITGUARD_CONFIG, or the default."""
    return path or Path(environ.get("SPLITGUARD_CONFIG") or DEFAULT_PATH)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    machine: Machine | None = None,
    files: bool = True,
) -> Settings:
    """Return the settings, with `node` set to the node that this machine is.

    `files` False leaves out the check that the named files can be read, for commands
    that make such a file. Raises ConfigError with every problem at once.
    """
    file = config_path(path, environ)
    text = read_text(file)
    plain = parse(file, text)
    variables, problems = overlay(plain, environ, Settings)
    source = Source(file, find_lines(text), variables)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        problems += [
            from_pydantic(found, Settings)
            for found in error.errors()
            # A list whose elements are all wrong is no empty list.
            if not (found["type"] == "too_short" and found["input"])
        ]
    problems += check_all(plain)
    if files:
        problems += check_files(plain)
    me, unknown_me = find_me(plain, machine or Machine.here())
    problems += unknown_me
    if problems or settings is None:
        raise ConfigError(tuple(map(source.show, _sorted(problems, source))), _HINT)
    return settings.model_copy(update={"node": me})


def read_text(file: Path) -> str:
    """Return the file's text. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError((f"{file}: {error.strerror}",), _NO_FILE_HINT) from error
    if len(data) > SIZE_LIMIT_BYTES:
        raise ConfigError(
            (f"{file}: longer than {SIZE_LIMIT_BYTES} bytes",), _NO_FILE_HINT
        )
    try:
        # TOML counts \r\n as a line's end; the line finder then need not know it.
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError((f"{file}:{line}: not UTF-8",), "save it as UTF-8") from error


def parse(file: Path, text: str) -> dict[str, Any]:
    """Return what the TOML text says. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        problem = f"{file}: not TOML: {error}"
        raise ConfigError((problem,), _HINT) from error


def _sorted(problems: list[Problem], source: Source) -> list[Problem]:
    """Return the problems in the order of the file, those without a line first."""
    return sorted(problems, key=lambda found: line_of(source.lines, found.path) or 0)
