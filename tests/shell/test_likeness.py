"""Which settings agents compare, and that no secret is among them."""

import pytest

from agent.config import Settings
from agent.config.likeness import digests

NODE = {
    "name": "n1",
    "agent": "https://10.0.0.1:8009",
    "postgres": "host=10.0.0.1 dbname=postgres user=probe password=hunter2",
}


def told(**changes: object) -> dict[str, str]:
    return digests(Settings.model_validate(
        {"cluster": "c", "node": "n1", "nodes": [NODE], **changes}
    ))  # fmt: skip


def parted(other: dict[str, str]) -> set[str]:
    ours = told()
    return {key for key in ours if other.get(key) != ours[key]}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"probe": {"round_s": 2.0}}, {"probe.round_s"}),
        ({"capture": {"winner_rule": "newest-commit"}}, {"capture.winner_rule"}),
        ({"nodes": [{**NODE, "agent": "https://10.0.0.2:8009"}]}, {"n1.agent"}),
        ({"nodes": [NODE, {"name": "n2"}]}, {"nodes"}),
        ({"witnesses": [{"name": "w1", "agent": "https://w:1"}]}, {"witnesses"}),
        (
            {"nodes": [{**NODE, "postgres": "host=10.0.0.9 dbname=postgres user=a"}]},
            {"n1.postgres"},
        ),
        (
            {"nodes": [{**NODE, "postgres": "host=10.0.0.1 dbname=postgres user=b"}]},
            set(),
        ),
        ({"listen": "127.0.0.1:1", "state_dir": "/x", "socket": "/y"}, set()),
        ({"lb": {"fail_closed": True}, "page_url": "https://page"}, set()),
    ],
)
def test_only_what_agents_judge_by_is_compared(changes, names):
    assert parted(told(**changes)) == names


def test_an_address_of_this_machine_is_not_compared():
    here = {**NODE, "agent": "http://127.0.0.1:1", "postgres": "host=localhost"}
    found = told(nodes=[here])
    assert found["n1.agent"] == found["n1.postgres"] == ""
    assert found["n1.manager"], "that there is none is told"


def test_a_digest_tells_nothing_of_the_value():
    text = repr(told())
    assert "hunter2" not in text
    assert "10.0.0" not in text
