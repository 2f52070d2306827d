"""`splitguard run` comes in by a door of its own, and carries no more than it needs."""

import json
import subprocess
import sys
from pathlib import Path

SPARED = (
    "agent.cli", "agent.lab", "jinja2", "obstore", "prometheus_client", "pydantic.v1",
    "pygments", "rich", "typer", "yaml",
)  # fmt: skip
"""What an agent does without until somebody asks for it."""


LIST = """
import json, sys, agent.__main__, agent.daemon.lifecycle
print(json.dumps([name for name, module in sys.modules.items() if module is not None]))
"""


def of_agent(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_an_agent_at_rest_holds_nothing_of_the_command_line():
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            LIST,
        ],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    loaded = set(json.loads(told.stdout))
    assert "fastapi" in loaded
    assert not {
        name for name in loaded for each in SPARED if f"{name}.".startswith(f"{each}.")
    }


def test_what_is_wrong_with_a_configuration_is_said_as_by_any_command(tmp_path: Path):
    config = tmp_path / "agent.toml"
    config.write_text("cluster = 5\n")
    ran = of_agent("run", "--config", config)
    checked = of_agent("config", "check", "--config", config)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert f"{config}:1: cluster" in ran.stderr
    assert ran.stderr == checked.stderr


def test_help_and_misspelt_options_are_the_command_line_s(tmp_path: Path):
    assert "SIGTERM" in of_agent("run", "--help").stdout
    for words in (("--confg", tmp_path), ("--config",), ("more",)):
        ran = of_agent("run", *words)
        assert ran.returncode == 2
        assert ran.stderr.startswith(("splitguard: ", "Usage: splitguard run"))


def test_the_installed_command_and_the_module_are_one_door():
    text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    assert 'splitguard = "agent.__main__:main"' in text
