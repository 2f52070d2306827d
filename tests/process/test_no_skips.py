"""In CI a skipped test makes its session fail, in one process or in several."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPS = {
    "one test": "import pytest\n@pytest.mark.skip\ndef test_one(): pass\n",
    "a file": "import pytest\npytest.skip('no', allow_module_level=True)\n",
    "nothing": "def test_one(): pass\n",
}


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("skipped", SKIPS)
def test_a_session_that_skipped_something_fails_in_ci(
    tmp_path: Path, skipped: str, processes: str
):
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPS[skipped])
    (tmp_path / "test_more.py").write_text("def test_more(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", processes, "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "CI": "true"},
    )  # fmt: skip
    told = "skipped tests fail in CI" in ran.stdout
    assert (ran.returncode != 0, told) == (skipped != "nothing",) * 2, ran.stdout
