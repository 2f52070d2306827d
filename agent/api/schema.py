"""Prints the OpenAPI document: `python -m agent.api.schema`.

The document follows from the routes alone: no desk, no catalogue and no token is asked
for anything, so any object that keeps quiet can stand in for them.
"""

import json
import sys
from typing import Any, cast

from agent.api.app import make_app
from agent.api.ports import ApiOptions, SnapshotShelf
from agent.ports import Desk


def document() -> dict[str, Any]:
    """Return the OpenAPI document of this version."""
    nobody = object()
    desk, shelf = cast("Desk", nobody), cast("SnapshotShelf", nobody)
    app = make_app(desk, shelf, None, ApiOptions())
    return app.openapi()


def text() -> str:
    """Return the document as it stands in `openapi/splitguard.json`."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
