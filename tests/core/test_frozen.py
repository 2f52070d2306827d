"""A copy with other fields, made without going through its making."""

import dataclasses

import pytest

from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.policy import NodeSpec, Policy
from agent.core.state import View


def test_what_is_named_changes_and_all_else_is_the_same_object():
    old = View(boot_id="one", sequence=3, latest={})
    new = replace(old, sequence=4)
    assert new == dataclasses.replace(old, sequence=4)
    assert new.latest is old.latest
    assert old.sequence == 3


def test_a_copy_is_as_frozen_as_its_original():
    new = replace(Moment(1.0, 2.0), wall_s=3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        new.wall_s = 4.0  # type: ignore[misc] # the point


def test_a_field_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="no_such"):
        replace(Moment(1.0, 2.0), no_such=1)  # type: ignore[call-arg] # the point
    every = {"monotonic_s": 3.0, "wall_s": 4.0}
    with pytest.raises(TypeError, match="no_such"):
        replace(Moment(1.0, 2.0), **every, no_such=1)  # type: ignore[call-arg] # too


def test_what_a_class_works_out_when_it_is_made_is_worked_out_anew():
    one = Policy("test", "n1", (NodeSpec("n1", True, False),))
    two = replace(one, nodes=(*one.nodes, NodeSpec("n2", True, False)))
    assert two.voters == ("n1", "n2")
    assert two == dataclasses.replace(two)


def test_a_class_without_slots_is_copied_too():
    @dataclasses.dataclass(frozen=True)
    class Plain:
        one: int
        two: int = 2

    assert replace(Plain(1), one=3) == Plain(3, 2)
