"""The configuration files of a real cluster, each a function that returns its text.

Theory of operation. Every box sees its own folder at one path, so one agent.toml serves
all nodes, as the product wants it. Patroni's files differ by name and address; JSON is
YAML, so no writer of YAML is needed. The three flags that Cloudify's installer sets are
all on: Patroni may rewind a loser, and may wipe one that it cannot rewind.
"""

import json
from pathlib import Path
from typing import Any

AGENT_PORT = 8009
POSTGRES_PORT = 5432
PATRONI_PORT = 8008
ETCD_PORT = 2379
SCOPE = "demo"
BIN_DIR = Path("/usr/lib/postgresql/15/bin")
TTL_S = 20
"""Patroni's floor: lower values are raised to it."""
WIPES = {
    "use_pg_rewind": True,
    "remove_data_directory_on_rewind_failure": True,
    "remove_data_directory_on_diverged_timelines": True,
}
PARAMETERS = {
    "wal_log_hints": "on",
    "wal_keep_size": "128MB",
    "max_wal_size": "256MB",
    "wal_init_zero": "off",
    "wal_recycle": "on",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
    "wal_retrieve_retry_interval": "500ms",
    "max_connections": 60,
}


def wiring(shim: Path, replica: Path | None) -> dict[str, Any]:
    """Return what the guard's user adds to section `postgresql` of a patroni.yml."""
    added: dict[str, Any] = {"bin_name": {"pg_rewind": str(shim)}}
    if replica is not None:
        added["create_replica_methods"] = ["splitguard"]
        added["splitguard"] = {"command": str(replica), "keep_data": True}
    return added


def patroni(
    name: str, address: str, etcd: str, here: Path, added: dict[str, Any]
) -> str:
    """Return a node's patroni.yml; `added` goes into its section `postgresql`."""
    settings = {
        "scope": SCOPE,
        "name": name,
        "log": {"level": "INFO", "format": "%(asctime)s %(levelname)s %(message)s"},
        "restapi": {
            "listen": f"{address}:{PATRONI_PORT}",
            "connect_address": f"{address}:{PATRONI_PORT}",
        },
        "etcd3": {"host": f"{etcd}:{ETCD_PORT}"},
        "bootstrap": {
            "dcs": {
                "ttl": TTL_S,
                "loop_wait": 1,
                "retry_timeout": 3,
                "postgresql": {"use_slots": True, "parameters": PARAMETERS, **WIPES},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
        },
        "postgresql": {
            "listen": f"{address}:{POSTGRES_PORT}",
            "connect_address": f"{address}:{POSTGRES_PORT}",
            "data_dir": str(here / "pg/data"),
            "pgpass": str(here / "pg/pgpass"),
            "bin_dir": str(BIN_DIR),
            "authentication": {
                "superuser": {"username": "postgres"},
                "replication": {"username": "replicator"},
            },
            "parameters": {"unix_socket_directories": str(here / "pg")},
            "pg_hba": [
                "local all all trust",
                "local replication all trust",
                "host all all 10.88.0.0/24 trust",
                "host replication all 10.88.0.0/24 trust",
            ],
            "basebackup": [{"checkpoint": "fast"}],
            **WIPES,
            **added,
        },
        "watchdog": {"mode": "off"},
    }
    return json.dumps(settings, indent=1)


def agent(nodes: dict[str, str], here: Path, secrets: Path) -> str:
    """Return the one agent.toml of all nodes, given their addresses."""
    parts = [
        'cluster = "demo"',
        f'listen = "0.0.0.0:{AGENT_PORT}"',
        f'state_dir = "{here}/state"',
        f'socket = "{here}/agent.sock"',
    ]
    for name, address in nodes.items():
        parts += [
            "\n[[nodes]]",
            f'name = "{name}"',
            f'agent = "https://{address}:{AGENT_PORT}"',
            f'postgres = "host={address} user=splitguard_probe dbname=postgres"',
        ]
    parts += [
        "\n[tls]",
        f'ca = "{secrets}/ca.pem"',
        f'cert = "{secrets}/agent.pem"',
        f'key = "{secrets}/agent.key"',
        "\n[auth]",
        f'peer_token_file = "{secrets}/peer.token"',
        f'tokens_file = "{secrets}/tokens.jsonl"',
        "\n[local]",
        f'data_dir = "{here}/pg/data"',
        f'bin_dir = "{BIN_DIR}"',
        f'socket_dir = "{here}/pg"',
        "\n[capture]",
        f'dir = "{here}/keep"',
        "reserve = 16",
    ]
    return "\n".join(parts) + "\n"
