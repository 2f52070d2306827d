"""The published contract: openapi/splitguard.json is what the routes say."""

import json
import subprocess
import sys
from pathlib import Path

from openapi_spec_validator import validate

from agent.api.schema import document, text

PUBLISHED = Path(__file__).parents[2] / "openapi" / "splitguard.json"
OPEN = {"/livez", "/readyz", "/primary", "/replica", "/health"}


def test_the_published_document_is_the_present_one():
    assert PUBLISHED.read_text() == text(), "run `make openapi` and commit the file"


def test_the_document_is_valid_openapi_3_1():
    made = json.loads(PUBLISHED.read_text())
    assert made["openapi"].startswith("3.1")
    validate(made)


def test_every_closed_route_names_its_scopes_and_every_route_its_problems():
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) is (path not in OPEN), path
            assert "default" in operation["responses"], path
            assert "422" not in operation["responses"], path
            assert operation["summary"], path


def test_the_command_prints_the_document():
    made = subprocess.run(
        [sys.executable, "-m", "agent.api.schema"],
        check=True, capture_output=True, text=True, cwd=PUBLISHED.parents[1],
    )  # fmt: skip
    assert json.loads(made.stdout) == document()
