"""Verdicts about managers in plain sentences.

Theory of operation. As in `explain`: a text reads the evidence of its verdict and
nothing else. What the manager beside the judging agent says of its cluster stands
behind the sentence, with who said it: brokers and databases of that cluster may be
machines on which nothing of ours runs.
"""

from agent.core.policy import Policy
from agent.core.verdict import Verdict
from agent.core.wording import names, words


def down(verdict: Verdict, _: Policy) -> str:
    """Tell of a manager that answers nobody."""
    told = words(verdict)
    said = ""
    if verdict.evidence.get("cluster_says"):
        said = (
            f" The manager on {told['said_by']} says of its cluster:"
            f" {told['cluster_says']}."
        )
    return (
        f"The manager on {verdict.subject} answers nobody ({told['reason']}); the node"
        f" answers on {told['answers_on']}.{said}"
    )


def not_kept(verdict: Verdict, _: Policy) -> str:
    """Tell why no snapshot of a manager can be relied on."""
    return (
        f"No snapshot of the manager on {verdict.subject} can be relied on: "
        f"{words(verdict)['reason']}."
    )


def mismatch(verdict: Verdict, _: Policy) -> str:
    """Tell of a manager that says it is active, where another one is or should be."""
    told = words(verdict)
    if verdict.evidence.get("rivals"):
        rivals = names(told["rivals"])
        return (
            f"The managers on {verdict.subject} and {rivals} both say that they"
            " are active, and only one may be: what is written through one is lost when"
            " the other is kept."
        )
    return (
        f"The manager on {verdict.subject} says that it is active, but its PostgreSQL"
        f" is a standby: the primary is {told['primary']}, whose manager"
        f" {told['primary_manager']}. What needs to write there fails."
    )
