"""Rows 851 and up: what is wrong with the agents and what is set up around them."""

from agent.core import explain
from agent.core.incident import Status
from agent.core.verdict import Severity
from tests.core.cluster import Cluster


def alone(node: str, *others: str) -> set[tuple[str, str]]:
    """Who is refused by whom when one node has another token than the others."""
    return {pair for other in others for pair in ((node, other), (other, node))}


def test_row_851_agents_that_refuse_each_other_are_no_healthy_cluster():
    cluster = Cluster()
    cluster.run(3)
    cluster.strangers = alone("n3", "n1", "n2")
    cluster.run(3)
    assert cluster.codes("n3") == cluster.codes("n1") == {"config-error"}
    found = cluster.verdict("n1", "config-error")
    assert (found.rule, found.subject) == (851, "n1|n3")
    policy = cluster.agents["n1"].policy
    assert explain.sentence(found, policy).startswith(
        "n1 and n3: n3 refuses the peer token that n1 shows"
    )
    assert "auth.peer_token_file) on n1 and n3" in explain.next_step(found)
    subjects = {one.subject for one in cluster.agents["n2"].state.view.verdicts}
    assert subjects == {"n1|n3", "n2|n3"}, "one that is heard tells of its own refusal"


def test_row_851_waits_for_a_token_that_is_rolled_out_and_ends_with_it():
    cluster = Cluster()
    cluster.run(3)
    cluster.strangers = {("n1", "n2")}
    cluster.run(40)
    assert cluster.incident("n1", "settings").status is Status.PENDING
    cluster.run(25)
    opened = cluster.incident("n1", "settings")
    assert (opened.status, opened.worst) == (Status.OPEN, Severity.CRITICAL)
    cluster.strangers = set()
    cluster.run(8)
    assert cluster.incident("n1", "settings").status is Status.RESOLVED
    assert cluster.codes("n1") == {"healthy"}


def test_row_851_an_agent_that_is_silent_or_busy_refuses_no_token():
    cluster = Cluster()
    cluster.run(3)
    cluster.agents["n3"].up = False
    cluster.refusing = {"n2"}
    cluster.run(4)
    assert "config-error" not in cluster.codes("n1")
