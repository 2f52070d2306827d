"""A pair under repmgr: made, promoted and rejoined with its own commands, by hand.

Theory of operation. There is no daemon: a person promotes the standby while the primary
is cut off, and later has the loser rejoin, as repmgr's manual tells. `--force-rewind`
takes the path of a pg_rewind, which is the shim. Agents and counting are the same as in
a cluster under Patroni.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.postgres.owner import give
from tests.fix_postgres import eventually
from tests.system.cluster import UP_S, Cluster
from tests.system.ledger import TABLE
from tests.system.node import Node
from tests.system.texts import BIN_DIR, PARAMETERS

CONNECT = "host={} user=repmgr dbname=repmgr connect_timeout=2"
CONF = """
node_id={number}
node_name={name}
conninfo='{conninfo}'
data_directory='{data}'
pg_bindir='{bin_dir}'
service_start_command='{bin_dir}/pg_ctl -D {data} -l {here}/server.log -w start'
service_stop_command='{bin_dir}/pg_ctl -D {data} -m fast -w stop'
"""
HBA = """
local all all trust
local replication all trust
host all all 10.88.0.0/24 trust
host replication all 10.88.0.0/24 trust
"""


@dataclass
class RepmgrPair(Cluster):
    """Two nodes without anything that decides for them."""

    names: tuple[str, ...] = ("n1", "n2")

    @property
    def data(self) -> Path:
        """The data folder, as the boxes see it."""
        return self.here / "pg/data"

    def configure(self, node: Node, added: dict[str, Any]) -> None:
        """Write its repmgr.conf."""
        path = node.box.folder / "repmgr.conf"
        path.write_text(
            CONF.format(
                number=self.names.index(node.name) + 1,
                name=node.name,
                conninfo=CONNECT.format(node.box.address),
                data=self.data,
                bin_dir=BIN_DIR,
                here=self.here,
            )
        )
        give(path, self.world.owner)

    def pg_ctl(self, name: str, *words: str) -> None:
        """Run pg_ctl on a node."""
        log = self.here / "server.log"
        self[name].box.run(BIN_DIR / "pg_ctl", "-D", self.data, "-l", log, "-w", *words)

    def repmgr(self, name: str, *words: str | Path) -> str:
        """Run repmgr on a node; return all that it says."""
        conf = self.here / "repmgr.conf"
        ran = self[name].box.run(BIN_DIR / "repmgr", "-f", conf, *words)
        return ran.stdout + ran.stderr

    def start(self) -> None:
        """Make the primary and its standby, and start the agents."""
        first, second = (self[name] for name in self.names)
        first.box.run(
            BIN_DIR / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
            "--no-sync", "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        settings = {
            **PARAMETERS,
            "listen_addresses": "*",
            "unix_socket_directories": str(self.here / "pg"),
        }
        text = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        with (first.data_dir / "postgresql.conf").open("a") as conf:
            conf.write(text)
        (first.data_dir / "pg_hba.conf").write_text(HBA)
        self.pg_ctl(first.name, "start")
        first.query("CREATE ROLE repmgr SUPERUSER LOGIN")
        first.query("CREATE DATABASE repmgr OWNER repmgr")
        first.query(TABLE)
        self.grant(first)
        self.repmgr(first.name, "primary", "register")
        upstream = ("-h", first.box.address, "-U", "repmgr", "-d", "repmgr")
        clone = ("standby", "clone", "--fast-checkpoint")
        self.repmgr(second.name, *upstream, *clone)
        self.pg_ctl(second.name, "start")
        self.repmgr(second.name, "standby", "register")
        for name in self.names:
            self.start_agent(name)
            self.splitguard(name, "guard", "install", "--to", self.shim)
        eventually("the pair is healthy", self.healthy, UP_S)
