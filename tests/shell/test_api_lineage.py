"""The timeline tree: branches, forks, twins, and every node's place."""

from dataclasses import replace

from agent.api.present import Frame, lineage
from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.observation import ServerFacts
from agent.core.policy import WinnerRule
from tests.fix_desk import healthy, isolated, serve, split_brain
from tests.sim.harness import Simulation


def tree(sim: Simulation, me: str = "n1"):
    agent = sim.agents[me]
    return lineage(Frame(agent.state, agent.policy, sim.moment()))


async def test_one_timeline_is_one_branch_without_a_fork():
    async with serve(healthy()).client("read") as client:
        answer = (await client.get("/v1/lineage")).json()
    assert [branch["id"] for branch in answer["branches"]] == ["1"]
    assert answer["forks"] == []
    assert {place["node"]: place["branch"] for place in answer["places"]} == {
        "n1": "1", "n2": "1", "n3": "1",
    }  # fmt: skip
    assert answer["unplaced"] == []


def test_a_split_is_a_fork_and_the_loser_is_past_it():
    sim = split_brain()
    found = tree(sim, "n3")
    assert [(b.id, b.parent) for b in found.branches] == [("1", None), ("2", "1")]
    fork = found.forks[0]
    assert (fork.branch, fork.children) == ("1", ["2"])
    places = {place.node: place for place in found.places}
    loser = sim.world.servers["n1"].lsn
    assert places["n1"].past_fork_bytes == loser - Lsn.parse(fork.lsn)
    assert places["n2"].past_fork_bytes is None
    assert places["n3"].branch == "2"
    assert found.against == ["n2"]
    stands = {name: place.stands for name, place in places.items()}
    assert stands == {"n1": "past", "n2": "on", "n3": "on"}


def test_a_loser_that_nobody_sees_is_not_on_the_line_but_where_it_was_last():
    sim = isolated()
    places = {place.node: place for place in tree(sim, "n2").places}
    assert (places["n1"].stands, places["n1"].known) == ("unknown", False)
    assert places["n1"].lsn == str(Lsn(0x3000500))
    assert places["n1"].lsn_age_s > 5
    assert (places["n2"].stands, places["n3"].stands) == ("on", "on")
    own = {place.node: place.stands for place in tree(sim, "n1").places}
    assert own == {"n1": "on", "n2": "unknown", "n3": "unknown"}


def test_a_stopped_loser_is_past_the_fork_and_one_that_left_no_end_is_not_known():
    sim = split_brain()
    sim.world.servers["n1"].running = False
    sim.run(3)
    [loser] = [place for place in tree(sim, "n2").places if place.node == "n1"]
    assert (loser.role, loser.stands, loser.known) == ("stopped", "past", True)
    sim = healthy()
    sim.world.servers["n3"].running = False
    sim.run(3)
    agent = sim.agents["n3"]
    assert isinstance(agent.state.view.server, ServerFacts)
    crashed = replace(agent.state.view.server, end_lsn=None)
    agent.state = replace(agent.state, view=replace(agent.state.view, server=crashed))
    [third] = [place for place in tree(sim, "n3").places if place.node == "n3"]
    assert (third.role, third.stands, third.known) == ("stopped", "unknown", False)


def test_while_nobody_can_tell_who_is_kept_each_side_is_past_the_fork():
    sim = split_brain()
    agent = sim.agents["n2"]
    policy = replace(agent.policy, winner_rule=WinnerRule.NEWEST_COMMIT)
    ledger = replace(agent.state.ledger, incidents=())
    found = lineage(Frame(replace(agent.state, ledger=ledger), policy, sim.moment()))
    assert found.against == ["n1", "n2"]
    assert {place.stands for place in found.places} == {"past"}


def test_without_a_primary_nobody_stands_on_its_line():
    sim = healthy()
    sim.world.servers["n1"].in_recovery = True
    sim.run(2)
    found = tree(sim, "n2")
    assert found.against == []
    assert {place.stands for place in found.places} == {"unknown"}


def test_a_promotion_that_everybody_followed_is_no_fork():
    sim = healthy()
    sim.world.servers["n1"].running = False
    sim.world.promote("n2")
    sim.world.servers["n3"].upstream = "n2"
    sim.run(2)
    sim.world.rewind("n1", "n2")
    sim.run(5)
    found = tree(sim)
    assert [branch.id for branch in found.branches] == ["1", "2"]
    assert found.forks == []
    assert {place.past_fork_bytes for place in found.places} == {None}


def test_a_server_that_stayed_short_of_the_fork_is_behind_and_not_past_it():
    sim = healthy()
    sim.world.dark = {("n1", "n3"), ("n3", "n1")}
    sim.world.write("n1", "unseen by n3")
    sim.world.servers["n1"].running = False
    sim.world.promote("n2")
    sim.run(4)
    found = tree(sim, "n2")
    third = next(place for place in found.places if place.node == "n3")
    assert third.branch == "1"
    assert third.past_fork_bytes is None


def with_lineages(sim: Simulation, **lineages: Lineage) -> Simulation:
    """Let the agents' disks show these lineages; nothing else of the world changes."""
    for name, one in lineages.items():
        server = sim.world.servers[name]
        server.lineage, server.upstream = one, None
    sim.run(3)
    return sim


def lineage_to(*switches: tuple[int, int], marks: tuple[str, ...] = ()) -> Lineage:
    made = tuple(Switch(timeline, Lsn(lsn)) for timeline, lsn in switches)
    prints = tuple(
        Fingerprint(switch.timeline + 1, switch.lsn, mark)
        for switch, mark in zip(made, marks, strict=False)
    )
    return Lineage("7300000000000000001", len(made) + 1, made, prints)


def test_two_servers_on_one_number_from_other_places_are_twins():
    sim = with_lineages(
        healthy(), n2=lineage_to((1, 0x2000000)), n3=lineage_to((1, 0x2500000))
    )
    found = tree(sim)
    assert {b.id: b.switch_lsn for b in found.branches if b.timeline == 2} == {
        "2a": "0/2000000", "2b": "0/2500000",
    }  # fmt: skip
    assert {fork.lsn: fork.children for fork in found.forks} == {
        "0/2000000": ["2a"], "0/2500000": ["2b"],
    }  # fmt: skip


def test_equal_histories_with_other_wal_are_twins_and_so_are_their_children():
    sim = with_lineages(
        healthy(),
        n1=lineage_to((1, 0x2000000), (2, 0x2100000), marks=("aa", "x")),
        n2=lineage_to((1, 0x2000000), (2, 0x2100000), marks=("bb", "x")),
        n3=lineage_to((1, 0x2000000), marks=("aa",)),
    )
    found = tree(sim)
    places = {place.node: place.branch for place in found.places}
    assert places["n1"] != places["n2"]
    parents = {branch.id: branch.parent for branch in found.branches}
    assert parents[places["n1"]] == places["n3"]
    assert parents[places["n2"]] != places["n3"]


def test_a_missing_fingerprint_proves_nothing():
    sim = with_lineages(
        healthy(),
        n1=lineage_to((1, 0x2000000), marks=("aa",)),
        n2=lineage_to((1, 0x2000000)),
        n3=lineage_to((1, 0x2000000)),
    )
    assert [branch.id for branch in tree(sim).branches] == ["1", "2"]


def test_a_server_known_by_sql_alone_is_placed_by_its_number():
    sim = healthy()
    agent = sim.agents["n1"]
    view = replace(agent.state.view, alive={
        place: replace(seen, report=None)
        for place, seen in agent.state.view.alive.items()
    })  # fmt: skip
    knowledge = replace(agent.state.knowledge, lineages={})
    agent.state = replace(agent.state, view=view, knowledge=knowledge)
    found = tree(sim)
    assert {place.node: place.branch for place in found.places}["n2"] == "1"


def test_what_is_not_known_is_not_placed():
    sim = healthy()
    agent = sim.agents["n1"]
    view = replace(agent.state.view, alive={}, latest={})
    knowledge = replace(agent.state.knowledge, lineages={})
    agent.state = replace(agent.state, view=view, knowledge=knowledge)
    found = tree(sim)
    assert found.unplaced == ["n2", "n3"]


def test_an_isolated_side_shows_no_fork_that_it_cannot_know():
    assert tree(isolated(), "n1").forks == []
