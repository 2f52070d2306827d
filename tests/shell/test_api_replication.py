"""Replay, slots and archiver of each node: values, and words where it goes wrong."""

from tests.fix_desk import Served, healthy, neglected, serve

WORDS = (
    "archiving fails at 000000000000000000000007 (archive_command), the last good one"
    " was 000000000000000000000006; slots lost, their WAL is gone: gone; slots that"
    " nobody reads keep WAL: idle (2.1 GB)"
)


async def node(served: Served, name: str):
    async with served.client("read") as client:
        answer = await client.get(f"/v1/nodes/{name}")
    assert answer.status_code == 200
    return answer.json()


async def test_a_server_without_slots_and_archive_has_nothing_to_tell(served: Served):
    told = await node(serve(healthy()), "n2")
    assert (told["slots"], told["archiver"], told["trouble"]) == ([], None, None)
    assert told["replay_lag_bytes"] == 0
    assert (await node(served, "n1"))["replay_lag_bytes"] is None


async def test_slots_are_told_with_what_they_keep():
    told = await node(serve(neglected()), "n1")
    kept = {
        one["name"]: (one["active"], one["lost"], one["kept_bytes"])
        for one in told["slots"]
    }
    assert kept == {
        "busy": (True, False, (3 << 30) - 0x1000),
        "gone": (False, True, None),
        "idle": (False, False, 2 << 30),
        "new": (False, False, None),
        "spare": (False, False, 1 << 30),
    }
    assert told["slots"][2]["restart_lsn"] == "0/40000000"


async def test_an_archive_that_fails_and_slots_that_harm_are_put_in_words():
    told = await node(serve(neglected()), "n1")
    assert told["archiver"] == {
        "method": "archive_command",
        "archived": 7,
        "last_archived": "0" * 23 + "6",
        "failing": True,
        "last_failed": "0" * 23 + "7",
    }
    assert told["trouble"] == WORDS


async def test_what_was_received_and_not_replayed_is_a_lag_of_its_own():
    assert (await node(serve(neglected()), "n2"))["replay_lag_bytes"] == 0x2000


async def test_words_end_when_the_server_is_not_read_any_more():
    sim = neglected()
    served = serve(sim)
    sim.now_s += 30.0
    assert (await node(served, "n1"))["trouble"] is None


async def test_the_page_and_the_metrics_tell_it_too():
    served = serve(neglected())
    async with served.client("read") as client:
        page = await client.get("/")
        metrics = await client.get("/metrics")
    assert "archiving fails at 000000000000000000000007" in page.text
    assert 'splitguard_node_archiver_failing{node="n1"} 1.0' in metrics.text
    assert 'splitguard_node_replay_lag_bytes{node="n2"} 8192.0' in metrics.text
