"""The WAL tail, on segment files made by hand: what it believes and what it refuses."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.lsn import Lsn, wal_file_name
from agent.snapshot.segment import parse_name
from agent.snapshot.tail import LeftError, RecycledError, WalTail

SIZE = 1 << 20
SYSTEM = 42


class Wal:
    """A pg_wal folder whose segments hold what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(
        self, number: int, body: bytes = b"", timeline: int = 1, **header: int
    ) -> Path:
        """Write a segment: a first page's header, `body` behind it, zeros."""
        packed = struct.pack(
            "=HHIQI4xQII",
            0xD113, 2, header.get("born", timeline),
            header.get("address", number * SIZE), 0, header.get("system", SYSTEM),
            SIZE, 8192,
        )  # fmt: skip
        path = self.folder / self.name(number, timeline)
        path.write_bytes((packed + body).ljust(SIZE, b"\0"))
        return path

    def name(self, number: int, timeline: int = 1) -> str:
        return wal_file_name(timeline, Lsn(number * SIZE), SIZE)


@pytest.fixture
def wal(tmp_path: Path) -> Wal:
    return Wal(tmp_path / "pg_wal")


@pytest.fixture
def tail(tmp_path: Path, wal: Wal) -> Iterator[WalTail]:
    made = WalTail(wal.folder, tmp_path, SIZE, str(SYSTEM), lambda _: None)
    made.begin(at(1))
    yield made
    made.close()


def at(number: int, offset: int = 0) -> Lsn:
    return Lsn(number * SIZE + offset)


def kept(tmp_path: Path, wal: Wal, number: int, timeline: int = 1) -> bytes:
    return (tmp_path / "wal" / wal.name(number, timeline)).read_bytes()


def test_the_name_of_a_segment_says_where_it_belongs():
    assert parse_name("000000020000000100000003", SIZE).number == 4096 + 3  # type: ignore[union-attr] # it is one
    for name in ("00000002.history", "archive_status", "00000002000000010000000g"):
        assert parse_name(name, SIZE) is None


@pytest.mark.fact("padded-segment")
def test_the_open_segment_is_kept_up_to_what_was_flushed_and_padded(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    source = wal.write(1, b"a" * 5000)
    assert tail.advance(1, at(1, 3000))
    copy = kept(tmp_path, wal, 1)
    assert len(copy) == SIZE
    assert copy[:3000] == source.read_bytes()[:3000]
    assert copy[3000:] == bytes(SIZE - 3000)
    assert tail.advance(1, at(1, 4000))
    assert kept(tmp_path, wal, 1)[:4000] == source.read_bytes()[:4000]
    assert not tail.advance(1, at(1, 4000))
    assert (tail.start_lsn, tail.tail_lsn) == (at(1), at(1, 4000))


def test_what_nobody_has_confirmed_goes_first(tmp_path: Path, wal: Wal, tail: WalTail):
    for number in (1, 2, 3):
        wal.write(number)
    tail.advance(1, at(3, 100), urgent=at(2, 50))
    assert {path.name for path in (tmp_path / "wal").iterdir()} == {
        wal.name(2), wal.name(3),
    }  # fmt: skip
    assert tail.start_lsn == at(2)
    tail.advance(1, at(3, 100))
    assert tail.start_lsn == at(1)


def test_a_recycled_segment_is_not_taken_for_what_its_name_says(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1)
    wal.write(2, b"old", address=0)
    with pytest.raises(RecycledError):
        tail.advance(1, at(3))


@pytest.mark.parametrize("header", [{"system": 7}, {"born": 2}])
def test_a_foreign_segment_is_not_taken(wal: Wal, tail: WalTail, header: dict):
    wal.write(1, **header)
    with pytest.raises(RecycledError):
        tail.advance(1, at(1, 100))


def test_a_segment_that_was_recycled_is_found_under_its_new_name(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1)
    tail.advance(1, at(1, 100))
    content = wal.write(2, b"b" * 9000).read_bytes()
    (wal.folder / wal.name(2)).rename(wal.folder / wal.name(7))
    wal.write(3)
    tail.advance(1, at(3, 100))
    assert kept(tmp_path, wal, 2) == content


def test_the_open_segment_is_kept_though_it_was_removed(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    source = wal.write(1, b"c" * 9000)
    tail.advance(1, at(1, 100))
    content = source.read_bytes()
    source.unlink()
    wal.write(2)
    tail.advance(1, at(2, 100))
    assert kept(tmp_path, wal, 1) == content


def test_a_gap_is_told_and_never_papered_over(wal: Wal, tail: WalTail):
    wal.write(1)
    tail.advance(1, at(1, 100))
    wal.write(3)
    with pytest.raises(RecycledError):
        tail.advance(1, at(3, 100))
    assert tail.tail_lsn == at(1, 100)


def test_a_promotion_is_followed_over_the_switch(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1)
    wal.write(2, b"d" * 500)
    tail.advance(1, at(2, 400))
    (wal.folder / "00000002.history").write_text("1\t0/200190\tno reason\n")
    wal.write(2, b"d" * 300 + b"e" * 500, timeline=2, born=1)
    wal.write(3, timeline=2)
    tail.advance(2, at(3, 100))
    assert (tail.timeline, tail.start_lsn) == (2, at(1))
    assert b"e" * 500 in kept(tmp_path, wal, 2, timeline=2)
    assert (tmp_path / "wal" / "00000002.history").exists()


def test_overwritten_wal_is_noticed_and_the_kept_one_not_touched(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1, b"mine" * 2000)
    tail.advance(1, at(1, 6000))
    before = kept(tmp_path, wal, 1)
    wal.write(1, b"other" * 2000)
    with pytest.raises(LeftError):
        tail.advance(1, at(1, 7000))
    assert kept(tmp_path, wal, 1) == before


def test_an_end_that_a_crash_took_back_is_noticed_at_the_seam(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1, b"f" * (SIZE - 40))
    wal.write(2)
    tail.advance(1, at(2))
    wal.write(1, b"f" * (SIZE - 5000) + b"g" * 4960)
    with pytest.raises(LeftError):
        tail.advance(1, at(2, 100))
    tail.step_back(at(1, SIZE - 5000))
    assert kept(tmp_path, wal, 1)[SIZE - 5000 :] == bytes(5000)
    tail.advance(1, at(2, 100))
    assert kept(tmp_path, wal, 1).endswith(b"g" * 4960)


def test_a_tail_that_an_earlier_agent_kept_goes_on_from_its_manifest(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1)
    source = wal.write(2, b"h" * 9000)
    tail.advance(1, at(2, 500))
    wal.folder.joinpath(wal.name(1)).unlink()
    again = WalTail(wal.folder, tmp_path, SIZE, str(SYSTEM), lambda _: None)
    again.resume(tail.entries, at(1), 1, at(2, 500))
    again.advance(1, at(2, 8000))
    again.close()
    assert kept(tmp_path, wal, 2)[:8000] == source.read_bytes()[:8000]
    assert again.start_lsn == at(1)
    hashes = {Path(entry.path).name: entry.sha256 for entry in again.entries}
    assert hashes[wal.name(1)] is not None
    assert hashes[wal.name(2)] is None


def test_a_stopped_server_gives_all_that_it_has(
    tmp_path: Path, wal: Wal, tail: WalTail
):
    wal.write(1)
    wal.write(1, b"i", timeline=3)
    wal.write(2, address=99 * SIZE)
    tail.advance(1, at(1, 100))
    tail.take_rest()
    names = {path.name for path in (tmp_path / "wal").iterdir()}
    assert names == {wal.name(1), wal.name(1, timeline=3)}


def test_kept_segments_are_closed_to_others(tmp_path: Path, wal: Wal, tail: WalTail):
    wal.write(1)
    (wal.folder / wal.name(1)).chmod(0o644)
    tail.advance(1, at(1, 100))
    for path in (tmp_path / "wal").iterdir():
        assert path.stat().st_mode & 0o077 == 0
