"""Which timeline the lab takes a server to be on: its own, not one that it heard of."""

import pytest

from agent.lab.database import switches_in, timeline_now

SECOND = "1\t0/2000\tno recovery target specified\n"
THIRD = SECOND + "\n2\t0/3000\tno recovery target specified\n"
HISTORIES = {"00000002.history": SECOND, "00000003.history": THIRD}


def row(replayed="0/1000", *, received=None, control=1, wal_file=None):
    return {
        "wal_file": wal_file, "received_tli": received, "control_tli": control,
        "replay_lsn": replayed,
    }  # fmt: skip


def test_a_history_file_lists_timelines_and_where_each_was_left():
    assert [(n, str(lsn)) for n, lsn in switches_in(THIRD)] == [
        (1, "0/2000"), (2, "0/3000"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "received", "timeline"),
    [
        (row(wal_file="000000050000000000000001"), 0, 5),
        (row(received=2), 0, 2),
        (row("0/2000", control=1), 0, 3),  # it is on its way along the histories
        (row("0/2001", control=1), 0, 1),  # it went on where the others left
        (row("0/2001", control=1), 1, 1),
        (row("0/2800", control=1), 2, 3),  # pg_control lags behind the last switch
        (row("0/3001", control=1), 2, 2),
        (row(None), 0, 3),
    ],
)
def test_a_server_is_on_no_timeline_that_was_left_before_its_own_end(
    found, received, timeline
):
    assert timeline_now(found, received, HISTORIES) == timeline


def test_half_of_the_histories_lead_nobody_astray():
    half = {"00000004.history": "3\t0/2000\t-\n"}
    whole = half | {"00000005.history": "3\t0/3000\t-\n"}
    at = row("0/3000", control=3)
    assert timeline_now(at, 3, half) == 3
    assert timeline_now(at, 3, whole) == 5
