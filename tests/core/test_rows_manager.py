"""Row 871: the manager's active node is not PostgreSQL's primary."""

import pytest

from agent.core import explain
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.observation import ManagerSight
from agent.core.rules_manager import _every_one_is
from tests.core.cluster import Cluster


def apart() -> Cluster:
    """n1 is the primary, and the manager of n2 says that it is active."""
    cluster = Cluster(managers=True)
    cluster.manager_version = "4.5.5"
    cluster.run(3)
    cluster.active = {"n1": False, "n2": True, "n3": False}
    return cluster


def test_row_871_a_manager_that_is_active_beside_a_standby_is_told_of():
    cluster = apart()
    cluster.run(3)
    found = cluster.verdict("n3", "role-mismatch")
    assert (found.rule, found.subject) == (871, "n2")
    assert explain.sentence(found, cluster.agents["n3"].policy) == (
        "The manager on n2 says that it is active, but its PostgreSQL is a standby: "
        "the primary is n1, whose manager says that it is not active. What needs to "
        "write there fails."
    )
    assert "beside n1 the active one" in next_step(found)
    assert cluster.codes("n1") == cluster.codes("n2") == {"role-mismatch"}


def test_row_871_waits_for_a_handover_and_ends_with_it():
    cluster = apart()
    cluster.run(55)
    assert cluster.incident("n1", "role").status is Status.PENDING
    cluster.run(10)
    assert cluster.incident("n1", "role").status is Status.OPEN
    cluster.active = {"n1": True, "n2": False, "n3": False}
    cluster.run(8)
    assert cluster.incident("n1", "role").status is Status.RESOLVED
    assert cluster.codes("n1") == {"healthy"}


def test_row_871_managers_that_are_all_active_say_nothing_of_the_database():
    cluster = apart()
    cluster.active = dict.fromkeys(("n1", "n2", "n3"), True)
    cluster.run(3)
    assert cluster.codes("n1") == {"healthy"}
    cluster.managers_up["n1"] = cluster.managers_up["n3"] = False
    cluster.run(4)
    assert "role-mismatch" not in cluster.codes("n2"), "the only one says active"


def test_row_871_two_active_managers_of_three_are_one_too_many():
    cluster = apart()
    cluster.active["n1"] = True
    cluster.run(3)
    found = cluster.verdict("n1", "role-mismatch")
    assert found.subject == "n2"
    assert found.evidence["primary_manager"] == "says that it is active too"


def test_row_871_nobody_active_is_no_mismatch():
    cluster = apart()
    cluster.active = dict.fromkeys(("n1", "n2", "n3"), False)
    cluster.run(3)
    assert cluster.codes("n1") == {"healthy"}


def test_row_871_a_manager_beside_a_server_that_nobody_can_read_is_not_judged():
    cluster = apart()
    cluster.refusing = {"n2"}
    cluster.run(6)
    assert "role-mismatch" not in cluster.codes("n1")


@pytest.mark.parametrize(
    ("version", "every"),
    [
        (None, False), ("4.5.5", False), ("5.0.4", False), ("5.0.5", True),
        ("5.1", True), ("6", True), ("7.0.5-ga", True), ("new", False),
    ],
)  # fmt: skip
def test_from_5_0_5_on_every_manager_is_active(version, every):
    assert _every_one_is(ManagerSight(True, version)) is every
