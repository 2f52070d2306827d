"""Turns a decided notice into outbox rows, at the instant of its decision."""

from agent.config import Settings
from agent.core.moment import Moment
from agent.core.notice import Notice
from agent.core.state import State
from agent.notify import body, routing
from agent.ports import Rendered


class Renderer:
    """Renders the body and names the channels that a notice is told on."""

    def __init__(self, settings: Settings) -> None:
        self.renew(settings)

    def renew(self, settings: Settings) -> None:
        """Render the next notices by these settings."""
        self._settings = settings
        self._policy = settings.policy()
        self._channels = tuple(channel.name for channel in settings.channels)
        self._urls = body.Urls(page=settings.page_url, runbook=settings.runbook_url)

    def __call__(self, notice: Notice, state: State, at: Moment) -> Rendered:
        """Return the notice with its body and its channels.

        Raises LookupError when its incident is not in the ledger.
        """
        (incident,) = [
            incident
            for incident in state.ledger.incidents
            if incident.id == notice.incident_id
        ]
        channels = routing.channels_for(
            incident.verdict, self._settings.routes, self._channels, incident.worst
        )
        text = body.render(notice, state, at, self._policy, self._urls)
        return Rendered(notice, text, channels)
