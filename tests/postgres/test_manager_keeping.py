"""A manager's snapshot on its way to the shelf, against stand-ins of both lines."""

import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from agent.daemon.clock import SystemClock
from agent.daemon.gently import gently
from agent.errors import ManagerError
from agent.transport import HttpClient
from agent.vnfm import keeping
from agent.vnfm.client import CreateOptions, Login, ManagerClient
from agent.vnfm.keeping import Keeper, Manner, Order, order_id
from agent.vnfm.shelf import Shelf
from tests.fix_manager import Manager

pytestmark = pytest.mark.postgres

PLAIN = Manner(cluster="test", options=CreateOptions(), wait_s=20.0)
MakeKeeper = Callable[..., Keeper]


@pytest.fixture(scope="module", params=["4.5.5", "7.0.5"])
def busy(request: pytest.FixtureRequest, started_managers: Any) -> Manager:
    """A manager with two deployments, and a snapshot that is none of ours."""
    manager: Manager = started_managers(request.param)
    manager.put("deployments", "one", "two")
    manager.make("nightly-by-hand")
    return manager


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
async def keeper_of(shelf: Shelf) -> AsyncIterator[MakeKeeper]:
    """Makes keepers that put onto the shelf."""
    http, clock = HttpClient(), SystemClock()
    clients: list[ManagerClient] = []

    def make(manager: Manager, manner: Manner = PLAIN, **more: Any) -> Keeper:
        login = Login(manager.username, more.pop("password", manager.password))
        client = ManagerClient(manager.url, login, http, clock, **more)
        clients.append(client)
        return Keeper(client, shelf, manner, clock, gently)

    yield make
    for client in clients:
        await client.close()
    await http.close()


@pytest.fixture
def order(request: pytest.FixtureRequest) -> Order:
    """An order of an id of its own."""
    stamp = 1_700_000_000 + abs(hash(request.node.nodeid)) % 100_000_000
    name = order_id("n1", float(stamp))
    return Order(name, "n1", "split-brain", False, ("i-1",), "n1-abc")


def there(manager: Manager) -> list[str]:
    """What the manager lists."""
    with manager.http() as client:
        return [one["id"] for one in client.get("/snapshots").json()["items"]]


def nothing_is_left(shelf: Shelf) -> bool:
    return shelf.list() == () and not list(shelf.place.glob("*/*"))


@pytest.fixture
def ssl(tmp_path: Path) -> Path:
    """A manager's folder of certificates, with a private key."""
    folder = tmp_path / "ssl"
    folder.mkdir()
    (folder / "internal_key.pem").write_text("a private key")
    (folder / "internal_key.pem").chmod(0o400)
    return folder


@contextmanager
def broken(manager: Manager, fault: str) -> Iterator[None]:
    """Let it have a fault for a while."""
    manager.faults.switch({fault: True})
    try:
        yield
    finally:
        manager.faults.switch({fault: False})


def killed(manager: Manager, error: ManagerError) -> None:
    """Do what the error says, and see that it was the right execution."""
    execution = error.hint.rpartition(" ")[2]
    assert execution in error.message
    with manager.http() as client:
        client.post(f"/executions/{execution}", json={"action": "kill"})
    assert manager.ended(execution)["workflow_id"] == "create_snapshot"


async def test_it_is_made_fetched_checked_and_filed(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    kept = await keeper_of(busy).keep(order)
    assert shelf.list() == (kept,)
    assert kept.counts["deployments"] == 2
    assert kept.version == busy.traits.version
    new = busy.traits.has_new_format
    assert kept.archive_format == ("new" if new else "legacy")
    assert (kept.incident_ids, kept.capture_id) == (("i-1",), "n1-abc")
    assert kept.execution_id
    assert not kept.sealed
    path = shelf.archive(order.id)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == kept.size_bytes == kept.stored_bytes
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == kept.members
    assert shelf.check(order.id) == ()
    assert sorted(one.name for one in path.parent.iterdir()) == sorted(
        ["manifest.json", f"{order.id}.zip"]
    )
    assert {"nightly-by-hand", order.id} <= set(there(busy))
    manifest = (path.parent / "manifest.json").read_text()
    assert busy.database_password not in manifest
    assert busy.password not in manifest


async def test_only_our_own_is_removed_from_the_manager(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    before = set(there(busy))
    kept = await keeper_of(busy, replace(PLAIN, remove=True)).keep(order)
    assert kept.removed_there
    assert shelf.show(order.id).removed_there
    assert set(there(busy)) == before


async def test_a_side_that_was_cut_off_meanwhile_is_not_asked_to_remove_it(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    manner = replace(
        PLAIN, remove=True, may_ask=lambda: not (shelf.place / order.id).exists()
    )
    kept = await keeper_of(busy, manner).keep(order)
    assert not kept.removed_there
    [problem] = kept.problems
    assert "each login writes a row" in problem
    assert order.id in there(busy)


async def test_certificates_go_along_and_all_is_encrypted_for_the_recipients(
    busy: Manager,
    shelf: Shelf,
    keeper_of: MakeKeeper,
    order: Order,
    ssl: Path,
    tmp_path: Path,
):
    key = pyrage.x25519.Identity.generate()
    manner = replace(PLAIN, certificates=(ssl,), recipients=(str(key.to_public()),))
    kept = await keeper_of(busy, manner).keep(order)
    assert kept.sealed
    assert kept.problems == ()
    assert [one.mode for one in kept.certificates] == [0o400]
    folder = shelf.archive(order.id).parent
    assert sorted(one.name for one in folder.iterdir()) == sorted(
        ["certificates.tar.age", "manifest.json", f"{order.id}.zip.age"]
    )
    assert all(b"a private key" not in one.read_bytes() for one in folder.iterdir())
    opened = pyrage.decrypt((folder / "certificates.tar.age").read_bytes(), [key])
    with tarfile.open(fileobj=io.BytesIO(opened)) as tar:
        name = str(ssl / "internal_key.pem").lstrip("/")
        found = tar.extractfile(name)
        assert found is not None
        assert found.read() == b"a private key"
        assert tar.getmember(name).mode == 0o400
    target = tmp_path / "out.zip"
    shelf.take_out(order.id, target, (key,))
    assert zipfile.ZipFile(target).testzip() is None
    assert shelf.check(order.id) == ()


async def test_without_recipients_private_keys_are_left_out_and_that_is_said(
    busy: Manager,
    shelf: Shelf,
    keeper_of: MakeKeeper,
    order: Order,
    ssl: Path,
):
    kept = await keeper_of(busy, replace(PLAIN, certificates=(ssl,))).keep(order)
    assert kept.certificates == ()
    assert len(kept.problems) == 1
    assert "capture.recipients is empty" in kept.problems[0]
    folder = shelf.archive(order.id).parent
    assert all(b"a private key" not in one.read_bytes() for one in folder.iterdir())


async def test_no_room_is_seen_before_the_manager_is_troubled(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    manner = replace(PLAIN, floor_bytes=lambda _: 1 << 60)
    with pytest.raises(ManagerError, match="no room for a manager's snapshot"):
        await keeper_of(busy, manner).keep(order)
    assert nothing_is_left(shelf)
    assert order.id not in there(busy)


async def test_no_room_half_way_leaves_nothing_and_says_what_is_missing(
    busy: Manager,
    shelf: Shelf,
    keeper_of: MakeKeeper,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(keeping, "LOOK_BYTES", 1)
    looked = []

    def floor(folder: Path) -> int:
        looked.append(folder)
        return 0 if len(looked) < 3 else 1 << 60

    with pytest.raises(ManagerError, match="bytes are missing on the volume") as error:
        await keeper_of(busy, replace(PLAIN, floor_bytes=floor)).keep(order)
    assert "vnfm.dir" in error.value.hint
    assert nothing_is_left(shelf)
    assert order.id in there(busy)


async def test_a_worker_that_is_dead_ends_in_an_error_that_names_the_execution(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    with (
        broken(busy, "worker_dead"),
        pytest.raises(ManagerError, match="has not ended within 1 s") as error,
    ):
        await keeper_of(busy, replace(PLAIN, wait_s=1.0)).keep(order)
    killed(busy, error.value)
    assert nothing_is_left(shelf)


async def test_a_broker_that_is_dead_ends_in_an_error_that_names_what_it_left(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    with (
        broken(busy, "broker_dead"),
        pytest.raises(ManagerError, match="it left the execution") as error,
    ):
        await keeper_of(busy, deadline_s=0.5).keep(order)
    killed(busy, error.value)
    assert nothing_is_left(shelf)


async def test_a_manager_that_answers_in_html_leaves_nothing_behind(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    with broken(busy, "html"), pytest.raises(ManagerError, match="502"):
        await keeper_of(busy).keep(order)
    assert nothing_is_left(shelf)


async def test_a_wrong_password_is_sent_once(
    busy: Manager, shelf: Shelf, keeper_of: MakeKeeper, order: Order
):
    busy.unlock()
    keeper = keeper_of(busy, password="wrong")
    for _ in range(3):
        with pytest.raises(ManagerError, match=r"unauthorized_error|not asked"):
            await keeper.keep(order)
    assert busy.wrong_passwords() == 1
    busy.unlock()
    assert nothing_is_left(shelf)
