"""Who belongs to the stand-in managers' cluster: which list holds, who counts."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.lab.membership import Membership, companions, load, newest, save

ALL = Membership("a", 3, ("n1", "n2", "n3"))


@dataclass
class One:
    """Somebody who tells of which cluster he is."""

    membership: Membership


def test_who_is_on_no_list_is_a_cluster_to_nobody_and_was_not_removed():
    fresh = Membership()
    assert not fresh.has("n1")
    assert not fresh.lost("n1")
    assert newest(fresh, ALL) == fresh


def test_a_node_that_was_taken_off_the_list_has_lost_its_cluster():
    after = ALL.without("n2")
    assert after == Membership("a", 4, ("n1", "n3"))
    assert after.lost("n2")
    assert not after.lost("n1")
    assert after.with_("n2").has("n2")


def test_a_name_stands_on_the_list_once():
    assert ALL.with_("n1").members == ("n2", "n3", "n1")


def test_of_one_cluster_the_newest_list_holds():
    after = ALL.without("n2")
    assert newest(ALL, after) == after
    assert newest(after, ALL) == after


def test_the_list_of_another_cluster_is_no_news():
    assert newest(ALL, Membership("b", 9, ("n2",))) == ALL


@pytest.mark.parametrize("turned", [False, True])
def test_two_lists_that_were_changed_apart_give_every_node_the_same(turned: bool):
    one, other = ALL.without("n1"), ALL.without("n2")
    mine, told = (other, one) if turned else (one, other)
    assert newest(mine, told) == max(one, other, key=lambda each: each.members)


def test_only_who_is_on_the_list_and_has_the_same_cluster_is_counted():
    seen = {
        "n2": One(ALL),
        "n3": One(Membership("b", 1, ("n3",))),
        "n4": One(ALL),
        "n5": One(Membership()),
    }
    assert set(companions(ALL, seen)) == {"n2"}


def test_a_list_is_kept_on_the_machine(tmp_path: Path):
    path = tmp_path / "cluster.json"
    assert load(path) == Membership()
    save(path, ALL)
    assert load(path) == ALL
    assert [each.name for each in tmp_path.iterdir()] == ["cluster.json"]
