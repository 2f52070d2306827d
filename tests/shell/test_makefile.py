"""`make demo` shows what the product says, and not how it is called."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_demo_prints_only_what_the_story_prints(tmp_path):
    story = tmp_path / "splitguard"
    story.write_text('#!/bin/sh\necho "told: $*"\n')
    story.chmod(0o755)
    make = shutil.which("make")
    assert make is not None
    # A make that runs this test would have the inner one tell where it is.
    environ = {k: v for k, v in os.environ.items() if "MAKE" not in k and k != "MFLAGS"}
    ran = subprocess.run(
        [make, "--old-file=.venv/.demo", "demo", f"BIN={tmp_path}"],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "told: lab story split-brain\n"
    assert ran.stderr == ""
