"""What a reading of a server's disk adds to what is known of its lineage.

Theory of operation. The latest reading tells where the server is. What was printed of
its switches before stays beside it, for this node's own server and for those of peers:
WAL that is gone by now gives no fingerprint, and WAL that a twin's overwrote gives
another one. Neither replaces the first print, as long as nothing has undone it (see
`prints`). A switch that is no more in the lineage takes its print with it.

An older agent's report does not tell the marks by which that could be judged. Then its
word is taken as it is, and what is kept waits for one that tells them.
"""

from agent.core.frozen import replace
from agent.core.lineage import Fingerprint, Lineage, births
from agent.core.observation import ServerFacts
from agent.core.prints import Marks, Printed, surviving
from agent.core.state import Knowledge


def from_disk(knowledge: Knowledge, node: str, facts: ServerFacts) -> Knowledge:
    """Return the knowledge after this reading of the node's disk."""
    lineage, known = facts.lineage, knowledge.printed.get(node)
    if facts.marks is not None:
        prints = _together(known, lineage, facts.marks)
        if prints != lineage.fingerprints:
            lineage = replace(lineage, fingerprints=prints)
        printed = Printed(lineage.system_id, facts.marks, prints)
        if printed != known:
            kept = {**knowledge.printed, node: printed}
            knowledge = replace(knowledge, printed=kept)
    if knowledge.lineages.get(node) == lineage:
        return knowledge
    return replace(knowledge, lineages={**knowledge.lineages, node: lineage})


def _together(
    known: Printed | None, lineage: Lineage, marks: Marks
) -> tuple[Fingerprint, ...]:
    """Return the prints of this reading, and those before it that still hold."""
    if known is None or known.prints == lineage.fingerprints:  # so it is mostly
        return lineage.fingerprints
    first = surviving(known, lineage.system_id, marks, watched=False)
    found = {(one.timeline, one.lsn): one for one in (*lineage.fingerprints, *first)}
    born = births(lineage.switches, lineage.timeline)
    return tuple(found[birth] for birth in born if birth in found)
