"""Whole troubles, from fault to repair, through the real core of three agents."""

from functools import partial

from agent.core import event as events
from agent.core.capture import Level
from agent.core.permit import PermitState
from agent.core.verdict import Severity, VerdictCode
from tests.sim.harness import Simulation


def healthy(sim: Simulation) -> bool:
    return all(sim.codes(name) == {"healthy"} for name in sim.agents)


def started() -> Simulation:
    sim = Simulation()
    sim.until(lambda: healthy(sim), 10)
    sim.run(5)
    assert healthy(sim)
    assert sim.standing() == set()
    return sim


def has(sim: Simulation, name: str, code: str) -> bool:
    return any(
        incident.verdict.code.value == code and incident.status.standing
        for incident in sim.incidents(name)
    )


def acknowledge_all(sim: Simulation) -> None:
    for name in sim.agents:
        for incident in sim.incidents(name):
            if incident.status.standing:
                event = events.Acknowledged(sim.moment(), incident.id, "ada")
                sim.submit(name, event)


def test_a_quiet_cluster_is_healthy_and_says_nothing():
    sim = started()
    sim.run(300)
    assert healthy(sim)
    assert sim.notices == []


def test_a_dead_standby_is_node_down_within_four_seconds_and_one_page():
    sim = started()
    sim.world.kill("n3")
    took_s = sim.until(lambda: has(sim, "n1", "node-down"), 6)
    assert took_s <= 4
    sim.until(lambda: has(sim, "n2", "node-down"), 4)
    sim.run(30)
    assert len(sim.standing()) == 1
    assert len({notice.id for _, _, notice in sim.notices}) == 1
    sim.world.start("n3")
    sim.boot("n3")
    sim.until(lambda: healthy(sim) and not sim.standing(), 30)
    sim.run(12)
    reasons = {notice.reason.value for _, _, notice in sim.notices}
    assert reasons == {"first", "resolved"}
    assert len({notice.id for _, _, notice in sim.notices}) == 2


def test_a_machine_that_was_set_back_is_one_page_until_somebody_takes_it():
    sim = started()
    for number in range(20):
        sim.world.write("n1", f"row {number}")
    sim.run(3)
    assert sim.world.set_back("n1", 10)
    took_s = sim.until(lambda: has(sim, "n2", "stale-primary"), 8)
    assert took_s <= 6
    for number in range(40):
        sim.world.write("n1", f"row {number} again")
    sim.run(20)
    codes = sorted(verdict for _, verdict in sim.standing())
    assert codes == ["stale-primary", "standby-detached", "standby-detached"]
    assert len({notice.incident_id for _, _, notice in sim.notices}) == len(codes)
    acknowledge_all(sim)
    sim.world.replace("n2", "n1")
    sim.world.replace("n3", "n1")
    sim.world.launch("n2")
    sim.world.launch("n3")
    sim.until(lambda: healthy(sim) and not sim.standing(), 40)


def test_a_machine_that_was_set_back_and_wrote_on_unseen_is_a_twin_of_its_standbys():
    sim = started()
    sim.set_back_unseen("n1", 20)
    sim.run(19)
    for name in ("n1", "n2", "n3"):
        sim.until(partial(has, sim, name, "lineage-twin"), 8)
    sim.run(10)
    told = sim.agents["n2"].state.view.verdicts[0].evidence
    assert (told["first"], told["losers"]) == ("n1", "n2,n3")
    kept = [sim.agents[name].state.ledger.captures[-1] for name in ("n2", "n3")]
    assert all(Level.FULL in one.order.levels for one in kept)
    sim.world.replace("n2", "n1")
    sim.world.replace("n3", "n1")
    sim.world.launch("n2")
    sim.world.launch("n3")
    sim.until(lambda: healthy(sim) and not sim.standing(), 40)


def test_the_same_fault_again_is_another_incident():
    sim = started()
    ids = []
    for _ in range(2):
        sim.world.kill("n3")
        sim.until(lambda: has(sim, "n1", "node-down"), 6)
        ids.append(next(iter(sim.standing()))[0])
        sim.run(5)
        sim.world.start("n3")
        sim.boot("n3")
        sim.until(lambda: healthy(sim) and not sim.standing(), 30)
        sim.run(5)
    assert ids[0] != ids[1]


def test_a_failover_is_named_and_stays_until_somebody_takes_it():
    sim = started()
    sim.world.kill("n1")
    sim.until(lambda: has(sim, "n2", "node-down"), 6)
    sim.world.promote("n2")
    sim.world.servers["n3"].upstream = "n2"
    took_s = sim.until(lambda: has(sim, "n2", "failover"), 4)
    assert took_s <= 2
    sim.until(lambda: has(sim, "n3", "failover"), 4)
    sim.world.rewind("n1", "n2")
    sim.world.start("n1")
    sim.boot("n1")
    sim.run(60)
    assert {code for _, code in sim.standing()} == {"failover"}
    assert len({i for i, _ in sim.standing()}) == 1
    acknowledge_all(sim)
    sim.run(20)
    assert sim.standing() == set()
    assert healthy(sim)


def split(sim: Simulation) -> None:
    """n1 is cut off and goes on; n2 is promoted and n3 follows it."""
    for row in range(5):
        sim.world.write("n1", f"before {row}")
    sim.run(3)
    sim.world.cut_off("n1")
    sim.until(lambda: has(sim, "n1", "observer-isolated"), 5)
    sim.until(lambda: has(sim, "n2", "node-down"), 5)
    sim.world.promote("n2")
    sim.world.servers["n3"].upstream = "n2"
    for row in range(5):
        sim.world.write("n1", f"left {row}")
        sim.world.write("n2", f"right {row}")
        sim.run(1)


def test_a_split_brain_is_suspected_proven_resynced_and_nothing_is_lost():
    sim = started()
    split(sim)
    assert has(sim, "n1", "split-brain-suspected")
    assert sim.kept, "the tail was taken on isolation"
    assert not any(has(sim, name, "split-brain") for name in sim.agents)
    sim.world.heal()
    took_s = sim.until(lambda: has(sim, "n1", "split-brain"), 6)
    assert took_s <= 3
    sim.until(
        lambda: has(sim, "n2", "split-brain") and has(sim, "n3", "split-brain"), 3
    )
    ids = {i for i, code in sim.standing() if code == "split-brain"}
    assert len(ids) == 1
    sim.world.write("n1", "last word")
    sim.run(0.2)
    sim.world.servers["n1"].running = False
    sim.submit("n1", events.PermitAsked(sim.moment(), "permit-1", "pg_rewind"))

    def granted() -> bool:
        permit = sim.agents["n1"].state.ledger.permits[0]
        return permit.state is PermitState.GRANTED

    sim.until(granted, 10)
    everything = set(sim.world.servers["n1"].rows) | sim.world.servers["n2"].rows
    sim.world.rewind("n1", "n2")
    kept = set().union(*(server.rows for server in sim.kept.values()))
    assert everything <= kept | sim.world.servers["n2"].rows
    assert "last word" in kept - sim.world.servers["n2"].rows
    sim.run(20)
    acknowledge_all(sim)
    sim.until(lambda: healthy(sim) and not sim.standing(), 30)
    first = [n for _, _, n in sim.notices if n.incident_id in ids]
    pages = {n.id for n in first if n.reason.value == "first"}
    assert len(pages) == 1


def test_a_node_that_loses_twice_within_minutes_is_captured_and_granted_twice():
    sim = started()
    for number in (1, 2, 3):
        primary = next(n for n, s in sim.world.servers.items() if s.writable)
        other = "n2" if primary == "n1" else "n1"
        sim.world.cut_off(primary)
        sim.until(partial(has, sim, primary, "observer-isolated"), 6)
        sim.world.promote(other, str(number))
        sim.world.servers["n3"].upstream = other
        sim.world.write(primary, f"left {number}")
        sim.world.write(other, f"right {number}")
        sim.run(3)
        sim.world.heal()
        sim.until(partial(has, sim, primary, "split-brain"), 8)
        sim.world.servers[primary].running = False
        asked = events.PermitAsked(sim.moment(), f"permit-{number}", "pg_rewind")
        sim.submit(primary, asked)

        def granted(name=primary) -> bool:
            permit = sim.agents[name].state.ledger.permits[-1]
            return permit.state is PermitState.GRANTED

        sim.until(granted, 10)
        kept = set().union(*(server.rows for server in sim.kept.values()))
        assert f"left {number}" in kept
        sim.world.rewind(primary, other)
        sim.run(15)
        acknowledge_all(sim)
        sim.until(lambda: healthy(sim) and not sim.standing(), 40)


def test_an_agent_killed_at_any_second_of_a_split_changes_no_incident_id():
    def story(killed_at: int | None) -> set[str]:
        sim = started()
        split(sim)
        sim.world.heal()
        for second in range(12):
            if second == killed_at:
                sim.crash("n1")
                sim.run(0.5)
                sim.boot("n1")
                sim.run(0.5)
            else:
                sim.run(1)
        return {
            incident.id
            for name in sim.agents
            for incident in sim.incidents(name)
            if incident.worst is Severity.CRITICAL
        }

    usual = story(None)
    for second in (0, 1, 2, 5, 9):
        assert story(second) == usual


def test_a_cut_between_two_standbys_is_a_link_and_not_a_death():
    sim = started()
    sim.world.dark = {("n2", "n3"), ("n3", "n2")}
    sim.run(15)
    codes = {code for _, code in sim.standing()}
    assert "node-down" not in codes
    assert codes <= {"link-down"}
    sim.world.heal()
    sim.until(lambda: healthy(sim), 20)


def test_a_clean_switchover_never_looks_like_a_split():
    sim = started()
    sim.world.servers["n1"].running = False
    sim.run(0.5)
    sim.world.promote("n2")
    sim.world.servers["n3"].upstream = "n2"
    sim.run(2)
    sim.world.rewind("n1", "n2")
    sim.run(30)
    seen = {
        incident.verdict.code.value
        for name in sim.agents
        for incident in sim.incidents(name)
    }
    assert not seen & {"split-brain", "split-brain-suspected", "lineage-diverged"}
    assert "failover" in seen


def links_named_during(sim: Simulation, seconds: float) -> set[str]:
    """The pairs that any agent called broken at any moment of so many seconds."""
    named: set[str] = set()
    for _ in range(round(seconds / 0.05)):
        sim.run(0.05)
        for agent in sim.agents.values():
            for verdict in agent.state.view.verdicts:
                if verdict.code is VerdictCode.LINK_DOWN:
                    named.add(verdict.subject)
    return named


def test_no_link_is_called_broken_while_a_node_is_cut_off_and_comes_back():
    sim = started()
    sim.world.cut_off("n1")
    assert links_named_during(sim, 8) == set()
    sim.world.heal()
    assert links_named_during(sim, 12) == set()
    sim.until(lambda: healthy(sim) and not sim.standing(), 30)


def test_no_link_is_called_broken_while_a_server_stops_and_starts():
    sim = started()
    sim.world.servers["n3"].running = False
    assert links_named_during(sim, 6) == set()
    sim.world.start("n3")
    assert links_named_during(sim, 12) == set()
    assert healthy(sim)


def test_a_link_that_stays_broken_after_a_return_is_named():
    sim = started()
    sim.world.cut_off("n1")
    sim.run(8)
    sim.world.heal()
    sim.world.dark = {("n1", "n2"), ("n2", "n1")}
    sim.run(20)
    assert {code for _, code in sim.standing()} == {"link-down"}


def test_a_loser_that_is_stopped_and_resynced_pages_once_for_the_split():
    sim = started()
    split(sim)
    sim.world.heal()
    sim.until(lambda: has(sim, "n2", "split-brain"), 8)
    sim.world.servers["n1"].running = False
    assert links_named_during(sim, 10) == set()
    sim.world.rewind("n1", "n2")
    assert links_named_during(sim, 15) == set()
    told = {
        incident.verdict.code.value
        for name in sim.agents
        for incident in sim.incidents(name)
        if incident.worst is Severity.CRITICAL
    }
    assert "postgres-down" not in told
