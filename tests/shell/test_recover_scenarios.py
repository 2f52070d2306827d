"""The recovery scenarios as data: sound, in the right order, rendered as they are."""

from itertools import pairwise
from pathlib import Path

import pytest

from agent.vnfm.records import Generation
from agent.vnfm.recovery.markdown import runbook
from agent.vnfm.recovery.model import (
    Each,
    Kind,
    Scenario,
    Step,
    capitals,
    filled,
    names_in,
    steps_of,
)
from agent.vnfm.recovery.scenarios import SCENARIOS

RUNBOOKS = Path(__file__).parents[2] / "deploy" / "runbooks"
EACH = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda s: s.name)
BOTH = pytest.mark.parametrize("generation", Generation, ids=lambda g: g.value)
OLD, NEW = Generation.ACTIVE_STANDBY, Generation.ALL_ACTIVE


def ids(name: str, generation: Generation) -> list[str]:
    return [step.id for step in steps_of(SCENARIOS[name], generation)]


def commands(name: str, generation: Generation) -> str:
    steps = steps_of(SCENARIOS[name], generation)
    return "\n".join(line for step in steps for line in step.commands.of(generation))


@EACH
def test_a_runbook_is_what_the_data_says(scenario: Scenario) -> None:
    page = (RUNBOOKS / f"{scenario.name}.md").read_text("utf-8")
    assert page == runbook(scenario), "run `make runbooks`"


def test_there_is_a_runbook_for_each_scenario_of_the_guide_and_no_other() -> None:
    assert sorted(SCENARIOS) == [
        "active-down", "node-down", "split-brain", "whole-cluster",
    ]  # fmt: skip
    assert {page.stem for page in RUNBOOKS.glob("*.md")} >= set(SCENARIOS)


@EACH
@BOTH
def test_what_a_person_is_told_is_checked_before_anything_is_done(
    scenario: Scenario, generation: Generation
) -> None:
    steps = list(steps_of(scenario, generation))
    for step, after in pairwise(steps):
        if step.kind is Kind.SAY:
            assert after.kind is Kind.CHECK, step.id


@EACH
@BOTH
def test_a_run_ends_by_proving_that_the_cluster_is_healthy(
    scenario: Scenario, generation: Generation
) -> None:
    assert list(steps_of(scenario, generation))[-1].act == "healthy"


@EACH
def test_steps_have_names_of_their_own_and_say_who_acts(scenario: Scenario) -> None:
    names = [step.id for step in scenario.steps]
    assert len(names) == len(set(names))
    for step in scenario.steps:
        assert bool(step.act) is (step.kind is not Kind.SAY), step.id
        assert step.title, step.id
        assert step.wait_s == 0 or step.kind is Kind.CHECK, step.id


@EACH
def test_commands_stand_where_their_words_do(scenario: Scenario) -> None:
    for step in scenario.steps:
        for generation in Generation:
            if step.commands.of(generation) and step.kind is Kind.SAY:
                assert step.is_for(generation) or _is_shared(step), step.id


def _is_shared(step: Step) -> bool:
    return step.commands.old == step.commands.new


def test_a_manager_of_4_is_restored_before_anybody_joins_it() -> None:
    steps = ids("whole-cluster", OLD)
    order = ["save-certificates", "snapshot", "teardown", "install", "upload",
             "restore", "restored", "start-cluster", "join", "healthy"]  # fmt: skip
    assert [step for step in steps if step in order] == order
    assert "maintenance-on" not in steps


def test_the_snapshot_is_made_before_people_are_waited_for() -> None:
    for generation in Generation:
        steps = ids("whole-cluster", generation)
        order = ["look", "wanted", "snapshot", "save-other-certificates", "teardown"]
        assert [step for step in steps if step in order] == order


def test_the_pages_command_can_be_used_as_it_stands() -> None:
    page = runbook(SCENARIOS["whole-cluster"])
    assert "\n    splitguard recover whole-cluster --to /mnt/safe\n" in page
    assert "\n    splitguard recover node-down\n" in runbook(SCENARIOS["node-down"])


def test_managers_of_5_are_restored_in_maintenance_mode_and_join_by_themselves() -> (
    None
):
    steps = ids("whole-cluster", NEW)
    order = ["save-certificates", "snapshot", "teardown", "install",
             "maintenance-on", "upload", "restore", "maintenance-off",
             "restored", "joined", "healthy"]  # fmt: skip
    assert [step for step in steps if step in order] == order
    assert not {"join", "start-cluster"} & set(steps)


def test_the_commands_are_those_of_each_generation() -> None:
    old, new = commands("node-down", OLD), commands("node-down", NEW)
    assert "cfy cluster nodes remove {member}" in old
    assert "cfy_manager remove -f" in old
    assert "cfy cluster join --cluster-host-ip {address} --cluster-node-name" in old
    assert "cfy cluster remove {member}" in new
    assert "cfy cluster join" not in new
    assert "cfy_manager install" in old
    assert "cfy_manager install" in new


def test_nothing_of_a_split_is_healed_before_the_losing_sides_are_kept() -> None:
    for generation in Generation:
        steps = ids("split-brain", generation)
        assert steps.index("captured") < steps.index("heal") < steps.index("loss")


def test_what_the_old_active_one_has_is_kept_before_anything_is_torn_down() -> None:
    for generation in Generation:
        steps = ids("active-down", generation)
        assert steps.index("newest") < steps.index("kept") < steps.index("teardown")


def test_no_dead_node_is_destroyed_before_what_only_it_has_was_thought_of() -> None:
    for generation in Generation:
        steps = ids("node-down", generation)
        assert steps.index("kept") < steps.index("remove") < steps.index("teardown")


def test_only_the_way_that_was_taken_is_gone() -> None:
    scenario = SCENARIOS["active-down"]
    fixed = [step.id for step in steps_of(scenario, OLD, {"way": "mended"})]
    assert "teardown" not in fixed
    assert fixed[-1] == "healthy"
    assert "teardown" in [
        step.id for step in steps_of(scenario, OLD, {"way": "replace"})
    ]


def test_braces_are_filled_with_what_is_known() -> None:
    text = "join {node} to {leader_address}"
    assert names_in(text) == ("node", "leader_address")
    assert filled(text, {"node": "n2"}) == "join n2 to LEADER-ADDRESS"
    assert capitals("leader_address") == "LEADER-ADDRESS"


def test_a_value_with_braces_is_not_filled_again() -> None:
    assert filled("{a} {b}", {"a": "{b}", "b": "x"}) == "{b} x"


@EACH
def test_steps_for_many_nodes_name_the_one_they_mean(scenario: Scenario) -> None:
    for step in scenario.steps:
        if step.each is not Each.ONCE:
            assert "{node}" in step.title, step.id
