"""Who is told, and of what: the receivers of notices, and the routes to them.

Theory of operation. A channel is where notices go; a route says which ones. An address
or a secret that stands in a file is read when it is needed, so that a new one counts at
once.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from agent.config.kinds import AbsolutePath, Name, Table, WebhookUrl, as_many
from agent.config.secret import read_secret
from agent.core.verdict import Severity, VerdictCode
from agent.errors import ConfigError


class ChannelSettings(Table):
    """One receiver of notices."""

    name: Name
    """What routes call it."""
    type: Literal["webhook"] = "webhook"
    """How it is told: webhook (Standard Webhooks 1.0)."""
    url: WebhookUrl | None = Field(default=None, repr=False)
    """Where the notice is posted (url = "https://…"). Use url_file where the address is
    a secret; one of the two is needed."""
    url_file: AbsolutePath | None = None
    """File with the address, one line."""
    secret_file: AbsolutePath | None = None
    """File with the signing secret (whsec_…), one line. Without it nothing is
    signed."""

    def read_url(self) -> str:
        """Return the receiver's address. Raises ConfigError."""
        if self.url is not None:
            return self.url
        if self.url_file is None:
            raise ConfigError(
                (f"channel {self.name} has no url",), "give url or url_file"
            )
        return read_secret(self.url_file)

    def read_secret(self) -> str | None:
        """Return the signing secret; None when none is set. Raises ConfigError."""
        return None if self.secret_file is None else read_secret(self.secret_file)


class RouteSettings(Table):
    """Which notices go where.

    Every route that fits is used; without routes all notices go to all channels.
    """

    severity: Severity | None = None
    """This severity and graver ones: info, warning or critical. Default: any."""
    verdict: Annotated[tuple[VerdictCode, ...], BeforeValidator(as_many)] = ()
    """These verdicts only, such as ["split-brain", "unprotected"]. Default: any."""
    node: Annotated[tuple[str, ...], BeforeValidator(as_many)] = ()
    """These subjects only: names of nodes, or "cluster". Default: any."""
    channels: Annotated[tuple[str, ...], BeforeValidator(as_many), Field(min_length=1)]
    """Names of the channels that are told."""
