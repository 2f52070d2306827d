"""What is known of a losing side's writes, in the few words that everybody is told.

Theory of operation. The report itself lies in the snapshot's folder, with every row.
The core carries of it one sentence and three figures: into the capture that it is of,
from there through the reports into every agent's incident, and so into notices.
"""

import hashlib
from dataclasses import dataclass

from agent.core.lsn import Lsn

SENTENCE_MAX = 400
"""Characters of a headline; a peer's longer one is cut."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The headline of one loss report."""

    snapshot: str
    """The snapshot that it was made from."""
    node: str
    """Whose writes they are."""
    sentence: str
    """What was lost: `3 deployments, 2 users; 439 transactions from …`. Without a
    winner what was written, behind the words `not compared yet`."""
    transactions: int | None
    """User transactions that the losing side committed past the fork."""
    rows: int | None
    """Rows on which the two sides do not agree; without a winner, rows touched."""
    end_lsn: Lsn
    """Up to here the losing side was read."""
    winner: str = ""
    """The node that it was compared with; empty where nobody could be asked yet."""
    made_wall_s: float = 0.0

    @property
    def revision(self) -> int:
        """Return what tells this news from other news of one incident.

        All agents derive it alike: the first report of a snapshot is news, and so is
        the first one that was compared; figures that are counted anew are not.
        """
        stage = "compared" if self.winner else "read"
        digest = hashlib.sha256(f"{self.snapshot}#{stage}".encode())
        return int(digest.hexdigest()[:8], 16)

    @property
    def told(self) -> str:
        """Return the headline as a sentence of its own."""
        if self.winner:
            lacks = f"{self.winner} lacks"
            return f"What {self.node} wrote alone and {lacks}: {self.sentence}."
        return f"{self.node} wrote alone, {self.sentence}."

    def follows(self, before: "Loss | None") -> bool:
        """Whether this tells more than what was told before, or tells it anew."""
        if before is None:
            return True
        if bool(before.winner) != bool(self.winner):
            return bool(self.winner)
        return self.made_wall_s > before.made_wall_s
