"""What the agent finds out about the HA software beside it: files and processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.gate import Gate, HaSoftware, Wired
from agent.guard import shim, survey, wiring
from agent.guard.survey import Mine
from tests.fix_postgres import eventually, free_port

PASSWORD = "correct-horse-battery"
WIPES: dict[str, Any] = dict.fromkeys(wiring.DELETES, True)
PATRONI = """
import http.server, json, os, sys, threading, time
ANSWERS = json.loads(os.environ["ANSWERS"])
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, answer = ANSWERS.get(self.path, (404, {}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api)
server.serve_forever()
"""
"""A process that is called patroni and shows its configuration as Patroni does."""


class Machine:
    """Files of one machine, with the data directory that the agent stands beside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data_dir = root / "pg/data"
        self.socket = root / "agent.sock"
        self.file = root / "etc/patroni.yml"
        for folder in (self.data_dir, root / "proc", root / "etc", root / "bin"):
            folder.mkdir(parents=True)
        self.socket.touch()
        self.mine = Mine(self.data_dir, self.socket)

    def shim(self, socket: Path | None = None) -> Path:
        """The scripts as `guard install` writes them."""
        for name in ("pg_rewind", "pg_basebackup", "splitguard", "pg_controldata"):
            program = self.root / "bin" / name
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        made = shim.Shim(
            real=self.root / "bin/pg_rewind",
            splitguard=self.root / "bin/splitguard",
            socket=socket or self.socket,
            rescue=self.root / "rescue",
            controldata=self.root / "bin/pg_controldata",
        )
        place = self.root / "lib/pg_rewind"
        shim.write(place, made)
        shim.write(place.with_name("replica"), made, "replica")
        return place

    def wired(self, *, clones: bool = True) -> dict[str, Any]:
        place = self.shim()
        told: dict[str, Any] = {"bin_name": {"pg_rewind": str(place)}}
        if clones:
            told["create_replica_methods"] = ["splitguard"]
            command = str(place.with_name("replica"))
            told["splitguard"] = {"command": command, "keep_data": True}
        return told

    def patroni(self, file: Path | None = None, **more: Any) -> Path:
        """Write a configuration of this server; JSON is YAML."""
        document = {
            "name": "n1",
            "scope": "demo",
            "restapi": more.pop("restapi", {"listen": "0.0.0.0:1"}),
            "bootstrap": {"dcs": {"postgresql": more.pop("began", {})}},
            "postgresql": {
                "data_dir": str(self.data_dir),
                "use_pg_rewind": True,
                "authentication": {"superuser": {"password": PASSWORD}},
                **more,
            },
        }
        file = file or self.file
        file.write_text(json.dumps(document))
        return file

    def look(self, **mine: Path) -> Gate:
        gate = survey.survey(replace(self.mine, **mine), self.root)
        assert PASSWORD not in repr(gate)
        return gate

    def only(self, **mine: Path) -> HaSoftware:
        (found,) = self.look(**mine).software
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_ha_software_has_nothing_to_say(machine: Machine):
    assert machine.look() == Gate()
    assert machine.look().line == "no HA software found here"


def test_cloudify_s_flags_without_a_guard_are_named_with_what_to_change(
    machine: Machine,
):
    machine.patroni(**WIPES, bin_dir="/usr/pgsql-14/bin")
    found = machine.only()
    assert (found.name, found.wired) == ("Patroni", Wired.NOT_WIRED)
    assert found.destructive == wiring.DELETES
    assert "/usr/pgsql-14/bin/pg_rewind" in found.gaps[0]
    assert str(shim.DEFAULT_PLACE) in found.gaps[0]


def test_the_shim_counts_wherever_it_was_installed(machine: Machine):
    machine.patroni(**machine.wired(), **WIPES)
    found = machine.only()
    assert (found.wired, found.destructive) == (Wired.WIRED, ())
    assert (found.broken, found.unknown) == ("", "")
    assert machine.look().line == "guard wired"
    assert machine.look().reasons == ()


def test_what_waits_for_a_rewind_only_is_wiped_past_it_by_the_second_flag(
    machine: Machine,
):
    machine.patroni(**machine.wired(clones=False), **WIPES)
    found = machine.only()
    assert found.wired is Wired.BYPASSABLE
    assert found.destructive == (wiring.DELETES[1],)


def test_a_shim_that_cannot_do_its_work_is_no_guard(machine: Machine):
    place = machine.shim(socket=machine.root / "other.sock")
    machine.patroni(bin_name={"pg_rewind": str(place)})
    assert "asks the agent at" in machine.only().broken
    machine.shim().chmod(0o644)
    if os.geteuid() != 0:
        assert "cannot be run" in machine.only().broken
    machine.shim()
    machine.root.joinpath("bin/splitguard").unlink()
    assert "which is not there" in machine.only().broken
    place.unlink()
    assert machine.only().wired is Wired.NOT_WIRED


def test_the_configuration_of_another_server_is_no_business_of_this_one(
    machine: Machine,
):
    machine.patroni(**WIPES)
    gate = machine.look(data_dir=machine.root)
    assert gate.software == ()
    assert gate.reasons == ()
    assert gate.line == (
        "no HA software of this server found here"
        f" ({machine.file} is of {machine.data_dir})"
    )


def test_what_runs_in_another_container_is_not_worth_a_word(machine: Machine):
    inside = Path(f"/proc/{os.getpid()}/root{machine.patroni(**WIPES)}")
    assert machine.only(patroni=inside).destructive == wiring.DELETES
    assert machine.look(patroni=inside, data_dir=machine.root) == Gate()


def test_one_data_directory_under_two_names_is_one(machine: Machine):
    link = machine.root / "link"
    link.symlink_to(machine.data_dir)
    machine.patroni(data_dir=str(link))
    assert machine.only().wired is Wired.NOT_WIRED


def test_parts_and_tools_configurations_are_no_ha_software(machine: Machine):
    folder = machine.root / "etc/patroni"
    folder.mkdir()
    folder.joinpath("dcs.yml").write_text("etcd: {host: 127.0.0.1}\n")
    assert machine.look() == Gate()


def test_a_file_that_the_settings_name_is_the_one_that_counts(machine: Machine):
    machine.patroni(**WIPES)
    named = machine.patroni(machine.root / "own.yml", **machine.wired())
    assert machine.only(patroni=named).file == str(named)
    missing = machine.look(patroni=machine.root / "gone.yml")
    assert missing.software == ()
    assert missing.line == (
        f"guard not known: {machine.root}/gone.yml cannot be read:"
        " No such file or directory"
    )
    named.write_text("scope: x\n")
    assert "names no postgresql.data_dir" in machine.look(patroni=named).line


@pytest.mark.parametrize("text", ["a: [", "just words", f"password: {PASSWORD}\n a: ["])
def test_a_file_that_cannot_be_understood_accuses_nobody(machine: Machine, text: str):
    machine.file.write_text(text)
    gate = machine.look()
    assert gate.reasons == ()
    assert gate.line.startswith(f"guard not known: {machine.file}")


def test_what_the_cluster_began_with_is_not_taken_for_what_is_so(machine: Machine):
    machine.patroni(**machine.wired(clones=False), began=WIPES)
    found = machine.only()
    assert found.destructive == ()
    assert "cannot connect" in found.unknown
    assert "patronictl show-config" in found.unknown


@pytest.mark.parametrize(
    ("restapi", "why"),
    [
        ({}, "names no restapi.listen"),
        ({"listen": "8008"}, "names no restapi.listen"),
        ({"listen": "192.0.2.1:8008"}, "no address of this machine"),
        ({"listen": "nobody.invalid:8008"}, "no address of this machine"),
        ({"listen": "127.0.0.1:1", "certfile": "/x"}, "127.0.0.1:1: cannot connect"),
        (
            {"listen": "127.0.0.1:1", "certfile": "/x", "cafile": "/gone"},
            "the files that Patroni's REST API trusts cannot be read",
        ),
    ],
)
def test_patroni_is_asked_on_this_machine_only(machine: Machine, restapi, why):
    machine.patroni(restapi=restapi)
    assert why in machine.only().unknown


def test_repmgr_is_found_by_its_data_directory(machine: Machine):
    file = machine.root / "etc/repmgr.conf"
    text = (
        f"node_name=n1\nconninfo='password={PASSWORD}'\n"
        f"data_directory='{machine.data_dir}'\n"
    )
    file.write_text(f"{text}pg_bindir='/usr/lib/postgresql/15/bin'\n")
    found = machine.only()
    assert (found.name, found.wired) == ("repmgr", Wired.NOT_WIRED)
    file.write_text(f"{text}# node rejoin --force-rewind={machine.shim()}\n")
    assert machine.only().wired is Wired.BYPASSABLE
    assert machine.look().reasons == ()
    file.write_text("node_name=n1\n")
    assert machine.look() == Gate()
    assert "names no data_directory" in machine.look(repmgr=file).line
    file.write_text("data_directory=/elsewhere\n")
    assert "is of /elsewhere" in machine.look().line


class Running:
    """A process called patroni."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.port = free_port()
        self.program = machine.root / "bin/patroni"
        self.program.write_text(PATRONI)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def restapi(self) -> dict[str, str]:
        return {"listen": f"127.0.0.1:{self.port}"}

    def start(self, *words: str | Path, **answers: Any) -> None:
        shown = {f"/{name}": answer for name, answer in answers.items()}
        self.process = subprocess.Popen(
            [sys.executable, self.program, *words],
            cwd=self.machine.root,
            env={"PORT": str(self.port), "ANSWERS": json.dumps(shown)},
        )

    def look(self) -> Gate:
        return survey.survey(self.machine.mine)

    def until_found(self) -> HaSoftware:
        """Return what is found of it in the whole of this machine, once it answers."""
        eventually(
            "Patroni is found and answers",
            lambda: self.look().software and not self.look().software[0].unknown,
            30,
        )
        (found,) = self.look().software
        return found


@pytest.fixture
def running(machine: Machine) -> Iterator[Running]:
    made = Running(machine)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def of_patroni(version: str) -> tuple[int, dict[str, Any]]:
    return 200, {"state": "running", "patroni": {"version": version, "name": "n1"}}


def test_a_running_patroni_tells_what_the_whole_cluster_is_set_to(running: Running):
    machine = running.machine
    file = machine.patroni(machine.root / "own.yml", restapi=running.restapi)
    running.start(
        file, config=(200, {"postgresql": WIPES}), patroni=of_patroni("4.1.5")
    )
    found = running.until_found()
    assert (found.file, found.destructive) == (str(file), wiring.DELETES)


def test_the_running_patroni_s_own_version_decides_what_its_file_means(
    running: Running,
):
    machine = running.machine
    machine.patroni(
        machine.root / "own.yml", restapi=running.restapi, **machine.wired()
    )
    # Named by a path that only its own working folder makes whole.
    running.start("own.yml", config=(200, {}), patroni=of_patroni("3.0.2"))
    # Before it answers, a file that names the shim is taken at its word.
    eventually(
        "its version is known", lambda: running.look().wired is Wired.NOT_WIRED, 30
    )
    (found,) = running.look().software
    assert "older than bin_name" in found.gaps[0]


def test_a_patroni_that_does_not_tell_leaves_it_unknown(running: Running):
    machine = running.machine
    file = machine.patroni(machine.root / "own.yml", restapi=running.restapi)
    running.start(file, config=(401, {}))
    eventually(
        "it is found, and does not tell",
        lambda: (
            running.look().software
            and "answers HTTP 401" in running.look().software[0].unknown
        ),
        30,
    )


def test_a_patroni_without_a_file_is_said_to_be_one(running: Running):
    running.start()
    eventually(
        "it is seen",
        lambda: "names no configuration file: set guard.patroni" in running.look().line,
        30,
    )
