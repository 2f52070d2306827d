"""What is asked and what comes back, and the files for TLS.

Theory of operation. Plain values: nothing here sends. Addresses, headers and bodies
can hold secrets, so none of them shows in a repr.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ConfigError

BODY_LIMIT_BYTES = 1 << 20
"""The longest body that is read unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS. `ca` None trusts what this machine trusts."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return the client side's context.

        Raises ConfigError when a file cannot be read or does not fit the others.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            problem = f"tls: {self.ca or '-'}, {self.cert or '-'}, {self.key or '-'}"
            raise ConfigError(
                (f"{problem}: {error.strerror or error}",),
                "give readable PEM files; the key must belong to the certificate",
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: any status, with the whole body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the meaning of 2xx

    def excerpt(self, limit: int = 200) -> str:
        """Return the body's beginning as one printable line, for a message."""
        text = self.body[: limit * 4].decode("utf-8", "replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line[:limit]


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    limit_bytes: int = BODY_LIMIT_BYTES
    once: bool = False
    """Never sent again by itself, though its method would allow it: where the other
    side has it already, the second one would be refused."""


Begin = Callable[[Answer], object]
"""Called with status and headers of a 2xx answer before its body is read."""
