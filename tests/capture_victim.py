"""A capture engine in a process of its own, which ends at a named point.

Arguments: the settings and the order as JSON, and the point at which to die, or `-`.
"""

import json
import os
import sys
import threading
from pathlib import Path

from agent.core.capture import CaptureOrder, CaptureStatus, Level
from agent.snapshot.engine import Engine
from agent.snapshot.settings import EngineSettings
from tests.capturing import moment

DIED = 77


def main() -> None:
    given, point = json.loads(sys.argv[1]), sys.argv[2]
    settings = EngineSettings(
        Path(given["capture_dir"]), Path(given["data_dir"]), Path(given["bin_dir"]),
        lambda: given["dsn"], "n1", "test",
    )  # fmt: skip
    after = given.get("after", 0)
    passed = [0]

    def crash(here: str) -> None:
        if here == point:
            passed[0] += 1
            if passed[0] > after:
                os._exit(DIED)

    complete = threading.Event()

    def take(status: CaptureStatus) -> None:
        if status.reached_lsn is not None:
            complete.set()

    engine = Engine(settings, moment, take, crash)
    engine.run(
        CaptureOrder(given["id"], "n1", tuple(Level), ("inc-1",), "a test", None, None)
    )
    complete.wait(30)
    if point == "-":
        os._exit(DIED)  # as kill -9 does, with the copy complete and followed
    engine.stop()


if __name__ == "__main__":
    main()
