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
from typing import TYPE_CHECKING

from agent.config import forms

if TYPE_CHECKING:
    from agent.config.model import NodeSettings, Settings

DIGEST_CHARS = 12


def digests(settings: "Settings") -> dict[str, str]:
    """Return by setting its digest; empty where it says nothing."""
    told = dict(_values(settings))
    return {key: _digest(key, value) if value else "" for key, value in told.items()}


def _digest(key: str, value: str) -> str:
    return hashlib.sha256(f"{key}={value}".encode()).hexdigest()[:DIGEST_CHARS]


def _values(settings: "Settings") -> Iterator[tuple[str, str]]:
    """Yield each setting that must be alike, as a text."""
    yield "nodes", " ".join(node.name for node in settings.nodes)
    yield "witnesses", " ".join(one.name for one in settings.witnesses) or "none"
    for member in settings.members:
        yield from _of_member(member)
    yield "probe.round_s", str(settings.probe.round_s)
    yield "probe.deadline_s", str(settings.probe.deadline_s)
    yield "capture.enabled", str(settings.capture.enabled)
    yield "capture.isolation_hold_s", str(settings.capture.isolation_hold_s)
    yield "capture.winner_rule", settings.capture.winner_rule.value
    yield "limits.lag_mib", str(settings.limits.lag_mib)
    yield "limits.lag_s", str(settings.limits.lag_s)
    yield "guard.max_wait_s", str(settings.guard.max_wait_s)


def _of_member(member: "NodeSettings") -> Iterator[tuple[str, str]]:
    """Yield how one member is reached."""
    yield f"{member.name}.agent", _address(member.agent)
    yield f"{member.name}.manager", _address(member.manager)
    yield f"{member.name}.postgres", _server(member.postgres)
    yield f"{member.name}.local", str(member.local)


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
