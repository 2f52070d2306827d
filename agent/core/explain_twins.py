"""Two histories under one timeline number in plain sentences.

Theory of operation. As in `explain`: a text reads the evidence of its verdict and
nothing else. Where a page of WAL tells the two apart and no switch does, the likely
cause is told too: a machine that was set back to an old image and wrote on.
"""

from agent.core.policy import Policy
from agent.core.verdict import Verdict
from agent.core.wording import is_known, words


def twin(verdict: Verdict, _: Policy) -> str:
    """Tell whose timeline is another one under the same number."""
    told = words(verdict)
    if is_known(verdict.evidence.get("page_lsn")):
        several = "," in str(verdict.evidence.get("losers", ""))
        return (
            f"The WAL of timeline {told['second_timeline']} on {told['losers']} is not "
            f"the one on {told['first']}: the page at {told['page_lsn']} differs, and "
            f"nothing shows that they parted before {told['fork_lsn']}. "
            f"{told['losers']} {'hold' if several else 'holds'} writes that "
            f"{told['first']} does not have: perhaps it was set back to an old image."
        )
    return (
        f"Timeline {told['second_timeline']} on {told['losers']} is not the one on "
        f"{told['first']}: they parted on timeline {told['fork_timeline']} at "
        f"{told['fork_lsn']}. No tool will notice; each keeps its own rows."
    )
