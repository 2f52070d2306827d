"""What a recovery does itself, at stand-in managers of both generations."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from agent.daemon.clock import SystemClock
from agent.errors import AgentUnreachableError, ManagerError
from agent.transport import HttpClient
from agent.vnfm.client import CreateOptions, Login, ManagerClient
from agent.vnfm.records import Generation
from agent.vnfm.recovery import looking
from agent.vnfm.recovery.doors import AgentDoor
from agent.vnfm.recovery.finding import Finder
from agent.vnfm.recovery.hands import CHECKS, Hands, Means
from agent.vnfm.recovery.model import Kind
from agent.vnfm.recovery.ports import Seen
from agent.vnfm.recovery.scenarios import SCENARIOS
from agent.vnfm.shelf import Shelf
from tests.fix_manager import Manager, StartManager

pytestmark = pytest.mark.postgres

OLD, NEW = Generation.ACTIVE_STANDBY, Generation.ALL_ACTIVE
GENERATION = {"4.5.5": OLD, "7.0.5": NEW}
T = TypeVar("T")


class NoAgents:
    """Every agent is dead; implements doors.Doors."""

    @property
    def here(self) -> AgentDoor:
        raise AgentUnreachableError("no agent answers")

    def of(self, node: str) -> AgentDoor | None:
        return None


@dataclass
class Bench:
    """A recovery's hands on one node's manager, which may be made anew."""

    home: Path
    manager: Manager
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def to(self) -> Path:
        return self.home / "safe"

    @contextlib.asynccontextmanager
    async def hands(self) -> AsyncIterator[Hands]:
        http = HttpClient(None)
        one = self.manager
        login = Login(one.username, one.password, tenant=one.tenant)
        client = ManagerClient(one.url, login, http, SystemClock(), deadline_s=10)
        agents = NoAgents()
        means = Means(
            managers={"n1": client},
            doors=agents,
            finder=Finder(Shelf(self.home / "shelf"), agents, (), self.to),
            certificates=(self.home / "ssl",),
            recipients=(),
            options=CreateOptions(),
            wait_s=30,
            me="n1",
            who="nobody",
        )
        try:
            yield Hands(means, GENERATION[one.traits.version])
        finally:
            await client.close()
            await http.close()

    def run(self, work: Callable[[Hands], Awaitable[T]]) -> T:
        async def all_of_it() -> T:
            async with self.hands() as hands:
                return await work(hands)

        return asyncio.run(all_of_it())

    def do(self, act: str) -> Seen:
        seen = self.run(lambda hands: hands.do(act, self.facts, self.facts.update))
        self.facts.update(seen.facts)
        return seen

    def check(self, act: str) -> Seen:
        return self.run(lambda hands: hands.check(act, self.facts))

    def plan(self, act: str) -> str:
        return self.run(lambda hands: hands.plan(act, self.facts))


@pytest.fixture
def bench(tmp_path: Path, manager: Manager) -> Bench:
    made = Bench(tmp_path, manager)
    made.to.mkdir()
    made.facts = {"to": str(made.to), "leader": "n1", "node": "n1", "me": "n1"}
    return made


def test_every_act_of_every_scenario_can_be_done(bench: Bench) -> None:
    acts = bench.run(_acts)
    for scenario in SCENARIOS.values():
        for step in scenario.steps:
            if step.kind is Kind.DO:
                assert step.act in acts
            if step.kind is Kind.CHECK:
                assert step.act in {*CHECKS, "certificates-saved"}


async def _acts(hands: Hands) -> frozenset[str]:
    return hands.acts


def test_a_manager_is_made_anew_with_what_it_held(
    bench: Bench, start_manager: StartManager
) -> None:
    version = bench.manager.traits.version
    bench.manager.put("deployments", "d1", "d2")
    bench.manager.put("blueprints", "b1")
    assert bench.plan("snapshot").startswith("has n1 make one now")
    made = bench.do("snapshot")
    assert "made by n1 now" in made.told
    assert "1 blueprints, 2 deployments" in made.told
    archive = Path(bench.facts["archive"])
    assert archive.parent == bench.to
    assert archive.stat().st_mode & 0o777 == 0o600
    assert not bench.check("torn-down").ok

    bench.manager = start_manager(version)  # a fresh one in its place
    assert bench.check("torn-down").ok
    assert bench.check("installed").ok
    assert not bench.check("restored").ok
    if GENERATION[version] is NEW:
        assert bench.do("maintenance-on").ok
    assert bench.do("upload").ok
    assert bench.do("restore").ok
    if GENERATION[version] is NEW:
        assert bench.do("maintenance-off").ok
    assert bench.check("restored").ok
    assert bench.manager.names("deployments") == ["d1", "d2"]


def test_a_manager_that_cannot_make_one_gives_way_to_what_is_kept(
    bench: Bench,
) -> None:
    bench.manager.put("deployments", "d1")
    bench.do("snapshot")
    kept = Path(bench.facts["archive"])
    named = {"wanted": str(kept), "to": str(bench.to), "leader": "n1"}
    bench.facts = dict(named)
    bench.manager.faults.database_down = True
    assert bench.plan("snapshot") == f"takes {kept}, as --snapshot says"
    assert bench.do("snapshot").ok
    assert bench.facts["archive"] == str(kept)

    bench.facts = {"to": str(bench.to), "leader": "n1"}
    with pytest.raises(ManagerError, match="no manager's snapshot is kept"):
        bench.do("snapshot")


def test_what_is_no_archive_is_refused_before_anything_is_torn_down(
    bench: Bench,
) -> None:
    garbage = bench.home / "garbage.zip"
    garbage.write_bytes(b"hello")
    bench.facts["wanted"] = str(garbage)
    with pytest.raises(ManagerError, match=r"garbage\.zip"):
        bench.do("snapshot")
    bench.facts["wanted"] = "sg-n1-20000101T000000Z"
    with pytest.raises(ManagerError, match="no snapshot sg-n1-20000101T000000Z"):
        bench.do("snapshot")


def test_an_interrupted_run_goes_on_with_the_snapshot_that_it_had_begun(
    bench: Bench,
) -> None:
    bench.do("snapshot")
    before = bench.facts["snapshot"]
    Path(bench.facts["archive"]).unlink()
    bench.do("snapshot")
    assert bench.facts["snapshot"] == before
    assert [one["id"] for one in _snapshots(bench.manager)] == [before]


def _snapshots(manager: Manager) -> list[Mapping[str, str]]:
    with manager.http() as client:
        found: list[Mapping[str, str]] = client.get("/snapshots").json()["items"]
    return found


def test_an_upload_and_a_restore_can_be_done_again(
    bench: Bench, start_manager: StartManager
) -> None:
    bench.manager.put("deployments", "d1")
    bench.do("snapshot")
    bench.manager = start_manager(bench.manager.traits.version)
    bench.do("upload")
    bench.do("upload")  # as after an interruption
    bench.do("restore")
    first = bench.facts["restoring"]
    bench.do("restore")
    assert bench.facts["restoring"] == first, "it waits for what was begun"


def test_an_archive_that_others_uploaded_under_the_id_is_not_touched(
    bench: Bench,
) -> None:
    bench.do("snapshot")
    with pytest.raises(ManagerError, match=r"has a snapshot .* already"):
        bench.do("upload")
    assert bench.facts.get("uploading") == bench.facts["snapshot"]


def test_a_legacy_restore_onto_what_is_not_empty_wants_force(
    start_manager: StartManager, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, start_manager("4.5.5"))
    bench.to.mkdir()
    bench.facts = {"to": str(bench.to), "leader": "n1"}
    bench.manager.put("deployments", "d1")
    bench.do("snapshot")
    bench.manager = start_manager("4.5.5")
    bench.manager.put("deployments", "stranger")
    bench.do("upload")
    assert "replaces all that is there: 0 blueprints, 1 deployments" in bench.plan(
        "restore"
    )
    with pytest.raises(ManagerError, match="is not empty: 1 deployments") as raised:
        bench.do("restore")
    assert "--force" in raised.value.hint
    assert bench.manager.names("deployments") == ["stranger"]
    bench.facts["force"] = "yes"
    bench.do("restore")
    assert bench.manager.names("deployments") == ["d1"]


def test_an_older_manager_is_not_given_a_newer_snapshot(
    start_manager: StartManager, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, start_manager("7.0.5"))
    bench.to.mkdir()
    bench.facts = {"to": str(bench.to), "leader": "n1"}
    bench.do("snapshot")
    bench.manager = start_manager("4.5.5")
    bench.do("upload")
    with pytest.raises(ManagerError, match="only an equal or newer manager takes it"):
        bench.do("restore")


def test_a_refused_login_ends_the_looking_at_once(bench: Bench) -> None:
    bench.manager = replace(bench.manager, password="wrong")
    with pytest.raises(ManagerError) as raised:
        bench.check("look")
    assert raised.value.status == 401
    assert bench.manager.wrong_passwords() == 1


def test_certificates_are_saved_once_and_looked_for_by_node(bench: Bench) -> None:
    (bench.home / "ssl").mkdir()
    (bench.home / "ssl" / "ca.pem").write_text("ca")
    assert "1 files, in plain" in bench.do("save-certificates").told
    assert "is there already" in bench.do("save-certificates").told
    assert bench.check("certificates-saved").ok
    assert f"{bench.to}/n1-certificates.tar" in bench.facts["its_certificates.n1"]
    bench.facts["node"] = "n2"
    waits = bench.check("certificates-saved")
    assert not waits.ok
    assert "--lost n2" in waits.told
    bench.facts["lost"] = "n2"
    gone = bench.check("certificates-saved")
    assert gone.ok
    assert gone.undone
    assert "its certificates are not saved" in gone.told
    told = gone.facts["its_certificates.n2"]
    assert "No certificates of n2 are saved" in told
    assert "n2-certificates.tar" not in told


def test_a_manager_that_holds_every_question_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_manager: StartManager
) -> None:
    monkeypatch.setattr(looking, "PATIENCE_S", 0.3)
    slow = start_manager("7.0.5", stall_s=3.0)
    slow.server.stop()
    slow.server.write_file("standby.signal", "")
    slow.server.start()
    bench = Bench(tmp_path, slow)

    async def looks(hands: Hands) -> list[Seen]:
        return [await hands.check("look", bench.facts) for _ in range(3)]

    seen = bench.run(looks)
    assert all("no answer within 0.3 s" in one.told for one in seen)
    assert slow.faults.in_flight <= 1
