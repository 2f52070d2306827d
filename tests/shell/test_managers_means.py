"""With what a manager is asked: made once for all who ask."""

import asyncio
from pathlib import Path

import pytest

from agent.daemon.clock import SystemClock
from agent.daemon.gently import gently
from agent.daemon.managers_means import Means, MeansKept
from agent.errors import ConfigError, ManagerError
from agent.transport import HttpClient
from agent.vnfm.client import CreateOptions, Login, LoginKept, ManagerClient
from agent.vnfm.keeping import Keeper, Manner
from agent.vnfm.shelf import Shelf


@pytest.fixture
def made() -> list[Means]:
    return []


@pytest.fixture
def kept(made: list[Means], tmp_path: Path) -> MeansKept:
    def connect() -> Means:
        http, clock = HttpClient(), SystemClock()
        logins = LoginKept.of(Login("admin", "s3cret"))
        client = ManagerClient("http://127.0.0.1:1", logins, http, clock)
        manner = Manner(cluster="c", options=CreateOptions(), wait_s=1.0)
        keeper = Keeper(client, Shelf(tmp_path), manner, clock, gently)
        made.append(Means(client, logins, keeper, http))
        return made[-1]

    return MeansKept(connect)


async def test_two_who_ask_at_once_share_one_login_and_its_breaker(
    kept: MeansKept, made: list[Means]
):
    """Two breakers would let a wrong password through twice."""

    async def use() -> Means:
        async with kept.at_hand() as means:
            await asyncio.sleep(0)
            return means

    first, second = await asyncio.gather(use(), use())
    assert first is second
    assert made == [first]
    await kept.close()


async def test_new_ones_are_made_after_a_renewal_and_not_before(
    kept: MeansKept, made: list[Means]
):
    async with kept.at_hand() as first:
        await kept.renew()
        async with kept.at_hand() as second:
            assert second is not first
    assert len(made) == 2
    await kept.close()


async def test_what_cannot_be_made_is_said_and_tried_again():
    def connect() -> Means:
        raise ConfigError(("vnfm.ca: no such file",), "name it")

    kept = MeansKept(connect)
    for _ in range(2):
        with pytest.raises(ManagerError, match="no such file"):
            async with kept.at_hand():
                pass
