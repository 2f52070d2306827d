"""What all routes of one manager share.

Theory of operation. A desk has the manager's office, rows, door, faults and folder.
`publish` hands an execution to the workers by way of the message broker: with a broker
that is dead the request hangs in it, as on a manager, and then fails; the rows that it
wrote before stay.
"""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.lab.standin.answers import Shown, Unforeseen
from agent.lab.standin.door import Door
from agent.lab.standin.rows import Rows
from agent.lab.standin.traits import Faults, Office, Traits
from agent.lab.standin.works import Works

LOOK_S = 0.05


@dataclass(slots=True)
class Desk:
    """One manager."""

    office: Office
    traits: Traits
    faults: Faults
    rows: Rows
    door: Door
    works: Works
    folder: Path
    closing: threading.Event = field(default_factory=threading.Event)

    def archive(self, name: str) -> Path:
        """Return where a snapshot's archive is; there is no tenant in it."""
        return self.works.archive(name)

    def publish(self, execution: Shown) -> None:
        """Hand an execution to the workers. Raises Unforeseen: no broker."""
        until = time.monotonic() + self.traits.broker_hang_s
        while self.faults.broker_dead:
            if time.monotonic() > until or self.closing.wait(LOOK_S):
                words = "[Errno 111] Connection refused"
                raise Unforeseen("AMQPConnectionError", words)
        self.works.take(str(execution["id"]))

    def shown_execution(self, row: Shown) -> Shown:
        """Return an execution as a client sees it, with the database's password."""
        return self.works.shown(row)
