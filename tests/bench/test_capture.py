"""How fast a capture is, against the system's own tools, and at three sizes.

The peers take turns with us on the same server and disk, so that a busy machine slows
both. Only what must not depend on the machine is asserted.
"""

import contextlib
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.capture import Level
from agent.core.lsn import Lsn
from agent.postgres.owner import give, unprivileged
from agent.snapshot.opening import check_opened
from agent.snapshot.verify import verify_folder
from agent.transport import Request, request_sync
from tests.bench.filled import (
    at_rest,
    filled,
    followed,
    seconds,
    take_turns,
    until_copied,
    write_wal,
)
from tests.bench.table import Table
from tests.capturing import capturing
from tests.fix_guard import Agent, Gate
from tests.fix_postgres import Server, Stage, eventually

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(1500)]

SIZES_MIB = (100, 1024, 4096)
COPY_MIB = 1024
WAL_MIB = 512
UNCONFIRMED_MIB = 32
RUNS = 3
LOOK_S = 0.01
SHIM_RUNS = 40


def size(mib: int) -> str:
    return f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB"


@pytest.fixture(scope="module")
def at_sizes() -> dict[str, dict[int, float]]:
    """What was found at each size so far, for the ratio to the first."""
    return {}


@pytest.mark.parametrize("mib", SIZES_MIB, ids=size)
def test_what_does_not_depend_on_the_size(
    found: Table, postgres_home: Path, installed: Path, at_sizes, mib: int
):
    with filled(mib, postgres_home) as (stage, server):
        at_rest(server)
        write_wal(server, UNCONFIRMED_MIB)
        silent = [stage.server(name) for name in ("n2", "n3")]
        with beside(stage, installed, server, *silent) as agent:
            safe_s = isolation_to_safe(agent)
        server.stop()
        with beside(stage, installed, server) as agent:
            copy_s = permit(agent)  # which waits for a copy of everything
            permit_s = permit(agent)
    for what, value, goal in (
        ("isolation verdict to WAL and pin safe", safe_s, 2.0),
        ("permit wait, the copy is there", permit_s, 1.0),
    ):
        known = at_sizes.setdefault(what, {})
        known[mib] = value
        found.at_size(
            f"{what}, {size(mib)}", value, goal,
            (known[SIZES_MIB[0]], f"at {size(SIZES_MIB[0])}"),
        )  # fmt: skip
    if mib == SIZES_MIB[-1]:
        assert permit_s < copy_s / 3  # it waits for no copy, nor for reading one


@contextlib.contextmanager
def beside(stage: Stage, installed: Path, *servers: Server) -> Iterator[Agent]:
    """An agent beside the first server, with a node for each; it ends, and is gone."""
    home = stage.folder / "agent"
    home.mkdir()
    agent = Agent(installed, home, servers[0], servers[1:])
    agent.configure()
    give(home, unprivileged())
    try:
        yield agent.start()
    finally:
        agent.stop()
        shutil.rmtree(home)


def isolation_to_safe(agent: Agent) -> float:
    """Return the seconds from its verdict to the first report of WAL and pin kept."""

    def isolated() -> float | None:
        status = agent.get("/v1/status")
        since = [
            one["since"] for one in status["verdicts"]
            if one["verdict"] == "observer-isolated"
        ]  # fmt: skip
        return time.monotonic() - age_s(since[0]) if since else None

    def safe() -> float | None:
        captures = [one["capture"] for one in agent.get("/v1/snapshots")["snapshots"]]
        kept = [one for one in captures if one and one["pin"] == "held"]
        return time.monotonic() if kept and kept[0]["tail_lsn"] else None

    verdict_s: float = eventually("it sees no majority", isolated, 60)
    safe_s: float = eventually("WAL and pin are kept", safe, 60)
    return max(0.0, safe_s - verdict_s)


def age_s(instant: str) -> float:
    """Return how long ago this RFC 3339 instant is."""
    told = subprocess.run(
        ["date", "--date", instant, "+%s.%N"], check=True, capture_output=True
    )
    return time.time() - float(told.stdout)


def permit(agent: Agent) -> float:
    """Ask for a permit beside the stopped server; return the seconds to its grant."""
    began = time.monotonic()
    asked = post(agent, "/v1/guard/permits", {"node": "n1", "purpose": "pg_rewind"})
    eventually(
        "it is granted",
        lambda: agent.get(f"/v1/guard/permits/{asked['id']}")["state"] == "granted",
        600,
    )
    return time.monotonic() - began


def post(agent: Agent, path: str, body: dict[str, str]) -> dict[str, str]:
    request = Request(
        "POST", f"http://agent{path}", {"Content-Type": "application/json"},
        json.dumps(body).encode(),
    )  # fmt: skip
    answer = request_sync(request, 30, uds=agent.socket)
    assert answer.ok, answer.body
    told: dict[str, str] = json.loads(answer.body)
    return told


@pytest.fixture(scope="module")
def server_to_copy(postgres_home: Path) -> Iterator[tuple[Stage, Server]]:
    with filled(COPY_MIB, postgres_home) as made:
        yield made


def test_the_rest_of_the_tail_beside_cp(found: Table, postgres_home: Path):
    with filled(1, postgres_home) as (stage, server):
        at_rest(server)
        redo = server.lsn
        write_wal(server, WAL_MIB)
        at_rest(None)
        end = server.lsn
        segments = sorted((server.data_dir / "pg_wal").glob("0*"))[: (end - redo) >> 24]

        def follow() -> float:
            at_rest(None)
            return tail(stage, server, redo, end)

        def cp() -> float:
            at_rest(None)
            target = stage.folder / "segments"
            target.mkdir()
            took = seconds("cp", "--target-directory", target, *segments)
            took += seconds("sync", *target.iterdir())
            shutil.rmtree(target)
            return took

        pair = take_turns(RUNS, follow, cp)
    what = f"the rest of the tail, {len(segments) * 16} MiB of WAL"
    found.compare(what, pair.ours_s, (pair.peers_s, "cp, then sync of each"), 1.25)


def tail(stage: Stage, server: Server, redo: Lsn, end: Lsn) -> float:
    """Return the seconds until all WAL from `redo` to `end` is kept."""
    folder = stage.folder / "tail"
    with capturing(stage, server, folder=folder) as capture:
        began = time.monotonic()
        capture.order(Level.TAIL)
        capture.until(
            "all of it is kept",
            lambda s: bool(
                s.tail_lsn and s.start_lsn and s.tail_lsn >= end and s.start_lsn <= redo
            ),
        )
        took = time.monotonic() - began
    shutil.rmtree(folder)
    return took


def test_a_full_copy_beside_pg_basebackup(found: Table, server_to_copy):
    stage, server = server_to_copy
    proven: dict[str, list[float]] = {"verify": [], "open": [], "pg_verifybackup": []}

    def ours() -> float:
        at_rest(server)
        with followed(stage, server, "ours") as capture:
            took = until_copied(capture)
            capture.until_complete()
            began = time.monotonic()
            assert verify_folder(capture.folder, programs=stage.programs).good
            proven["verify"].append(time.monotonic() - began)
            if not proven["open"]:
                capture.close()
                began = time.monotonic()
                assert check_opened(capture.folder, stage.folder, stage.programs).good
                proven["open"].append(time.monotonic() - began)
        return took

    def peer() -> float:
        at_rest(server)
        target = stage.folder / "basebackup"
        took = seconds(
            "pg_basebackup", "-c", "fast", "-h", server.socket_dir, "-U", "postgres",
            "-p", str(server.port), "-D", target, stage=stage,
        )  # fmt: skip
        proven["pg_verifybackup"].append(
            seconds("pg_verifybackup", target, stage=stage)
        )
        shutil.rmtree(target)
        return took

    pair = take_turns(RUNS, ours, peer)
    base = (pair.peers_s, "pg_basebackup -c fast")
    what = f"full copy of a running server, read back, {size(COPY_MIB)}"
    found.compare(what, pair.ours_s, base, 1.2)
    verified = (statistics.median(proven["pg_verifybackup"]), "pg_verifybackup")
    found.compare("verifying it", statistics.median(proven["verify"]), verified)
    found.compare("opening it", proven["open"][0], base)


def test_a_cold_copy_beside_cp(found: Table, server_to_copy):
    stage, server = server_to_copy
    server.stop()

    def ours() -> float:
        at_rest(None)
        with followed(stage, server, "cold") as capture:
            return until_copied(capture, capture.end_of_stopped())

    def peer() -> float:
        at_rest(None)
        target = stage.folder / "cp"
        took = seconds("cp", "-a", "--reflink=auto", server.data_dir, target)
        took += seconds("sync", "--file-system", target)
        shutil.rmtree(target)
        return took

    pair = take_turns(RUNS, ours, peer)
    what = f"cold copy of a stopped server, read back, {size(COPY_MIB)}"
    found.compare(what, pair.ours_s, (pair.peers_s, "cp -a --reflink=auto, sync"), 1.1)


def test_what_the_shim_adds_to_help(found: Table, gate: Gate, stage16: Stage):
    real = stage16.programs.path("pg_rewind")
    shim = gate.shim(real=real)
    pair = take_turns(
        SHIM_RUNS, lambda: seconds(shim, "--help"), lambda: seconds(real, "--help")
    )
    more_ms = 1000 * (pair.ours_s - pair.peers_s)
    found.add("shim --help, over the real program's", more_ms, "ms", 20)
