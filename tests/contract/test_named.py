"""The environment names the manager that the contract is held against."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_manager import Issued, StartManager

pytestmark = pytest.mark.postgres
HERE = Path(__file__).parent


def test_the_manager_that_the_environment_names_is_asked_and_not_changed(
    start_manager: StartManager, issued: Issued, tmp_path: Path
):
    manager = start_manager("7.0.5", tls=issued.tls)
    manager.put("blueprints", "of-somebody")
    password = tmp_path / "password"
    password.write_text(f"{manager.password}\n")
    told = {
        "URL": manager.url, "PASSWORD_FILE": str(password), "CA": str(issued.ca),
        "USERNAME": manager.username, "TENANT": manager.tenant,
    }  # fmt: skip
    environ = {f"SPLITGUARD_VNFM_{name}": value for name, value in told.items()}
    wanted = "version or wrong or restored or fetched_sent"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-k", wanted, HERE / "test_contract.py"],
        env={**os.environ, **environ}, cwd=HERE.parents[1], capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
    assert "deselected" in ran.stdout
    assert manager.query("SELECT id FROM snapshots") == []
    assert manager.query("SELECT id FROM executions")
    assert manager.names("blueprints") == ["of-somebody"]
