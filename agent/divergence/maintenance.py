"""Which records of the log change no row, and which transactions are no person's doing.

Theory of operation. The list is closed: only what stands here is harmless, and a record
that is not known counts as a write, as nextval, PREPARE, logical messages and large
objects do. Index pages follow the rows, pruning and freezing move no row, locks
change none. ANALYZE commits with a transaction id and rows of its own: a transaction
that changed rows of the planner's statistics alone is maintenance.
Source: rmgrdesc of PostgreSQL 10 to 18, and what pg_waldump printed on real servers.
"""

from collections.abc import Collection

from agent.divergence.model import Relation

HEAP_CHANGES = {
    "Heap/INSERT": "insert",
    "Heap/DELETE": "delete",
    "Heap/UPDATE": "update",
    "Heap/HOT_UPDATE": "update",
    "Heap2/MULTI_INSERT": "many",
}
"""The records that change rows."""

HARMLESS = frozenset(
    {
        # whole managers: index pages follow rows, the rest is bookkeeping
        "Btree", "Hash", "Gin", "Gist", "SPGist", "BRIN", "CLOG", "CommitTs",
        "MultiXact",
        # rows stay as they are
        "Heap/INPLACE", "Heap/LOCK", "Heap/CONFIRM", "Heap/HEAP_CONFIRM",
        "Heap2/PRUNE", "Heap2/PRUNE_ON_ACCESS", "Heap2/PRUNE_VACUUM_SCAN",
        "Heap2/PRUNE_VACUUM_CLEANUP", "Heap2/VACUUM", "Heap2/VISIBLE", "Heap2/CLEAN",
        "Heap2/CLEANUP_INFO", "Heap2/FREEZE_PAGE", "Heap2/LOCK_UPDATED",
        "Heap2/NEW_CID",
        # the log itself
        "XLOG/CHECKPOINT_SHUTDOWN", "XLOG/CHECKPOINT_ONLINE", "XLOG/CHECKPOINT_REDO",
        "XLOG/NOOP", "XLOG/SWITCH", "XLOG/BACKUP_END", "XLOG/PARAMETER_CHANGE",
        "XLOG/FPW_CHANGE", "XLOG/END_OF_RECOVERY", "XLOG/FPI", "XLOG/FPI_FOR_HINT",
        "XLOG/OVERWRITE_CONTRECORD", "XLOG/NEXTOID",
        "Standby/LOCK", "Standby/RUNNING_XACTS", "Standby/INVALIDATIONS",
        # who belongs to whom
        "Transaction/ASSIGNMENT", "Transaction/INVALIDATION",
        "Transaction/INVALIDATIONS",
    }
)  # fmt: skip

HARMLESS_OUTSIDE = frozenset({"Storage/TRUNCATE"})
"""Harmless where no transaction does it: vacuum gives back the empty end of a file."""


def is_maintenance(
    touched: Collection[Relation],
    kinds: Collection[str],
    statistics: Collection[Relation],
) -> bool:
    """Whether a transaction changed nothing but the planner's statistics.

    `statistics` are the files of pg_statistic and pg_statistic_ext_data.
    """
    return not kinds and all(relation in statistics for relation in touched)
