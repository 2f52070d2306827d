"""Which manager the contract is held against: a stand-in of each line, or a real one.

With SPLITGUARD_VNFM_URL set every test asks that manager, as
SPLITGUARD_VNFM_USERNAME (default admin) with the password in the file
SPLITGUARD_VNFM_PASSWORD_FILE, in SPLITGUARD_VNFM_TENANT (default default_tenant),
trusting SPLITGUARD_VNFM_CA. What is made there is called sg-contract-… and removed at
the end. Tests marked `changes` replace what a manager holds: against a real one they
are only taken up with SPLITGUARD_VNFM_CHANGES=yes, which belongs to a manager that
nobody needs.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.config.model import Settings
from agent.config.vnfm import VnfmSettings
from agent.daemon.clock import SystemClock
from agent.errors import ManagerError
from agent.transport import HttpClient, Tls
from agent.vnfm.client import CreateOptions, Login, ManagerClient
from agent.vnfm.connect import login_of
from agent.vnfm.records import ManagerSnapshot
from agent.vnfm.waiting import until_made
from tests.fix_manager import Manager, StartManager

URL = os.environ.get("SPLITGUARD_VNFM_URL", "")
CHANGES = os.environ.get("SPLITGUARD_VNFM_CHANGES", "") == "yes"
STAND_INS = ("4.5.5", "7.0.5")
WAIT_S = 1800.0 if URL else 30.0


class Hasty(SystemClock):
    """The machine's clock; against a stand-in nobody waits two seconds for it."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds if URL else min(seconds, 0.05))


@dataclass
class Target:
    """The manager that is asked, and what was made there."""

    url: str
    login: Login
    ca: Path | None = None
    made: list[str] = field(default_factory=list)

    def name(self) -> str:
        """An id that nobody has, which is removed in the end."""
        self.made.append(f"sg-contract-{secrets.token_hex(5)}")
        return self.made[-1]

    def http(self) -> HttpClient:
        return HttpClient(Tls(ca=self.ca) if self.ca else None)

    def client(self, http: HttpClient, login: Login | None = None) -> ManagerClient:
        return ManagerClient(self.url, login or self.login, http, Hasty())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks a manager asks the real one, or both stand-ins."""
    if "target" in metafunc.fixturenames:
        params = ["real"] if URL else list(STAND_INS)
        metafunc.parametrize("target", params, indirect=True, scope="module")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave a real manager alone with what would change it."""
    if not URL or CHANGES:
        return
    here = Path(__file__).parent
    left = [
        item
        for item in items
        if item.path.parent == here and item.get_closest_marker("changes")
    ]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The manager that this module's tests ask; a real one needs no PostgreSQL here."""
    if request.param == "real":
        told = VnfmSettings.model_validate(_told(os.environ))
        login = login_of(told)
        assert login is not None, "set SPLITGUARD_VNFM_PASSWORD_FILE"
        yield Target(URL, login, told.ca)
        return
    started: StartManager = request.getfixturevalue("started_managers")
    manager: Manager = started(request.param)
    manager.put("blueprints", "router", "firewall")
    manager.put("deployments", "customer-1")
    login = Login(manager.username, manager.password, tenant=manager.tenant)
    yield Target(manager.url, login)


@pytest.fixture
async def client(target: Target) -> AsyncIterator[ManagerClient]:
    """A client of it; what the test made is removed afterwards."""
    http = target.http()
    made = target.client(http)
    yield made
    for name in target.made:
        with suppress(ManagerError):
            await made.delete(name)
    target.made.clear()
    await made.close()
    await http.close()


@pytest.fixture
async def made(target: Target, client: ManagerClient) -> ManagerSnapshot:
    """A snapshot that is there and done."""
    name = target.name()
    execution = await client.create(name, CreateOptions())
    return await until_made(client, name, execution.id, WAIT_S)


def _told(environ: "os._Environ[str]") -> dict[str, str]:
    """The settings that the environment gives; Settings checks nothing of them."""
    assert "vnfm" in Settings.model_fields
    keys = ("username", "password_file", "tenant", "ca")
    given = {key: environ.get(f"SPLITGUARD_VNFM_{key.upper()}", "") for key in keys}
    return {key: value for key, value in given.items() if value}
