"""Finding and running PostgreSQL's programs, with stand-ins made of sh."""

import os
from pathlib import Path

import pytest

from agent.errors import PostgresError
from agent.postgres import programs
from agent.postgres.owner import Owner, check_reachable, owner_of, reaches
from agent.postgres.programs import Programs, find_programs


def stand_in(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def installation(folder: Path, version: str) -> Path:
    stand_in(folder, "postgres", f"echo 'postgres (PostgreSQL) {version}'")
    return folder


def data_dir(folder: Path, major: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "PG_VERSION").write_text(f"{major}\n")
    return folder


@pytest.mark.parametrize(
    ("printed", "number"),
    [
        ("15.18 (Debian 15.18-0+deb12u1)", 150018),
        ("18beta1", 180000),
        ("9.6.24", 90624),
    ],
)
def test_the_version_is_a_number(tmp_path: Path, printed: str, number: int):
    assert programs.read_version(installation(tmp_path, printed)) == number


def test_explicit_programs_of_another_version_are_refused(tmp_path: Path):
    bin_dir = installation(tmp_path / "bin", "15.18")
    with pytest.raises(PostgresError, match="PostgreSQL 15, the data directory is"):
        find_programs(bin_dir, data_dir(tmp_path / "data", "16"))
    found = find_programs(bin_dir, data_dir(tmp_path / "data", "15"))
    assert found == Programs(bin_dir, 150018)
    assert found.major == 15


def test_programs_that_are_not_there_say_what_to_set(tmp_path: Path):
    with pytest.raises(PostgresError, match=r"local.bin_dir"):
        find_programs(tmp_path, None)
    with pytest.raises(PostgresError, match="looked in"):
        find_programs(None, data_dir(tmp_path, "3"))
    with pytest.raises(PostgresError, match="without a data directory"):
        find_programs(None, None)


def test_a_folder_that_is_no_data_directory_says_so(tmp_path: Path):
    with pytest.raises(PostgresError, match="PG_VERSION"):
        find_programs(None, tmp_path)
    (tmp_path / "PG_VERSION").write_text("new")
    with pytest.raises(PostgresError, match="does not hold a version"):
        find_programs(None, tmp_path)


def test_a_program_runs_without_the_callers_pg_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("LC_MESSAGES", "de_DE")
    monkeypatch.setenv("SPLITGUARD_SECRET", "s")
    bin_dir = installation(tmp_path, "16.1")
    stand_in(tmp_path, "show", "env")
    printed = Programs(bin_dir, 160001).run(["show"]).stdout
    assert "PGHOST" not in printed
    assert "LC_MESSAGES" not in printed
    assert "SPLITGUARD_" not in printed
    assert "LC_ALL=C" in printed


def test_a_failure_carries_the_last_lines_of_complaint(tmp_path: Path):
    stand_in(
        tmp_path, "fail", "for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3"
    )
    with pytest.raises(PostgresError, match=r"exit code 3: line 3; .*line 7") as caught:
        Programs(tmp_path, 160001).run(["fail"])
    assert "line 2" not in str(caught.value)
    finished = Programs(tmp_path, 160001).run(["fail"], check=False)
    assert finished.exit_code == 3


def test_a_program_that_hangs_is_stopped(tmp_path: Path):
    stand_in(tmp_path, "hang", "exec sleep 60")
    with pytest.raises(PostgresError, match=r"longer than 0.2 s"):
        Programs(tmp_path, 160001).run(["hang"], timeout_s=0.2)


def test_endless_output_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(programs, "OUTPUT_BYTES_MAX", 1000)
    stand_in(tmp_path, "talk", "seq 1 10000")
    assert len(Programs(tmp_path, 160001).run(["talk"]).stdout) == 1000


def test_a_missing_program_says_what_to_install(tmp_path: Path):
    with pytest.raises(PostgresError, match=r"pg_waldump is not in .*install"):
        Programs(tmp_path, 160001).run(["pg_waldump"])


def test_a_program_that_cannot_start_is_an_error_of_ours(tmp_path: Path):
    stand_in(tmp_path, "broken", "").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(PostgresError, match="cannot be started"):
        Programs(tmp_path, 160001).run(["broken"])


def test_the_owner_of_a_missing_path_is_an_error_with_a_hint(tmp_path: Path):
    with pytest.raises(PostgresError, match="check the path"):
        owner_of(tmp_path / "missing")
    assert owner_of(tmp_path) == Owner(os.geteuid(), os.getegid())


def test_only_root_becomes_somebody_else(tmp_path: Path):
    other = Owner(65534, 65534)
    if os.geteuid() == 0:
        assert other.identity()["user"] == 65534
    else:
        assert not other.identity()
    assert not owner_of(tmp_path).identity()


def test_a_closed_folder_is_seen_before_a_server_fails_in_it(tmp_path: Path):
    other = Owner(65534, 65534)
    tmp_path.chmod(0o700)
    inside = tmp_path / "data"
    inside.mkdir()
    if os.geteuid() == 0:
        assert not reaches(other, inside)
        with pytest.raises(PostgresError, match="is closed to it"):
            check_reachable(inside, other)
    else:
        check_reachable(inside, other)
    assert reaches(owner_of(inside), inside)
