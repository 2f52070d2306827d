"""Lesser consequences of a trouble on record are not told; nothing else is hidden."""

import json
from dataclasses import replace

import pytest

from agent import codec
from agent.core import agreement, ending, inhibition
from agent.core.incident import Incident, Status
from agent.core.observation import CaptureBrief, Channel, IncidentBrief, Outcome, Sight
from agent.core.scene import build
from agent.core.verdict import Family, Severity, VerdictCode
from tests.core import given
from tests.core.cluster import Cluster
from tests.core.test_rows import split
from tests.core.test_view import fold


def pages(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    """Verdict and subject of every critical incident that an agent ever opened."""
    return {
        (one.verdict.code.value, one.verdict.subject)
        for one in cluster.incidents(name)
        if one.worst is Severity.CRITICAL and one.opened_wall_s is not None
    }


def proven(**policy) -> Cluster:
    cluster = split(**policy)
    cluster.run(2)
    for name in cluster.agents:
        assert "split-brain" in cluster.codes(name)
    return cluster


def test_a_loser_that_is_stopped_for_its_resync_is_no_page_of_its_own():
    cluster = proven()
    cluster.servers["n1"].up = False
    for _ in range(8):
        cluster.run()
        for name in cluster.agents:
            assert "postgres-down" not in cluster.codes(name)
            assert cluster.codes(name) & {"split-brain", "lineage-diverged"}
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.servers["n1"].restart(standby=True)
    cluster.run(10)
    for name in cluster.agents:
        assert cluster.codes(name) == {"healthy"}
        assert ("postgres-down", "n1") not in pages(cluster, name)


def test_one_loser_is_resynced_before_the_other_and_neither_is_a_page():
    """The minority wins: the promoted node and its follower are both resynced."""
    cluster = proven()
    for name in ("n2", "n3"):
        cluster.servers[name].up = False
    cluster.run(3)
    assert cluster.verdict("n1", "lineage-diverged").evidence["losers"] == "n2,n3"
    cluster.servers["n2"].rewind_to(cluster.servers["n1"])
    cluster.run(4)
    assert cluster.verdict("n1", "lineage-diverged").evidence["losers"] == "n3"
    for name in cluster.agents:
        assert not {one for one in pages(cluster, name) if one[0] == "postgres-down"}


def test_a_loser_that_stays_down_after_the_split_pages():
    cluster = proven()
    cluster.servers["n1"].up = False
    cluster.run(4)
    cluster.servers["n1"].rewind_to(cluster.servers["n2"])
    cluster.run(12)
    for name in cluster.agents:
        assert cluster.verdict(name, "postgres-down").subject == "n1"
        assert ("postgres-down", "n1") in pages(cluster, name)


def test_a_server_that_is_no_side_of_the_split_pages():
    cluster = proven(count=4)
    cluster.servers["n3"].follows = None
    cluster.servers["n3"].up = False
    cluster.run(3)
    incident = cluster.incident("n2", Family.SPLIT)
    assert "n3" not in incident.sides
    assert cluster.verdict("n2", "postgres-down").subject == "n3"


def test_the_last_server_that_accepts_writes_pages_in_a_split_too():
    cluster = proven()
    cluster.servers["n1"].up = False
    cluster.run(4)
    cluster.servers["n2"].up = False
    cluster.run(8)
    assert {
        one.subject
        for one in cluster.agents["n3"].state.view.verdicts
        if one.code is VerdictCode.POSTGRES_DOWN
    } == {"n1", "n2"}
    assert "no-primary" in cluster.codes("n3")


def test_a_winner_that_is_not_heard_for_a_moment_makes_no_page_of_the_loser():
    cluster = proven()
    cluster.servers["n1"].up = False
    cluster.run(4)
    agent = cluster.agents["n3"]
    cluster.deaf = {(name, "n2", Channel.POSTGRES) for name in cluster.agents}
    cluster.run(1)
    assert "postgres-down" not in cluster.codes("n3")
    # Old readings: nobody says any more that n2 accepts writes, and nobody denies it.
    late = replace(cluster.at("n3"), monotonic_s=cluster.at("n3").monotonic_s + 10)
    scene = build(agent.state, late, agent.policy)
    assert scene.writable == ()
    assert inhibition.stopped_in_split(scene, "n1")


def test_what_people_were_told_before_the_split_was_known_stays():
    """n1 was found stopped; that it holds writes of its own comes out only later."""
    cluster = Cluster()
    cluster.run(3)
    cluster.servers["n1"].up = False
    cluster.run(3)
    assert ("postgres-down", "n1") in pages(cluster, "n2")
    cluster.servers["n2"].promote()
    cluster.servers["n3"].follows = "n2"
    cluster.servers["n1"].write()
    cluster.run(6)
    assert "lineage-diverged" in cluster.codes("n2")
    assert cluster.verdict("n2", "postgres-down").subject == "n1"
    told = [
        one
        for one in cluster.incidents("n2")
        if one.verdict.code is VerdictCode.POSTGRES_DOWN
    ]
    assert [one.status for one in told] == [Status.OPEN]


def test_what_people_were_told_stays_after_its_node_was_unreachable_for_a_while():
    """Two nodes: a server falls silent, the other one is promoted, and then cut off."""
    cluster = Cluster(count=2)
    cluster.run(3)
    cluster.servers["n1"].write()
    cluster.servers["n1"].up = False
    cluster.run(4)
    told = cluster.incident("n2", Family.REACH)
    assert told.verdict.code is VerdictCode.POSTGRES_DOWN
    cluster.servers["n2"].promote()
    cluster.run(8)
    assert "lineage-diverged" in cluster.codes("n2")
    cluster.cut("n2")
    cluster.run(4)
    assert cluster.verdict("n2", "node-unreachable").subject == "n1"
    cluster.heal()
    cluster.run(12)
    assert cluster.verdict("n2", "postgres-down").subject == "n1"
    assert [one.id for one in cluster.incidents("n2", Family.REACH)] == [told.id]


@pytest.mark.parametrize(
    ("code", "winner", "sides"),
    [
        (VerdictCode.SPLIT_BRAIN, "n1", {"n1", "n2"}),
        (VerdictCode.LINEAGE_DIVERGED, "n1", {"n2"}),
        (VerdictCode.LINEAGE_TWIN, None, {"n1", "n2"}),
        (VerdictCode.SPLIT_BRAIN_SUSPECTED, "n1", set()),
    ],
)
def test_the_side_that_is_kept_is_not_expected_to_stop(code, winner, sides):
    verdict = replace(given.verdict(code), evidence={"winner": winner})
    incident = replace(given.incident(verdict), sides=("n1", "n2"))
    assert inhibition.sides(incident) == sides


def test_only_proven_stages_name_sides():
    cluster = split()
    assert "split-brain-suspected" in cluster.codes("n1")
    assert cluster.incident("n1", Family.SPLIT).sides == ()
    cluster.run(2)
    assert cluster.incident("n1", Family.SPLIT).sides == ("n1", "n2")


def test_what_an_older_agent_wrote_or_told_is_still_read():
    plain = json.loads(codec.to_json(replace(given.incident(), sides=("n1", "n2"))))
    del plain["sides"]
    assert codec.from_plain(plain, Incident) == given.incident()
    brief = CaptureBrief("n1-1", "n1", "closed", "complete", None, ("inc-1",))
    told = json.loads(codec.to_json(brief))
    del told["incidents"]
    assert codec.from_plain(told, CaptureBrief) == replace(brief, incidents=())


def reach(cluster: Cluster, name: str, subject: str) -> list[Incident]:
    return [
        one
        for one in cluster.incidents(name, "reach")
        if one.verdict.subject == subject
    ]


def test_a_silent_server_stays_one_trouble_for_who_is_cut_off_from_its_node():
    cluster = Cluster(5)
    cluster.run(3)
    cluster.servers["n3"].up = False
    cluster.run(4)
    [first] = reach(cluster, "n1", "n3")
    assert first.verdict.code is VerdictCode.POSTGRES_DOWN
    cluster.cuts |= {("n1", "n3")}
    cluster.run(20)
    assert cluster.verdict("n1", "postgres-down").subject == "n3"
    cluster.cuts.clear()
    cluster.run(8)
    [still] = reach(cluster, "n1", "n3")
    assert (still.id, still.status) == (first.id, Status.OPEN)
    cluster.servers["n3"].up = True
    cluster.run(8)
    [over] = reach(cluster, "n1", "n3")
    assert (over.id, over.status) == (first.id, Status.RESOLVED)


@pytest.mark.parametrize(
    ("code", "alive", "again"),
    [
        (VerdictCode.POSTGRES_DOWN, Channel.AGENT, False),
        (VerdictCode.POSTGRES_DOWN, Channel.POSTGRES, True),
        (VerdictCode.AGENT_DOWN, Channel.POSTGRES, False),
        (VerdictCode.NODE_DOWN, Channel.AGENT, True),
        (VerdictCode.LINK_DOWN, Channel.AGENT, True),
    ],
)
def test_a_trouble_is_over_when_somebody_sees_what_was_missed(code, alive, again):
    answer = {
        Channel.AGENT: given.heard("n2", given.report("n2"), 0.5),
        Channel.POSTGRES: given.postgres("n2", given.sight(), 0.5),
    }[alive]
    scene = build(fold(given.state(), answer), given.at(1), given.policy())
    family = Family.LINK if code is VerdictCode.LINK_DOWN else Family.REACH
    said = replace(given.verdict(), code=code, family=family, subject="n2")
    assert inhibition.seen_again(scene, said) is again
    assert inhibition.seen_again(scene, replace(said, subject="gone from the list"))


@pytest.mark.parametrize(
    ("seen_s", "misses", "again"),
    [
        (6.0, 0, True),
        (6.0, 1, False),
        (7.0, 1, True),
        (6.0, 2, True),
        (5.0, 2, False),
        (5.5, 40, True),
    ],
)
def test_what_a_peer_saw_before_this_agent_missed_it_ends_nothing(
    seen_s, misses, again
):
    """The server stood still again at 6.5 s; the last miss was noticed at 7 s."""
    answered = given.postgres("n2", given.sight(), seen_s)
    told = Sight(
        "n2", Channel.POSTGRES, Outcome.ANSWERED, "", 0.001, 0, given.sight(), None
    )
    heard = given.heard("n3", given.report("n3", sights=(told,)), seen_s)
    own = replace(answered, received_s=7.0)
    if misses:
        own = replace(own, outcome=Outcome.TIMED_OUT, postgres=None)
    known = given.state(
        latest={"n2/postgres": own, "n3/agent": heard},
        reports={"n3": heard},
        missed={"n2/postgres": misses},
    )
    said = replace(given.verdict(), code=VerdictCode.POSTGRES_DOWN, family=Family.REACH)
    scene = build(known, given.at(7.1), given.policy())
    assert inhibition.seen_again(scene, replace(said, subject="n2")) is again


@pytest.mark.parametrize(
    ("seen_s", "misses", "again"),
    [
        (6.4, 1, False),
        (6.4, 2, True),
        (5.4, 2, False),
        (5.6, 2, True),
        (5.4, 40, True),
    ],
)
def test_what_was_seen_before_a_peer_missed_it_ends_nothing(seen_s, misses, again):
    """This agent is cut off from the server; one peer saw it, another misses it now.

    The latest miss of that one was at 6.5 s.
    """
    gone = Outcome.TIMED_OUT
    sights = {
        "n4": Sight(
            "n2", Channel.POSTGRES, Outcome.ANSWERED, "", 0.0, 0, given.sight(), None
        ),
        "n3": Sight("n2", Channel.POSTGRES, gone, "", 0.5, misses, None, None),
    }
    answers = {
        name: replace(
            given.heard(name, given.report(name, sights=(one,)), 7.0),
            received_s=seen_s if name == "n4" else 7.0,
        )
        for name, one in sights.items()
    }
    own = given.postgres("n2", given.sight(), 6.9)
    known = given.state(
        latest={
            "n2/postgres": replace(own, outcome=gone, postgres=None),
            **{f"{name}/agent": one for name, one in answers.items()},
        },
        reports=answers,
        missed={"n2/postgres": 40},
    )
    said = replace(given.verdict(), code=VerdictCode.POSTGRES_DOWN, family=Family.REACH)
    scene = build(known, given.at(7.1), given.policy(count=4))
    assert scene.seen_by["n2", Channel.POSTGRES] == ("n4",)
    assert inhibition.seen_again(scene, replace(said, subject="n2")) is again


def test_who_was_isolated_is_back_when_a_majority_is_seen():
    alone = given.verdict(
        VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1", Severity.WARNING
    )
    known = given.state()
    assert not inhibition.seen_again(build(known, given.at(1), given.policy()), alone)
    for name in ("n2", "n3"):
        answers = (
            given.heard(name, given.report(name), 0.5),
            given.postgres(name, given.sight(), 0.5),
        )
        known = fold(known, *answers)
    assert inhibition.seen_again(build(known, given.at(1), given.policy()), alone)
    five = given.policy(count=5)
    assert inhibition.seen_again(build(known, given.at(1), five), alone)
    seven = given.policy(count=7)
    assert not inhibition.seen_again(build(known, given.at(1), seven), alone)


@pytest.mark.parametrize(
    ("stage", "status", "over"),
    [
        ("postgres-down", "open", False),
        ("postgres-down", "acknowledged", False),
        ("postgres-down", "resolved", True),
        ("agent-down", "open", True),
        ("node-down", "open", True),
        ("a word of a newer agent", "open", True),
    ],
)
def test_who_missed_all_of_a_node_waits_for_the_part_that_a_peer_misses(
    stage, status, over
):
    """The agent of n2 is heard again; its server is not."""
    said = replace(given.verdict(), code=VerdictCode.NODE_DOWN, family=Family.REACH)
    one = given.incident(replace(said, subject="n2"))
    brief = IncidentBrief(one.id, one.key, 1, status, stage, 0.0)
    peer = given.heard("n3", given.report("n3", incidents=(brief,)), 0.5)
    known = given.heard("n2", given.report("n2"), 0.5)
    state = fold(given.state(), known, peer)
    scene = build(state, given.at(1), given.policy())
    told = agreement.heard(state, given.at(1), given.policy())
    assert inhibition.seen_again(scene, one.verdict)
    assert ending.seen_by_somebody(one, scene, told) is over
