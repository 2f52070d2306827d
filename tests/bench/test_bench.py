"""How fast the agents are, as ratios: to the probe interval, and to pg_basebackup.

No time is asserted: a number that holds on one machine says nothing on another. What
must be so on every machine (a complete copy, nothing lost) is.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench.benchlab import (
    agent_of,
    base_backup,
    folder,
    plan_in,
    splitguard_lab,
)
from tests.bench.table import Table

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]

REST_S = 20.0
BACKUP = "pg_basebackup -c fast"
ROUND = "probe round"


def test_an_agent_at_rest(found: Table):
    with folder() as state_dir:
        up = splitguard_lab("up", "--detach", "--state-dir", state_dir, "-o", "json")
        plan = plan_in(state_dir)
        agents = [agent_of(plan, node["name"]) for node in up["nodes"]]
        with ThreadPoolExecutor(len(agents)) as pool:
            rest = list(pool.map(lambda agent: agent.at_rest(REST_S), agents))
        found.add("agent at rest: share of a core", max(r[0] for r in rest), "%", 1)
        found.add("agent at rest: resident memory", max(r[1] for r in rest), "MiB", 80)
        found.facts["postgres_version"] = up["postgres_version"]


def test_a_split_brain_in_rounds_and_base_backups(found: Table, tmp_path: Path):
    with folder() as state_dir:
        told = splitguard_lab(
            "story", "split-brain", "--keep", tmp_path / "kept",
            "--state-dir", state_dir, "-o", "json",
        )  # fmt: skip
        plan = plan_in(state_dir)
        round_s = agent_of(plan, told["winner"]).round_s
        backup_s = base_backup(plan, told["winner"])
    timings = told["timings_s"]
    for key, what, goal in (
        ("partition_to_incident", "cut to open critical incident", None),
        ("heal_to_split_brain", "two primaries visible to proven", 3),
        ("verdict_to_webhook", "incident to the receiver's 2xx", 1),
        ("isolation_to_tail", "isolation to the tail on disk", 2),
    ):
        found.compare(what, timings[key], (round_s, ROUND), goal)
    backup = (backup_s, BACKUP)
    found.compare("capture of the loser", timings["capture"], backup)
    found.compare("loser's wait for its permit", timings["permit_wait"], backup)
    found.facts["round_s"] = round_s
    found.facts["writes"] = told["writes"]
    assert told["writes"]["lost"] == 0
