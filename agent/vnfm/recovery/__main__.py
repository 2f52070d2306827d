"""Writes the runbooks: `python -m agent.vnfm.recovery FOLDER`."""

import sys
from pathlib import Path

from agent.vnfm.recovery.markdown import runbook
from agent.vnfm.recovery.scenarios import SCENARIOS


def main(folder: Path) -> None:
    """Write one file for each scenario."""
    folder.mkdir(parents=True, exist_ok=True)
    for scenario in SCENARIOS.values():
        (folder / f"{scenario.name}.md").write_text(runbook(scenario), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
