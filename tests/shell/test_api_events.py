"""The event stream, over a real connection."""

import json
import queue
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.fix_desk import Served, healthy, listening, node_down, serve


class Stream:
    """A client of the stream, reading in a thread of its own."""

    def __init__(self, url: str, served: Served, **headers: str) -> None:
        self.lines: queue.Queue[str | None] = queue.Queue()
        self._url = f"{url}/v1/events"
        self._headers = {"Authorization": f"Bearer {served.tokens['read']}", **headers}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with httpx.stream("GET", self._url, headers=self._headers, timeout=20) as got:
            for line in got.iter_lines():
                self.lines.put(line)
        self.lines.put(None)

    def until(self, start: str) -> str:
        """The next line that begins so."""
        while (line := self.lines.get(timeout=10)) is not None:
            if line.startswith(start):
                return line[len(start) :].strip()
        raise AssertionError(f"the stream ended before {start!r}")

    def end(self) -> None:
        """Wait until the stream is over."""
        while self.lines.get(timeout=10) is not None:
            pass
        self._thread.join(10)


@pytest.fixture
def streaming() -> Iterator[tuple[Served, str]]:
    served = serve(healthy(), keepalive_s=0.05)
    with listening(served) as url:
        yield served, url


def test_the_present_state_comes_first_and_then_each_change():
    served = serve(healthy())
    down = node_down()
    with listening(served) as url:
        stream = Stream(url, served)
        first = stream.until("id: ")
        told = json.loads(stream.until("data: "))
        assert told["headline"]["verdict"] == "healthy"
        served.become(down)
        second = stream.until("id: ")
        told = json.loads(stream.until("data: "))
        assert second != first
        assert told["headline"]["verdict"] == "node-down"
        assert told["incidents_open"] == 1
    stream.end()


def test_who_comes_back_is_spared_what_it_has(streaming: tuple[Served, str]):
    served, url = streaming
    stream = Stream(url, served)
    last = stream.until("id: ")
    again = Stream(url, served, **{"Last-Event-ID": last})
    assert again.until(": ") == "nothing new"
    assert not any((line or "").startswith("id") for line in list(again.lines.queue))
    unknown = Stream(url, served, **{"Last-Event-ID": "another-life-7"})
    assert unknown.until("id: ") == last
    served.on_loop(served.options.closing.set)
    for one in (stream, again, unknown):
        one.end()


def test_the_stream_ends_when_the_agent_stops(streaming: tuple[Served, str]):
    served, url = streaming
    stream = Stream(url, served)
    stream.until("id: ")
    served.on_loop(served.options.closing.set)
    assert stream.until(": the agent") == "stops"
    stream.end()


async def test_streams_beyond_the_limit_are_refused():
    served = serve(healthy(), waiters_max=0)
    async with served.client("read") as client:
        answer = await client.get("/v1/events")
    assert answer.status_code == 503
