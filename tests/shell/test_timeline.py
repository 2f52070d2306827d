"""The timeline of an incident: out of the journal, over HTTP, and on one screen."""

import json

import pytest

from agent.api.present import timeline as present
from agent.core.incident import Status
from agent.store import recall
from agent.store.memory import MemoryJournal
from agent.store.recall import Recalled, Window, joined
from tests.fix_desk import serve, split_brain
from tests.fix_rounds import RecordedCluster, split_and_healed


def test_windows_that_touch_are_one():
    made = joined([Window(10, 20), Window(1, 2), Window(15, 17), Window(20, 30)])
    assert made == [Window(1, 2), Window(10, 30)]


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr("agent.daemon.recorder.SEGMENT_S", 8.0)
    made = split_and_healed()
    made.flush()
    return made


def times(cluster, *windows: Window, before=False) -> list[float]:
    start_s = 1_800_000_000.0
    spans = [Window(w.from_wall_s + start_s, w.to_wall_s + start_s) for w in windows]
    found = recall.recall(cluster.rounds, spans)
    return [one.event.at.wall_s - start_s for one in found if one.before is before]


@pytest.mark.parametrize("begin", [0.0, 3.0, 7.9, 12.0, 30.0])
def test_a_window_holds_what_came_in_within_it_and_nothing_else(cluster, begin):
    found = times(cluster, Window(begin, begin + 5))
    everything = times(cluster, Window(0.0, 100.0))
    assert found == [one for one in everything if begin <= one <= begin + 5]
    assert found


def test_it_begins_with_the_last_of_each_kind_before_it(cluster):
    earlier = times(cluster, Window(5.0, 6.0), before=True)
    assert len(earlier) == 7  # a tick, a disk, three servers, two agents
    assert all(one < 5.0 for one in earlier)


def test_several_windows_come_in_order(cluster):
    found = times(cluster, Window(20.0, 21.0), Window(5.0, 6.0))
    assert found == sorted(found)
    assert {int(one) for one in found} == {5, 6, 20, 21}


def test_no_more_is_recalled_than_is_bearable(cluster, monkeypatch):
    monkeypatch.setattr(recall, "EVENTS_MAX", 10)
    found = list(recall.recall(cluster.rounds, [Window(0.0, 2e9)]))
    assert len(found) == 10


def test_rounds_that_cannot_be_read_are_left_out(cluster):
    journal = cluster.rounds
    assert isinstance(journal, MemoryJournal)
    spoilt = journal._chunks[2]
    journal._chunks[2] = type(spoilt)(**{**_fields(spoilt), "body": b"spoilt"})
    found = list(recall.recall(journal, [Window(0.0, 2e9)]))
    assert found
    assert all(isinstance(one, Recalled) for one in found)


def _fields(chunk):
    return {name: getattr(chunk, name) for name in chunk.__slots__}


def test_an_empty_journal_recalls_nothing():
    assert list(recall.recall(MemoryJournal(), [Window(0.0, 2e9)])) == []
    assert recall.begins(MemoryJournal()) is None


def of(cluster, family):
    (found,) = cluster.incidents("n1", family)
    told = present.seen_around(
        found, recall.recall(cluster.rounds, present.windows(found)), "n1"
    )
    return found, told


def test_a_split_is_told_by_who_saw_what(cluster):
    _, told = of(cluster, "split")
    lines = [f"{one.observer}: {', '.join(one.about)} {one.what}" for one in told]
    cut = "n1: n2 (agent, postgres), n3 (agent, postgres) does not answer"
    second = "n3: n2 (postgres) accepts writes on timeline 2"
    own = "n1: n2 (postgres) accepts writes on timeline 2"
    assert lines.index(cut) < lines.index(second) < lines.index(own)


def test_what_the_other_side_saw_is_known_later_than_it_was_seen(cluster):
    _, told = of(cluster, "split")
    (promoted,) = [
        one
        for one in told
        if one.observer == "n2" and one.about == ("n2 (disk)",) and "2" in one.what
    ]
    assert promoted.learnt_wall_s > promoted.wall_s


def test_isolation_is_told_by_what_the_agent_itself_saw(cluster):
    found, told = of(cluster, "self")
    assert found.status is Status.RESOLVED
    assert {one.observer for one in told} == {"n1"}


# --- over HTTP, and as a command ----------------------------------------------------


@pytest.fixture
def recorder():
    """A recorder whose rounds are of another world than the desk's incidents."""
    return split_and_healed().recording.recorder


async def test_the_timeline_of_an_incident_is_read_over_http(recorder):
    served = serve(split_brain(), rounds=recorder)
    async with served.client("read") as client:
        incidents = (await client.get("/v1/incidents")).json()["incidents"]
        (split,) = [one for one in incidents if one["family"] == "split"]
        answer = await client.get(f"/v1/incidents/{split['id']}/timeline")
        assert answer.status_code == 200
        found = answer.json()
        assert found["incident"] == split["id"]
        verdicts = [one for one in found["moments"] if one["kind"] == "verdict"]
        assert [one["rule"] for one in verdicts][-1] == 501
        assert {row["number"] for row in found["rules"]} >= {501}
        at = [one["at"] for one in found["moments"]]
        assert at == sorted(at)
        assert (await client.get("/v1/incidents/inc-0/timeline")).status_code == 404
    async with served.client("operate") as client:
        answer = await client.get(f"/v1/incidents/{split['id']}/timeline")
        assert answer.status_code == 403


async def test_without_rounds_there_are_still_its_turns():
    served = serve(split_brain())
    async with served.client("read") as client:
        incidents = (await client.get("/v1/incidents")).json()["incidents"]
        answer = await client.get(f"/v1/incidents/{incidents[0]['id']}/timeline")
        found = answer.json()
        assert (found["rounds_since"], found["whole"]) == (None, False)
        assert {one["kind"] for one in found["moments"]} == {"verdict", "told"}


class World:
    """A desk over the agent of a recorded cluster."""

    def __init__(self, cluster: RecordedCluster) -> None:
        self.now_s = 0.0
        self.agents = cluster.agents
        self._cluster = cluster

    def moment(self):
        return self._cluster.at("n1", 1.0)


@pytest.fixture
def split(cluster, agent_for):
    """The socket of an agent that has seen a split, and the incident's id."""
    agent = agent_for(World(cluster), rounds=cluster.recording.recorder)
    (found,) = cluster.incidents("n1", "split")
    return agent.socket, found.id


def test_explain_tells_on_one_screen_who_saw_what_and_why_the_rule_fired(
    splitguard, split
):
    socket, incident = split
    ran = splitguard("explain", incident, "--socket", socket)
    assert ran.code == 0, ran.words
    assert "Who saw what, when (UTC, 2027-01-15)" in ran.out
    assert "n1 sees n2 (agent, postgres), n3 (agent, postgres): does not" in ran.out
    assert "= open split-brain: n1 (timeline 1) and n2 (timeline 2)" in ran.out
    assert "[rule 501]" in ran.out
    assert "Rule 501: Two nodes accept writes at once, proven" in ran.out
    assert "more (--all)" in ran.out
    assert len(ran.out.splitlines()) < 60
    longer = splitguard("explain", incident, "--all", "--socket", socket)
    assert "more (--all)" not in longer.out
    assert "(known" in longer.out
    assert len(longer.out) > len(ran.out)


def test_explain_gives_the_same_to_programs(splitguard, split):
    socket, incident = split
    ran = splitguard("explain", incident, "-o", "json", "--socket", socket)
    found = json.loads(ran.out)
    assert found["id"] == incident
    kinds = {one["kind"] for one in found["timeline"]["moments"]}
    assert kinds == {"seen", "verdict", "told"}
    assert found["timeline"]["whole"] is True


def test_what_is_so_now_points_to_its_story(splitguard, agent_for):
    agent = agent_for(split_brain())
    ran = splitguard("explain", "--socket", agent.socket)
    assert "Who saw what, when: splitguard explain inc-" in ran.out


def test_an_agent_that_keeps_nothing_says_so(splitguard, agent_for):
    sim = split_brain()
    agent = agent_for(sim)
    incident = sim.incidents("n1")[-1].id
    ran = splitguard("explain", incident, "--socket", agent.socket)
    assert "What was seen is not kept on n1." in ran.out
