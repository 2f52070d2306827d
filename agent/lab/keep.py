"""What `--keep DIR` leaves for an outsider who wants to count again.

The file of acknowledgements, the archive of each loser's snapshot as the agent hands
it out, the story's own result, a text that says how to count with psql, tar and
pg_ctl alone, and the lab itself, still running, winner included.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from agent.errors import LabError
from agent.lab.evidence import snapshots_of
from agent.lab.plan import DATABASE, HOST, MANAGER_ROLE, Plan
from agent.lab.stage import Stage
from agent.snapshot.archive import stream

README = """\
What this is: the remains of a split brain, played by splitguard lab.

acknowledged.jsonl  every write that a client was promised, one JSON object a line
edited.jsonl        what clients changed and deleted (description null) on which side
result.json         what the story counted
winner.json         how to reach the winner, which still runs
*.tar               the snapshots of the losing side; each holds a README of its own
rescued/            of each snapshot the loss report as a page, and the rescue's files

The winner has what the rescue put back: `in_winner` in result.json was counted before
that, `in_winner_after` after it.

To count again: take kind, id and content of each line of acknowledged.jsonl and look
for them in the tables blueprints, deployments and plugins

1. of the winner:
     PGPASSWORD={password} {bin_dir}/psql -h {host} -p {port} -U {user} {database}
2. of the snapshots: unpack and start one as its README.txt says, with the programs in
     {bin_dir}
   as an ordinary user, and ask its database {database}.

To end the lab: splitguard lab down --state-dir {state_dir}
"""


def keep(stage: Stage, folder: Path, result: dict[str, Any], winner: str) -> None:
    """Leave everything in `folder`, and the lab running. Raises LabError."""
    plan = stage.plan
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(plan.layout.acknowledged, folder / "acknowledged.jsonl")
        shutil.copy(plan.layout.edited, folder / "edited.jsonl")
        if plan.layout.rescued.exists():
            rescued = folder / plan.layout.rescued.name
            shutil.copytree(plan.layout.rescued, rescued, dirs_exist_ok=True)
        _write(folder / "result.json", json.dumps(result, indent=2))
        _write(folder / "winner.json", json.dumps(_winner(plan, winner), indent=2))
        _write(folder / "README.txt", _readme(plan, winner))
        for node, manifest, snapshot in snapshots_of(plan):
            if node in result["losers"] and manifest.has_copy:
                _archive(snapshot, folder / f"{manifest.id}.tar")
    except OSError as error:
        raise LabError(
            f"{folder} cannot take what is to be kept: {error.strerror}",
            "give a --keep folder that can be written to",
        ) from error
    stage.lab.keep()
    stage.say(f"kept in {folder}; the lab goes on running")


def _archive(snapshot: Path, target: Path) -> None:
    target.touch(mode=0o600)
    with target.open("wb") as file:
        file.writelines(stream(snapshot))


def _winner(plan: Plan, winner: str) -> dict[str, Any]:
    return {
        "node": winner,
        "dsn": plan.postgres_dsn(winner),
        "host": HOST,
        "port": plan.node(winner).postgres_port,
        "dbname": DATABASE,
        "user": MANAGER_ROLE,
        "password": plan.secrets.manager,
        "bin_dir": plan.bin_dir,
        "state_dir": plan.state_dir,
    }


def _readme(plan: Plan, winner: str) -> str:
    return README.format(
        password=plan.secrets.manager,
        bin_dir=plan.bin_dir,
        host=HOST,
        port=plan.node(winner).postgres_port,
        user=MANAGER_ROLE,
        database=DATABASE,
        state_dir=plan.state_dir,
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", "utf-8")
    path.chmod(0o600)
