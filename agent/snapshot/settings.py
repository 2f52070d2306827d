"""What a capture engine is told when it is made: where everything is, who we are."""

from dataclasses import dataclass
from pathlib import Path

from agent.snapshot.server import FindDsn


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where everything is, and who we are."""

    capture_dir: Path
    data_dir: Path
    bin_dir: Path | None
    """Where PostgreSQL's programs are; None: they are looked for."""
    find_dsn: FindDsn
    """How to connect as role splitguard_local through the unix socket. While it knows
    of no way, only a stopped server can be copied in full."""
    node: str
    cluster: str
    max_bytes_s: float = 0.0
    """How fast a running server may be copied; 0: as fast as it goes."""
