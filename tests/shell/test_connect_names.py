"""A server that is not reached is named, and nothing that is secret."""

import socket

import pytest
from psycopg.conninfo import conninfo_to_dict

from agent.divergence.parting import timeline_of
from agent.errors import PostgresError
from agent.postgres import upstream
from agent.postgres.connect import connect, for_writing, place_named, server_named

SECRET = "user=mira password=hunter2 passfile=/home/mira/.pgpass"


@pytest.fixture
def closed() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("PGHOST", "PGPORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("dsn", "named", "said"),
    [
        ("host=10.0.0.2 dbname=shop", "", "10.0.0.2:5432"),
        ("host=10.0.0.2 port=6000", "n2", "n2 (10.0.0.2:6000)"),
        ("postgresql://mira:hunter2@db.example:6000/shop", "", "db.example:6000"),
        ("hostaddr=::1 port=5433", "", "[::1]:5433"),
        ("host=/run/postgresql", "", "the local server"),
        ("host=/run/postgresql", "n1", "n1"),
        ("dbname=shop", "", "the local server"),
        ("host=10.0.0.2", "10.0.0.2:5432/shop", "10.0.0.2:5432/shop"),
        ("host='", "n2", "n2"),
    ],
)
def test_a_server_is_named_by_host_and_port_or_as_people_call_it(dsn, named, said):
    assert server_named(dsn, named) == said


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (f"host=10.0.0.2 dbname=shop {SECRET}", "10.0.0.2:5432/shop"),
        (f"host=10.0.0.2 {SECRET}", "10.0.0.2:5432"),
        ("postgresql://mira:hunter2@db.example:6000/shop", "db.example:6000/shop"),
        (f"host=/run/postgresql dbname=shop {SECRET}", "the local server"),
    ],
)
def test_a_connection_string_is_shown_without_role_password_and_passfile(dsn, said):
    assert place_named(dsn) == said


def test_the_way_for_a_writer_has_nothing_of_the_role_that_only_reads():
    dsn = f"host=10.0.0.2 port=6000 dbname=shop sslmode=verify-full {SECRET}"
    kept = for_writing(f"{dsn} sslkey=/etc/k application_name=splitguard")
    assert conninfo_to_dict(kept) == {
        "host": "10.0.0.2", "port": "6000", "sslmode": "verify-full", "user": "postgres"
    }  # fmt: skip
    assert for_writing("host='") == ""


def test_who_cannot_be_reached_is_told_with_what_to_do(closed):
    dsn = f"host=127.0.0.1 port={closed} dbname=shop {SECRET}"
    with pytest.raises(PostgresError) as caught:
        connect(dsn)
    assert f"cannot connect to 127.0.0.1:{closed}: " in caught.value.message
    assert f"pg_isready -h 127.0.0.1 -p {closed}" in caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert "pgpass" not in str(caught.value)


def test_a_node_of_the_configuration_is_called_by_its_name(closed):
    with pytest.raises(PostgresError, match=rf"to n2 \(127\.0\.0\.1:{closed}\)"):
        timeline_of(f"host=127.0.0.1 port={closed}", "n2")
    with pytest.raises(PostgresError, match="to the source "):
        upstream.look(f"host=127.0.0.1 port={closed}")


def test_a_server_behind_a_socket_is_local(tmp_path):
    with pytest.raises(PostgresError, match="cannot connect to the local server"):
        connect(f"host={tmp_path}")
