"""Secrets that stand in files of their own, one line each.

Theory of operation. A secret in the configuration would be copied, printed and backed
up together with it; so the configuration names a file, which is read when the secret is
needed. No message repeats what is in it.
"""

from pathlib import Path

from agent.errors import ConfigError

SECRET_LIMIT_BYTES = 64 * 1024


def read_secret(path: Path) -> str:
    """Return the first line of a secret's file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_LIMIT_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(
            (f"{path}: {reason}",), "the agent's user must be able to read it"
        ) from error
    lines = text.split()
    if not lines:
        raise ConfigError((f"{path}: empty",), "put the secret into its first line")
    return lines[0]
