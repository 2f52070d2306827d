"""Files that are written first and put on the disk together."""

import pytest

from agent.snapshot.overlap import BATCH, in_batches


def test_each_item_is_written_before_its_batch_is_settled_and_comes_out_in_order():
    written: list[int] = []

    def settle(item: int) -> str:
        assert item in written
        return f"settled {item}"

    found = list(in_batches(range(2 * BATCH + 3), written.append, settle))
    assert found == [(n, f"settled {n}") for n in range(2 * BATCH + 3)]
    assert list(in_batches([], written.append, settle)) == []


def test_what_was_written_before_a_failure_counts_and_nothing_after_it():
    def write(item: int) -> None:
        if item == 2:
            raise ValueError("no room")

    work = in_batches(range(5), write, str)
    assert [next(work), next(work)] == [(0, "0"), (1, "1")]
    with pytest.raises(ValueError, match="no room"):
        next(work)


def test_what_could_not_be_put_on_the_disk_is_told():
    def settle(item: int) -> int:
        if item == 1:
            raise OSError("it failed")
        return item

    with pytest.raises(OSError, match="it failed"):
        list(in_batches(range(3), lambda _: None, settle))
