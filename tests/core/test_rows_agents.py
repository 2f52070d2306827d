"""Rows 851 and up: what is wrong with the agents and what is set up around them."""

from dataclasses import replace

import pytest

from agent.core import explain
from agent.core.action import Tell
from agent.core.event import ReceiversTried
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.observation import Failing
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
    assert "auth.peer_token_file) on n1 and n3" in next_step(found)
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
    pairs = {one.subject for one in cluster.agents["n1"].state.view.verdicts}
    assert not pairs & {"n1|n2", "n1|n3"}


def set_up(cluster: Cluster, name: str, **settings: str) -> None:
    """Start an agent anew with these digests of its settings."""
    agent = cluster.agents[name]
    agent.policy = replace(agent.policy, settings=settings)
    cluster.start_agent(name)


def test_row_853_settings_that_differ_are_named_with_whom_they_part():
    cluster = Cluster()
    for name in ("n1", "n2", "n3"):
        limit = "aa" if name != "n3" else "bb"
        set_up(cluster, name, **{"probe.round_s": limit, "nodes": "cc"})
    cluster.run(3)
    found = cluster.verdict("n1", "config-drift")
    assert (found.rule, found.subject) == (853, "cluster")
    policy = cluster.agents["n1"].policy
    assert explain.sentence(found, policy) == (
        "Settings that must be the same on all nodes differ: probe.round_s (n1 and n2 "
        "against n3)."
    )
    step = next_step(found)
    assert step.startswith("Compare probe.round_s in the configuration of n1, n2 and")
    assert cluster.verdict("n3", "config-drift").evidence == found.evidence
    cluster.run(65)
    assert cluster.incident("n2", "settings").status is Status.OPEN
    set_up(cluster, "n3", **{"probe.round_s": "aa", "nodes": "cc"})
    cluster.run(10)
    assert cluster.codes("n2") == {"healthy"}
    assert cluster.incident("n2", "settings").status is Status.RESOLVED


def test_row_853_what_one_does_not_tell_differs_from_nothing():
    cluster = Cluster()
    set_up(cluster, "n1", **{"n1.agent": "", "probe.round_s": "aa"})
    set_up(cluster, "n2", **{"n1.agent": "cc", "new.setting": "dd"})
    cluster.run(3)
    assert cluster.codes("n1") == cluster.codes("n3") == {"healthy"}


def test_row_853_of_another_file_altogether_some_settings_are_named():
    cluster = Cluster()
    for name in ("n1", "n2"):
        set_up(cluster, name, **{f"s{number}": name for number in range(9)})
    cluster.run(3)
    told = cluster.verdict("n3", "config-drift").evidence
    assert str(told["reason"]).endswith("s4 (n1 against n2); and 4 more")
    assert told["nodes"] == "n1,n2"


def tried(cluster: Cluster, name: str, *failing: str, receivers: int = 2) -> None:
    """Something was sent to the receivers of one agent, and these did not take it."""
    at = cluster.at(name, 0.9)
    known = {one.name: one for one in cluster.agents[name].state.view.failing}
    since_s = {one: known[one].since_s for one in failing if one in known}
    told = tuple(
        Failing(
            one, "host.example answered HTTP 503",
            since_s.get(one, at.monotonic_s), at.monotonic_s,
        )
        for one in failing
    )  # fmt: skip
    cluster.agents[name].step(ReceiversTried(at, receivers, told))


def test_row_863_one_receiver_of_two_is_a_warning_that_all_agents_know():
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n1", "on-call")
    cluster.run(2)
    found = cluster.verdict("n3", "cannot-alert")
    assert (found.rule, found.subject) == (863, "n1")
    policy = cluster.agents["n3"].policy
    assert explain.sentence(found, policy) == (
        "n1 cannot tell on-call, 1 of 2 receivers: host.example answered HTTP 503."
    )
    assert "`systemctl reload splitguard` on n1" in next_step(found)
    assert cluster.incident("n2", "alert").status is Status.PENDING
    cluster.run(16)
    assert cluster.incident("n2", "alert").status is Status.OPEN
    tried(cluster, "n1")
    cluster.run(8)
    assert cluster.incident("n2", "alert").status is Status.RESOLVED
    assert cluster.codes("n2") == {"healthy"}


def test_row_861_no_receiver_at_all_is_critical_and_gets_worse_from_one():
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n2", "on-call")
    cluster.run(17)
    tried(cluster, "n2", "on-call", "pager")
    cluster.run(2)
    found = cluster.verdict("n1", "cannot-alert")
    assert (found.rule, found.severity) == (861, Severity.CRITICAL)
    policy = cluster.agents["n1"].policy
    assert explain.sentence(found, policy).startswith(
        "n2 cannot tell anybody (on-call and pager): host.example"
    )
    assert cluster.incident("n1", "alert").worst is Severity.CRITICAL


def test_row_861_what_a_cut_off_agent_could_not_send_is_no_fault_of_the_receiver():
    cluster = Cluster()
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(5)
    tried(cluster, "n1", "on-call", receivers=1)
    cluster.run(2)
    assert "cannot-alert" not in cluster.codes("n1")
    cluster.heal()
    cluster.run(4)
    assert "cannot-alert" not in cluster.codes("n2") | cluster.codes("n1")
    tried(cluster, "n1", "on-call", receivers=1)
    cluster.run(2)
    assert cluster.verdict("n2", "cannot-alert").rule == 861


def test_row_861_what_an_agent_said_last_stands_until_it_is_heard_again():
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n3", "on-call", receivers=1)
    cluster.run(17)
    cluster.agents["n3"].up = False
    cluster.run(12)
    assert cluster.incident("n1", "alert").status is Status.OPEN
    cluster.start_agent("n3")
    cluster.run(8)
    assert cluster.incident("n1", "alert").status is Status.RESOLVED


@pytest.mark.parametrize("row", [861, 863])
def test_rows_861_and_863_do_not_begin_with_the_last_words_of_a_dead_agent(row):
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n3", "on-call", receivers=1 if row == 861 else 2)
    cluster.run(2)
    assert cluster.verdict("n1", "cannot-alert").rule == row
    cluster.agents["n3"].up = False
    cluster.run(30)
    assert "cannot-alert" not in cluster.codes("n1") | cluster.codes("n2")
    assert cluster.incidents("n1", "alert") == []
    cluster.start_agent("n3")
    tried(cluster, "n3", "on-call", receivers=1 if row == 861 else 2)
    cluster.run(20)
    assert cluster.incident("n1", "alert").status is Status.OPEN


def test_row_861_one_standing_trouble_lets_no_other_begin_by_last_words():
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n2", "on-call", receivers=1)
    cluster.run(17)
    tried(cluster, "n3", "on-call", receivers=1)
    cluster.run(2)
    cluster.agents["n3"].up = False
    cluster.run(30)
    told = [one.verdict.subject for one in cluster.incidents("n1", "alert")]
    assert told == ["n2"]


def test_row_861_the_agent_that_others_hear_tells_what_one_cannot():
    cluster = Cluster()
    cluster.run(3)
    tried(cluster, "n1", "on-call", receivers=1)
    cluster.run(30)
    told = {
        name: [one for one in agent.actions if isinstance(one, Tell)]
        for name, agent in cluster.agents.items()
    }
    assert told["n1"], "the first in order tries first"
    assert told["n2"], "nobody has taken it there, so the next one tells"
