"""Ctrl-C while modules are imported.

Theory of operation. Python raises KeyboardInterrupt wherever it happens to be. Within
the callbacks of its own import system an exception is printed and dropped, so that an
interrupt at such a moment would be lost, and a command that runs until it is
interrupted would run on. Nothing needs to be tidied up while modules are imported:
until then an interrupt ends the process as the kernel does, which shells call 130.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def while_importing() -> Iterator[None]:
    """Let an interrupt end the process at once, unless interrupts are ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
