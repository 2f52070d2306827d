"""How the installed command fails: one message, what to do, and the right exit code."""

import subprocess
from pathlib import Path

import pytest

GOOD = 'cluster = "c"\nnode = "n1"\n[[nodes]]\nname = "n1"\n'


@pytest.fixture
def command(installed: Path, tmp_path: Path):
    """Run the installed command in an empty environment."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        ran = subprocess.run(
            [installed / "bin/splitguard", *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in ran.stdout + ran.stderr
        return ran

    return run


@pytest.fixture
def config(tmp_path: Path):
    """Write a configuration."""

    def write(text: str | bytes) -> Path:
        file = tmp_path / "agent.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.mark.parametrize("arguments", [("run",), ("config", "check")])
def test_a_missing_configuration_says_how_to_begin(command, arguments):
    ran = command(*arguments, "--config", "/nonexistent/agent.toml")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "splitguard: /nonexistent/agent.toml: No such file or directory\n"
        "  give --config FILE or SPLITGUARD_CONFIG; `splitguard config example`"
        " prints a file to start from\n"
    )


@pytest.mark.parametrize("arguments", [("run",), ("config", "check")])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cluster = ", "not TOML: Invalid value (at end of document)"),
        ("cluster = 'c'\nx = [1, }", "(at line 2, column "),
        (b"\xff\xfe", "agent.toml:1: not UTF-8"),
        (f"colour = 1\n{GOOD}", "agent.toml:1: colour: no such key"),
        (f"{GOOD}[[nodes]]\nname = 'n1'\n", ':6: nodes[2].name = "n1": a second'),
        (GOOD.replace("node = ", "node = 'n7' #"), "not in the list of nodes (n1)"),
        (f"{GOOD}[probe]\nround_s = '1s'\n", 'probe.round_s = "1s": not a number'),
        (f"listen = '0.0.0.0:8009'\n{GOOD}", "reachable from other machines"),
        (f"{GOOD}[tls]\nca = '/nonexistent'\n", "No such file or directory"),
    ],
)
def test_a_wrong_configuration_names_place_value_and_remedy(
    command, config, arguments, text, expected
):
    ran = command(*arguments, "--config", config(text))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert expected in ran.stderr
    assert ran.stderr.count("splitguard: ") == 1
    assert ran.stderr.splitlines()[-1].startswith("  ")


def test_a_good_configuration_is_summed_up(command, config):
    ran = command("config", "check", "--config", config(GOOD))
    assert ran.returncode == 0
    assert "cluster      c" in ran.stdout
    assert "the configuration is good" in ran.stderr


def test_an_agent_that_is_not_there_is_exit_1_and_for_nagios_3(command, tmp_path):
    nowhere = tmp_path / "none.sock"
    for arguments in (("status",), ("explain",), ("incidents", "list")):
        ran = command(*arguments, "--socket", nowhere)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert f"no agent answers at {nowhere}" in ran.stderr
    check = command("check", "--socket", nowhere)
    assert (check.returncode, check.stderr) == (3, "")
    assert check.stdout.startswith("SPLITGUARD UNKNOWN - no agent answers at ")


def test_a_wrong_command_line_is_exit_2_and_for_nagios_3(command):
    assert command("status", "--nonsense").returncode == 2
    assert command("check", "--nonsense").returncode == 3


def test_what_needs_no_agent_works_in_an_empty_environment(command):
    for arguments in (("--help",), ("--version",), ("grants",), ("config", "schema")):
        ran = command(*arguments)
        assert (ran.returncode, ran.stderr) == (0, "")


def test_the_printed_example_is_accepted_where_a_node_is_named(command, config):
    text = command("config", "example").stdout.replace('#node = "n1"', 'node = "n1"')
    assert command("config", "check", "--config", config(text)).returncode == 0
