"""The standing line of a node: how a copy would go, what is held, how the gate is."""

from dataclasses import replace

import pytest

from agent.core.gate import Gate, HaSoftware, Wired
from agent.core.readiness import Obstacle, Readiness

COPY = "full copy about 1 s"
FINE = Readiness(
    needed_bytes=999, free_bytes=1000, seconds=1.4, no_pin="", opened_wall_s=None
)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f"{COPY}, needs 999 B, free 1.0 kB"),
        ({"seconds": 1.6}, "full copy about 2 s, needs 999 B, free 1.0 kB"),
        (
            {"method": "reflink"},
            "full copy (reflink) about 1 s, needs 999 B, free 1.0 kB",
        ),
        (
            {"needed_bytes": 1000, "yielding_bytes": 5},
            f"{COPY}, needs 1.0 kB, free 1.0 kB",
        ),
        (
            {"needed_bytes": 1001, "yielding_bytes": 5},
            f"{COPY}, needs 1.0 kB, free 1.0 kB, 5 B of old snapshots make way",
        ),
        (
            {"reserve_bytes": 2_500_000},
            f"{COPY}, needs 999 B, free 1.0 kB, reserve 2.5 MB",
        ),
        (
            {"reserve_bytes": 0, "reserve_lacks": 3_000_000_000},
            (
                f"{COPY}, needs 999 B, free 1.0 kB, reserve 0 B of 3.0 GB: no"
                " room for all of it"
            ),
        ),
        (
            {"no_pin": "a mount point"},
            f"{COPY}, needs 999 B, free 1.0 kB, no pin: a mount point",
        ),
    ],
)
def test_how_a_full_copy_would_go(more, line):
    assert replace(FINE, **more).copy_line == line


def test_all_obstacles_stand_in_one_line():
    assert FINE.reasons == ""
    two = (Obstacle("no room", "x"), Obstacle("no grants", "y"))
    assert replace(FINE, obstacles=two).reasons == "no room; no grants"


PATRONI = HaSoftware("Patroni", "/etc/p.yml", Wired.WIRED)
REPMGR = HaSoftware("repmgr", "/etc/r.conf", Wired.BYPASSABLE)


@pytest.mark.parametrize(
    ("software", "wired"),
    [
        ((), None),
        ((PATRONI,), Wired.WIRED),
        ((PATRONI, REPMGR), Wired.BYPASSABLE),
        ((replace(PATRONI, wired=Wired.NOT_WIRED), REPMGR), Wired.NOT_WIRED),
    ],
)
def test_the_gate_is_as_good_as_its_worst_way_in(software, wired):
    assert Gate(software).wired is wired


def test_each_way_past_the_gate_is_a_reason():
    bare = replace(PATRONI, wired=Wired.NOT_WIRED)
    assert Gate((PATRONI, REPMGR)).reasons == ()
    assert Gate((bare, replace(REPMGR, broken="no exec"))).reasons == (
        "the guard is not wired into Patroni",
        "the guard of repmgr is broken: no exec",
    )
    wipes = replace(bare, destructive=("a", "b"))
    assert Gate((wipes,)).reasons == (
        (
            "Patroni is set to delete a loser's data (a and b)"
            " with no guard in front of it"
        ),
    )


@pytest.mark.parametrize(
    ("gate", "line"),
    [
        (Gate(), "no HA software found here"),
        (Gate((PATRONI,)), "guard wired"),
        (Gate((PATRONI,), unknown="x"), "guard wired; not known: x"),
        (
            Gate((replace(REPMGR, unknown="y"),), unknown="x"),
            "guard wired for rewinds only; not known: y; x",
        ),
        (Gate(unknown="x"), "guard not known: x"),
        (Gate(elsewhere="z"), "no HA software of this server found here (z)"),
        (Gate((PATRONI,), elsewhere="z"), "guard wired"),
        (Gate((replace(PATRONI, wired=Wired.NOT_WIRED),)), "guard not wired"),
    ],
)
def test_the_gate_s_part_of_the_line(gate, line):
    assert gate.line == line
