"""The capture engine: takes orders, runs one thread per capture, reports progress.

Theory of operation. An order of an id that is running widens it; one of an id that
is on disk goes on from there; so the same order may be sent as often as anybody
likes. Nothing here waits: `run` and `finish` hand over and return.
"""

import threading
from collections.abc import Callable

from agent.core.capture import CaptureOrder, CaptureStatus
from agent.core.moment import Moment
from agent.snapshot.catalogue import check_id
from agent.snapshot.run import CaptureRun
from agent.snapshot.settings import EngineSettings

STOP_S = 3.0
"""All threads end within this."""


def no_crash(_: str) -> None:
    """Pass the named point; a test's hook ends the process there."""


class Engine:
    """Implements ports.CaptureEngine for the server beside this agent.

    `on_status` may be called from any thread. `crash` is called at the named points
    `during-tail`, `during-copy` and `before-rename`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        moment: Callable[[], Moment],
        on_status: Callable[[CaptureStatus], None],
        crash: Callable[[str], None] = no_crash,
    ) -> None:
        self._settings = settings
        self._moment = moment
        self._on_status = on_status
        self._crash = crash
        self._runs: dict[str, CaptureRun] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, order: CaptureOrder) -> None:
        """Start the capture, or widen the running one. Returns at once.

        Raises SnapshotError when the id cannot be a folder's name.
        """
        check_id(order.capture_id)
        with self._lock:
            running = self._runs.get(order.capture_id)
            if running is not None and running.is_alive():
                running.widen(order)
            elif not self._stopped:
                self._make(order).start()

    def finish(self, capture_id: str) -> None:
        """Stop following and write the final manifest. Returns at once.

        Raises SnapshotError when the id cannot be a folder's name.
        """
        check_id(capture_id)
        with self._lock:
            running = self._runs.get(capture_id)
            if running is not None and running.is_alive():
                running.close()
            elif not self._stopped:
                closing = self._make(_nothing_more(capture_id, self._settings.node))
                closing.close()
                closing.start()

    def stop(self) -> None:
        """End all threads within STOP_S; what is on disk stays."""
        with self._lock:
            self._stopped = True
            runs = list(self._runs.values())
        for run in runs:
            run.stop()
        began_s = self._moment().monotonic_s
        for run in runs:
            run.join(max(0.0, STOP_S - (self._moment().monotonic_s - began_s)))

    def _make(self, order: CaptureOrder) -> CaptureRun:
        made = CaptureRun(
            self._settings, order, self._moment, self._on_status, self._crash
        )
        alive = {key: run for key, run in self._runs.items() if run.is_alive()}
        self._runs = {**alive, order.capture_id: made}
        return made


def _nothing_more(capture_id: str, node: str) -> CaptureOrder:
    """Return an order that asks for nothing: its capture is only to be closed."""
    return CaptureOrder(
        capture_id=capture_id,
        node=node,
        levels=(),
        incident_ids=(),
        reason="",
        confirmed_lsn=None,
        final_lsn=None,
    )
