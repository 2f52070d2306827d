"""`splitguard vnfm snapshots create` at a manager that takes a request and hangs."""

import asyncio
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fix_cli import SPLITGUARD, Ran
from tests.fix_network import Network, head_of
from tests.fix_vnfm import execution, listed, version

CUT = b""
"""For an answer: the connection is cut."""


@dataclass
class Create:
    """Starts the command at a manager that answers these questions, and no other."""

    home: Path
    network: Network
    put: asyncio.Event = field(default_factory=asyncio.Event)
    """The create has come, and is never answered."""

    async def __call__(
        self, *words: str, **answers: bytes
    ) -> asyncio.subprocess.Process:
        async def hangs(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            while head := (await head_of(reader)).split(b"\r\n")[0]:
                known = [told for name, told in answers.items() if name in str(head)]
                if head.startswith(b"PUT"):
                    self.put.set()
                if not known or head.startswith(b"PUT"):
                    await asyncio.Event().wait()
                if known[0] == CUT:
                    break
                writer.write(known[0])
                await writer.drain()

        there = await self.network.listen(hangs)
        password = self.home / "password"
        password.write_text("s3cret")
        return await asyncio.create_subprocess_exec(
            str(SPLITGUARD), "vnfm", "snapshots", "create", "W2", "--wait", *words,
            "--manager", there.url, "--password-file", str(password),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip


@pytest.fixture
def create(tmp_path: Path, network: Network) -> Create:
    """The command and a manager of its own."""
    return Create(tmp_path, network)


async def ended(process: asyncio.subprocess.Process) -> Ran:
    async with asyncio.timeout(30):
        out, words = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), words.decode())


async def test_when_the_time_is_up_it_says_that_it_hangs_and_what_is_left(create):
    left = listed(execution("e-9", about="W2"))
    ran = await ended(await create("--wait-s", "1", version=version(), executions=left))
    assert (ran.code, ran.out) == (1, "")
    assert "for snapshot W2\n" in ran.words.splitlines(keepends=True)[0]
    assert "no answer within 1 s" in ran.words
    assert "it hangs" in ran.words
    assert "splitguard vnfm executions kill e-9" in ran.words
    assert "splitguard vnfm snapshots delete W2" in ran.words


async def test_where_nothing_answers_afterwards_it_says_what_may_be_there(create):
    ran = await ended(await create("--wait-s", "1", version=version(), executions=CUT))
    assert ran.code == 1
    assert "it may have begun snapshot W2 all the same" in ran.words
    assert "splitguard vnfm snapshots status W2 --manager" in ran.words


async def test_the_first_question_is_bounded_too_and_began_nothing(create):
    ran = await ended(await create("--wait-s", "1"))
    assert ran.code == 1
    assert "asks 127.0.0.1:" in ran.words
    assert "no answer within 1 s; nothing was begun" in ran.words


async def test_who_interrupts_it_is_told_how_to_look(create):
    process = await create(version=version())
    async with asyncio.timeout(30):
        await create.put.wait()
    process.send_signal(signal.SIGTERM)
    ran = await ended(process)
    assert ran.code == 130
    assert "splitguard vnfm snapshots status W2 --manager" in ran.words
