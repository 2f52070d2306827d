"""A manager's JSON into records: key by key, and nothing else is kept.

Theory of operation. Answers differ from version to version and come from outside: what
is missing or of another type becomes the record's "not told", texts are bounded and
printable, and lists have an end. An execution's parameters hold the password of the
manager's database in clear; of them only the snapshot's id is read.
Source: the REST service of 4.5.5 to 7.1, as real managers answered.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from agent.vnfm.records import (
    AuditEntry,
    ClusterStart,
    ClusterStatus,
    Execution,
    ExecutionStatus,
    Maintenance,
    ManagerSnapshot,
    Member,
    Service,
    SnapshotStatus,
    Status,
    Token,
    Version,
)
from agent.vnfm.refusals import last_error, line

Plain = Mapping[str, object]
MEMBERS_MAX = 100
SERVICES_MAX = 100
FAILURES_MAX = 20
_Enum = TypeVar("_Enum", bound=StrEnum)


def text(plain: Plain, key: str, limit: int = 300) -> str:
    """Return a text of the object's, printable and bounded; empty when not told."""
    value = plain.get(key)
    return line(value, limit) if isinstance(value, str) else ""


def inner(plain: Plain, key: str) -> Plain:
    """Return an object within the object; empty when it is none."""
    value = plain.get(key)
    return value if isinstance(value, dict) else {}


def items(value: object, limit: int) -> list[Plain]:
    """Return the objects of a list, the first `limit` of them."""
    if not isinstance(value, list):
        return []
    return [one for one in value[:limit] if isinstance(one, dict)]


def snapshot(plain: Plain) -> ManagerSnapshot | None:
    """Return a snapshot; None for the all-null body of an upload onto another one."""
    name = text(plain, "id", 256)
    if not name:
        return None
    return ManagerSnapshot(
        id=name,
        status=_word(SnapshotStatus, plain),
        created_at=text(plain, "created_at", 40),
        tenant=text(plain, "tenant_name"),
        error=text(plain, "error", 1000),
        created_by=text(plain, "created_by"),
    )


def execution(plain: Plain) -> Execution | None:
    """Return an execution without its parameters; None when it is none."""
    name = text(plain, "id", 80)
    if not name:
        return None
    return Execution(
        id=name,
        workflow=text(plain, "workflow_id"),
        status=_word(ExecutionStatus, plain),
        created_at=text(plain, "created_at", 40),
        ended_at=text(plain, "ended_at", 40),
        error=_why(plain),
        snapshot=text(inner(plain, "parameters"), "snapshot_id", 256),
        tenant=text(plain, "tenant_name"),
    )


def version(plain: Plain) -> Version | None:
    """Return what a manager says of its version; None when it says none."""
    numbers = text(plain, "version", 40)
    return Version(numbers, text(plain, "edition", 40)) if numbers else None


def status(plain: Plain) -> Status:
    """Return what an active manager says of its services, of either generation."""
    word = text(plain, "status", 40)
    services = plain.get("services")
    if isinstance(services, dict):
        named = [
            _service(line(name), one)
            for name, one in list(services.items())[:SERVICES_MAX]
            if isinstance(one, dict)
        ]
    else:
        named = [_unit(one) for one in items(services, SERVICES_MAX)]
    return Status(True, word, tuple(named))


def cluster_status(plain: Plain) -> ClusterStatus:
    """Return `/cluster-status` of 5.0.5 and later."""
    members = [
        _member(kind, line(name), node)
        for kind in ("manager", "db", "broker")
        for name, node in inner(inner(inner(plain, "services"), kind), "nodes").items()
        if isinstance(node, dict)
    ]
    return ClusterStatus(text(plain, "status", 40), tuple(members[:MEMBERS_MAX]))


def cluster_nodes(plain: Plain) -> ClusterStatus:
    """Return `/cluster/nodes` of 4.x, and what follows from it for the whole.

    One leader and everybody online is OK; no leader that is online is Fail.
    """
    nodes = items(plain.get("items"), MEMBERS_MAX)
    members = tuple(_node(node) for node in nodes)
    leaders = sum(member.status == "leader" for member in members)
    if not leaders:
        return ClusterStatus("Fail", members)
    well = leaders == 1 and all(
        member.status != "offline" and not member.failures for member in members
    )
    return ClusterStatus("OK" if well else "Degraded", members)


def managers(plain: Plain) -> tuple[Member, ...]:
    """Return `/managers` of 5.x and later; its status is not told there."""
    return tuple(
        Member("manager", text(one, "hostname"), text(one, "private_ip"), "")
        for one in items(plain.get("items"), MEMBERS_MAX)
    )


def cluster_start(plain: Plain) -> ClusterStart:
    """Return how far a 4.x manager is in starting or joining a cluster."""
    logs = items(plain.get("logs"), 1000)
    return ClusterStart(
        plain.get("initialized") is True,
        text(plain, "error", 1000),
        tuple(text(one, "message") for one in logs[-100:]),
    )


def maintenance(plain: Plain) -> Maintenance:
    """Return the maintenance mode; a POST tells its list inside another list."""
    remaining = plain.get("remaining_executions")
    while isinstance(remaining, list) and remaining and isinstance(remaining[0], list):
        remaining = remaining[0]
    count = len(remaining) if isinstance(remaining, list) else 0
    return Maintenance(text(plain, "status", 40), count)


def token(plain: Plain) -> Token | None:
    """Return a token that was made; None when its value is not told."""
    value = plain.get("value")
    if not isinstance(value, str) or not value.isascii():
        return None
    return Token(text(plain, "id"), value, text(plain, "expiration_date", 40))


def audit_entry(plain: Plain) -> AuditEntry:
    """Return one entry of the audit log."""
    about = inner(plain, "ref_identifier")
    number = plain.get("ref_id")
    return AuditEntry(
        at=text(plain, "created_at", 40),
        who=text(plain, "creator_name"),
        operation=text(plain, "operation", 40),
        table=text(plain, "ref_table", 80),
        id=text(about, "id") or (str(number) if isinstance(number, int) else ""),
        tenant=text(about, "tenant_name"),
    )


def _why(plain: Plain) -> str:
    """Return why an execution failed: it is told as a whole traceback, reason last."""
    value = plain.get("error")
    if isinstance(value, str) and "Traceback (most recent call last)" in value:
        return last_error(value, 1000) or text(plain, "error", 1000)
    return text(plain, "error", 1000)


def _word(kind: type[_Enum], plain: Plain) -> _Enum:
    try:
        return kind(text(plain, "status", 40))
    except ValueError:
        return kind("unknown")


def _service(name: str, plain: Plain) -> Service:
    word = text(plain, "status", 40)
    return Service(name, word == "Active", word)


def _unit(plain: Plain) -> Service:
    """Return a service of 4.x: a systemd unit in the shape of its properties."""
    units = items(plain.get("instances"), 1)
    unit = units[0] if units else {}
    word = text(unit, "state", 40) or text(unit, "SubState", 40)
    running = word == "running" or text(unit, "ActiveState") == "active"
    name = text(plain, "display_name") or text(plain, "unit_id")
    return Service(name, running, word or text(unit, "ActiveState", 40))


def _member(kind: str, name: str, plain: Plain) -> Member:
    told = plain.get("failures")
    failures = told[:FAILURES_MAX] if isinstance(told, list) else []
    return Member(
        kind,
        name,
        text(plain, "private_ip") or text(plain, "public_ip"),
        text(plain, "status", 40),
        tuple(line(str(failure)) for failure in failures),
    )


def _node(plain: Plain) -> Member:
    online, master = plain.get("online") is True, plain.get("master") is True
    state = ("leader" if master else "replica") if online else "offline"
    checks = inner(plain, "checks")
    failures = tuple(
        f"{line(name, 40)} fails"
        for name, passed in list(checks.items())[:FAILURES_MAX]
        if passed is False
    )
    address = text(plain, "host_ip") or text(plain, "public_ip")
    return Member("manager", text(plain, "name"), address, state, failures)
