"""What a report may say, to the bound, and which words tell of what cannot be."""

from dataclasses import replace

import pytest

from agent.core.care import ManagerSight
from agent.core.observation import (
    CaptureBrief,
    Channel,
    Deaf,
    Heard,
    IncidentBrief,
    MaintenanceBrief,
    Outcome,
    PinBrief,
    Sight,
    Told,
    WritableSpan,
)
from agent.core.plausible import (
    LISTED_MAX,
    WALL_S_MAX,
    XID_MAX,
    impossible_report,
    impossible_sight,
)
from tests.core import given

SEEN = Sight("n3", Channel.AGENT, Outcome.ANSWERED, "", 1.0, 0, None, None)
HEARD = Heard("n1", "boot-n1", 1, 1.0, 0.1)
MANAGER = ManagerSight(active=True, version="7.0.5")
INCIDENT = IncidentBrief("inc-1", "key", 1, "open", "failover", 1.0)
CAPTURE = CaptureBrief("n2-1", "n2", "following", "complete", None)
ENTRIES = {
    "sights": SEEN,
    "writable": WritableSpan(9.0, 1.0),
    "heard": HEARD,
    "incidents": INCIDENT,
    "told": Told("inc-1", "first", 1, delivered=True),
    "captures": CAPTURE,
    "maintenance": MaintenanceBrief("m1", "n2", "ada", "x", 5.0, 60.0, None, ""),
    "pins": PinBrief("n2", "ada", "x", 1, 2.0, None),
    "deaf": Deaf("pager", "refused", 3.0),
}


def wrong(**more) -> str:
    return impossible_report(given.report("n2", **more))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_list_that_no_agent_ever_had_is_told_by_its_name(name):
    at_most = (ENTRIES[name],) * LISTED_MAX
    assert "more than" not in wrong(**{name: at_most})
    beyond = (*at_most, ENTRIES[name])
    assert wrong(**{name: beyond}) == f"it has 1001 {name}, more than 1000"


def test_settings_beyond_all_measure_are_told_too():
    many = {f"s{number}": "x" for number in range(LISTED_MAX + 1)}
    assert wrong(settings=many) == "it has 1001 settings, more than 1000"
    del many["s0"]
    assert wrong(settings=many) == ""


def test_so_are_spent_numbers():
    many = {f"k{number}": 1 for number in range(LISTED_MAX + 1)}
    assert wrong(spent=many) == "it has 1001 spent numbers, more than 1000"
    del many["k0"]
    assert wrong(spent=many) == ""


@pytest.mark.parametrize(("name", "entry"), [("sights", SEEN), ("heard", HEARD)])
def test_of_one_thing_a_report_tells_once(name, entry):
    assert wrong(**{name: (entry,)}) == ""
    assert wrong(**{name: (entry, entry)}) == f"its {name} tell of one thing twice"


def test_of_one_node_each_channel_may_be_told_of():
    assert wrong(sights=tuple(replace(SEEN, channel=one) for one in Channel)) == ""


@pytest.mark.parametrize(
    ("sight", "possible"),
    [
        ({"channel": Channel.POSTGRES, "postgres": given.sight()}, True),
        ({"channel": Channel.AGENT, "postgres": given.sight()}, False),
        ({"channel": Channel.MANAGER, "postgres": given.sight()}, False),
        ({"channel": Channel.MANAGER, "manager": MANAGER}, True),
        ({"channel": Channel.POSTGRES, "manager": MANAGER}, False),
        (
            {
                "channel": Channel.POSTGRES,
                "postgres": given.sight(),
                "outcome": Outcome.TIMED_OUT,
            },
            False,
        ),
        ({"channel": Channel.POSTGRES, "outcome": Outcome.TIMED_OUT}, True),
    ],
)
def test_a_channel_tells_what_is_its_own_and_only_when_it_has_answered(sight, possible):
    found = wrong(sights=(replace(SEEN, **sight),))
    assert (found == "") is possible
    assert possible or found.endswith("and with an answer of another channel")


def test_what_a_peer_tells_of_a_server_is_judged_like_an_answer_of_it():
    absurd = replace(SEEN, channel=Channel.POSTGRES, postgres=given.sight(timeline=0))
    assert wrong(sights=(absurd,)).startswith("'n3' by postgres: timeline 0")


@pytest.mark.parametrize(
    ("number", "possible"),
    [(None, True), (-1, False), (0, True), (XID_MAX - 1, True), (XID_MAX, False)],
)
def test_a_transaction_id_has_64_bits(number, possible):
    found = impossible_sight(given.sight(next_xid=number))
    assert found == ("" if possible else f"next transaction id {number}")


@pytest.mark.parametrize(
    ("wall_s", "possible"),
    [(0.0, True), (-1.0, False), (WALL_S_MAX, True), (WALL_S_MAX + 1.0, False)],
)
@pytest.mark.parametrize(
    "dated",
    [
        lambda wall_s: {"wall_s": wall_s},
        lambda wall_s: {"incidents": (replace(INCIDENT, since_wall_s=wall_s),)},
        lambda wall_s: {"captures": (replace(CAPTURE, ordered_wall_s=wall_s),)},
    ],
    ids=["report", "incident", "capture"],
)
def test_a_date_is_one_that_a_calendar_has(dated, wall_s, possible):
    found = wrong(**dated(wall_s))
    assert found == ("" if possible else "a date that no calendar has")
