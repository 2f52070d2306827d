"""Which scheduled snapshots of a manager stay: properties that hold for any history."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from agent.vnfm.seasons import Item, Limits, surplus

DAY = 86_400.0
BEGIN = datetime(2026, 1, 1, 2, 30, tzinfo=UTC).timestamp()
COUNTS = st.integers(0, 8)
LIMITS = st.builds(Limits, COUNTS, COUNTS, COUNTS, COUNTS)
ITEMS = st.lists(
    st.tuples(st.integers(0, 3 * 366 * 24), st.booleans()), max_size=60
).map(
    lambda found: [
        Item(f"sg-{number}", BEGIN + hours * 3600.0, scheduled)
        for number, (hours, scheduled) in enumerate(found)
    ]
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]).map(ZoneInfo)


def nightly(nights: int) -> list[Item]:
    """One a night."""
    return [Item(f"sg-{day:04d}", BEGIN + day * DAY, True) for day in range(nights)]


@given(ITEMS, LIMITS, ZONES)
def test_the_newest_stays_and_so_does_all_that_the_clock_did_not_order(
    items, limits, zone
):
    going = set(surplus(items, limits, zone))
    assert not going & {one.id for one in items if not one.scheduled}
    for some in (items, [one for one in items if one.scheduled]):
        if some:
            newest = max(some, key=lambda one: (one.created_wall_s, one.id))
            assert newest.id not in going


@given(ITEMS, LIMITS, ZONES)
def test_no_more_stay_than_the_settings_add_up_to(items, limits, zone):
    going = set(surplus(items, limits, zone))
    scheduled = [one for one in items if one.scheduled and one.id not in going]
    wanted = limits.daily + limits.weekly + limits.monthly + limits.yearly
    assert len(scheduled) <= wanted + 1


@given(ITEMS, LIMITS, ZONES)
def test_what_was_left_once_is_left_again(items, limits, zone):
    going = set(surplus(items, limits, zone))
    left = [one for one in items if one.id not in going]
    assert surplus(left, limits, zone) == ()


@given(ITEMS, LIMITS, ZONES)
def test_each_of_the_latest_days_keeps_its_last_one(items, limits, zone):
    going = set(surplus(items, limits, zone))
    last: dict[date, Item] = {}
    for one in sorted(items, key=lambda one: (one.created_wall_s, one.id)):
        if one.scheduled:
            last[datetime.fromtimestamp(one.created_wall_s, zone).date()] = one
    latest = sorted(last)[-limits.daily :] if limits.daily else []
    assert not going & {last[day].id for day in latest}


@given(ITEMS, LIMITS)
def test_looking_every_night_leaves_what_looking_once_leaves(items, limits):
    """What goes early is never what a later look would have kept."""
    kept: list[Item] = []
    for one in sorted(items, key=lambda one: (one.created_wall_s, one.id)):
        kept.append(one)
        gone = set(surplus(kept, limits))
        kept = [each for each in kept if each.id not in gone]
    at_once = set(surplus(items, limits))
    assert {one.id for one in items if one.id not in at_once} <= {
        one.id for one in kept
    }


def test_two_years_of_nights_leave_days_weeks_months_and_years():
    items = nightly(730)
    gone = set(surplus(items, Limits(7, 5, 12, 7)))
    left = [one.id for one in items if one.id not in gone]
    assert left[-7:] == [f"sg-{day:04d}" for day in range(723, 730)]
    assert "sg-0364" in left  # the last of 2026
    # The last two weeks end within the seven days, so three more do not.
    assert len(left) == 7 + 3 + 11 + 1


def test_a_day_begins_at_midnight_in_the_zone_of_the_schedule():
    before = datetime(2026, 3, 1, 22, 30, tzinfo=UTC).timestamp()
    after = datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp()
    items = [Item("a", before, True), Item("b", after, True)]
    one_a_day = Limits(7, 0, 0, 0)
    assert surplus(items, one_a_day) == ("a",)
    assert surplus(items, one_a_day, ZoneInfo("Europe/Berlin")) == ()
