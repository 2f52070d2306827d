"""Is the gate in front of a resync, as the HA software's configuration says?"""

import os
from pathlib import Path

import pytest

from agent.core.gate import Wired
from agent.errors import GuardError
from agent.guard import advice, shim, visible, wiring
from agent.guard.visible import Kind
from tests.fix_desk import healthy
from tests.fix_guard import Gate
from tests.fix_postgres import eventually

HOOKS = Path(__file__).parents[2] / "deploy/hooks"
PLACE = shim.DEFAULT_PLACE
CLOUDIFY = """
name: node-1
scope: postgres
postgresql:
  data_dir: /var/lib/pgsql/14/data
  bin_dir: /usr/pgsql-14/bin
  use_pg_rewind: true
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
"""
"""The parts that matter of what Cloudify Manager installs."""


def patroni(text: str, shared: str | None = None, place: Path = PLACE, version=(4, 1)):
    common = None if shared is None else wiring.read_yaml(shared, "shared")
    around = wiring.Around(common, version)
    return wiring.patroni("patroni.yml", wiring.read_yaml(text, "f"), place, around)


@pytest.mark.fact("P12")
def test_cloudifys_own_flags_delete_a_loser_and_are_named():
    told = patroni(CLOUDIFY)
    assert (told.node, told.state, told.safe) == ("node-1", Wired.NOT_WIRED, False)
    assert told.destructive == wiring.DELETES
    assert "set postgresql.bin_name.pg_rewind" in told.sentences[0]
    assert "/usr/pgsql-14/bin/pg_rewind" in told.sentences[0]


def test_a_rewind_that_waits_makes_the_first_flag_harmless_and_not_the_second():
    wired = CLOUDIFY + f"  bin_name:\n    pg_rewind: {PLACE}\n"
    told = patroni(wired)
    assert (told.state, told.safe) == (Wired.BYPASSABLE, False)
    assert told.destructive == (wiring.DELETES[1],)


def test_the_finished_snippet_for_patroni_is_wired():
    told = patroni(HOOKS.joinpath("patroni.yml").read_text())
    assert (told.state, told.safe, told.sentences) == (Wired.WIRED, True, ())


@pytest.mark.fact("P8")
def test_a_patroni_that_knows_no_bin_name_is_not_wired_by_it():
    text = HOOKS.joinpath("patroni.yml").read_text()
    old = patroni(text, version=(3, 0, 2))
    assert old.state is Wired.NOT_WIRED
    assert "older than bin_name" in old.sentences[0]
    assert "--links" in old.sentences[0]
    unknown = patroni(text, version=None)
    assert (unknown.state, unknown.sentences) == (
        Wired.WIRED,
        (wiring.VERSION_UNKNOWN,),
    )


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("patroni 3.0.2", (3, 0, 2)),
        ("patroni 4.1", (4, 1, 0)),
        ("no idea", None),
        ("'; exit 1", None),
    ],
)
def test_the_version_is_that_of_the_patroni_in_the_path(
    tmp_path: Path, monkeypatch, says, version
):
    program = tmp_path / "patroni"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible.patroni_version() == version


def test_what_install_prints_is_wired(tmp_path: Path):
    place = tmp_path / "a place: #1" / "pg_rewind"
    printed = advice.how_to(place, None)
    blocks = printed.split("postgresql:\n")[1:]
    text = "postgresql:\n" + "".join(
        line + "\n"
        for block in blocks
        for line in block.splitlines()
        if line.startswith("  ")
    )
    assert patroni(text, place=place).state is Wired.WIRED


@pytest.mark.fact("P13")
def test_a_folder_of_links_is_wired_for_old_versions(tmp_path: Path):
    real = tmp_path / "bin"
    real.mkdir()
    for name in ("pg_rewind", "postgres"):
        (real / name).write_text("#!/bin/sh\n")
    place = tmp_path / "shim"
    place.write_text("#!/bin/sh\n")
    links = tmp_path / "links"
    known = shim.Shim(real / "pg_rewind", place, place, place, place)
    advice.make_links(links, place, known)
    advice.make_links(links, place, known)
    assert (links / "postgres").samefile(real / "postgres")
    told = patroni(f"postgresql: {{bin_dir: {links}}}", place=place)
    assert told.state is Wired.BYPASSABLE
    text = f"node_name = 'n7'\npg_bindir='{links}'  # ours\n"
    assert wiring.repmgr("repmgr.conf", text, place).state is Wired.BYPASSABLE
    assert wiring.repmgr("repmgr.conf", text, place).node == "n7"


def test_links_replace_no_program_of_somebody_else(tmp_path: Path):
    real, links = tmp_path / "bin", tmp_path / "links"
    for folder in (real, links):
        folder.mkdir()
        (folder / "pg_rewind").write_text(folder.name)
    known = shim.Shim(*[real / "pg_rewind"] * 5)
    with pytest.raises(GuardError, match="is there and is no link"):
        advice.make_links(links, tmp_path / "shim", known)
    assert [path.name for path in links.iterdir()] == ["pg_rewind"]
    assert (links / "pg_rewind").read_text() == "links"


@pytest.mark.parametrize(
    ("method", "wired"),
    [
        ("{command: REPLICA, keep_data: true}", True),
        ("{command: REPLICA --max-rate=32M, keep_data: true}", True),
        ("{command: REPLICA}", False),
        ("{command: REPLICA, keep_data: true, no_params: true}", False),
        ("{command: /usr/bin/pgbackrest, keep_data: true}", False),
        ("{command: '\"', keep_data: true}", False),
        ("[]", False),
    ],
)
def test_a_replica_keeps_the_old_data_only_when_all_of_it_is_said(method, wired):
    method = method.replace("REPLICA", str(PLACE.with_name("replica")))
    text = (
        f"postgresql: {{bin_name: {{pg_rewind: {PLACE}}}, use_pg_rewind: true,"
        f" create_replica_methods: [ours, basebackup], ours: {method}}}"
    )
    assert (patroni(text).state is Wired.WIRED) == wired


def test_what_the_cluster_says_counts_where_the_file_is_silent():
    began = f"bootstrap: {{dcs: {{postgresql: {{{wiring.DELETES[0]}: true}}}}}}"
    assert patroni(began).destructive == (wiring.DELETES[0],)
    shared = "postgresql: {use_pg_rewind: true}"
    assert patroni(began, shared).destructive == ()
    local = f"{began}\npostgresql: {{{wiring.DELETES[0]}: false}}"
    assert patroni(local).destructive == ()


@pytest.mark.parametrize(
    ("text", "wired"),
    [
        (f"repmgr node rejoin --force-rewind={PLACE} -d x", True),
        (f"repmgr node rejoin --force-rewind='{PLACE}' -d x", True),
        ("repmgr node rejoin --force-rewind -d x", False),
        ("repmgr node rejoin --force-rewind=/usr/bin/pg_rewind", False),
        (f"a --force-rewind={PLACE}\nb --force-rewind=/usr/bin/pg_rewind", False),
        ("pg_bindir='/usr/lib/postgresql/15/bin'", False),
        ("", False),
    ],
)
def test_repmgr_is_wired_by_the_path_that_it_is_given(text, wired):
    told = wiring.repmgr("repmgr.conf", text, PLACE)
    assert (told.state is Wired.BYPASSABLE) == wired
    assert wiring.REPMGR_CLONE in told.sentences


def test_the_finished_snippet_for_repmgr_names_the_folder_of_links():
    text = HOOKS.joinpath("repmgr.conf").read_text()
    settings = [line for line in text.splitlines() if line and line[0] != "#"]
    assert settings == ["pg_bindir='/usr/local/lib/splitguard/bin'"]


@pytest.mark.parametrize("text", ["a: [", "- a", "", "!!python/name:os.system", "\0"])
def test_what_is_no_configuration_is_said(text):
    with pytest.raises(GuardError, match="secret"):
        wiring.read_yaml(text, "secret.yml")


def test_no_password_of_a_broken_file_is_told():
    with pytest.raises(GuardError) as told:
        wiring.read_yaml("password: hunter2: [", "patroni.yml")
    assert "line 1" in str(told.value)
    assert "hunter2" not in str(told.value)


def machine(tmp_path: Path, name: str, text: str) -> Path:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    (tmp_path / "proc").mkdir(exist_ok=True)
    return file


def test_configurations_are_found_where_they_usually_are(tmp_path: Path):
    first = machine(tmp_path, "etc/patroni/15-main.yml", CLOUDIFY)
    second = machine(tmp_path, "etc/repmgr.conf", "")
    third = machine(tmp_path, "opt/patroni.yml", CLOUDIFY)
    process = tmp_path / "proc/77"
    process.mkdir()
    words = ("/usr/bin/python3", "/opt/bin/patroni", str(third))
    process.joinpath("cmdline").write_bytes("\0".join(words).encode() + b"\0")
    assert visible.configurations(tmp_path) == (
        (Kind.PATRONI, first),
        (Kind.REPMGR, second),
        (Kind.PATRONI, third),
    )


def test_a_file_that_names_the_shim_or_cannot_be_read_holds_it(tmp_path: Path):
    named = machine(tmp_path, "a.yml", f"bin_name: {PLACE}")
    free = machine(tmp_path, "b.yml", CLOUDIFY)
    broken = machine(tmp_path, "c.yml", "a: [")
    files = [(Kind.PATRONI, path) for path in (named, free, broken, tmp_path / "d")]
    assert visible.still_naming(files, PLACE) == (named, broken, tmp_path / "d")


@pytest.fixture
def installed_shim(tmp_path: Path, agent_for, splitguard):
    """A shim as `guard install` writes it, with an agent behind its socket."""
    agent = agent_for(healthy())
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("pg_rewind", "pg_basebackup", "pg_controldata", "postgres"):
        program = bin_dir / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n")
        program.chmod(0o755)
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "c"\nnode = "n1"\nsocket = "{agent.socket}"\n'
        f'state_dir = "{tmp_path}/state"\n[[nodes]]\nname = "n1"\n'
        'agent = "http://127.0.0.1:1"\n'
    )
    place = tmp_path / "lib/pg_rewind"
    ran = splitguard(
        "guard", "install", "--config", config, "--to", place, "--bin-dir", bin_dir
    )
    assert ran.code == 0, ran.words
    return place


def test_check_is_content_with_what_install_has_written(
    installed_shim: Path, tmp_path: Path, splitguard
):
    text = HOOKS.joinpath("patroni.yml").read_text()
    file = tmp_path / "patroni.yml"
    file.write_text(text.replace(str(PLACE.parent), str(installed_shim.parent)))
    words = ("guard", "check", "--to", installed_shim, "--patroni", file)
    ran = splitguard(*words)
    assert ran.code == 0, ran.out + ran.words
    assert "wired" in ran.out
    file.write_text(CLOUDIFY)
    ran = splitguard(*words)
    assert ran.code == 1
    assert "not wired" in ran.out
    assert "deletes a loser's data before anybody has kept it" in ran.out


def test_check_says_what_is_wrong_with_the_shim_itself(
    installed_shim: Path, tmp_path: Path, splitguard
):
    file = tmp_path / "patroni.yml"
    file.write_text(CLOUDIFY)
    words = ("guard", "check", "--to", installed_shim, "--patroni", file, "-o", "json")
    (tmp_path / "bin/pg_rewind").unlink()
    installed_shim.with_name("replica").unlink()
    installed_shim.write_text(installed_shim.read_text() + "# older\n")
    installed_shim.chmod(0o644)
    said = splitguard(*words, "--socket", tmp_path / "nobody").out
    for trouble in (
        "of another version", "cannot be run", "bin/pg_rewind, which is not there",
        "replica: `splitguard guard install`", "a resync would wait: no agent answers",
    ):  # fmt: skip
        assert trouble in said


def test_uninstall_refuses_while_a_configuration_names_the_shim(
    installed_shim: Path, tmp_path: Path, splitguard
):
    file = tmp_path / "patroni.yml"
    file.write_text(f"postgresql: {{bin_name: {{pg_rewind: {installed_shim}}}}}")
    words = ("guard", "uninstall", "--to", installed_shim, "--patroni", file)
    ran = splitguard(*words)
    assert ran.code == 1
    assert "still names the shim" in ran.words
    assert installed_shim.exists()
    file.write_text(CLOUDIFY)
    assert splitguard(*words).code == 0
    assert not list(installed_shim.parent.iterdir())
    assert "no shim" in splitguard(*words).words


def test_uninstall_refuses_while_a_shim_waits(gate: Gate, splitguard):
    place = gate.shim()
    ran = gate.start([place, "-D", gate.data()])
    ran.says("no permit")
    refused = splitguard("guard", "uninstall", "--to", place)
    assert refused.code == 1
    assert "runs: process" in refused.words
    assert str(ran.process.pid) in refused.words
    assert place.exists()
    ran.process.terminate()
    ran.ends()
    eventually("its watch has ended", lambda: not visible.waiting(place))
    assert splitguard("guard", "uninstall", "--to", place).code == 0
