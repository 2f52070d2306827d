"""The first process of a box: reaps what ends, and ends when its input does.

Theory of operation. A box is a process namespace. Servers detach themselves, so their
parent becomes the first process there, which has to collect them when they end: a dead
postmaster that nobody collects still looks alive. When the tests end, however they
end, the pipe that is this process's input closes, it exits, and the kernel kills
whatever else is in the box.
"""

import os
import signal
import sys
import threading


def end_with_input() -> None:
    """Leave when nobody can write to our input any more."""
    while os.read(0, 1):
        pass
    os._exit(0)


def main() -> None:
    """Say that the box is there, then reap for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    threading.Thread(target=end_with_input, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        signal.sigwait({signal.SIGCHLD})
        reap()


def reap() -> None:
    """Collect all that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


main()
