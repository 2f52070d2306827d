"""What may come in from elsewhere, as strategies for Hypothesis.

Most of it is made by damaging something good: a value that is right but for one place
gets further than noise. `damaged` changes plain JSON values in a few places, `hostile`
makes answers that have every type right and may still contradict themselves.
"""

import copy
import json
import math
from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

from agent.core.lineage import Fingerprint, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.observation import (
    Channel,
    Heard,
    Observation,
    Outcome,
    Report,
    Sight,
    WritableSpan,
)
from tests.core import given

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 2**31, 2**32, -(2**63), 2**64, 2**70, 10**400,
        0.5, -0.5, 1e18, -1e18, 1e308, math.inf, -math.inf, math.nan,
        "", "n1", "n2", "n9", "test", "answered", "timed-out", "postgres", "agent",
        "0/0", "0/1000", "FFFFFFFF/FFFFFFFF", "0/100000000", "1/", "-1", "x" * 5000,
        "\x00", "\x1b[2J", "\ud800", "\u202e", [], [[]], [None], {}, {"a": {}},
    ]
)  # fmt: skip
"""Values of any type, at the ends of what their kinds can hold and beyond."""

LSNS = st.sampled_from(
    [0, 1, 0x100, 0xFFF, 0x1000, 0x1001, 0x1100, 2**32, 2**63, 2**64 - 1]
).map(Lsn)
AGES = st.sampled_from([-1e9, -1.0, -0.1, 0.0, 0.5, 1.0, 3.0, 60.0, 1e6, 1e10, 1e300])
TIMELINES = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**63])
NODES = st.sampled_from(["n1", "n2", "n3", "n9", ""])
COUNTS = st.sampled_from([-(2**63), -1, 0, 1, 3, 10**6, 2**64])


def places(plain: Any, before: tuple = ()) -> list[tuple]:
    """Every place in a plain value, as the keys that lead there."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain)
    found = []
    for key, value in inner:
        found.append((*before, key))
        if isinstance(value, dict | list):
            found += places(value, (*before, key))
    return found


@st.composite
def damaged(draw: st.DrawFn, whole: Any, most: int = 3) -> Any:
    """`whole` with some of its places gone, twice there, or of another value."""
    plain = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        known = places(plain)
        if not known:
            return plain
        *way, last = draw(st.sampled_from(known))
        at = plain
        for key in way:
            at = at[key]
        change = draw(st.sampled_from(["replace", "remove", "again", "move"]))
        if change == "remove":
            del at[last]
        elif change == "again" and isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
        elif change == "move":
            *other_way, other = draw(st.sampled_from(known))
            at[last] = copy.deepcopy(_found(plain, (*other_way, other)))
        else:
            at[last] = copy.deepcopy(draw(ODD))  # or a later change would stay
    return plain


def _found(plain: Any, way: tuple) -> Any:
    for key in way:
        try:
            plain = plain[key]
        except (KeyError, IndexError, TypeError):
            return None
    return plain


@st.composite
def texts_of(draw: st.DrawFn, whole: Any) -> bytes:
    """A damaged value as JSON text, which may be damaged once more as a text."""
    text = json.dumps(draw(damaged(whole)))
    change = draw(st.sampled_from(["", "", "cut", "twice", "deep", "bytes"]))
    if change == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    elif change == "twice" and text.startswith('{"'):
        text = '{"format": 7, ' + text[1:]
    elif change == "deep":
        text = text.replace("null", "[" * 5000 + "]" * 5000, 1)
    raw = text.encode("utf-8", "surrogatepass")
    if change == "bytes":
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at:]
    return raw


LINEAGES = st.builds(
    Lineage,
    st.sampled_from([given.SYSTEM, "1", ""]),
    TIMELINES,
    st.lists(st.builds(Switch, TIMELINES, LSNS), max_size=4).map(tuple),
    st.lists(
        st.builds(Fingerprint, TIMELINES, LSNS, st.sampled_from(["a" * 64, ""])),
        max_size=3,
    ).map(tuple),
)
SIGHTS = st.builds(
    lambda changes: replace(given.sight(), **changes),
    st.fixed_dictionaries(
        {},
        optional={
            "system_id": st.sampled_from([given.SYSTEM, "1", ""]),
            "in_recovery": st.booleans(),
            "timeline": st.none() | TIMELINES,
            "control_timeline": st.none() | TIMELINES,
            "write_lsn": st.none() | LSNS,
            "flush_lsn": st.none() | LSNS,
            "replay_lsn": st.none() | LSNS,
            "postmaster_started": st.sampled_from(["n1 run 1", "n2 run 1", "", "x"]),
            "next_xid": st.none() | COUNTS,
            "upstream": st.sampled_from([None, "n1:5432", ""]),
            "receiver_mark": st.sampled_from([None, "", "a", "b"]),
            "waiting_for_sync": COUNTS,
            "waiting_for_sync_s": AGES,
        },
    ),
)
FACTS = st.builds(
    lambda changes: replace(given.facts(), **changes),
    st.fixed_dictionaries(
        {},
        optional={
            "identity": st.sampled_from(["boot:n1", "boot:n2", ""]),
            "lineage": LINEAGES,
            "checkpoint_lsn": LSNS,
            "redo_lsn": LSNS,
            "running": st.booleans(),
            "standby_signal": st.booleans(),
            "end_lsn": st.none() | LSNS,
            "wal_segment_bytes": st.sampled_from([1 << 24, 0, -1, 3, 2**64]),
            "control_state": st.sampled_from(["in production", "shut down", ""]),
            "single_user": st.booleans(),
        },
    ),
)
MATRIX = st.builds(
    Sight,
    NODES,
    st.sampled_from(Channel),
    st.sampled_from(Outcome),
    st.sampled_from(["", "no answer"]),
    AGES,
    COUNTS,
    st.none() | SIGHTS,
    st.none(),
)
SPANS = st.builds(WritableSpan, AGES, AGES)
KEYS = st.sampled_from([f"{given.SYSTEM}/reach/n3/", f"{given.SYSTEM}/self/n1/", ""])
"""Of incidents."""


@st.composite
def reports(draw: st.DrawFn, honest: Report) -> Report:
    """An honest report of which some parts are replaced by typed nonsense."""
    heard = st.builds(Heard, NODES, st.just("n1-boot-1"), COUNTS, AGES, AGES)
    parts = {
        "sequence": COUNTS,
        "boot_id": st.sampled_from([honest.boot_id, "", "other"]),
        "sights": st.lists(MATRIX, max_size=4).map(tuple),
        "server": st.none() | FACTS,
        "server_age_s": AGES,
        "writable": st.lists(SPANS, max_size=3).map(tuple),
        "heard": st.lists(heard, max_size=3).map(tuple) | st.just(honest.heard),
        "spent": st.dictionaries(KEYS, COUNTS, max_size=3),
        "node": NODES,
        "cluster": st.sampled_from(["test", "other"]),
        "format": COUNTS,
    }
    assert parts.keys() <= {field.name for field in fields(Report)}
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), min_size=1, max_size=4))
    changes: dict[str, Any] = {name: draw(parts[name]) for name in chosen}
    return replace(honest, **changes)


@st.composite
def hostile(draw: st.DrawFn, now_s: float, honest: Report) -> Observation:
    """An observation of any node and channel: late, early, of a stranger, of nobody.

    What it brings need not belong to its channel, nor to how it ended.
    """
    sent_s = now_s + draw(AGES.filter(lambda age: abs(age) < 1e7))
    return Observation(
        node=draw(NODES | st.just(honest.node)),
        channel=draw(st.sampled_from(Channel)),
        outcome=draw(st.sampled_from(Outcome)),
        reason=draw(st.sampled_from(["", "no answer"])),
        sent_s=sent_s,
        received_s=sent_s + draw(st.sampled_from([0.0, 0.01, -1.0, 50.0])),
        postgres=draw(st.none() | SIGHTS),
        report=draw(st.none() | reports(honest)),
    )
