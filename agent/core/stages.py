"""How far each verdict lies in its family.

Theory of operation. Verdicts of one family are stages of one trouble. People hear of a
graver stage, and what they have taken covers the stages up to the gravest one until
then. The order is written down here once.
"""

from agent.core.verdict import VerdictCode

_STAGES = (
    VerdictCode.CAPTURE_NOT_READY,
    VerdictCode.DESTRUCTIVE_CONFIG,
    VerdictCode.NODE_SUSPECT,
    VerdictCode.AGENT_DOWN,
    VerdictCode.MANAGER_DOWN,
    VerdictCode.POSTGRES_DOWN,
    VerdictCode.NODE_UNREACHABLE,
    VerdictCode.NODE_DOWN,
    VerdictCode.FAILOVER,
    VerdictCode.NO_PRIMARY,
    VerdictCode.WRITES_BLOCKED,
    VerdictCode.STALE_PRIMARY,
    VerdictCode.SPLIT_BRAIN_SUSPECTED,
    VerdictCode.LINEAGE_DIVERGED,
    VerdictCode.LINEAGE_TWIN,
    VerdictCode.SPLIT_BRAIN,
)
"""The stages of each family, the gravest last."""
_GRAVITY: dict[str, int] = {code: n for n, code in enumerate(_STAGES, start=1)}


def gravity(code: str) -> int:
    """Return how far a stage lies in its family; 0 for what has no stages.

    Takes any text, because old incidents may name verdicts of another version.
    """
    return _GRAVITY.get(code, 0)
