"""What an opened copy must not do, and what recovery would refuse it for.

A copy carries the habits of its origin: subscriptions, settings that beat every file
but the command line, limits below which recovery ends. Each test shows the danger
beside our manner.
"""

import psycopg
import pytest

from agent.errors import PostgresError
from agent.postgres.connect import fetch_one, session
from agent.postgres.owner import give, owner_of
from agent.postgres.private import PrivateServer, prepare
from tests.capturing import capturing
from tests.fix_postgres import Stage, eventually

pytestmark = pytest.mark.postgres

ACTIVE = "SELECT count(*) FROM pg_replication_slots WHERE active"
GIVEN = "SELECT name FROM pg_settings WHERE source = 'command line'"
QUIET = {
    "archive_cleanup_command", "archive_mode", "autovacuum", "huge_pages",
    "jit", "listen_addresses", "local_preload_libraries", "logging_collector",
    "max_logical_replication_workers", "max_prepared_transactions", "port",
    "primary_conninfo", "primary_slot_name", "recovery_end_command", "recovery_target",
    "recovery_target_lsn", "recovery_target_name", "recovery_target_time",
    "recovery_target_timeline", "recovery_target_xid", "restore_command",
    "session_preload_libraries", "shared_buffers", "shared_preload_libraries", "ssl",
    "synchronous_standby_names", "unix_socket_directories",
}  # fmt: skip
"""What has to stand on the command line, where no file of the copy can beat it."""
AUTO = """
archive_mode = on
archive_command = 'touch {marks}/archived'
archive_cleanup_command = 'touch {marks}/cleaned'
recovery_end_command = 'touch {marks}/ended'
restore_command = 'touch {marks}/restored; false'
primary_conninfo = 'host=127.0.0.1 port=1'
shared_preload_libraries = 'no_such_library'
session_preload_libraries = 'no_such_library'
synchronous_standby_names = '*'
listen_addresses = '*'
logging_collector = on
"""


@pytest.mark.fact("copied-subscription")
def test_an_opened_subscriber_does_not_reach_its_publisher(stage: Stage):
    publisher = stage.server("pub", {"wal_level": "logical"}, tcp=True).start()
    publisher.write(5)
    publisher.query("CREATE PUBLICATION all_of_it FOR TABLE kept")
    subscriber = stage.primary("n1")
    subscriber.query("CREATE TABLE kept (id bigserial PRIMARY KEY, mark text)")
    address = f"host=127.0.0.1 port={publisher.port} user=postgres dbname=postgres"
    subscriber.query(
        f"CREATE SUBSCRIPTION theirs CONNECTION '{address}' PUBLICATION all_of_it"
    )
    eventually("the rows have come", lambda: subscriber.rows() == 5)
    with capturing(stage, subscriber) as capture:
        capture.order()
        capture.until_complete()
        subscriber.stop()
        capture.take_the_rest()
        publisher.write(5)
        assert len(capture.ids()) == 5
    assert publisher.value(ACTIVE) == 0
    subscriber.start()
    eventually("the original goes on", lambda: subscriber.rows() == 10)


@pytest.mark.fact("auto-conf-wins")
def test_settings_that_alter_system_wrote_are_beaten_one_and_all(stage: Stage):
    primary = stage.primary()
    primary.write(5)
    primary.crash()
    scratch, marks = stage.scratch(primary), stage.folder / "marks"
    marks.mkdir()
    give(marks, owner_of(primary.data_dir))
    prepare(scratch)
    (scratch / "postgresql.auto.conf").write_text(AUTO.format(marks=marks))
    give(scratch / "postgresql.auto.conf", owner_of(primary.data_dir))
    with (
        PrivateServer(scratch, stage.programs) as server,
        session(server.dsn_for("postgres")) as opened,
    ):
        assert fetch_one(opened, "SELECT count(*) FROM kept") == (5,)
        given = {name for (name,) in opened.execute(GIVEN).fetchall()}
        event_triggers = {"event_triggers"} if stage.programs.major >= 17 else set()
        assert given >= QUIET | event_triggers
    assert not list(marks.iterdir())


@pytest.mark.fact("recorded-limits")
def test_a_copy_is_given_the_limits_that_its_server_had(stage: Stage):
    primary = stage.primary(max_prepared_transactions="5", max_connections="150")
    primary.write(5)
    with primary.session() as session_:
        session_.execute("BEGIN")
        session_.execute("INSERT INTO kept (mark) VALUES ('prepared')")
        session_.execute("PREPARE TRANSACTION 'theirs'")
    primary.crash()
    scratch = stage.scratch(primary)
    prepare(scratch)
    with (
        pytest.raises(PostgresError, match=r"prepared.transactions"),
        PrivateServer(
            scratch, stage.programs, settings={"max_prepared_transactions": "0"}
        ),
    ):
        pass
    with (
        PrivateServer(scratch, stage.programs) as server,
        psycopg.connect(server.dsn_for("postgres")) as opened,
    ):
        assert opened.execute("SELECT gid FROM pg_prepared_xacts").fetchone() == (
            "theirs",
        )
        assert opened.execute("SHOW max_connections").fetchone() == ("150",)
