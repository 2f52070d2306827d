"""The journal and the outbox of one simulated agent: what outlives its process.

Theory of operation. As the shell's journal: a ledger and the rows of its notices go
in together or not at all, and nothing goes in while the disk is full. Values of the
core never change, so keeping them is as good as writing them; what a new process gets
is decoded from the real codec's text of them.
"""

from dataclasses import dataclass, field

from agent import codec
from agent.core.notice import Notice
from agent.core.state import Knowledge, Ledger


@dataclass
class Journal:
    """What was committed last."""

    ledger: Ledger = field(default_factory=Ledger)
    knowledge: Knowledge = field(default_factory=Knowledge)
    outbox: dict[str, Notice] = field(default_factory=dict)
    """Notices that are not delivered yet, by id."""
    sent: set[str] = field(default_factory=set)
    full: bool = False

    def commit(
        self, ledger: Ledger, knowledge: Knowledge, notices: tuple[Notice, ...]
    ) -> bool:
        """Write it all, or nothing."""
        if self.full:
            return False
        self.ledger, self.knowledge = ledger, knowledge
        for notice in notices:
            if notice.id not in self.sent:
                self.outbox.setdefault(notice.id, notice)
        return True

    def load(self) -> tuple[Ledger, Knowledge]:
        """What a new process finds, through text and back."""
        return (
            codec.from_json(codec.to_json(self.ledger), Ledger),
            codec.from_json(codec.to_json(self.knowledge), Knowledge),
        )
