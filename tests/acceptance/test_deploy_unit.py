"""The unit's ExecStart, run as systemd would run it, beside a real PostgreSQL 15.

The agent is installed as deploy/README.md says, the roles come from deploy/grants.sql
with the pg_hba lines that it names, and everything runs as the ordinary user who owns
the data folder, 0700, with the unit's umask. What systemd would hear is heard here.
"""

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.postgres.owner import owner_of
from tests.fix_postgres import Server, free_port, stage_of
from tests.fix_systemd import Systemd, systemd_of

pytestmark = pytest.mark.postgres

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
STOP_S = 5.0
PASSWORD = "of the probe"

CONFIG = """\
cluster = "acceptance"
node = "n1"
listen = "127.0.0.1:{port}"
state_dir = "{home}/state"
socket = "{home}/run/agent.sock"

[[nodes]]
name = "n1"
agent = "http://127.0.0.1:{port}"
postgres = "host=127.0.0.1 port={postgres} dbname=postgres user=splitguard_probe \
passfile={home}/probe.pass"
"""


def grant(server: Server) -> None:
    """Make the roles, and open the server to them with the lines of grants.sql."""
    subprocess.run(
        [server.programs.path("psql"), "-X", "-q", "-d", server.dsn,
         "-f", DEPLOY / "grants.sql"],
        check=True, timeout=30,
    )  # fmt: skip
    server.query(f"ALTER ROLE splitguard_probe PASSWORD '{PASSWORD}'")
    words = (DEPLOY / "grants.sql").read_text("utf-8")
    lines = re.findall(r"^-- +((?:hostssl|local) .*)$", words, re.MULTILINE)
    mapping = re.search(
        r"^-- +(splitguard +)postgres( +splitguard_local)$", words, re.MULTILINE
    )
    assert len(lines) == 5
    assert mapping is not None
    hba = "\n".join(lines).replace("hostssl", "host").replace("10.0.0.1", "127.0.0.1")
    user = owner_of(server.data_dir).name
    server.write_file("pg_hba.conf", f"{hba}\nlocal all postgres trust\n")
    server.write_file("pg_ident.conf", f"{mapping[1]}{user}{mapping[2]}\n")
    server.query("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def systemd(installed: Path, postgres_home: Path) -> Iterator[Systemd]:
    """The service, started, beside a server with a table."""
    with stage_of("15", postgres_home) as stage:
        server = stage.server("n1", tcp=True).start()
        server.write(100)
        grant(server)
        owner = owner_of(server.data_dir)
        home = stage.folder / "machine"
        home.mkdir()
        passwords = home / "probe.pass"
        passwords.write_text(f"*:*:*:splitguard_probe:{PASSWORD}\n")
        passwords.chmod(0o600)
        config = CONFIG.format(home=home, port=free_port(), postgres=server.port)
        with systemd_of(installed, home, owner, config) as unit:
            unit.start()
            yield unit


def test_the_agent_is_an_ordinary_user_beside_a_closed_data_folder(systemd):
    assert systemd.process is not None
    status = Path(f"/proc/{systemd.process.pid}/status").read_text()
    uids = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
    assert uids is not None
    assert set(uids[1].split()) == {str(systemd.owner.uid)} != {"0"}
    data_dir = systemd.home.parent / "n1/data"
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_the_agent_tells_systemd_that_it_lives(systemd):
    systemd.hear("WATCHDOG=1")


def test_every_metric_that_an_alert_asks_for_is_one_that_the_agent_has(systemd):
    rules = (DEPLOY / "prometheus/alerts.yml").read_text("utf-8")
    asked = set(re.findall(r"\bsplitguard_\w+", rules))
    with systemd.asks_agent() as agent:
        agent.request("GET", "/metrics")
        metrics = agent.getresponse().read().decode()
    told = set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))
    assert len(asked) > 5
    assert asked <= told


def test_a_snapshot_that_is_asked_for_becomes_complete(systemd):
    words = ("--output", "json", "--reason", "acceptance")
    made = json.loads(systemd.splitguard("snapshots", "create", *words))
    listed = json.loads(systemd.splitguard("snapshots", "list", "--output", "json"))
    assert (made["grade"], made["node"]) == ("complete", "n1")
    assert [(each["id"], each["grade"]) for each in listed["snapshots"]] == [
        (made["id"], "complete")
    ]


def test_the_state_folder_and_all_that_is_kept_is_closed_to_others(systemd):
    state = systemd.home / "state"
    open_to_others = [
        path
        for path in (state, *state.rglob("*"))
        if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]
    assert not open_to_others


def test_sigterm_ends_it_within_five_seconds(systemd):
    code, seconds = systemd.stop()
    assert code == 0, systemd.log()
    assert seconds < STOP_S
    systemd.hear("STOPPING=1")
    systemd.start()  # and it comes back
