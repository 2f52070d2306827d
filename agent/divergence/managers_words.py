"""What a manager lost, in its own words: deployments, plugins, users.

Theory of operation. A manager of the Cloudify family (F5's VNF Manager is one) keeps
its things in the tables below, each with a serial number that means nothing across a
fork: past it the same number names different things on the two sides. So things are
matched by the name of their tenant and their own id, never by number, and the tenant
too by its name. What the losing side made is lost unless the winner has one of that
tenant and id; what it deleted and made again was changed. Who did it is told by the
audit log of the losing side, where the manager (6.2 and later) keeps one.
Sources: the schema of a migrated 7.1 manager, and that of 4.5.5.

Differences are read twice, and asked about in batches: a manager may have a million
executions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from agent.divergence.model import Difference, DifferenceKind, Name, Table, Values
from agent.divergence.redaction import shown
from agent.divergence.report import Entity, EntityCount, ManagersLoss

SCHEMA = "public"
LISTED_MAX = 200
"""Things of one kind that a report names; all are counted."""
BATCH = 2000
DELETED_MAX = 100_000
"""Deleted things that are held in mind, to know them again when they were remade."""
AUDIT_MAX = 10_000
"""Entries of the audit log that are held in mind: of what is named, not of all."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing, and where a manager keeps it."""

    word: str
    table: str
    id: str = "id"
    tenant: str = "_tenant_id"
    """The column with its tenant's number; empty: it belongs to none."""
    number: str = "_storage_id"
    created: str = "created_at"
    details: tuple[str, ...] = ()
    idle: frozenset[str] = frozenset()
    """Columns that change by themselves: a change of these alone is none."""


KINDS = (
    Kind("deployment", "deployments", details=("installation_status",)),
    Kind("blueprint", "blueprints"),
    Kind(
        "plugin",
        "plugins",
        created="uploaded_at",
        details=("package_name", "package_version", "distribution"),
    ),
    Kind("secret", "secrets"),
    Kind(
        "user",
        "users",
        id="username",
        tenant="",
        number="id",
        idle=frozenset(
            {
                "last_login_at",
                "first_login_at",
                "last_failed_login_at",
                "failed_logins_counter",
            }
        ),
    ),
    Kind("tenant", "tenants", id="name", tenant="", number="id", created=""),
    Kind("snapshot", "snapshots", details=("status",)),
    Kind("execution", "executions", details=("workflow_id", "status")),
)
"""The weightiest first. Tables: manager_rest/storage/resource_models.py."""
_BY_TABLE = {kind.table: kind for kind in KINDS}
TENANTS = Name(SCHEMA, "tenants")
AUDIT_LOG = Name(SCHEMA, "audit_log")

WAY_BACK = (
    "Files of blueprints, plugins and deployments lie on the manager's disk"
    " (/opt/manager/resources) and not in the database: rows alone do not bring them"
    " back. From 7.0 on a manager's own snapshot does: take one on the losing side's"
    " manager while it runs (`cfy snapshots create`) and restore it on the winner's"
    " (`cfy snapshots restore`), which adds what is missing and keeps what is there. Up"
    " to 6.4 a restore replaces everything: do not use it for this."
)
"""What a manager needs beside rows. Source: what a 7.1 manager did, and the code."""
BORN = (DifferenceKind.LOST, DifferenceKind.COLLISION)
"""Made by the losing side past the fork."""
Row = Mapping[str, str | None]
"""Values by column."""
Key = tuple[str, str]
"""Tenant's name (empty: none) and id."""
Holds = Callable[[Kind, Sequence[Key]], set[Key]]
"""Which of these the winner has."""
Read = Callable[[], Iterable[Difference]]
"""Reads a table's differences from their beginning."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One table of the manager with what is not the same on both sides."""

    table: Table
    read: Read


@dataclass(slots=True)
class _Found:
    """What is known so far of the things of one kind."""

    kind: Kind
    counts: dict[DifferenceKind, int] = field(default_factory=dict)
    listed: list[tuple[str, Entity]] = field(default_factory=list)
    """With the number that the losing side gave it."""

    def add(self, number: str, entity: Entity) -> None:
        self.counts[entity.fate] = self.counts.get(entity.fate, 0) + 1
        if len(self.listed) < LISTED_MAX:
            self.listed.append((number, entity))

    @property
    def count(self) -> EntityCount:
        of = self.counts
        return EntityCount(
            kind=self.kind.word,
            lost=of.get(DifferenceKind.LOST, 0),
            changed=of.get(DifferenceKind.CHANGED, 0),
            deleted=of.get(DifferenceKind.DELETED, 0),
            conflicts=of.get(DifferenceKind.CONFLICT, 0),
            collisions=of.get(DifferenceKind.COLLISION, 0),
        )


def is_managers(tables: Iterable[Table]) -> bool:
    """Whether these tables of one database are a manager's: by names and columns."""
    return any(
        kind is not None
        and table.name.schema == SCHEMA
        and _has(table, kind.number, kind.id, kind.tenant or kind.id)
        and (kind.tenant != "" or _has(table, *_OWN.get(kind.table, ())))
        for table in tables
        for kind in (_BY_TABLE.get(table.name.name),)
    )


# What tells a manager's users and tenants from anybody else's tables of these names.
_OWN = {
    "users": ("api_token_key", "last_login_at"),
    "tenants": ("rabbitmq_username", "rabbitmq_password"),
}


def tell(
    database: str,
    changed: Mapping[Name, Changed],
    tenants: Mapping[str, str],
    holds: Holds,
) -> ManagersLoss:
    """Return what the manager lost.

    `changed` are the tables on which the sides are not agreed; `tenants` the winner's
    tenants, number to name. Raises whatever reading and asking raise.
    """
    known = {**tenants, **dict(_own_tenants(changed.get(TENANTS)))}
    found = [
        _found(kind, changed[name], known, holds)
        for kind in KINDS
        if (name := Name(SCHEMA, kind.table)) in changed
    ]
    told = [each for each in found if each.counts]
    audit = changed.get(AUDIT_LOG)
    who = {} if audit is None else _audited(audit, told)
    return ManagersLoss(
        database=database,
        counts=tuple(each.count for each in told),
        entities=tuple(
            replace(entity, who=who.get((each.kind.table, number), ""))
            for each in told
            for number, entity in each.listed
        ),
        audited=audit is not None,
        note=WAY_BACK,
    )


def _has(table: Table, *columns: str) -> bool:
    return {each.name for each in table.columns}.issuperset(columns)


def _own_tenants(changed: Changed | None) -> Iterator[tuple[str, str]]:
    """Yield number and name of tenants as the losing side has them."""
    if changed is None:
        return
    for difference in changed.read():
        row = _row(changed.table, difference.loser)
        if row.get("id") and row.get("name"):
            yield str(row["id"]), str(row["name"])


def _found(
    kind: Kind, changed: Changed, tenants: Mapping[str, str], holds: Holds
) -> _Found:
    found = _Found(kind)
    known = _Reader(kind, changed.table, tenants)
    deleted = _deleted(found, known, changed)
    differences = (
        each
        for each in changed.read()
        if each.kind is not DifferenceKind.DELETED and known.matters(each)
    )
    while batch := list(islice(differences, BATCH)):
        _judge(found, known, batch, deleted, holds)
    for key, row in deleted.items():
        found.add(known.number(row), known.entity(key, row, DifferenceKind.DELETED))
    return found


def _deleted(found: _Found, known: "_Reader", changed: Changed) -> dict[Key, Row]:
    """Return what was deleted, by key; what is too much to hold is counted at once."""
    deleted: dict[Key, Row] = {}
    for each in changed.read():
        if each.kind is not DifferenceKind.DELETED:
            continue
        row = known.row(each.winner or each.fork)
        key = known.key(row)
        if row and key not in deleted and len(deleted) < DELETED_MAX:
            deleted[key] = row
        else:
            found.add(known.number(row), known.entity(key, row, each.kind))
    return deleted


def _judge(
    found: _Found,
    known: "_Reader",
    batch: Sequence[Difference],
    deleted: dict[Key, Row],
    holds: Holds,
) -> None:
    """Take in a batch: what the losing side made is asked for on the winner."""
    rows = [
        (each.kind, known.row(each.loser or each.winner or each.fork)) for each in batch
    ]
    there = holds(found.kind, [known.key(row) for fate, row in rows if fate in BORN])
    for kept, row in rows:
        key, fate = known.key(row), kept
        if fate in BORN and deleted.pop(key, None) is not None:
            fate = DifferenceKind.CHANGED
        elif fate in BORN:
            both = key in there
            fate = DifferenceKind.COLLISION if both else DifferenceKind.LOST
        found.add(known.number(row), known.entity(key, row, fate))


class _Reader:
    """Reads rows of one kind's table."""

    def __init__(self, kind: Kind, table: Table, tenants: Mapping[str, str]) -> None:
        self._kind = kind
        self._table = table
        self._tenants = tenants

    def row(self, values: Values | None) -> Row:
        return _row(self._table, values)

    def number(self, row: Row) -> str:
        return row.get(self._kind.number) or ""

    def key(self, row: Row) -> Key:
        kind = self._kind
        tenant = row.get(kind.tenant) if kind.tenant else None
        name = "" if tenant is None else self._tenants.get(tenant, f"number {tenant}")
        return name, row.get(kind.id) or ""

    def matters(self, difference: Difference) -> bool:
        """Whether more differs than what changes by itself."""
        loser, winner = self.row(difference.loser), self.row(difference.winner)
        if difference.kind is not DifferenceKind.CHANGED or not loser or not winner:
            return True
        unlike = {column for column in loser if loser[column] != winner.get(column)}
        return not unlike <= self._kind.idle

    def entity(self, key: Key, row: Row, fate: DifferenceKind) -> Entity:
        kind = self._kind
        details = (shown(row.get(column)) for column in kind.details)
        return Entity(
            kind=kind.word,
            tenant=shown(key[0]) or "",
            id=shown(key[1]) or "",
            fate=fate,
            created=shown(row.get(kind.created)) or "",
            detail=" ".join(filter(None, details)),
        )


def _row(table: Table, values: Values | None) -> Row:
    if values is None:
        return {}
    return {c.name: value for c, value in zip(table.columns, values, strict=True)}


def _audited(changed: Changed, told: Sequence[_Found]) -> dict[tuple[str, str], str]:
    """Return who did it: by table and number, of what is listed; the last one wins."""
    wanted = {(each.kind.table, number) for each in told for number, _ in each.listed}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for difference in changed.read():
        row = _row(changed.table, difference.loser)
        place = (row.get("ref_table") or "", row.get("ref_id") or "")
        if place not in wanted or len(found) > AUDIT_MAX:
            continue
        at = row.get("created_at") or ""
        execution = row.get("execution_id")
        who = row.get("creator_name") or (f"execution {execution}" if execution else "")
        if who and at >= found.get(place, ("", ""))[0]:
            found[place] = (at, shown(who) or "")
    return {place: who for place, (_, who) in found.items()}
