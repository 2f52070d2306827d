"""What a policy works out from its list of nodes, and that it shows only what was set.

What is worked out follows from the rest: in a message, or in a journal that somebody
reads, it would only be the same said twice.
"""

from agent.core.observation import Channel
from agent.core.policy import NodeSpec, Policy

NODES = (
    NodeSpec("n1", has_postgres=True, has_manager=True),
    NodeSpec("m1", has_postgres=False, has_manager=True),
    NodeSpec("w1", has_postgres=False, has_manager=False),
)
WORKED_OUT = ("order", "voters", "channels", "places", "asked_first", "servers")


def test_a_policy_shows_what_was_set_and_not_what_follows_from_it():
    shown = repr(Policy("test", "n1", NODES))
    assert "clock_drift=" in shown
    assert [name for name in WORKED_OUT if f", {name}=" in shown] == []


def test_of_those_who_are_asked_first_all_vote_and_none_is_a_manager():
    policy = Policy("test", "n1", NODES)
    assert policy.voters == ("n1", "w1")
    assert policy.asked_first == ("n1/postgres", "w1/agent")
    assert policy.channels["n1"] == (Channel.POSTGRES, Channel.MANAGER)
    assert policy.servers == 1
