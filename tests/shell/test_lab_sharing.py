"""Which archives of snapshots a stand-in manager fetches from another one."""

import os
from pathlib import Path

from agent.lab.sharing import Archive, listed, wanted
from agent.lab.web import BODY_BYTES_MAX

TOLD = Archive("daily", 10, 100.0)


def test_what_is_not_here_and_is_whole_is_fetched():
    assert wanted({}, [TOLD], {"daily"}) == [TOLD]


def test_what_was_deleted_or_is_being_made_is_not():
    assert wanted({}, [TOLD], {"other"}) == []


def test_of_two_of_one_name_the_later_one_holds():
    older, newer = Archive("daily", 10, 99.0), Archive("daily", 12, 101.0)
    assert wanted({"daily": older}, [TOLD], {"daily"}) == [TOLD]
    assert wanted({"daily": TOLD}, [TOLD], {"daily"}) == []
    assert wanted({"daily": newer}, [TOLD], {"daily"}) == []


def test_what_would_not_fit_in_one_answer_stays_where_it_is():
    large = Archive("daily", BODY_BYTES_MAX + 1, 100.0)
    assert wanted({}, [large], {"daily"}) == []


def test_only_whole_archives_are_told_of(tmp_path: Path):
    folder = tmp_path / "snapshots" / "daily"
    folder.mkdir(parents=True)
    (folder / "daily.zip").write_bytes(b"0123456789")
    os.utime(folder / "daily.zip", (100.0, 100.0))
    (folder / ".aside").write_bytes(b"half")
    (folder / "daily.zip.part").write_bytes(b"half")
    (tmp_path / "snapshots" / ".uploading").mkdir()
    assert listed(tmp_path) == {"daily": TOLD}
