"""The page's words and drawings, without a browser."""

import pytest

from agent.api.present import Frame, lineage, status
from agent.core.event import MaintenanceBegun, WinnerDecided
from agent.web import asset, words
from agent.web.graph import draw_graph
from agent.web.tree import LANES_MAX, draw_tree
from tests.fix_desk import healthy, isolated, node_down, serve, split_brain
from tests.sim.harness import Simulation


def answers(sim: Simulation, me: str):
    agent = sim.agents[me]
    frame = Frame(agent.state, agent.policy, sim.moment())
    return (
        status(frame).model_dump(mode="json"),
        lineage(frame).model_dump(mode="json"),
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [(None, "not known"), (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"),
     (1024, "1.0 kiB"), (9_437_184, "9.0 MiB"), (5 * 1024**4, "5.0 TiB")],
)  # fmt: skip
def test_sizes_are_told_in_a_persons_unit(number: int | None, said: str):
    assert words.size(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "never"), (0.44, "0.4 s"), (59, "59 s"), (300, "5 min"),
     (7300, "2 h"), (200_000, "2 days")],
)  # fmt: skip
def test_ages_are_told_in_a_persons_unit(seconds: float | None, said: str):
    assert words.age(seconds) == said


def test_commands_are_found_inside_a_sentence():
    assert words.parts("Run `a b` now.") == [
        (False, "Run "), (True, "a b"), (False, " now."),
    ]  # fmt: skip
    assert words.parts("") == []
    assert words.parts("an odd ` stays") == [(False, "an odd ` stays")]


def test_a_time_before_the_present_is_never_negative():
    now = "2026-11-22T23:00:00.000Z"
    assert words.ago("2026-11-22T22:59:00.000Z", now) == "60 s ago"
    assert words.ago("2026-11-22T23:00:01.000Z", now) == "0.0 s ago"


def test_a_calm_cluster_is_drawn_with_every_arrow_seen():
    graph = draw_graph(answers(healthy(), "n1")[0])
    assert len(graph.spots) == 3
    assert {arrow.state for arrow in graph.arrows} == {"seen"}
    assert graph.summary == "Every look between nodes finds somebody."


def test_a_cut_is_drawn_from_who_does_not_see_to_who_is_not_seen():
    graph = draw_graph(answers(isolated(), "n1")[0])
    states = {(a.observer, a.node): a.state for a in graph.arrows}
    assert states[("n1", "n2")] == "cut"
    assert states[("n2", "n1")] == "stale"
    assert "n1 does not see n2" in graph.summary


def test_a_one_way_cut_shows_as_one():
    seen, _ = answers(healthy(), "n1")
    for row in seen["matrix"]:
        if (row["observer"], row["node"]) == ("n2", "n1"):
            row["seen"] = False
        if (row["observer"], row["node"], row["channel"]) == ("n3", "n1", "agent"):
            row["seen"] = False
    states = {(a.observer, a.node): a.state for a in draw_graph(seen).arrows}
    assert states[("n2", "n1")] == "cut"
    assert states[("n1", "n2")] == "seen"
    assert states[("n3", "n1")] == "part"


def test_the_losing_side_of_a_fork_is_drawn_as_such():
    tree = draw_tree(answers(split_brain(), "n3")[1])
    assert [lane.name for lane in tree.lanes] == ["1", "2"]
    assert [bool(lane.lost_path) for lane in tree.lanes] == [True, False]
    assert len(tree.forks) == 1
    dots = {dot.names: dot for dot in tree.dots}
    assert dots["n1"].past_fork_bytes
    assert dots["n1"].x > tree.forks[0].x
    assert dots["n2 · n3"].past_fork_bytes is None


def test_a_dead_node_on_the_same_position_shares_the_dot_and_its_label():
    tree = draw_tree(answers(node_down(), "n1")[1])
    assert [dot.names for dot in tree.dots] == ["n1 · n2 · n3 (last seen)"]
    assert tree.dots[0].role == "primary"


def test_where_a_node_was_seen_last_is_no_place_where_one_is():
    tree = draw_tree(answers(isolated(), "n1")[1])
    assert {dot.names: dot.role for dot in tree.dots} == {
        "n1": "primary", "n2 (last seen) · n3 (last seen)": "unknown",
    }  # fmt: skip
    assert [dot.known for dot in tree.dots if dot.role == "unknown"] == [False]
    assert "on it: n1; last seen on it: n2, n3" in tree.lanes[0].words


def test_old_history_is_left_out_and_counted():
    branches = [
        {
            "id": str(n), "system_id": "1", "timeline": n,
            "parent": str(n - 1) if n > 1 else None,
            "switch_lsn": f"0/{n:X}000000" if n > 1 else None,
            "end_lsn": None, "nodes": ["n1"] if n == 9 else [],
        }
        for n in range(1, 10)
    ]  # fmt: skip
    place = {
        "node": "n1", "branch": "9", "system_id": "1", "timeline": 9,
        "lsn": "0/9000100", "role": "primary", "past_fork_bytes": None, "known": True,
    }  # fmt: skip
    tree = draw_tree(
        {"branches": branches, "forks": [], "places": [place], "unplaced": []}
    )
    assert [lane.name for lane in tree.lanes] == ["8", "9"]
    assert tree.left_out == 7


def test_a_wild_tree_is_drawn_within_bounds():
    count = LANES_MAX + 8
    branches = [
        {
            "id": str(n), "system_id": "1", "timeline": n,
            "parent": "1" if n > 1 else None,
            "switch_lsn": f"0/{n:X}000000" if n > 1 else None,
            "end_lsn": f"0/{n:X}000100", "nodes": [f"n{n}"],
        }
        for n in range(1, count + 1)
    ]  # fmt: skip
    places = [
        {
            "node": f"n{n}", "branch": str(n), "system_id": "1", "timeline": n,
            "lsn": f"0/{n:X}000100", "role": "primary", "past_fork_bytes": 256,
            "known": True,
        }
        for n in range(1, count + 1)
    ]  # fmt: skip
    forks = [
        {"branch": "1", "timeline": 1, "lsn": f"0/{n:X}000000", "children": [str(n)]}
        for n in range(2, count + 1)
    ]
    tree = draw_tree(
        {"branches": branches, "forks": forks, "places": places, "unplaced": []}
    )
    assert len(tree.lanes) == LANES_MAX
    assert all(0 <= dot.x <= tree.width and 0 <= dot.y <= tree.height
               for dot in tree.dots)  # fmt: skip


def test_the_pages_files_are_its_own_and_no_others():
    sheet = asset("page.css")
    assert sheet is not None
    assert sheet.media_type.startswith("text/css")
    assert b"url(" not in sheet.body
    assert asset("page.css") is asset("page.css")
    assert asset("../page.py") is None
    assert asset("page.html") is None


async def test_the_page_keeps_to_its_policy_and_to_its_etags():
    served = serve(healthy(), with_tokens=False)
    async with served.client() as client:
        page = await client.get("/")
        policy = page.headers["content-security-policy"]
        sheet = await client.get("/assets/page.css")
        again = await client.get(
            "/assets/page.css", headers={"If-None-Match": sheet.headers["etag"]}
        )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page.text
    assert " onclick=" not in page.text
    assert page.headers["x-frame-options"] == "DENY"
    assert again.status_code == 304


async def test_the_page_says_when_the_journal_is_broken():
    served = serve(healthy(), with_tokens=False)
    served.desk.journal_error = "the disk is full"
    async with served.client() as client:
        page = await client.get("/")
    assert "The journal cannot be written: the disk is full" in page.text


async def test_the_page_says_what_people_announced_and_decided():
    sim = healthy()
    at = sim.moment()
    sim.submit("n1", MaintenanceBegun(at, "mnt-1", "n2", "ann", "<b>patch</b>", 60.0))
    sim.submit("n1", WinnerDecided(at, "n1", "bob", "orders"))
    async with serve(sim, with_tokens=False).client() as client:
        page = (await client.get("/")).text
    assert "ann announced a switchover to n2 until" in page
    assert "&lt;b&gt;patch" in page
    assert "n1 is pinned as the winner by bob because orders" in page
