"""The command `splitguard`, which is also `python -m agent`.

Theory of operation. An agent runs for months, and the libraries of the command line
would be a tenth of its memory. So `run`, called as systemd calls it, is started from
here. Everything else goes to the command line: every other command, `run --help`, and
`run` with whatever is wrong about its options or its configuration, which is then said
in the same words as always.
"""

# ruff: noqa: PLC0415 - which of the two doors it is decides what is imported

import os
import sys
from pathlib import Path

from agent.errors import ConfigError

CONFIG = "--config"


def main() -> int:
    """Run this process's command line; return the exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        code = _agent(arguments[1:])
        if code is not None:
            return code
    from agent.cli.startup import while_importing

    with while_importing():
        from agent.cli.main import main as command_line
    return command_line()


def _agent(options: list[str]) -> int | None:
    """Run the agent; None when these options or its configuration are not plain."""
    if options and (len(options) != len((CONFIG, "FILE")) or options[0] != CONFIG):
        return None
    from agent.config import Settings, load

    path = Path(options[1]) if options else None

    def read() -> Settings:
        return load(path, os.environ)

    try:
        settings = read()
    except ConfigError:
        return None
    from agent.daemon import lifecycle

    return lifecycle.run(settings, read)


if __name__ == "__main__":
    sys.exit(main())
