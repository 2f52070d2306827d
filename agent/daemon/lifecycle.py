"""From start to an orderly end.

Theory of operation. Everything that can be wrong with the configuration or the
machine is found before anything runs: the journal is opened, sockets are bound,
secrets are read; each failure ends with one message and exit code 1. Then all
parts run until SIGTERM or SIGINT; SIGHUP reads the configuration anew. The end is
bounded: no new rounds, requests get two seconds, the capture engine's threads three;
what is on disk stays and is taken up again at the next start.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from agent.config import Settings
from agent.daemon import sdnotify
from agent.daemon.wiring import Assembly, assemble
from agent.errors import SplitguardError

log = logging.getLogger(__name__)

THREADS = 32
"""Blocking calls at once."""
STOP_S = 4.0
"""All parts together have so long to end; then the process ends without them."""


def run(settings: Settings, read: Callable[[], Settings]) -> int:
    """Run the agent until it is told to stop; return the exit code.

    On SIGHUP `read` reads the configuration once more; it raises ConfigError.
    """
    _log_to_stderr()
    try:
        return asyncio.run(_main(settings, read))
    except SplitguardError as error:
        _say(error)
        return 1


def _say(error: SplitguardError) -> None:
    print(f"splitguard: {error.message}", file=sys.stderr)  # noqa: T201 - its last word
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)  # noqa: T201 - its last word


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for noisy in ("httpx", "httpcore", "apscheduler", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


async def _main(settings: Settings, read: Callable[[], Settings]) -> int:
    # Name look-ups and disk readings share these threads: a dead name server must not
    # take the last one.
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blocking")
    asyncio.get_running_loop().set_default_executor(threads)
    stop, hang_up = asyncio.Event(), asyncio.Event()
    with _signals(stop, hang_up):
        assembly = await assemble(settings, os.environ, read)
        # What was made up to now lives as long as the agent: nothing to look for in it.
        gc.collect()
        gc.freeze()
        try:
            return await _until(stop, hang_up, assembly)
        finally:
            await assembly.close()


@contextlib.contextmanager
def _signals(stop: asyncio.Event, hang_up: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    meanings = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: hang_up,
    }
    for number, meant in meanings.items():
        loop.add_signal_handler(number, meant.set)
    try:
        yield
    finally:
        for number in meanings:
            loop.remove_signal_handler(number)


async def _told(stop: asyncio.Event) -> None:
    await stop.wait()


async def _until(
    stop: asyncio.Event, hang_up: asyncio.Event, assembly: Assembly
) -> int:
    """Run all parts until `stop`, or until one of them ends by itself."""
    serving = asyncio.create_task(assembly.serve())
    working = [asyncio.create_task(part) for part in assembly.parts(hang_up)]
    stopping = asyncio.create_task(_told(stop))
    log.info(
        "%s: agent of %s listens on %s",
        assembly.settings.cluster,
        assembly.settings.me,
        assembly.settings.listen,
    )
    sdnotify.ready()
    await asyncio.wait(
        (stopping, serving, *working), return_when=asyncio.FIRST_COMPLETED
    )
    failed = [task for task in (serving, *working) if task.done()]
    for task in failed:
        log.critical("the agent ends: %r", task.exception(), exc_info=task.exception())
    sdnotify.stopping()
    assembly.begin_end()
    for task in (stopping, *working):
        task.cancel()
    await asyncio.wait((stopping, serving, *working), timeout=STOP_S)
    return 1 if failed else 0
