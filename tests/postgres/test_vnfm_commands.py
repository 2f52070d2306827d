"""`splitguard vnfm` against stand-in managers of both generations, and bad input."""

import contextlib
import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.lab.standin import Alone
from agent.lab.standin.traits import Peer
from tests.fix_cli import SPLITGUARD, Ran
from tests.fix_manager import Manager

pytestmark = pytest.mark.postgres
LIMIT_S = 60


@dataclass
class Operator:
    """Somebody with an agent's configuration and a folder of their own."""

    home: Path
    run: Callable[..., Ran]
    managers: dict[str, Manager] = field(default_factory=dict)

    def knows(self, **managers: Manager) -> "Operator":
        """Write a configuration with these managers."""
        self.managers = managers
        nodes = "".join(
            f'[[nodes]]\nname = "{name}"\nmanager = "{one.url}"\n'
            for name, one in managers.items()
        )
        (self.home / "password").write_text(next(iter(managers.values())).password)
        (self.home / "agent.toml").write_text(
            f'cluster = "c"\nnode = "{next(iter(managers))}"\n{nodes}'
            f'[vnfm]\npassword_file = "{self.home}/password"\n'
        )
        return self

    def __call__(self, *words: object) -> Ran:
        return self.run("vnfm", *words, SPLITGUARD_CONFIG=str(self.home / "agent.toml"))

    def told(self, *words: object) -> Any:
        """What a command says as JSON."""
        output = "--output" if "download" in words else "-o"
        ran = self(*words, output, "json")
        assert ran.code == 0, ran.words
        return json.loads(ran.out)

    def refused(self, *words: object) -> str:
        """What a command says that fails; no data and no password is in it."""
        ran = self(*words)
        assert (ran.code, ran.out) == (1, "")
        assert "Traceback" not in ran.words
        assert "this is a bug" not in ran.words
        for one in self.managers.values():
            assert one.password not in ran.words
            assert one.database_password not in ran.words
        return ran.words


@pytest.fixture
def operator(
    tmp_path: Path, splitguard: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    """An operator who knows no manager yet."""
    monkeypatch.chdir(tmp_path)
    return Operator(tmp_path, splitguard)


@pytest.fixture
def one(operator: Operator, manager: Manager) -> Operator:
    """An operator with one manager, of 4.5.5 or 7.0.5."""
    return operator.knows(n1=manager)


@pytest.fixture
def old(operator: Operator, manager_4: Manager) -> Operator:
    """An operator with a manager of 4.5.5."""
    return operator.knows(n1=manager_4)


@pytest.fixture
def new(operator: Operator, manager_7: Manager) -> Operator:
    """An operator with a manager of 7.0.5."""
    return operator.knows(n1=manager_7)


# --- the life of a snapshot -----------------------------------------------------------


def test_a_snapshot_is_made_listed_fetched_removed_given_back_and_restored(one):
    manager = one.managers["n1"]
    manager.put("blueprints", "kept")
    made = one.told("snapshots", "create", "--wait", "a")
    assert made["snapshot"]["status"] == "created"
    assert made["execution"]["status"] == "terminated"
    assert [each["id"] for each in one.told("snapshots", "list")["snapshots"]] == ["a"]
    fetched = one.told("snapshots", "download", "a")
    file = one.home / "a.zip"
    assert fetched["file"] == file.name
    assert fetched["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert fetched["counts"]["blueprints"] == 1
    assert file.stat().st_mode & 0o077 == 0
    assert one("snapshots", "delete", "a", "--yes").code == 0
    assert one.told("snapshots", "list")["snapshots"] == []
    given = one.told("snapshots", "upload", "-s", "b", file)
    assert given["snapshot"]["status"] == "uploaded"
    manager.query("DELETE FROM blueprints")
    done = one.told("snapshots", "restore", "b", "--wait", "--yes")
    assert done["execution"]["status"] == "terminated"
    assert done["execution"]["id"] != "b"
    assert manager.names("blueprints") == ["kept"]


def test_without_waiting_it_has_only_begun_and_says_how_to_look(new):
    ran = new("snapshots", "create", "-o", "json")
    begun = json.loads(ran.out)
    assert begun["snapshot"] is None
    assert begun["id"].startswith("snapshot-n1-2")
    look = f"splitguard vnfm snapshots status {begun['id']} --manager n1"
    assert look in ran.words
    [execution] = new.told(*look.split()[2:])["executions"]
    assert execution["id"] == begun["execution"]["id"]


def test_a_snapshot_can_be_fetched_by_the_manager_itself(new, httpserver):
    manager = new.managers["n1"]
    manager.make("a")
    assert new("snapshots", "download", "a").code == 0
    httpserver.expect_request("/b.zip").respond_with_data(
        (new.home / "a.zip").read_bytes()
    )
    given = new.told("snapshots", "upload", httpserver.url_for("/b.zip"))
    assert given["snapshot"]["id"] == "b"
    assert new("snapshots", "download", "b").code == 0
    words = new.refused("snapshots", "upload", httpserver.url_for("/missing.zip"))
    assert "cannot upload snapshot missing" in words


def test_what_goes_on_is_shown_and_what_hangs_can_be_ended(old):
    old.managers["n1"].faults.worker_dead = True
    begun = old.told("snapshots", "create", "a")["execution"]
    shown = old.told("snapshots", "status", "a")
    assert shown["snapshot"]["status"] == "creating"
    assert f"executions kill {begun['id']}" in shown["note"]
    words = old.refused("snapshots", "create", "b")
    assert begun["id"] in words
    assert "executions kill" in words
    late = old.refused("snapshots", "create", "c", "--queue", "--wait", "--wait-s", "1")
    assert "has not ended" in late
    [listed, *_] = [
        each
        for each in old.told("executions", "list")["executions"]
        if each["id"] == begun["id"]
    ]
    assert listed["workflow"] == "create_snapshot"
    assert "--yes" in old.refused("executions", "kill", begun["id"])
    assert old("executions", "kill", begun["id"], "--yes").code == 0
    old.managers["n1"].faults.worker_dead = False
    old.managers["n1"].ended(begun["id"])
    note = old.told("snapshots", "status", "a")["note"]
    assert note is None or "will never be finished" in note
    assert "has ended already" in old.refused("executions", "kill", begun["id"])


def test_an_interrupted_wait_says_that_the_manager_goes_on(new, spawned):
    new.managers["n1"].faults.worker_dead = True
    waits = spawned.start(
        "vnfm", "snapshots", "create", "a", "--wait",
        SPLITGUARD_CONFIG=str(new.home / "agent.toml"),
    )  # fmt: skip
    try:
        for line in waits.stderr:
            if "creating" in line:
                break
        waits.send_signal(signal.SIGINT)
        _, words = waits.communicate(timeout=LIMIT_S)
    finally:
        waits.kill()
    assert waits.returncode == 130
    assert "goes on there" in words
    assert "splitguard vnfm snapshots status a --manager n1" in words
    assert new.told("snapshots", "status", "a")["snapshot"]["status"] == "creating"


# --- restoring ------------------------------------------------------------------------


def test_a_restore_wants_a_word_and_says_what_will_happen(new):
    new.managers["n1"].put("blueprints", "here")
    new.managers["n1"].make("a")
    words = new.refused("snapshots", "restore", "a")
    assert "merged into what n1 (7.0.5) holds (1 blueprints)" in words
    assert "give --yes" in words


def test_a_community_managers_restore_that_restores_nothing_is_told(
    operator, start_manager
):
    manager = start_manager("7.0.5", edition="community")
    community = operator.knows(n1=manager)
    manager.put("blueprints", "lost")
    manager.make("a", legacy=True)
    manager.query("DELETE FROM blueprints")
    ran = community("snapshots", "restore", "a", "--yes", "--wait")
    assert ran.code == 0, ran.words
    before, _, after = " ".join(ran.words.split()).partition("n1 restores a")
    assert "takes a legacy snapshot for one of the new format" in before
    assert "n1 holds what it held before (0 blueprints" in after


def test_a_manager_that_is_not_empty_is_left_as_it_is_without_force(old):
    manager = old.managers["n1"]
    manager.put("blueprints", "old")
    manager.make("a")
    manager.put("blueprints", "newer")
    words = old.refused("snapshots", "restore", "a", "--yes")
    assert "n1 is not empty (2 blueprints)" in words
    assert "--force" in words
    assert manager.names("blueprints") == ["newer", "old"]
    assert old.told("executions", "list")["executions"] == []
    ran = old("snapshots", "restore", "a", "--yes", "--force", "--wait")
    assert ran.code == 0
    assert "is replaced and lost" in ran.words
    assert manager.names("blueprints") == ["old"]


def test_a_cluster_of_4_is_not_restored_but_a_single_manager(operator, start_manager):
    peers = tuple(
        Peer("manager", f"n{n}", f"10.0.0.{n}", master=n == 1) for n in (1, 2)
    )
    operator.knows(n1=start_manager("4.5.5", office=Alone(peers=peers)))
    operator.managers["n1"].make("a")
    words = operator.refused("snapshots", "restore", "a", "--yes", "--force")
    assert "cluster" in words
    assert "restore on one manager by itself" in words


def test_what_is_not_ready_is_not_restored(new):
    new.managers["n1"].faults.worker_dead = True
    new("snapshots", "create", "a")
    assert "still being made" in new.refused("snapshots", "restore", "a", "--yes")


# --- all managers ---------------------------------------------------------------------


@pytest.fixture
def two(operator: Operator, start_manager: Callable[..., Manager]) -> Operator:
    """An operator with two managers of 4.5.5, of which the second is active."""
    first = start_manager("4.5.5", office=Alone("n1", active=False))
    second = start_manager("4.5.5", office=Alone("n2"), server=first.server)
    return operator.knows(n1=first, n2=second)


def test_the_manager_that_is_active_is_asked_and_two_are_a_split(two):
    ran = two("snapshots", "create", "a")
    assert ran.code == 0, ran.words
    assert "n2 answers as the active manager" in ran.words
    found = two.told("status")
    assert found["active"] == ["n2"]
    assert [each["active"] for each in found["managers"]] == [False, True]
    assert "not_cluster_master" in two.refused(
        "snapshots", "list", "--manager", "n1"
    ) or "not the" in two.refused("snapshots", "list", "--manager", "n1")
    two.managers["n1"].office.active = True
    words = two.refused("snapshots", "list")
    assert "n1 and n2 both answer as the active manager" in words
    assert two("snapshots", "list", "--manager", "n1").code == 0
    split = two("status")
    assert split.code == 1
    assert "both answer as the active manager" in split.out


def test_a_manager_that_is_down_is_said_beside_those_that_are_not(two):
    two.managers["n1"].close()
    found = two.told("status")
    [down, up] = found["managers"]
    assert (down["answers"], down["active"]) == (False, None)
    assert down["problems"]
    assert (up["version"], up["generation"]) == ("4.5.5", "4.x")
    assert down.keys() == up.keys()
    two.managers["n2"].office.active = False
    none = two("status", "-o", "jsonl")
    assert none.code == 1
    assert len(none.out.splitlines()) == 2
    assert "no manager answers as active" in two.refused("snapshots", "list")


def test_status_names_services_cluster_and_maintenance(new):
    with new.managers["n1"].http() as client:
        client.post("/maintenance/activate", json={})
    [found] = new.told("status")["managers"]
    assert found["generation"] == "5.x+"
    assert found["maintenance"] == "activated"
    assert found["services"]
    assert all(each["running"] for each in found["services"])
    table = new("status").out
    assert "activated" in table
    assert f"{len(found['services'])} of {len(found['services'])} run" in table


# --- what is wrong --------------------------------------------------------------------


def test_a_wrong_password_is_sent_once_to_one_manager(operator, start_manager):
    first = start_manager()
    second = start_manager(server=first.server)
    operator.knows(n1=first, n2=second)
    (operator.home / "password").write_text("wrong")
    words = operator.refused("snapshots", "list")
    assert "four wrong ones lock it" in words
    assert first.wrong_passwords() + second.wrong_passwords() == 1
    status = operator("status")
    assert status.code == 1
    assert "not asked, because another manager has refused the login" in status.out
    assert first.wrong_passwords() + second.wrong_passwords() == 2


def test_a_wrong_tenant_is_said_with_what_to_do(one):
    words = one.refused("snapshots", "list", "--tenant-name", "nope")
    assert "invalid tenant name: nope" in words
    assert "tenant" in words.splitlines()[-1]


def test_an_expired_token_is_said_with_what_to_do(new):
    manager = new.managers["n1"]
    with manager.http() as client:
        value = client.post("/tokens", json={"description": "a test"}).json()["value"]
    (new.home / "token").write_text(f"{value}\n")
    asked = ("snapshots", "list", "--token-file", new.home / "token")
    assert new(*asked).code == 0
    manager.query("UPDATE tokens SET expiration_date = now() - interval '1 hour'")
    words = new.refused(*asked)
    assert "Token is expired" in words
    assert "make a new one" in words
    assert value not in words


def test_a_certificate_of_nobody_known_is_said_with_what_to_do(
    operator, start_manager, issued
):
    other = operator.home / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    operator.knows(n1=start_manager(tls=issued.tls))
    for more in ([], ["--ca", other]):
        words = operator.refused("snapshots", "list", *more)
        assert "TLS failed" in words
        assert "ca" in words.splitlines()[-1]
    good = operator("snapshots", "list", "--ca", issued.ca)
    assert good.code == 0, good.words
    assert good.out == "n1 has no snapshot.\n"


def test_an_address_with_a_login_of_its_own_needs_no_configuration(new, splitguard):
    manager = new.managers["n1"]
    ran = splitguard(
        "vnfm", "snapshots", "list", "--manager", manager.url,
        SPLITGUARD_VNFM_PASSWORD=manager.password,
        SPLITGUARD_CONFIG="/nowhere.toml",
    )  # fmt: skip
    assert ran.code == 0, ran.words
    assert "has no snapshot" in ran.out


def test_a_password_in_the_environment_counts_before_the_configured_one(new):
    (new.home / "password").write_text("wrong")
    ran = new.run(
        "vnfm", "snapshots", "list",
        SPLITGUARD_VNFM_PASSWORD=new.managers["n1"].password,
        SPLITGUARD_CONFIG=str(new.home / "agent.toml"),
    )  # fmt: skip
    assert ran.code == 0, ran.words


def test_what_is_no_zip_is_never_sent(new):
    file = new.home / "a.zip"
    file.write_text("no zip at all")
    assert "a.zip" in new.refused("snapshots", "upload", file)
    assert new.told("snapshots", "list")["snapshots"] == []
    assert "there.zip" in new.refused("snapshots", "upload", new.home / "there.zip")


def test_an_id_that_is_there_is_not_given_twice(one):
    one.managers["n1"].make("a")
    one("snapshots", "download", "a")
    before = (one.home / "a.zip").read_bytes()
    assert "exists" in one.refused("snapshots", "create", "a")
    assert "a" in one.refused("snapshots", "upload", one.home / "a.zip")
    assert one("snapshots", "download", "a", "-o", "b.zip").code == 0
    assert (one.home / "b.zip").read_bytes() == before
    again = one("snapshots", "download", "a")
    assert again.code == 1
    assert "is there already" in again.words
    assert (one.home / "a.zip").read_bytes() == before


def test_a_snapshot_that_is_not_there_is_named(one):
    for command in ("download", "restore", "delete", "status"):
        words = one.refused("snapshots", command, "zzz")
        assert "zzz" in words
        assert "splitguard vnfm snapshots list" in words


def test_a_manager_that_answers_in_html_is_no_riddle(one):
    one.managers["n1"].faults.html = True
    words = one.refused("snapshots", "list")
    assert "502" in words
    assert "<" not in words


def test_a_manager_that_enters_maintenance_says_so(new):
    new.managers["n1"].faults.worker_dead = True
    new("snapshots", "create", "a")
    with new.managers["n1"].http() as client:
        client.post("/maintenance/activate", json={})
    words = new.refused("snapshots", "create", "b")
    assert "maintenance" in words.splitlines()[-1]


def test_a_disk_that_is_full_half_way_leaves_no_file_of_that_name(new):
    manager = new.managers["n1"]
    noise = os.urandom(400_000).hex()
    manager.query(
        "INSERT INTO blueprints (id, tenant_name, content) VALUES (%s, %s, %s)",
        "large", manager.tenant, noise,
    )  # fmt: skip
    manager.make("a")
    ran = subprocess.run(
        ["prlimit", "--fsize=100000", SPLITGUARD, "vnfm", "snapshots", "download", "a"],
        capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=new.home,
        env={**os.environ, "SPLITGUARD_CONFIG": str(new.home / "agent.toml")},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "File too large" in ran.stderr
    assert not (new.home / "a.zip").exists()
    assert new("snapshots", "download", "a").code == 0
    assert zipfile.ZipFile(new.home / "a.zip").testzip() is None


@pytest.fixture
def terminal(new: Operator) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command on a terminal; answers when it is asked."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, answer: bytes = b"") -> tuple[int, str]:
        near, far = pty.openpty()
        config = str(new.home / "agent.toml")
        process = subprocess.Popen(
            [SPLITGUARD, "vnfm", *words],
            stdin=far, stdout=far, stderr=far, cwd=new.home,
            env={**os.environ, "SPLITGUARD_CONFIG": config, "TERM": "xterm"},
        )  # fmt: skip
        started.append(process)
        os.close(far)
        seen = b""
        with contextlib.suppress(OSError):  # how a terminal without a program ends
            while select.select([near], [], [], LIMIT_S)[0]:
                seen += os.read(near, 4096)
                if answer and b"[y/N]" in seen:
                    os.write(near, answer)
                    answer = b""
        os.close(near)
        return process.wait(LIMIT_S), seen.decode()

    yield run
    for one in started:
        one.kill()


def test_on_a_terminal_a_person_is_asked(new, terminal):
    new.managers["n1"].make("a")
    code, seen = terminal("snapshots", "delete", "a", answer=b"n\n")
    assert code == 1
    assert "Remove a (created" in seen
    assert "nothing was done" in seen
    assert [each["id"] for each in new.told("snapshots", "list")["snapshots"]] == ["a"]
    assert terminal("snapshots", "delete", "a", answer=b"y\n")[0] == 0
    assert new.told("snapshots", "list")["snapshots"] == []


def test_on_a_terminal_progress_is_drawn(new, terminal):
    code, seen = terminal("snapshots", "create", "--wait", "a")
    assert code == 0
    assert "snapshot a: created, execution terminated" in seen
    assert "\x1b[" in seen
    code, seen = terminal("snapshots", "download", "a")
    assert code == 0
    assert re.search(r"a from n1 \S*━", seen)
    code, seen = terminal("snapshots", "upload", "-s", "b", "a.zip")
    assert code == 0
    assert re.search(r"a.zip to n1 \S*━", seen)
