"""An interrupt while modules are imported ends a command, whatever runs just then."""

import signal
import subprocess
import sys

import pytest

from agent.cli.startup import while_importing

IMPORTS = """
import sys
from agent.cli.startup import while_importing
with while_importing():
    print("importing", flush=True)
    try:
        while True:
            pass
    except BaseException:  # as the import system's callbacks do
        pass
    print("lost")
"""
AFTER = """
from agent.cli.startup import while_importing
with while_importing():
    import json
try:
    print("imported", flush=True)
    while True:
        pass
except KeyboardInterrupt:
    print("tidied up")
"""


@pytest.mark.parametrize(
    ("program", "said", "code"),
    [(IMPORTS, "", -signal.SIGINT), (AFTER, "tidied up\n", 0)],
    ids=["while importing", "afterwards"],
)
def test_an_interrupt_is_lost_at_no_moment(program: str, said: str, code: int):
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == said
    assert process.returncode == code


def test_who_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with while_importing():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
