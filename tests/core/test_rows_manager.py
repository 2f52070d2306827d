"""Rows 871 and 873: who says that it is active, where only one manager may be."""

import pytest

from agent.core import explain
from agent.core.care import ManagerSight
from agent.core.incident import Status
from agent.core.nextstep import next_step
from agent.core.rules_manager import every_one_is
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
    cluster.manager_version = None
    cluster.active = dict.fromkeys(("n1", "n2", "n3"), True)
    cluster.run(3)
    assert cluster.codes("n1") == {"healthy"}
    cluster.managers_up["n1"] = cluster.managers_up["n3"] = False
    cluster.run(4)
    assert "role-mismatch" not in cluster.codes("n2"), "the only one says active"


def test_row_871_of_the_4_x_line_not_all_can_be_active():
    cluster = apart()
    cluster.active = dict.fromkeys(("n1", "n2", "n3"), True)
    cluster.run(3)
    found = cluster.agents["n1"].state.view.verdicts
    assert [(one.rule, one.subject) for one in found] == [(871, "n2"), (871, "n3")]


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


# --- 873: two that say they are active -------------------------------------------


def rivals() -> Cluster:
    """The managers of n1 and n2 are active, and nobody can read their databases."""
    cluster = Cluster(managers=True)
    cluster.manager_version = "4.x"
    cluster.run(3)
    cluster.refusing = {"n1", "n2"}
    cluster.active["n2"] = True
    return cluster


def test_row_873_two_active_managers_name_each_other():
    cluster = rivals()
    cluster.run(6)
    found = [
        one
        for one in cluster.agents["n3"].state.view.verdicts
        if one.code == "role-mismatch"
    ]
    assert [(one.rule, one.subject, one.evidence["rivals"]) for one in found] == [
        (873, "n1", "n2"),
        (873, "n2", "n1"),
    ]
    assert explain.sentence(found[0], cluster.agents["n3"].policy) == (
        "The managers on n1 and n2 both say that they are active, and only one may be: "
        "what is written through one is lost when the other is kept."
    )
    step = next_step(found[0])
    assert "`splitguard winner show`" in step
    assert "`splitguard vnfm snapshots create --wait --manager n1`" in step
    assert "the same for n2" in step


def test_row_873_a_manager_that_was_just_installed_is_no_rival():
    """It is active for itself, on a database of another system."""
    cluster = Cluster(managers=True)
    cluster.manager_version = "4.5.5"
    cluster.run(3)
    fresh = cluster.servers["n3"]
    fresh.system_id, fresh.follows = "42", None
    fresh.restart(standby=False)
    cluster.active["n3"] = True
    cluster.run(70)
    assert "foreign-system" in cluster.codes("n1")
    assert "role-mismatch" not in cluster.codes("n1")


def test_row_873_waits_for_a_handover_and_ends_with_it():
    cluster = rivals()
    cluster.run(55)
    assert {one.status for one in cluster.incidents("n3", "role")} == {Status.PENDING}
    cluster.run(10)
    assert {one.status for one in cluster.incidents("n3", "role")} == {Status.OPEN}
    cluster.active["n1"] = False
    cluster.run(8)
    ended = {one.status for one in cluster.incidents("n3", "role")}
    assert ended == {Status.RESOLVED}


def test_row_873_managers_of_which_every_one_is_active_are_no_rivals():
    cluster = rivals()
    cluster.active["n3"] = True
    for version in ("7.x", "6.4.2", None):
        cluster.manager_version = version
        cluster.run(4)
        assert "role-mismatch" not in cluster.codes("n3"), version


def test_row_873_is_silent_while_the_databases_tell_of_a_split():
    cluster = Cluster(managers=True)
    cluster.manager_version = "4.x"
    cluster.run(3)
    cluster.cut("n1")
    cluster.run(3)
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.active["n2"] = True
    cluster.run(3)
    cluster.heal()
    cluster.run(70)
    assert "split-brain" in cluster.codes("n3")
    assert not cluster.incidents("n3", "role")


def test_row_873_a_manager_that_wants_a_login_first_is_nobodys_rival():
    cluster = rivals()
    cluster.managers_silent = True
    cluster.run(6)
    assert "role-mismatch" not in cluster.codes("n3")


@pytest.mark.parametrize(
    ("version", "every"),
    [
        (None, False), ("4.5.5", False), ("5.0.4", False), ("5.0.5", True),
        ("5.1", True), ("6", True), ("7.0.5-ga", True), ("new", False),
    ],
)  # fmt: skip
def test_from_5_0_5_on_every_manager_is_active(version, every):
    assert every_one_is(ManagerSight(True, version)) is every
