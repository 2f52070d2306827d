"""The WAL chain of a copy: every record from its start to its end, without a gap.

Theory of operation. pg_waldump reads the kept segments, not the server's. A check
that was made once is not made again: the next one begins where the last one ended.
Where that position is no good place to begin, the whole chain is read.
"""

from agent.core.lsn import Lsn
from agent.errors import CaptureError
from agent.postgres import wal
from agent.postgres.programs import Programs
from agent.snapshot.manifest import WAL
from agent.snapshot.record import Record


class BrokenChainError(CaptureError):
    """The kept WAL ends before the copy is of any use."""


def check_copy(record: Record, programs: Programs | None) -> None:
    """Prove the record's full copy as far as its WAL goes.

    Raises BrokenChainError when the chain ends before the copy is consistent;
    CaptureError when it cannot be checked; PostgresError when pg_waldump cannot run.
    """
    with record.lock:
        copy, upto, lineage = record.copy, record.tail_lsn, record.lineage
        known, settled = record.end_lsn, record.settled_lsn
    if copy is None or upto is None or lineage is None:
        return
    if programs is None:
        why = record.no_programs or "PostgreSQL's programs were not found"
        raise CaptureError(
            "the copy is read back and kept, but its WAL cannot be checked and it"
            f" cannot be opened here: {why}",
        )
    folder = record.folder / WAL
    end = known or Lsn(0)
    if known is not None and known < upto:
        end = wal.check_chain(programs, folder, lineage, known, upto)
    if known is None or (end < upto and settled == upto):
        end = wal.check_chain(programs, folder, lineage, copy.copy_lsn, upto)
    if end < copy.needed_lsn:
        raise BrokenChainError(
            f"the kept WAL ends at {end}, before {copy.needed_lsn} that the copy needs"
        )
    record.prove(end)
