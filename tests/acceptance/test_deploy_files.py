"""The files of deploy/ as the programs that will read them see them.

systemd's own tools read unit, users and folders inside a scratch root, so that the
machine that runs the tests is neither looked at nor changed.
"""

import configparser
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agent.cli import grants
from agent.config import example

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "splitguard.service"
DEPENDENCIES = (
    "After", "Before", "BindsTo", "Conflicts", "PartOf", "PropagatesStopTo",
    "Requires", "Requisite", "StopPropagatedFrom", "Upholds", "Wants",
)  # fmt: skip


def unit() -> configparser.ConfigParser:
    """The unit's sections; no key stands twice in it."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keep case
    parser.read(UNIT, encoding="utf-8")
    return parser


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's root folder on which Splitguard is installed."""
    system = tmp_path / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", system, symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    for called in ("opt/splitguard/bin/splitguard", "bin/kill"):
        program = tmp_path / called
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(UNIT, units)
    return tmp_path


def what_systemd_says(root: Path) -> str:
    """Everything that systemd finds to say about the unit."""
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", UNIT.name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"{ran.stdout}{ran.stderr}" if ran.returncode == 0 else f"failed {ran}"


def test_systemd_finds_nothing_to_say_about_the_unit(root):
    assert what_systemd_says(root) == ""


def test_systemd_finds_nothing_to_say_about_the_unit_of_a_witness(root):
    drop_ins = root / f"etc/systemd/system/{UNIT.name}.d"
    drop_ins.mkdir()
    shutil.copy(DEPLOY / "witness.conf", drop_ins)
    assert what_systemd_says(root) == ""


@pytest.mark.parametrize("program", ["lvm", "zfs"])
def test_systemd_finds_nothing_to_say_about_the_unit_for_snapshots(root, program):
    drop_ins = root / f"etc/systemd/system/{UNIT.name}.d"
    drop_ins.mkdir()
    shutil.copy(DEPLOY / f"capture/{program}.conf", drop_ins)
    assert what_systemd_says(root) == ""


def test_a_misspelt_key_would_be_found(root):
    installed = root / "etc/systemd/system" / UNIT.name
    installed.write_text(UNIT.read_text("utf-8").replace("KillMode=", "KillMod="))
    assert "Unknown key 'KillMod'" in what_systemd_says(root)


def test_the_unit_hangs_on_neither_postgresql_nor_its_ha_software():
    assert {
        key: value for key, value in unit()["Unit"].items() if key in DEPENDENCIES
    } == {"After": "network.target"}


def test_the_agents_end_takes_nothing_from_the_running_server():
    service = unit()["Service"]
    # The agent and PostgreSQL are one user: that user's shared memory must stay.
    assert service["RemoveIPC"] == "no"
    assert service["KillMode"] == "mixed"
    assert "ExecStopPost" not in service


def test_the_unit_lets_the_agent_write_beside_the_data_directory():
    service = unit()["Service"]
    assert service["User"] == "postgres"
    assert service["ProtectSystem"] == "full"  # /var and /srv stay writable
    assert service["PrivateTmp"] == "no"  # a server's socket may be in /tmp


def test_the_state_folder_is_closed_to_everybody_else():
    service = unit()["Service"]
    assert (service["StateDirectory"], service["StateDirectoryMode"]) == (
        "splitguard",
        "0700",
    )
    assert service["UMask"] == "0077"


def test_the_users_file_makes_the_user_and_the_group_of_the_socket(tmp_path):
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", DEPLOY / "sysusers.conf"],
        check=True, capture_output=True,
    )  # fmt: skip
    users = (tmp_path / "etc/passwd").read_text()
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^splitguard:x:\d+:\d+:.*/usr/sbin/nologin$", users, re.MULTILINE)
    assert re.search(r"^splitguard:x:\d+:", groups, re.MULTILINE)
    assert "postgres" not in users


def test_the_configuration_folder_is_closed_to_strangers(tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    # Whoever runs the tests is root in a user namespace of his own, where nobody else
    # is: there the group is his too.
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (etc / "group").write_text("splitguard:x:0:\n")
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "systemd-tmpfiles", "--create",
         f"--root={tmp_path}", DEPLOY / "tmpfiles.conf"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert stat.S_IMODE((etc / "splitguard").stat().st_mode) == 0o750


def test_the_example_configuration_is_what_the_settings_say():
    # splitguard config example > deploy/agent.example.toml
    assert (DEPLOY / "agent.example.toml").read_text("utf-8") == example()


def test_the_grants_are_what_the_command_prints():
    # splitguard grants > deploy/grants.sql
    assert (DEPLOY / "grants.sql").read_text("utf-8") == grants.SQL


def test_the_instructions_install_only_files_that_are_here():
    words = (DEPLOY / "README.md").read_text("utf-8")
    installed = re.findall(r"\bdeploy/([\w./-]+)", words)
    assert len(installed) > 5
    assert all((DEPLOY / name).is_file() for name in installed)
