"""A report as plain JSON, in the shape that the HTTP API publishes.

Theory of operation. The command line, the page and the API give a report in one shape,
so that a program does not notice who answered: instants are RFC 3339 in UTC, positions
are texts as PostgreSQL prints them, what is not known is null. What can be counted is
counted here, so that no reader has to. `agent.api.models_loss` publishes the same shape
as a schema, and a test holds the two together.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.core.lsn import Lsn
from agent.divergence.headline_of_loss import next_step
from agent.divergence.report import (
    Cell,
    Counts,
    Entity,
    EntityCount,
    ManagersLoss,
    Report,
    Sample,
    Side,
    TableLoss,
    Wrote,
)
from agent.divergence.rescued import is_counted

Plain = dict[str, Any]


def plain(report: Report) -> Plain:
    """Return the report in the shape of the HTTP API."""
    winner = report.winner
    return {
        "cluster": report.cluster,
        "node": report.node,
        "snapshot": report.snapshot_id,
        "incidents": list(report.incident_ids),
        "made": instant(report.made_s),
        "headline": report.headline,
        "next_step": next_step(report),
        "fork": {"timeline": report.fork_timeline, "lsn": str(report.fork_lsn)},
        "end_lsn": str(report.end_lsn),
        "bytes": report.bytes,
        "loser": _side(report.loser),
        "winner": None
        if winner is None
        else {
            "name": winner.name,
            "lsn": _lsn(winner.lsn),
            "at": instant(winner.at_s),
            **_side(winner.side),
        },
        "totals": {**_counts(report.counts), **_wrote(report.wrote)},
        "managers": [_manager(each) for each in report.managers],
        "tables": [_table(each) for each in _ordered(report.tables)],
        "objects": [
            {
                "kind": each.kind,
                "name": each.name,
                "what": each.what,
                "database": each.database or None,
            }
            for each in report.objects
        ],
        "not_compared": [
            {"what": each.what, "reason": each.reason} for each in report.gaps
        ],
        **_promises(report),
        "rescues": [
            {
                "at": instant(each.at_s),
                "who": each.who,
                "reason": each.reason,
                "database": each.database,
                "server": each.server,
                "rows": each.rows if each.ended else None,
                "counted": is_counted(each, report),
            }
            for each in report.rescues
        ],
    }


def _promises(report: Report) -> Plain:
    """Return what clients, receivers and people were told or told us."""
    return {
        "perhaps_never_acknowledged": [
            {
                "count": each.count,
                "first": instant(each.first_s),
                "last": instant(each.last_s),
            }
            for each in report.waiting
        ],
        "perhaps_delivered": [
            {
                "slot": each.slot,
                "database": each.database,
                "plugin": each.plugin,
                "lsn": str(each.lsn),
            }
            for each in report.delivered
        ],
        "released": [
            {
                "node": each.node,
                "who": each.who,
                "reason": each.reason,
                "at": instant(each.at_s),
                "protected_lsn": _lsn(each.protected_lsn),
            }
            for each in report.released
        ],
    }


def instant(instant_s: float | None) -> str | None:
    """Return an instant as RFC 3339 prints it."""
    if instant_s is None:
        return None
    text = datetime.fromtimestamp(instant_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _lsn(lsn: Lsn | None) -> str | None:
    return None if lsn is None else str(lsn)


def _side(side: Side) -> Plain:
    return {
        "committed": side.committed,
        "aborted": side.aborted,
        "user": side.user,
        "maintenance": side.maintenance,
        "first": instant(side.first_s),
        "last": instant(side.last_s),
    }


def _counts(counts: Counts) -> Plain:
    return {
        "lost": counts.lost,
        "changed": counts.changed,
        "deleted": counts.deleted,
        "conflicts": counts.conflicts,
        "collisions": counts.collisions,
        "equal": counts.equal,
        "unknown": counts.unknown,
    }


def _wrote(wrote: Wrote) -> Plain:
    return {"wrote": {"inserted": wrote.born, "changed": wrote.changed,
                      "deleted": wrote.gone}}  # fmt: skip


def _ordered(tables: Sequence[TableLoss]) -> list[TableLoss]:
    """Return the tables with the most differences first."""
    return sorted(
        tables,
        key=lambda each: (
            -each.counts.differing,
            -each.counts.unknown,
            -each.wrote.rows,
            each.database,
            each.root or each.name,
            each.name,
        ),
    )


def _table(table: TableLoss) -> Plain:
    return {
        "database": table.database,
        "schema_name": table.schema,
        "table": table.table,
        "partition_of": table.root or None,
        "key": list(table.key),
        **_counts(table.counts),
        **_wrote(table.wrote),
        "whole": table.whole,
        "note": table.note or None,
        "redacted": list(table.redacted),
        "samples": [_sample(each) for each in table.samples],
    }


def _sample(sample: Sample) -> Plain:
    return {
        "kind": sample.kind.value,
        "key": _cells(sample.key),
        "row": _cells(sample.row),
        "contrasts": [
            {"column": each.column, "loser": each.loser, "winner": each.winner}
            for each in sample.contrasts
        ],
        "note": sample.note or None,
    }


def _cells(cells: Iterable[Cell]) -> list[Plain]:
    return [{"column": each.column, "value": each.value} for each in cells]


def _manager(manager: ManagersLoss) -> Plain:
    return {
        "database": manager.database,
        "counts": [_entity_count(each) for each in manager.counts],
        "entities": _entities(manager.entities),
        "audited": manager.audited,
        "note": manager.note or None,
    }


def _entity_count(count: EntityCount) -> Plain:
    return {
        "kind": count.kind,
        "lost": count.lost,
        "changed": count.changed,
        "deleted": count.deleted,
        "conflicts": count.conflicts,
        "collisions": count.collisions,
    }


def _entities(entities: Iterable[Entity]) -> list[Plain]:
    return [
        {
            "kind": each.kind,
            "tenant": each.tenant or None,
            "id": each.id,
            "fate": each.fate.value,
            "created": each.created or None,
            "who": each.who or None,
            "detail": each.detail or None,
        }
        for each in entities
    ]
