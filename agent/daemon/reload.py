"""Takes over a changed configuration while the agent works.

Theory of operation. SIGHUP has the file, the environment and all secrets read again,
with the same checks as at the start. Whatever is wrong is logged, each problem with
its line, and everything stays as it was. What is right is taken over in one go, as far
as it can be changed under a working agent: who may ask, who is told, and where the HA
software's configuration lies. All that the agent was built on (its nodes, addresses,
folders, rounds and limits) needs a restart; such keys are named in the log, and keep
the value that they had.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pydantic import BaseModel

from agent.api.context import Context
from agent.api.tokens import TokenBook
from agent.config import Settings
from agent.config.secret import read_secret
from agent.daemon.managers_making import Managing
from agent.daemon.renderer import Renderer
from agent.errors import SplitguardError
from agent.notify.outbox import OutboxWorker
from agent.notify.webhook import WebhookChannel
from agent.probe.prober import NetworkProber
from agent.transport import HttpClient

log = logging.getLogger(__name__)

LIVE = frozenset(
    {
        "auth.peer_token_file",
        "auth.tokens_file",
        "channels",
        "guard.patroni",
        "guard.repmgr",
        "lb.fail_closed",
        "page_url",
        "routes",
        "runbook_url",
    }
)
"""The keys that are taken over without a restart; files that they name are read again
in any case."""


@dataclass(slots=True)
class Reload:
    """The parts of a working agent that can be given other settings."""

    read: Callable[[], Settings]
    """Reads the configuration anew. Blocking; raises ConfigError."""
    settings: Settings
    """Those in force."""
    context: Context
    prober: NetworkProber
    outbox: OutboxWorker
    renderer: Renderer
    receivers: HttpClient
    managing: Managing | None = None

    async def run(self, asked: asyncio.Event) -> None:
        """Take over what is right each time that it is asked for, until cancelled."""
        while True:
            await asked.wait()
            asked.clear()
            wrong: SplitguardError | None = None
            try:
                await self.once()
            except SplitguardError as error:
                wrong = error
            except Exception:
                log.exception("the configuration was not taken over")
            if wrong is not None:
                _tell(wrong)

    async def once(self) -> None:
        """Read anew and take over what can be. Raises SplitguardError when wrong."""
        found = await asyncio.to_thread(self.read)
        tokens = await asyncio.to_thread(token_book, found)
        peer_token = await asyncio.to_thread(peer_token_of, found)
        channels = await asyncio.to_thread(channels_of, found, self.receivers)
        waiting = tuple(key for key in changed(self.settings, found) if key not in LIVE)
        self.settings = merged(self.settings, found)
        self.context.tokens = tokens
        self.context.options = replace(
            self.context.options, fail_closed=self.settings.lb.fail_closed
        )
        self.prober.renew(peer_token)
        self.outbox.renew(channels)
        self.renderer.renew(self.settings)
        if self.managing is not None:
            await self.managing.renew()
        log.info("configuration and tokens were read again")
        if waiting:
            log.warning("after a restart only: %s", ", ".join(waiting))


def _tell(wrong: SplitguardError) -> None:
    """Log every problem, and that nothing has changed."""
    for problem in getattr(wrong, "problems", (wrong.message,)):
        log.error("configuration: %s", problem)
    log.error("nothing was taken over; the agent goes on as it was")


def merged(old: Settings, new: Settings) -> Settings:
    """Return the old settings with those of the new that need no restart."""
    guard = old.guard.model_copy(
        update={"patroni": new.guard.patroni, "repmgr": new.guard.repmgr}
    )
    lb = old.lb.model_copy(update={"fail_closed": new.lb.fail_closed})
    whole = ("auth", "channels", "page_url", "routes", "runbook_url")
    taken = {name: getattr(new, name) for name in whole}
    return old.model_copy(update={**taken, "guard": guard, "lb": lb})


def changed(old: Settings, new: Settings) -> Iterator[str]:
    """Yield the keys that differ; a whole array of tables counts as one."""
    for name in Settings.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if not isinstance(before, BaseModel):
            if before != after:
                yield name
            continue
        yield from (
            f"{name}.{key}"
            for key in type(before).model_fields
            if getattr(before, key) != getattr(after, key)
        )


def token_book(settings: Settings) -> TokenBook | None:
    """Return whom the agent answers; None without any file. Raises ConfigError."""
    auth = settings.auth
    if auth.tokens_file is None and auth.peer_token_file is None:
        return None
    return TokenBook.load(auth.tokens_file, auth.peer_token_file)


def peer_token_of(settings: Settings) -> str:
    """Return what the agent shows its peers, or nothing. Raises ConfigError."""
    path = settings.auth.peer_token_file
    return read_secret(path) if path is not None else ""


def channels_of(settings: Settings, http: HttpClient) -> list[WebhookChannel]:
    """Return who is told. Raises ConfigError when a secret cannot be read."""
    return [
        WebhookChannel(each.name, each.read_url(), each.read_secret(), http)
        for each in settings.channels
    ]
