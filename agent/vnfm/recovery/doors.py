"""The way to the agents, as far as a recovery needs it.

Theory of operation. A run asks the agent on its machine (or the one that --url names)
for what all agents know of each other; only a capture and a loss report are ordered
where the data lies. All of it blocks and raises SplitguardError.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class AgentDoor(Protocol):
    """One agent's API."""

    def get(
        self, path: str, query: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Return the JSON object at a path."""
        ...

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a JSON object; return the one that comes back."""
        ...

    def fetch(self, path: str, target: Path) -> None:
        """Write what is at a path into a new file; nothing is left of a part."""
        ...


class Doors(Protocol):
    """All agents."""

    @property
    def here(self) -> AgentDoor:
        """The agent that was meant by the command."""
        ...

    def of(self, node: str) -> AgentDoor | None:
        """The agent of a node; None where none is configured."""
        ...
