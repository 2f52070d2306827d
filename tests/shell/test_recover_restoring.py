"""A restore in a recovery run whose answer is lost on the way."""

import asyncio

import pytest

from agent.vnfm.client import OrphanError
from agent.vnfm.recovery.restoring import Patience, restore
from tests.fix_network import head_of
from tests.fix_vnfm import execution, listed, version

FACTS = {"snapshot": "a", "archive_format": "new", "archive_version": "7.0.5"}


@pytest.mark.parametrize(
    ("status", "noted"), [("started", [{"restoring": "e-9"}]), ("pending", [])]
)
async def test_a_restore_that_goes_on_is_noted_so_that_nothing_is_begun_twice(
    network, client_of, status, noted
):
    begun, never = asyncio.Event(), asyncio.Event()
    work = execution("e-9", status, workflow_id="restore_snapshot")

    async def mute_on_post(reader, writer):
        while True:
            request = await head_of(reader)
            if request.startswith(b"POST"):
                begun.set()
                await never.wait()
            lists = listed(work) if begun.is_set() else listed()
            writer.write(lists if b"/executions" in request else version())
            await writer.drain()

    there = await network.listen(mute_on_post)
    client = client_of(there.url, deadline_s=0.3)
    notes: list[dict[str, str]] = []
    with pytest.raises(OrphanError, match="e-9"):
        await restore(client, FACTS, lambda one: notes.append(dict(one)), Patience(5))
    assert notes == noted
    never.set()
