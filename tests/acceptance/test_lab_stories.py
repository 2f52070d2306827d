"""The stories, played to their end, and counted again by an outsider."""

import csv
import io
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fix_lab import LabCommand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KINDS = ("blueprints", "deployments", "plugins")
SPLIT = {"split-brain", "lineage-diverged"}


def unprivileged() -> dict[str, Any]:
    """What makes a child of root somebody whom PostgreSQL takes."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def rows_by_psql(bin_dir: Path, **environ: str) -> set[tuple[str, ...]]:
    """Every object in the manager's tables, asked with psql."""
    found: set[tuple[str, ...]] = set()
    for kind in KINDS:
        ran = subprocess.run(
            [bin_dir / "psql", "--csv", "--tuples-only", "--no-psqlrc",
             "-c", f"SELECT id, content FROM {kind}"],
            env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        found |= {(kind, *row) for row in csv.reader(io.StringIO(ran.stdout))}
    return found


def descriptions_by_psql(bin_dir: Path, **environ: str) -> dict[str, str]:
    """The description of every object in the manager's tables, asked with psql."""
    ran = subprocess.run(
        [bin_dir / "psql", "--csv", "--tuples-only", "--no-psqlrc", "-c",
         " UNION ALL ".join(f"SELECT id, description FROM {kind}" for kind in KINDS)],
        env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return dict(csv.reader(io.StringIO(ran.stdout)))


def managers_own_by_psql(bin_dir: Path, loser: str, **environ: str) -> int:
    """Rows that the loser's manager wrote when its agent had it take a snapshot."""
    of_loser = f"LIKE 'sg-{loser}-%'"
    query = (
        f"SELECT id FROM snapshots WHERE id {of_loser} UNION ALL "
        f"SELECT id FROM executions WHERE parameters->>'snapshot_id' {of_loser}"
    )
    ran = subprocess.run(
        [bin_dir / "psql", "--csv", "--tuples-only", "--no-psqlrc", "-c", query],
        env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return len(ran.stdout.split())


def assert_edits_are_there(
    kept: Path, told: Any, bin_dir: Path, winner: dict[str, Any]
) -> None:
    """What either side changed is in the winner; of conflicts, the files have both."""
    found = descriptions_by_psql(
        bin_dir, PGHOST=winner["host"], PGPORT=str(winner["port"]),
        PGUSER=winner["user"], PGPASSWORD=winner["password"],
        PGDATABASE=winner["dbname"],
    )  # fmt: skip
    lines = (kept / "edited.jsonl").read_text().splitlines()
    edits = [json.loads(line) for line in lines]
    mine = {each["id"] for each in edits if each["side"] == "majority"}
    theirs = {each["id"] for each in edits if each["side"] == "minority"}
    files = "".join(p.read_text() for p in (kept / "rescued").rglob("*.jsonl"))
    assert len(mine & theirs) == told["rescue"]["conflicts_left"] == 4
    for each in edits:
        if each["side"] == "minority" and each["id"] in mine:
            assert each["description"] in files
        else:
            assert found.get(each["id"]) == each["description"], each


def rows_by_readme(archive: Path, bin_dir: Path, home: Path) -> set[tuple[str, ...]]:
    """The rows in an archive, opened with the commands that its README gives."""
    somebody = unprivileged()
    readme = subprocess.run(
        ["tar", "-xOf", archive, "README.txt"], check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    commands = [line.strip() for line in readme.splitlines() if line.startswith("  ")]
    script = "set -e\n" + "\n".join(commands)
    script = script.replace("/tmp -p 54399", f"{home} -p 54399")
    room = home / archive.stem
    room.mkdir()
    if somebody:
        os.chown(room, somebody["user"], somebody["group"])
    (room / archive.name).write_bytes(archive.read_bytes())
    (room / archive.name).chmod(0o644)
    environ = {"PATH": f"{bin_dir}:/usr/bin:/bin", "LC_ALL": "C"}
    opened = subprocess.run(
        ["/bin/sh", "-c", script], cwd=room, env=environ, check=False,
        capture_output=True, text=True, **somebody,
    )  # fmt: skip
    assert opened.returncode == 0, opened.stdout + opened.stderr
    try:
        return rows_by_psql(
            bin_dir, PGHOST=str(home), PGPORT="54399", PGUSER="postgres",
            PGDATABASE="cloudify_db",
        )  # fmt: skip
    finally:
        subprocess.run(
            [bin_dir / "pg_ctl", "-D", room / "copy" / "data", "-m", "fast", "stop"],
            check=True, capture_output=True, cwd=room, **somebody,
        )  # fmt: skip


@pytest.fixture
def open_home(make_lab) -> Path:
    """A folder that whoever runs the copy owns."""
    home: Path = make_lab().state_dir.with_name("open")
    home.mkdir()
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return home


@pytest.mark.fact("wheel-servers")
def test_an_outsider_counts_the_same_with_psql_tar_and_pg_ctl(
    lab: LabCommand, tmp_path: Path, open_home: Path
):
    kept = tmp_path / "kept"
    ran = lab.done("story", "split-brain", "--keep", kept, "--output", "json")
    told = ran.json
    writes = told["writes"]
    assert writes["lost"] == 0
    loss = told["loss"]
    assert loss["collisions"] > 0
    assert (loss["changed"], loss["deleted"], loss["conflicts"]) == (3, 3, 4)
    assert told["rescue"]["rows"] == loss["lost"] + loss["collisions"] + 3 + 3
    assert told["without_splitguard"]["lost"] >= 100
    assert told["scenario"] == "split-brain"
    assert all(value is not None for value in told["timings_s"].values()), told
    split = [one for one in told["incidents"] if one["family"] == "split"]
    assert len(split) == 1
    assert SPLIT & set(split[0]["verdicts"])
    pages = [
        notice for notice in told["notices"]
        if notice["incident"] == split[0]["id"] and notice["type"].endswith(".opened")
    ]  # fmt: skip
    assert len(pages) == 1

    lines = (kept / "acknowledged.jsonl").read_text().splitlines()
    promises = [json.loads(line) for line in lines]
    wanted = [(each["kind"], each["id"], each["content"]) for each in promises]
    sides = [each["side"] for each in promises]
    assert min(sides.count(side) for side in ("minority", "majority")) >= 100
    assert len({content for _, _, content in wanted}) == len(wanted)

    winner = json.loads((kept / "winner.json").read_text())
    bin_dir = Path(winner["bin_dir"])
    in_winner = rows_by_psql(
        bin_dir, PGHOST=winner["host"], PGPORT=str(winner["port"]),
        PGUSER=winner["user"], PGPASSWORD=winner["password"],
        PGDATABASE=winner["dbname"],
    )  # fmt: skip
    archives = list(kept.glob("*.tar"))
    assert archives
    rescue = told["rescue"]
    assert (rescue["missing"], rescue["overwritten"], rescue["refused"]) == (0, 0, 0)
    assert rescue["in_winner_after"] == len(wanted) == len(in_winner & set(wanted))
    assert_edits_are_there(kept, told, bin_dir, winner)
    in_snapshot = set[tuple[str, ...]]()
    for archive in archives:
        in_snapshot |= rows_by_readme(archive, bin_dir, open_home)
    # The last row may have been committed without anybody being told.
    own = sum(
        managers_own_by_psql(
            bin_dir, loser, PGHOST=winner["host"], PGPORT=str(winner["port"]),
            PGUSER=winner["user"], PGPASSWORD=winner["password"],
            PGDATABASE=winner["dbname"],
        )
        for loser in {"n1", "n2", "n3"} - {told["winner"]}
    )  # fmt: skip
    surplus = loss["lost"] + loss["collisions"] + writes["in_winner"] - len(wanted)
    assert surplus - own in {0, 1}
    assert writes == {
        "acknowledged": len(wanted),
        "in_winner": writes["in_winner"],
        "in_snapshot": sum(row in in_snapshot for row in wanted),
        "lost": sum(row not in in_winner | in_snapshot for row in wanted),
    }
    lab.done("down")
    lab.until_nothing_is_left()


def test_without_captures_the_losers_writes_are_lost_and_it_says_so(lab: LabCommand):
    ran = lab("story", "split-brain", "--break-capture", "--winner", "minority",
              "--output", "json")  # fmt: skip
    told = ran.json
    assert ran.code == 1
    assert told["winner"] == "n1"
    assert told["writes"]["lost"] >= 100
    assert told["writes"]["lost"] == told["without_splitguard"]["lost"]
    assert told["snapshots"] == []
    assert (told["loss"], told["rescue"]) == (None, None)
    lab.until_nothing_is_left()


def test_a_dead_standby_is_told_and_resolved(lab: LabCommand):
    told = lab.done("story", "node-down", "--output", "json").json
    assert told["timings_s"]["kill_to_incident"] is not None
    down = [one for one in told["incidents"] if "node-down" in one["verdicts"]]
    assert [(one["subject"], one["status"]) for one in down] == [("n2", "resolved")]
    lab.until_nothing_is_left()


def test_a_dead_primary_is_replaced_told_and_comes_back(lab: LabCommand):
    told = lab.done("story", "failover", "--output", "json").json
    assert told["timings_s"]["start_to_standby"] is not None
    moved = [one for one in told["incidents"] if "failover" in one["verdicts"]]
    assert len(moved) == 1
    lab.until_nothing_is_left()
