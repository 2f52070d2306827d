"""Rows 855 to 859: who lives and tells nothing that is of use."""

import pytest

from agent.core import explain, rules
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.observation import Channel, Outcome, Sight
from agent.core.policy import NodeSpec, Policy
from agent.core.verdict import Severity
from tests.core import given
from tests.core.cluster import Cluster


def running(count: int = 3) -> Cluster:
    cluster = Cluster(count)
    cluster.run(3)
    return cluster


def said(cluster: Cluster, by: str) -> str:
    found = cluster.verdict(by, "config-error")
    return explain.sentence(found, cluster.agents[by].policy)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.INCOMPATIBLE, "the peer speaks format 9, this agent up to 4"),
        (Outcome.GARBLED, "the report is not a JSON object"),
        (Outcome.FOREIGN, "an agent of cluster 'other' answers"),
        (Outcome.REFUSED, "HTTP 500: no words"),
    ],
)
def test_row_855_agents_that_do_not_understand_each_other_are_not_healthy(
    outcome, reason
):
    cluster = running()
    cluster.babel = {("n1", "n3"): (outcome, reason)}
    cluster.run(3)
    found = cluster.verdict("n1", "config-error")
    assert (found.rule, found.subject) == (855, "n1|n3")
    assert found.severity is Severity.WARNING
    assert said(cluster, "n1").startswith(
        f"n1 and n3: n3 answers n1 no report that can be used ({reason})."
    )
    assert "splitguard --version` on n1 and n3" in next_step(found)
    assert cluster.codes("n2") == {"config-error"}, "who is heard tells of it"
    assert cluster.codes("n3") == {"config-error"}


def test_row_855_names_both_directions():
    cluster = running()
    odd = (Outcome.INCOMPATIBLE, "another format")
    cluster.babel = {("n2", "n3"): odd, ("n3", "n2"): odd}
    cluster.run(3)
    assert "n3 answers n2 no" in said(cluster, "n1")
    assert "n2 answers n3 no" in said(cluster, "n1")


def test_row_855_tells_of_two_witnesses_that_no_other_channel_joins():
    nodes = tuple(
        NodeSpec(name, has_postgres=name == "n1", has_manager=False)
        for name in ("n1", "w1", "w2")
    )
    heard = {}
    for name, other in (("w1", "w2"), ("w2", "w1")):
        odd = Sight(other, Channel.AGENT, Outcome.GARBLED, "odd", 0.5, 0, None, None)
        heard[name] = given.heard(name, given.report(name, sights=(odd,)), 9.9)
    latest = {f"{name}/agent": seen for name, seen in heard.items()}
    latest["n1/postgres"] = given.postgres("n1", given.sight(), 9.5)
    state = given.state(latest=latest, reports=heard)
    (found,) = rules.judge(state, given.at(10.0), Policy("test", "n1", nodes))
    assert (found.rule, found.subject) == (855, "w1|w2")


def test_row_855_waits_for_an_upgrade_and_ends_with_it():
    cluster = running()
    cluster.babel = {("n1", "n2"): (Outcome.INCOMPATIBLE, "another format")}
    cluster.run(40)
    assert cluster.incident("n1", "settings").status is Status.PENDING
    cluster.run(25)
    assert cluster.incident("n1", "settings").status is Status.OPEN
    cluster.babel = {}
    cluster.run(8)
    assert cluster.incident("n1", "settings").status is Status.RESOLVED
    assert cluster.codes("n1") == {"healthy"}


def test_row_855_leaves_a_refused_token_to_its_own_row():
    cluster = running()
    cluster.strangers = {("n1", "n2")}
    cluster.run(3)
    assert cluster.verdict("n1", "config-error").rule == 851


def test_row_857_a_primary_that_lets_no_agent_in_is_told_of():
    cluster = running()
    cluster.refusing = {"n1"}
    cluster.run(70)
    found = cluster.verdict("n2", "config-error")
    assert (found.rule, found.subject) == (857, "n1")
    assert said(cluster, "n2").startswith("n1: no agent can read its PostgreSQL, 53300")
    assert "pg_stat_activity on n1" in next_step(found)
    opened = cluster.incident("n2", "settings")
    assert (opened.status, opened.worst) == (Status.OPEN, Severity.CRITICAL)
    assert "postgres-down" not in cluster.codes("n2")
    cluster.refusing = set()
    cluster.run(8)
    assert cluster.incident("n2", "settings").status is Status.RESOLVED


def test_row_859_another_server_that_lets_no_agent_in_is_a_warning():
    cluster = running()
    cluster.refusing = {"n3"}
    cluster.run(3)
    found = cluster.verdict("n1", "config-error")
    assert (found.rule, found.subject) == (859, "n3")
    assert found.severity is Severity.WARNING
    assert "whether n3 accepts writes" in next_step(found)


def test_rows_857_and_859_leave_a_server_that_is_silent_to_others():
    cluster = running()
    cluster.servers["n1"].up = cluster.servers["n3"].up = False
    cluster.run(5)
    assert "config-error" not in cluster.codes("n2")
    assert "postgres-down" in cluster.codes("n2")


def test_rows_857_and_859_leave_a_server_that_starts_to_itself():
    cluster = running()
    cluster.refusing, cluster.refusal = {"n1", "n3"}, "57P03 the database system is"
    cluster.run(5)
    assert cluster.codes("n2") == {"unknown"}


def test_a_short_refusal_opens_nothing():
    cluster = running()
    cluster.refusing = {"n1", "n2"}
    cluster.run(20)
    cluster.refusing = set()
    cluster.run(10)
    assert cluster.codes("n1") == {"healthy"}
    assert cluster.incidents("n1", "settings") == []
