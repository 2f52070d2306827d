"""What a recovery concludes from what it sees: never from silence, always by name."""

from dataclasses import replace

import pytest

from agent.core.lsn import Lsn
from agent.vnfm.records import Generation, Member
from agent.vnfm.recovery import judging, judging_health, judging_split
from agent.vnfm.recovery.world import (
    CopySight,
    IncidentSight,
    ManagerSeen,
    NodeSight,
    VerdictSight,
    World,
)

OLD, NEW = Generation.ACTIVE_STANDBY, Generation.ALL_ACTIVE
MEMBERS = (
    Member("manager", "n1", "10.0.0.1", "leader"),
    Member("manager", "n2", "10.0.0.2", "replica"),
    Member("manager", "n3", "10.0.0.3", "replica"),
)
ALONE = (Member("manager", "10.0.0.1", "10.0.0.1", "leader"),)
FACTS = {f"address.n{number}": f"10.0.0.{number}" for number in (1, 2, 3)}


def manager(node: str, **more: object) -> ManagerSeen:
    one = ManagerSeen(
        node, f"10.0.0.{node[1]}:80", answers=True, word="not_cluster_master"
    )
    return replace(one, **more)  # type: ignore[arg-type]  # fields by name


ACTIVE = manager(
    "n1", active=True, version="4.5.5", cluster="OK", members=MEMBERS, word="running"
)
SILENT = "connection refused"


def node(name: str, role: str = "standby", **more: object) -> NodeSight:
    one = NodeSight(
        name, role, 1, Lsn(100), lsn_known=True, upstream="n1", seen=True, stands="on"
    )
    return replace(one, **more)  # type: ignore[arg-type]  # fields by name


def verdict(
    code: str, family: str, subject: str = "n1", **more: object
) -> VerdictSight:
    one = VerdictSight(code, family, subject, "critical", f"{code}.", "Act.", "i1")
    return replace(one, **more)  # type: ignore[arg-type]  # fields by name


WHOLE = World(
    OLD,
    (ACTIVE, manager("n2"), manager("n3")),
    headline="healthy: all is well",
    nodes=(node("n1", "primary", upstream=""), node("n2"), node("n3")),
)
DOWN = replace(
    WHOLE, managers=(ACTIVE, manager("n2"), manager("n3", answers=False, word=SILENT))
)


def test_a_whole_cluster_is_healthy() -> None:
    seen = judging_health.healthy(WHOLE, FACTS)
    assert seen.ok
    assert "n1 active, PostgreSQL's primary n1" in seen.told


@pytest.mark.parametrize(
    ("world", "told"),
    [
        (DOWN, "the manager on n3 does not answer: connection refused"),
        (
            replace(
                WHOLE, managers=(ACTIVE, replace(ACTIVE, node="n2"), manager("n3"))
            ),
            "managers that answer as active: n1, n2, not one",
        ),
        (
            replace(WHOLE, managers=(manager("n1"), manager("n2"), manager("n3"))),
            "managers that answer as active: none, not one",
        ),
        (
            replace(
                WHOLE,
                managers=(
                    replace(ACTIVE, members=MEMBERS[:2]),
                    manager("n2"),
                    manager("n3"),
                ),
            ),
            "n1 does not list n3 as a member of its cluster",
        ),
        (
            replace(
                WHOLE,
                managers=(
                    replace(
                        ACTIVE,
                        members=(*MEMBERS[:2], replace(MEMBERS[2], status="offline")),
                    ),
                    manager("n2"),
                    manager("n3"),
                ),
            ),
            "n1 lists manager n3 as offline",
        ),
        (
            replace(WHOLE, nodes=(*WHOLE.nodes[:2], node("n3", upstream=""))),
            "PostgreSQL on n3 is a standby that does not stream",
        ),
        (
            replace(WHOLE, nodes=(node("n1"), node("n2"), node("n3"))),
            "PostgreSQL servers that take writes: none, not one",
        ),
        (replace(WHOLE, agent="the agent is dead"), "no agent could be asked"),
        (
            replace(WHOLE, verdicts=(verdict("lineage-diverged", "split", "n2"),)),
            "lineage-diverged on n2: lineage-diverged. Act.",
        ),
    ],
)
def test_what_is_not_whole_is_named(world: World, told: str) -> None:
    seen = judging_health.healthy(world, FACTS)
    assert not seen.ok
    assert told in seen.told


def test_a_failover_that_nobody_acknowledged_is_mentioned_and_no_trouble() -> None:
    world = replace(WHOLE, verdicts=(verdict("failover", "primary"),))
    seen = judging_health.healthy(world, FACTS)
    assert seen.ok
    assert "splitguard incidents ack i1" in seen.told


def test_incidents_that_are_not_done_with_are_named_with_their_command() -> None:
    open_ = IncidentSight("i1", "failover", "primary", over=False, taken_by="")
    taken = replace(open_, id="i2", taken_by="ann")
    over = replace(open_, id="i3", verdict="split-brain", over=True)
    world = replace(
        WHOLE,
        verdicts=(verdict("failover", "primary"),),
        incidents=(open_, taken, over),
    )
    told = judging_health.healthy(world, FACTS).told.splitlines()[1:]
    assert len(told) == 3, "one line each, though the failover is a verdict too"
    assert told[0].startswith("still open: failover on primary; look: ")
    assert told[0].endswith("splitguard incidents ack i1")
    assert "taken by ann" in told[1]
    assert told[2].startswith("over, taken by nobody: split-brain on primary")
    many = tuple(replace(open_, id=f"j{number}") for number in range(9))
    seen = judging_health.healthy(replace(WHOLE, incidents=many), FACTS)
    assert "and 4 more incidents" in seen.told


def test_a_healthy_cluster_is_torn_down_for_no_yes() -> None:
    seen = judging_health.torn_down_for(WHOLE, FACTS)
    assert not seen.ok
    assert seen.hopeless
    assert "the agent says healthy: all is well" in seen.told
    assert "--though-healthy" in seen.told
    wanted = {**FACTS, "though_healthy": "yes"}
    assert judging_health.torn_down_for(WHOLE, wanted).ok
    # The agent says healthy, and a member is not: still nothing for a --yes.
    listed = (*MEMBERS[:2], replace(MEMBERS[2], status="offline"))
    odd = (replace(ACTIVE, members=listed), *WHOLE.managers[1:])
    assert not judging_health.torn_down_for(replace(WHOLE, managers=odd), FACTS).ok


def test_a_cluster_that_is_not_well_may_be_torn_down() -> None:
    assert "n3" in judging_health.torn_down_for(DOWN, FACTS).told
    assert judging_health.torn_down_for(DOWN, FACTS).ok
    idle = tuple(manager(f"n{number}") for number in (1, 2, 3))
    assert judging_health.torn_down_for(replace(WHOLE, managers=idle), FACTS).ok
    blind = replace(WHOLE, agent="no agent answers", headline="")
    assert judging_health.torn_down_for(blind, FACTS).ok
    ill = replace(
        WHOLE,
        headline="lineage-diverged: n2 has left the line",
        verdicts=(verdict("lineage-diverged", "split", "n2"),),
    )
    assert judging_health.torn_down_for(ill, FACTS).ok


def test_what_is_not_ready_for_a_next_split_does_not_make_a_cluster_ill() -> None:
    for family in ("ready", "keeping"):
        ready = verdict("capture-not-ready", family, severity="warning")
        seen = judging_health.healthy(replace(WHOLE, verdicts=(ready,)), FACTS)
        assert seen.ok
        assert "to be mended before the next trouble: capture-not-ready." in seen.told


def test_the_manager_that_is_down_is_found() -> None:
    seen = judging.down_node(DOWN, FACTS)
    assert seen.ok
    assert seen.facts == {"node": "n3"}


def test_one_that_answers_and_is_listed_as_offline_is_down() -> None:
    listed = (*MEMBERS[:2], replace(MEMBERS[2], status="offline"))
    world = replace(
        WHOLE,
        managers=(replace(ACTIVE, members=listed), manager("n2"), manager("n3")),
    )
    assert judging.down_node(world, FACTS).facts == {"node": "n3"}


@pytest.mark.parametrize(
    ("world", "named", "told"),
    [
        (WHOLE, "", "nothing to do"),
        (WHOLE, "n2", "the manager on n2 answers and is listed as well"),
        (WHOLE, "n1", "the manager on n1 is active"),
        (
            replace(WHOLE, managers=tuple(manager(f"n{n}") for n in (1, 2, 3))),
            "",
            "no manager answers as active: splitguard recover active-down",
        ),
        (
            replace(
                WHOLE,
                managers=(
                    ACTIVE, manager("n2", answers=False), manager("n3", answers=False),
                ),
            ),
            "",
            "more than one is down: n2, n3: name one of them: --node NODE",
        ),
    ],
)  # fmt: skip
def test_it_is_said_why_nothing_can_be_recovered(
    world: World, named: str, told: str
) -> None:
    seen = judging.down_node(world, {**FACTS, "named": named})
    assert not seen.ok
    assert seen.hopeless
    assert told in seen.told


TOOK_OVER = World(
    OLD,
    (
        manager("n1", answers=False, word=SILENT),
        replace(ACTIVE, node="n2", place="10.0.0.2:80", members=MEMBERS[1:]),
        manager("n3"),
    ),
    headline="failover",
    nodes=(
        node("n1", "unknown", lsn_known=False, seen=False, stands="unknown"),
        node("n2", "primary", timeline=2, upstream=""),
        node("n3", timeline=2, upstream="n2"),
    ),
)
DOWN_N1 = {**FACTS, "node": "n1", "leader": "n2", "member": "n1"}


def test_who_took_over_leads_from_now_on() -> None:
    seen = judging.one_active(TOOK_OVER, DOWN_N1)
    assert seen.ok
    assert seen.facts["leader"] == "n2"
    assert seen.facts["others"] == "n1,n3"
    assert seen.facts["leader_address"] == "10.0.0.2"
    assert not judging.one_active(WHOLE, {**FACTS, "node": "n1"}).ok


def test_the_new_active_one_must_stand_on_the_newest_database() -> None:
    assert judging.newest(TOOK_OVER, DOWN_N1).ok
    ahead = replace(
        TOOK_OVER, nodes=(*TOOK_OVER.nodes[:2], node("n3", timeline=3, upstream=""))
    )
    assert "n3 is past n2" in judging.newest(ahead, DOWN_N1).told
    behind = replace(TOOK_OVER, verdicts=(verdict("stale-primary", "primary", "n2"),))
    seen = judging.newest(behind, DOWN_N1)
    assert not seen.ok
    assert seen.hopeless


def test_nobody_is_destroyed_whose_disk_nobody_has_read() -> None:
    seen = judging.kept(TOOK_OVER, DOWN_N1)
    assert not seen.ok
    assert "start its agent, or --lost n1" in seen.told
    assert judging.kept(TOOK_OVER, {**DOWN_N1, "lost": "n3,n1"}).ok


@pytest.mark.parametrize(
    ("stands", "grade", "ok"),
    [
        ("on", "none", True),
        ("past", "none", False),
        ("past", "captured", False),
        ("past", "complete", True),
        ("unknown", "none", False),
    ],
)
def test_what_only_the_old_active_one_has_must_be_kept(
    stands: str, grade: str, *, ok: bool
) -> None:
    world = replace(
        TOOK_OVER,
        nodes=(node("n1", "stopped", stands=stands), *TOOK_OVER.nodes[1:]),
        verdicts=(verdict("failover", "primary"),),
        copies=(CopySight("s1", "n1", grade, ("i1",)),),
    )
    assert judging.kept(world, DOWN_N1).ok is ok


def test_a_snapshot_of_another_trouble_keeps_nothing_of_this_one() -> None:
    world = replace(
        TOOK_OVER,
        nodes=(node("n1", "stopped", stands="past"), *TOOK_OVER.nodes[1:]),
        verdicts=(verdict("failover", "primary"),),
        copies=(CopySight("s0", "n1", "complete", ("older",)),),
    )
    assert not judging.kept(world, DOWN_N1).ok


def test_a_dead_standby_has_nothing_of_its_own() -> None:
    dead = node("n3", "unknown", lsn_known=False, seen=False)
    world = replace(DOWN, nodes=(*WHOLE.nodes[:2], dead))
    facts = {**FACTS, "node": "n3", "leader": "n1"}
    seen = judging.kept_or_standby(world, facts)
    assert seen.ok
    assert "it may have become active by itself" in seen.told


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"timeline": 1}, ()),
        ({"timeline": None}, ()),
        ({"stands": "past"}, ()),
        (
            {},
            (verdict("failover", "primary", evidence={"from": "n1", "to": "n2"}),),
        ),
    ],
)
def test_a_dead_former_active_may_hold_what_nobody_else_has(
    changes: dict[str, object], verdicts: tuple[VerdictSight, ...]
) -> None:
    former = node("n1", "unknown", lsn_known=False, seen=False, timeline=2)
    world = replace(
        TOOK_OVER,
        nodes=(replace(former, **changes), *TOOK_OVER.nodes[1:]),  # type: ignore[arg-type]  # fields by name
        verdicts=verdicts,
    )
    seen = judging.kept_or_standby(world, DOWN_N1)
    assert not seen.ok
    assert not seen.hopeless
    assert judging.kept_or_standby(world, {**DOWN_N1, "lost": "n1"}).ok
    kept = CopySight("s1", "n1", "complete", ("i1",))
    if verdicts:
        assert judging.kept_or_standby(replace(world, copies=(kept,)), DOWN_N1).ok


def test_the_way_is_seen_by_what_the_operator_did() -> None:
    assert judging.back_or_removed(TOOK_OVER, DOWN_N1).facts["way"] == "replace"
    leader = replace(TOOK_OVER.managers[1], members=MEMBERS)
    back = replace(
        TOOK_OVER,
        managers=(manager("n1"), leader, manager("n3")),
        nodes=(node("n1", timeline=2, upstream="n2"), *TOOK_OVER.nodes[1:]),
    )
    assert judging.back_or_removed(back, DOWN_N1).facts == {"way": "mended"}
    offline = (replace(MEMBERS[0], status="offline"), *MEMBERS[1:])
    waits = replace(
        back, managers=(manager("n1"), replace(leader, members=offline), manager("n3"))
    )
    assert not judging.back_or_removed(waits, DOWN_N1).ok


FRESH = manager(
    "n1", active=True, version="4.5.5", members=ALONE, holds={"deployments": 0}
)


def test_a_fresh_manager_is_alone_empty_and_of_the_right_version() -> None:
    facts = {**FACTS, "node": "n1", "version": "4.5.5"}
    world = replace(WHOLE, managers=(FRESH,))
    assert judging.installed(world, facts).ok
    assert judging.torn_down(world, facts).ok
    for wrong, told in (
        (ACTIVE, "belongs to a cluster"),
        (replace(FRESH, holds={"deployments": 1}), "not empty"),
        (replace(FRESH, holds=None), "not empty"),
        (replace(FRESH, version="4.4.0"), "should be 4.5.5"),
        (replace(FRESH, version=""), "tells no version"),
        (replace(FRESH, answers=False), "no manager answers"),
    ):
        seen = judging.installed(replace(WHOLE, managers=(wrong,)), facts)
        assert not seen.ok
        assert told in seen.told


def test_an_old_manager_that_answers_was_not_torn_down() -> None:
    assert not judging.torn_down(WHOLE, {**FACTS, "node": "n1"}).ok
    assert not judging.torn_down(WHOLE, {**FACTS, "node": "n2"}).ok


def test_a_person_may_be_quicker_than_the_checks() -> None:
    facts = {**FACTS, "node": "n3", "leader": "n1"}
    gone = replace(WHOLE, managers=(replace(ACTIVE, members=MEMBERS[:2]),))
    learnt = {**facts, **judging.removed(gone, facts).facts}
    assert not judging.installed(WHOLE, facts).ok
    assert judging.torn_down(WHOLE, learnt).ok
    assert judging.installed(WHOLE, learnt).ok


def test_a_member_that_does_not_stream_has_not_joined() -> None:
    facts = {**FACTS, "node": "n3", "leader": "n1"}
    assert judging.joined(WHOLE, facts).ok
    stuck = replace(WHOLE, nodes=(*WHOLE.nodes[:2], node("n3", upstream="")))
    assert "does not stream" in judging.joined(stuck, facts).told
    assert not judging.removed(WHOLE, facts).ok


def test_a_cluster_of_5_names_members_by_host_name() -> None:
    listed = (
        Member("manager", "vnfm-1.example", "10.0.0.1", "OK"),
        Member("manager", "vnfm-2.example", "10.0.0.2", "OK"),
        Member("broker", "rabbit", "10.0.0.9", "OK"),
    )
    both = tuple(
        manager(name, active=True, version="7.0.5", cluster="OK", members=listed)
        for name in ("n1", "n2")
    )
    world = World(NEW, both, nodes=(node("n1", "primary", upstream=""), node("n2")))
    assert judging.member_of(world, "n2", FACTS) == "vnfm-2.example"
    facts = {**FACTS, "node": "n2", "member": "vnfm-2.example", "leader": "n1"}
    assert judging.joined(world, facts).ok
    assert judging_health.healthy(world, FACTS).ok
    broken = (*listed[:2], replace(listed[2], status="Fail", failures=("no quorum",)))
    ill = replace(world, managers=(replace(both[0], members=broken), both[1]))
    assert "lists broker rabbit as Fail; no quorum" in (
        judging_health.healthy(ill, FACTS).told
    )


def test_what_was_restored_is_held_against_the_archive() -> None:
    facts = {
        "leader": "n1",
        "counts": '{"deployments": 3, "blueprints": 2, "agents": 9}',
    }
    held = {"deployments": 3, "blueprints": 2, "plugins": 0}
    world = replace(WHOLE, managers=(replace(FRESH, holds=held),))
    seen = judging_health.restored(world, facts)
    assert seen.ok
    assert seen.told == "n1 has 2 of 2 blueprints, 3 of 3 deployments"
    fewer = replace(FRESH, holds={**held, "deployments": 2})
    assert not judging_health.restored(replace(WHOLE, managers=(fewer,)), facts).ok
    silent = replace(FRESH, holds=None)
    assert not judging_health.restored(replace(WHOLE, managers=(silent,)), facts).ok


SPLIT = World(
    OLD,
    (ACTIVE, replace(ACTIVE, node="n2", place="10.0.0.2:80"), manager("n3")),
    headline="split-brain",
    nodes=(
        node("n1", "primary", upstream=""),
        node("n2", "primary", timeline=2, upstream=""),
        node("n3", timeline=2, upstream="n2"),
    ),
    verdicts=(
        verdict(
            "split-brain", "split",
            evidence={"tips": "n1,n2", "winner": "n2", "losers": "n1"},
        ),
    ),
    copies=(CopySight("s1", "n1", "complete", ("i1",)),),
)  # fmt: skip


def test_the_sides_of_a_split_are_told() -> None:
    seen = judging_split.sides(SPLIT, FACTS)
    assert seen.ok
    assert seen.facts["winner"] == "n2"
    assert seen.facts["losers"] == "n1"
    assert "n1: timeline 1 at 0/64; its manager is active" in seen.told


def test_who_is_chosen_is_kept_and_the_other_side_loses() -> None:
    seen = judging_split.sides(SPLIT, {**FACTS, "chosen": "n1"})
    assert (seen.facts["winner"], seen.facts["losers"]) == ("n1", "n2")
    other = judging_split.sides(SPLIT, {**FACTS, "chosen": "n3"})
    assert not other.ok
    assert "n3 is no side of this split: n1, n2" in other.told


def test_while_nobody_can_tell_who_wins_both_sides_are_kept() -> None:
    open_ = verdict(
        "split-brain", "split",
        evidence={"tips": "n1,n2", "winner": None, "losers": "n1,n2"},
    )  # fmt: skip
    seen = judging_split.sides(replace(SPLIT, verdicts=(open_,)), FACTS)
    assert (seen.facts["winner"], seen.facts["losers"]) == ("", "n1,n2")


HIDDEN = node("n1", "unknown", seen=False, lsn_known=False)


def test_a_side_that_cannot_be_seen_is_named_and_no_side_at_all_is_no_split() -> None:
    cut = replace(SPLIT, nodes=(HIDDEN, *SPLIT.nodes[1:]), verdicts=())
    seen = judging_split.sides(cut, FACTS)
    assert seen.ok
    assert "n1 cannot be seen from here" in seen.told
    assert seen.facts["losers"] == "", "who is seen may win"
    assert judging_split.sides(WHOLE, FACTS).hopeless


def test_a_side_that_sees_no_other_is_kept_whole() -> None:
    alone = verdict(
        "split-brain-suspected", "split", evidence={"tips": "n1", "winner": None}
    )
    others = tuple(replace(HIDDEN, name=name) for name in ("n2", "n3"))
    seen = judging_split.sides(
        replace(SPLIT, nodes=(SPLIT.nodes[0], *others), verdicts=(alone,)), FACTS
    )
    assert seen.ok
    assert (seen.facts["winner"], seen.facts["losers"]) == ("", "n1")


def test_what_is_seen_of_a_split_is_remembered_when_it_is_over() -> None:
    facts = {**FACTS, "tips": "n1", "incident": "i1"}
    learnt = judging_split.met(SPLIT, facts).facts
    assert learnt["tips"] == "n1,n2"
    loser = CopySight("s2", "n3", "complete", ("i1",), side="loser")
    kept = (node("n1", "stopped"), *SPLIT.nodes[1:])
    over = replace(SPLIT, verdicts=(), copies=(loser,), nodes=kept)
    assert judging_split.met(over, facts).facts["tips"] == "n1,n2,n3"


def test_a_loser_is_kept_only_by_a_complete_snapshot_of_this_split() -> None:
    facts = {**FACTS, "node": "n1", "incident": "i1"}
    seen = judging_split.captured(SPLIT, facts)
    assert seen.ok
    assert seen.facts == {"snapshot_of_node.n1": "s1"}
    bare = verdict("unprotected", "protection")
    assert not judging_split.captured(
        replace(SPLIT, verdicts=(*SPLIT.verdicts, bare)), facts
    ).ok
    for copies in (
        (),
        (CopySight("s1", "n1", "captured", ("i1",)),),
        (CopySight("s1", "n1", "complete", ("older",)),),
        (CopySight("s1", "n2", "complete", ("i1",)),),
    ):
        assert not judging_split.captured(replace(SPLIT, copies=copies), facts).ok


def test_one_side_is_left_when_one_manager_leads_on_the_only_primary() -> None:
    facts = {**FACTS, "tips": "n1,n2", "winner": "n2", "host.n2": "10.0.0.2"}
    assert not judging_split.met(SPLIT, facts).ok
    healed = replace(
        SPLIT,
        managers=(manager("n1"), replace(ACTIVE, node="n2"), manager("n3")),
        nodes=(node("n1", "stopped"), *SPLIT.nodes[1:]),
    )
    seen = judging_split.met(healed, facts)
    assert seen.ok
    assert seen.facts["losers"] == "n1"
    assert seen.facts["winner_host"] == "10.0.0.2"
    other = judging_split.met(healed, {**facts, "winner": "n1"})
    assert "n2 was kept, and not n1" in other.told


def test_a_loser_follows_when_it_streams_on_the_winners_timeline() -> None:
    facts = {**FACTS, "node": "n1", "winner": "n2"}
    assert not judging_split.follows(SPLIT, facts).ok
    back = node("n1", timeline=2, upstream="n2")
    followed = replace(SPLIT, nodes=(back, *SPLIT.nodes[1:]))
    assert judging_split.follows(followed, facts).ok
    for wrong in (
        replace(back, timeline=1),
        replace(back, upstream=""),
        replace(back, stands="past"),
    ):
        world = replace(SPLIT, nodes=(wrong, *SPLIT.nodes[1:]))
        assert not judging_split.follows(world, facts).ok
