"""What of the configuration must be the same on every node, as digests.

Theory of operation. Agents judge alike only while they hold the same list of nodes, in
the same order, and the same limits. So each one tells its peers a short digest of each
such setting: enough to see that two differ, and nothing of what they are. Of a
connection string only host, port and database go in, so that no password does. What
belongs to one machine (folders, secrets, where it listens) may differ and is left out,
and so is what is taken over without a restart. A loopback address means another
machine on each node: such an address is told as nothing, which differs from nothing.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from agent.config import forms

DIGEST_CHARS = 12
LIMITS = (
    "probe.round_s",
    "probe.deadline_s",
    "capture.enabled",
    "capture.isolation_hold_s",
    "capture.winner_rule",
    "limits.lag_mib",
    "limits.lag_s",
    "guard.max_wait_s",
    "guard.minimum",
)
"""The limits and choices that decide."""


def digests(settings: BaseModel) -> dict[str, str]:
    """Return by setting its digest; empty where it says nothing."""
    told = _values(settings.model_dump(mode="json"))
    return {key: _digest(key, value) if value else "" for key, value in told}


def _digest(key: str, value: str) -> str:
    return hashlib.sha256(f"{key}={value}".encode()).hexdigest()[:DIGEST_CHARS]


def _values(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each setting that must be alike, as a text."""
    nodes, witnesses = settings["nodes"], settings["witnesses"]
    yield "nodes", " ".join(node["name"] for node in nodes)
    yield "witnesses", " ".join(one["name"] for one in witnesses) or "none"
    for member in (*nodes, *witnesses):
        yield f"{member['name']}.agent", _address(member["agent"])
    for node in nodes:
        yield f"{node['name']}.manager", _address(node["manager"])
        yield f"{node['name']}.postgres", _server(node["postgres"])
        yield f"{node['name']}.local", str(node["local"])
    for limit in LIMITS:
        table, key = limit.split(".")
        yield limit, str(settings[table][key])


def _address(url: str | None) -> str:
    """Return an address, or nothing where it is another machine on each node."""
    if url is None:
        return "none"
    return "" if forms.is_loopback(forms.host_of(url)) else url.lower()


def _server(dsn: str | None) -> str:
    """Return where a connection string leads to, without who asks and how."""
    if dsn is None:
        return "none"
    host, port = forms.server_of(dsn)
    if not host or forms.is_loopback(host) or host.startswith("/"):
        return ""
    return f"{host}:{port}/{forms.parse_dsn(dsn).get('dbname', '')}"
