"""What `splitguard grants` prints, run on real servers: enough, and not more."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agent.cli.grants import SQL
from tests.fix_postgres import VERSIONS, Server, stage_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", params=VERSIONS)
def granted(request: pytest.FixtureRequest, postgres_home: Path) -> Iterator[Server]:
    """A primary of each version on which the script ran, twice, for all tests here."""
    with stage_of(request.param, postgres_home) as stage:
        yield made_ready(stage.primary())


def made_ready(server: Server) -> Server:
    psql = shutil.which("psql", path=str(server.programs.bin_dir)) or "psql"
    for _ in range(2):
        subprocess.run(
            [psql, "-X", "-q", "-d", server.dsn, "-f", "-"],
            input=SQL, check=True, text=True, timeout=30,
        )  # fmt: skip
    server.query("CREATE TABLE secret (word text)")
    return server


def as_role(server: Server, role: str) -> psycopg.Connection:
    dsn = server.dsn.replace("user=postgres", f"user={role}")
    return psycopg.connect(dsn, autocommit=True)


def test_the_prober_sees_replication_and_may_write_nothing(granted):
    with as_role(granted, "splitguard_probe") as session:
        assert session.execute("SELECT count(*) FROM pg_stat_replication").fetchone()
        assert session.execute("SELECT count(*) FROM pg_ls_waldir()").fetchone()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("CREATE TEMPORARY TABLE t ()")


@pytest.mark.fact("backup-grants")
def test_the_local_role_may_start_and_stop_a_backup(granted):
    with as_role(granted, "splitguard_local") as session:
        if granted.programs.version_num >= 150_000:
            session.execute("CHECKPOINT")
            session.execute("SELECT pg_backup_start('test', true)")
            label = session.execute("SELECT labelfile FROM pg_backup_stop(false)")
        else:
            session.execute("SELECT pg_start_backup('test', true, false)")
            label = session.execute(
                "SELECT labelfile FROM pg_stop_backup(false, false)"
            )
        row = label.fetchone()
        assert row is not None
        assert "START WAL LOCATION" in row[0]


@pytest.mark.fact("read-binary-file")
@pytest.mark.parametrize(
    "statement", ["SELECT * FROM secret", "SELECT rolpassword FROM pg_authid"]
)
def test_the_prober_reads_no_data(granted, statement):
    with (
        as_role(granted, "splitguard_probe") as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        session.execute(statement)


@pytest.mark.fact("read-binary-file")
@pytest.mark.parametrize("role", ["splitguard_probe", "splitguard_local"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_binary_file('global/pg_control')",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_promote()",
        "SELECT pg_create_physical_replication_slot('s')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_neither_role_writes_or_reads_files_or_promotes(granted, role, statement):
    with (
        as_role(granted, role) as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        session.execute(statement)


@pytest.mark.parametrize("role", ["splitguard_loss", "splitguard_local"])
def test_who_reads_rows_reads_every_row_and_changes_nothing(granted, role):
    with granted.session() as session:
        session.execute("CREATE SCHEMA IF NOT EXISTS closed")
        session.execute("CREATE TABLE IF NOT EXISTS closed.hidden (id serial)")
        session.execute("ALTER TABLE closed.hidden ENABLE ROW LEVEL SECURITY")
        session.execute("TRUNCATE closed.hidden")
        session.execute("INSERT INTO closed.hidden DEFAULT VALUES")
    with as_role(granted, role) as session:
        session.execute("SET row_security = off")
        session.execute("SET default_transaction_read_only = on")
        rows = session.execute("SELECT count(*) FROM closed.hidden").fetchone()
        assert rows == (1,)
        last = session.execute("SELECT last_value FROM closed.hidden_id_seq")
        assert last.fetchone()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("DELETE FROM closed.hidden")
        session.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DELETE FROM closed.hidden")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_binary_file('global/pg_control')",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_promote()",
        "SELECT pg_backup_start('test', true)",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_the_loss_role_reads_no_files_and_acts_on_nothing(granted, statement):
    with (
        as_role(granted, "splitguard_loss") as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        session.execute(statement)


@pytest.mark.fact("backup-grants")
def test_only_a_backup_role_may_start_a_backup(granted):
    with (
        as_role(granted, "splitguard_probe") as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        session.execute("SELECT pg_backup_start('test', true)")
