"""Work on many files in two steps, the second of which waits for the disk.

Theory of operation. A file that is forced to disk as soon as it was written makes the
file system commit its journal, and whoever writes the next file waits for that. So
BATCH files are written first, by the caller's thread; then all are put on the disk at
once by a few threads, the first taking along what the others need of the journal.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 3
"""More only make the disk seek."""
BATCH = 32
"""So many files are written before the first of them counts."""


def in_batches(
    items: Iterable[T], write: Callable[[T], None], settle: Callable[[T], R]
) -> Iterator[tuple[T, R]]:
    """Write and settle each item, and yield it with what settling gave, in order.

    Raises what either raised; what was written before `write` failed is settled and
    yielded first.
    """
    waiting = iter(items)
    failed: Exception | None = None
    with ThreadPoolExecutor(THREADS, "splitguard-settle") as pool:
        while failed is None:
            written: list[T] = []
            try:
                for item in islice(waiting, BATCH):
                    write(item)
                    written.append(item)
            except Exception as error:  # noqa: BLE001 - told once these are settled
                failed = error
            begun: list[Future[R]] = [pool.submit(settle, one) for one in written]
            for item, future in zip(written, begun, strict=True):
                yield item, future.result()
            if not written:
                break
    if failed is not None:
        raise failed
