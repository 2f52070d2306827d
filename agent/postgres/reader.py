"""The facts about the server beside this agent, read from its disk.

Theory of operation. To be completed with the module.
"""

from pathlib import Path

from agent.core.observation import ReadFailure, ServerFacts


class DiskReader:
    """Implements ports.ServerReader for one data directory. Blocking."""

    def __init__(self, data_dir: Path, bin_dir: Path | None = None) -> None:
        self._data_dir = data_dir
        self._bin_dir = bin_dir

    def read(self) -> ServerFacts | ReadFailure:
        """Read everything anew that can have changed. Never raises."""
        raise NotImplementedError
