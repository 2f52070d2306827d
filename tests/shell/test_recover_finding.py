"""The snapshot that is restored: from here or beside another agent, newest first."""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from agent.cli.address import Address
from agent.cli.client import AgentClient
from agent.cli.recover_run import Door
from agent.daemon.managers_shelf import ManagerShelf
from agent.errors import AgentUnreachableError, ManagerError
from agent.snapshot.sealing import Seal, seal
from agent.vnfm.kept import Certificate, Kept
from agent.vnfm.recovery.doors import AgentDoor
from agent.vnfm.recovery.finding import Finder
from agent.vnfm.shelf import Shelf
from tests.fix_desk import healthy
from tests.sim.harness import Simulation

KEY = pyrage.x25519.Identity.generate()


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"snapshot_version": "4.5.5"}))
        archive.writestr(
            "pg_data", "COPY public.deployments (id) FROM stdin;\nd1\n\\.\n"
        )
    return made.getvalue()


ARCHIVE = zipped()


def put(shelf: Shelf, snapshot_id: str, at_s: float, *, sealed: bool = False) -> Kept:
    """Keep a snapshot as the agent does."""
    content = ARCHIVE
    stored, name = content, f"{snapshot_id}.zip"
    if sealed:
        how = Seal(recipients=(str(KEY.to_public()),))
        stored, name = b"".join(seal(iter([content]), how)), f"{name}.age"
    (shelf.begin(snapshot_id) / name).write_bytes(stored)
    kept = Kept(
        id=snapshot_id, node="n1", manager="10.0.0.1:80", version="4.5.5",
        archive_format="legacy", reason="schedule", scheduled=True, incident_ids=(),
        capture_id="", execution_id="e", created_wall_s=at_s, kept_wall_s=at_s,
        size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), file=name,
        stored_bytes=len(stored), stored_sha256=hashlib.sha256(stored).hexdigest(),
        sealed=sealed, members=2,
    )  # fmt: skip
    shelf.put(kept)
    return kept


@dataclasses.dataclass
class Beside:
    """One other agent, n2, behind its own API; implements doors.Doors."""

    shelf: Shelf
    door: Door

    @property
    def here(self) -> AgentDoor:
        raise AgentUnreachableError("no agent answers")

    def of(self, node: str) -> AgentDoor | None:
        return self.door if node == "n2" else None


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return healthy()


@pytest.fixture
def finder(tmp_path: Path, sim: Simulation, agent_for: Callable[..., Any]) -> Finder:
    to = tmp_path / "safe"
    to.mkdir()
    shelf = Shelf(tmp_path / "there")
    agent = agent_for(sim, managers=ManagerShelf(shelf, None))
    door = Door(AgentClient(Address("http://agent", agent.socket)))
    doors = Beside(shelf, door)
    return Finder(Shelf(tmp_path / "here"), doors, ("n1", "n2"), to)


def beside(finder: Finder) -> Beside:
    assert isinstance(finder.doors, Beside)
    return finder.doors


def test_the_newest_is_first_wherever_it_lies(finder: Finder) -> None:
    assert finder.candidates() == ()
    put(finder.shelf, "sg-old", 60.0)
    put(beside(finder).shelf, "sg-new", 3600.0)
    found = finder.candidates()
    assert [(one.id, one.where) for one in found] == [("sg-new", "n2"), ("sg-old", "")]
    assert "beside n2" in found[0].told


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("here", [False, True])
def test_it_is_brought_as_it_came_off_the_manager(
    finder: Finder, *, here: bool, sealed: bool
) -> None:
    put(finder.shelf if here else beside(finder).shelf, "sg-1", 5.0, sealed=sealed)
    finder = dataclasses.replace(finder, identities=(KEY,))
    [one] = finder.candidates()
    path = finder.bring(one)
    assert path == finder.to / "sg-1.zip"
    assert path.read_bytes() == ARCHIVE
    assert path.stat().st_mode & 0o777 == 0o600
    assert finder.bring(one) == path, "what is there is used"
    assert list(finder.to.iterdir()) == [path]


@pytest.mark.parametrize("here", [False, True])
def test_without_the_key_it_is_said_what_is_missing(
    finder: Finder, *, here: bool
) -> None:
    put(finder.shelf if here else beside(finder).shelf, "sg-1", 5.0, sealed=True)
    [one] = finder.candidates()
    with pytest.raises(ManagerError, match="is encrypted") as raised:
        finder.bring(one)
    assert "--identity" in raised.value.hint
    assert list(finder.to.iterdir()) == []


def test_what_was_cut_on_its_way_is_no_snapshot(finder: Finder) -> None:
    put(beside(finder).shelf, "sg-1", 5.0)
    [one] = finder.candidates()
    stored = beside(finder).shelf.archive("sg-1")
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(ManagerError, match="SHA-256 is another one"):
        finder.bring(one)
    assert list(finder.to.iterdir()) == []


def test_another_file_of_its_name_is_not_overwritten(finder: Finder) -> None:
    put(finder.shelf, "sg-1", 5.0)
    (finder.to / "sg-1.zip").write_bytes(b"mine")
    [one] = finder.candidates()
    with pytest.raises(ManagerError, match="is there already, and is another one"):
        finder.bring(one)
    assert (finder.to / "sg-1.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("here", [False, True])
def test_a_nodes_certificate_folders_are_those_of_its_newest_snapshot(
    finder: Finder, *, here: bool
) -> None:
    shelf = finder.shelf if here else beside(finder).shelf
    assert finder.folders_of("n2") == ()
    for number, paths in enumerate(
        (("/old/ca.pem",), ("/opt/ssl/ca.pem", "/opt/ssl/sub/x.pem", "/etc/c/k.pem"))
    ):
        kept = put(shelf, f"sg-{number}", 60.0 * number)
        files = tuple(Certificate(path, 0o440, 0, 0, 1, "", "") for path in paths)
        shelf.renew(dataclasses.replace(kept, node="n2", certificates=files))
    put(shelf, "sg-9", 900.0)
    assert finder.folders_of("n2") == ("/etc/c", "/opt/ssl")
    assert finder.folders_of("n3") == ()
