"""Seeded faults on real Patroni clusters: with the guard no acknowledged write is lost.

RUNS says how many, SEED where they begin; both are in the environment. Run n has seed
SEED + n, and a seed alone decides what happens in its run: one that is divisible by
four is won by a minority, one that leaves three has neither shim nor agents.
"""

import os
import time
from pathlib import Path

import pytest

from tests.chaos.plays import Draw, Played, play
from tests.fix_system import fresh_cluster
from tests.system.cluster import Cluster, Kit

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(420)]
RUNS = int(os.environ.get("RUNS") or 20)
EVERY = 4
"""One of so many runs is unguarded, and one is won by a minority."""
SEED = int(os.environ.get("SEED") or time.time())


@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_no_acknowledged_write_is_lost_behind_the_guard(
    seed: int, kit: Kit, postgres_home: Path, played: list[Played]
):
    run = Played(Draw.of(seed))
    played.append(run)
    guarded = run.draw.guarded
    with fresh_cluster(
        kit, postgres_home, Cluster, guarded=guarded, watched=guarded
    ) as cluster:
        run.counted = play(cluster, run.draw)
        assert not guarded or run.counted.lost == 0, run.line


def test_a_minority_won_where_four_runs_or_more_were_asked_for(played: list[Played]):
    won = [run.draw.story for run in played if run.draw.guarded and run.counted]
    assert RUNS < EVERY or "minority wins" in won


def test_the_faults_lose_something_where_no_guard_is(played: list[Played]):
    """Otherwise they were too tame to prove anything."""
    unguarded = [run for run in played if not run.draw.guarded and run.counted]
    lost = sum(run.counted.lost for run in unguarded if run.counted)
    assert lost > 0 or RUNS < EVERY, [run.line for run in unguarded]
