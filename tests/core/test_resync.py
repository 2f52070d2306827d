"""Which way a loser is brought back, and what speaks against it."""

from dataclasses import replace

import pytest

from agent.core.lineage import Fingerprint, Fork, Lineage, Switch
from agent.core.lsn import Lsn
from agent.core.resync import (
    Method,
    Source,
    Step,
    Target,
    Trial,
    Wish,
    choose,
    last_complaint,
    left_over,
    tried,
)
from agent.core.resync_refusal import Around, refusals
from agent.core.resync_success import Following, shortcomings


def line(timeline=1, *switches, sha=None, system="1"):
    prints = () if sha is None else (Fingerprint(timeline, Lsn(switches[-1][1]), sha),)
    return Lineage(
        system, timeline, tuple(Switch(t, Lsn(n)) for t, n in switches), prints
    )


LOSER = Target(
    node="n1",
    lineage=line(1),
    end_lsn=Lsn(90),
    control_timeline=1,
    records_pages=True,
    wal_from=Lsn(10),
    major=16,
)
WINNER = Source("n2", line(2, (1, 50)), False, Lsn(120), None)


@pytest.mark.parametrize(
    ("target", "source", "method", "because"),
    [
        ({}, {}, Method.REWIND, "parted on timeline 1 at 0/32"),
        ({"end_lsn": None}, {}, Method.REWIND, "parted on timeline 1"),
        ({"records_pages": False}, {}, Method.CLONE, "neither wal_log_hints nor"),
        ({"wal_from": None}, {}, Method.CLONE, "does not reach back to the fork"),
        ({"wal_from": Lsn(51)}, {}, Method.CLONE, "does not reach back to the fork"),
        ({"wal_from": Lsn(50)}, {}, Method.REWIND, "parted"),
        ({"told_twin": True}, {}, Method.CLONE, "stands for two histories"),
        ({"end_lsn": Lsn(50)}, {"same_wal": True}, Method.FOLLOW, "has nothing that"),
        ({"end_lsn": Lsn(50)}, {"same_wal": False}, Method.CLONE, "differs from n2's"),
        ({"end_lsn": Lsn(50)}, {}, Method.CLONE, "cannot be compared"),
        (
            {"lineage": line(2, (1, 50), sha="a")},
            {"lineage": line(2, (1, 50), sha="b")},
            Method.CLONE,
            "stands for two histories",
        ),
        ({"lineage": line(2, (1, 40))}, {}, Method.CLONE, "stands for two histories"),
        (
            {"lineage": line(3, (1, 40)), "control_timeline": 3},
            {"lineage": line(4, (1, 50))},
            Method.REWIND,
            "parted on timeline 1 at 0/28",
        ),
        (
            {"lineage": line(3, (1, 40)), "major": 15},
            {"lineage": line(4, (1, 50))},
            Method.CLONE,
            "pg_control still says timeline 1",
        ),
        (
            {"lineage": line(3, (1, 40)), "major": 16},
            {"lineage": line(4, (1, 50))},
            Method.REWIND,
            "parted",
        ),
        (
            {},
            {"lineage": line(1), "same_wal": True},
            Method.FOLLOW,
            "it ends at 0/5A",
        ),
        ({}, {"lineage": line(1), "same_wal": False}, Method.CLONE, "differs"),
        (
            {"end_lsn": Lsn(130)},
            {"lineage": line(1), "same_wal": True},
            Method.CLONE,
            "past n2's (0/78), on the same timeline",
        ),
        (
            {"end_lsn": None},
            {"lineage": line(1), "same_wal": True},
            Method.CLONE,
            "at an unknown place",
        ),
    ],
)
def test_each_kind_of_loser_goes_its_way(target, source, method, because):
    found = choose(replace(LOSER, **target), replace(WINNER, **source))
    assert found.method is method
    assert because in "; ".join(found.reasons)


def test_without_a_common_line_nothing_is_rewound():
    """Its oldest history files are gone: the two share no timeline that shows."""
    strange = replace(LOSER, lineage=line(7, (6, 40)))
    found = choose(strange, replace(WINNER, lineage=line(9, (8, 50))))
    assert found.method is Method.CLONE
    foreign = replace(LOSER, lineage=line(1, system="2"))
    found = choose(foreign, WINNER)
    assert (found.method, found.fork) == (Method.CLONE, None)
    assert found.reasons == ("nothing shows where it parted from n2",)


def test_the_fork_and_every_obstacle_are_told():
    found = choose(LOSER, WINNER)
    assert found.fork == Fork(1, Lsn(50))
    assert found.reasons == ("they parted on timeline 1 at 0/32",)
    wish = choose(LOSER, WINNER, Wish.CLONE)
    assert (wish.reasons, wish.fork) == (("you asked for a clone",), found.fork)
    hopeless = replace(
        LOSER, lineage=line(3, (1, 40)), records_pages=False, wal_from=None, major=15
    )
    told = choose(hopeless, replace(WINNER, lineage=line(4, (1, 50))))
    assert [
        why.partition(",")[0].removesuffix(": no rewind") for why in told.reasons
    ] == [
        "they parted on timeline 1 at 0/28",
        "neither wal_log_hints nor data checksums are on",
        "its own WAL does not reach back to the fork any more",
        "pg_control still says timeline 1",
    ]


def test_what_has_nothing_of_its_own_follows_only_the_same_wal():
    standby = replace(LOSER, lineage=line(1), end_lsn=Lsn(120))
    source = replace(WINNER, lineage=line(1), same_wal=True)
    assert choose(standby, source).method is Method.FOLLOW
    assert choose(replace(standby, end_lsn=Lsn(121)), source).method is Method.CLONE


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("one\n  pg_rewind: error: two \nthree", "error: two"),
        ("pg_rewind: fatal: first\npg_rewind: error: second", "fatal: first"),
        ("one\n\ntwo\n \n", "two"),
        ("error: " + "x" * 400, "error: " + "x" * 293),
        ("", "it gave no reason"),
    ],
)
def test_a_program_s_first_error_or_its_last_line_is_what_it_said(said, told):
    assert last_complaint(said) == told


def test_a_person_may_want_a_clone_and_never_gets_an_impossible_rewind():
    assert choose(LOSER, WINNER, Wish.CLONE).method is Method.CLONE
    assert choose(LOSER, WINNER, Wish.REWIND).method is Method.REWIND
    twin = replace(LOSER, told_twin=True)
    assert choose(twin, WINNER, Wish.REWIND).method is Method.CLONE


@pytest.mark.parametrize(
    ("step", "method"),
    [
        (Step.NONE, None),
        (Step.CLONING, None),
        (Step.REWINDING, Method.CLONE),
        (Step.REWOUND, Method.FINISH),
        (Step.CLONED, Method.FINISH),
    ],
)
def test_what_an_interrupted_run_left_is_finished_or_cloned(step, method):
    found = left_over(step)
    assert (None if found is None else found.method) is method
    if found is not None:
        assert choose(LOSER, WINNER, Wish.AUTO, step) == found


@pytest.mark.parametrize(
    ("code", "said", "trial", "why"),
    [
        (0, "pg_rewind: no rewind required", Trial.CLONE, "the lineages say otherwise"),
        (0, "pg_rewind: Done!", Trial.FITS, ""),
        (
            1,
            'pg_rewind: error: could not open file "pg_wal/000000010000000000000002"',
            Trial.CLONE,
            "could not open file",
        ),
        (
            1,
            'pg_rewind: error: target server needs data checksums or "wal_log_hints"',
            Trial.CLONE,
            "wal_log_hints",
        ),
        (
            1,
            "pg_rewind: error: connection to server at 10.0.0.1 failed: timeout",
            Trial.STOP,
            "cannot read the source",
        ),
        (
            1,
            "pg_rewind: error: ERROR: permission denied for function pg_stat_file",
            Trial.STOP,
            "cannot read the source",
        ),
        (1, "", Trial.CLONE, "it gave no reason"),
    ],
)
def test_what_pg_rewind_says_beforehand_is_judged(code, said, trial, why):
    found = tried(code, said)
    assert found[0] is trial
    assert why in found[1]


AROUND = Around(line=("n2",))


@pytest.mark.parametrize(
    ("around", "target", "source", "sentence", "forcible"),
    [
        (
            {"running_managers": ("Patroni (process 7): use `patronictl reinit`",)},
            {},
            {},
            "Patroni (process 7) runs on this machine",
            False,
        ),
        (
            {"configured_managers": ("Patroni (/etc/p.yml): use `patronictl reinit`",)},
            {},
            {},
            "Patroni (/etc/p.yml) is configured for this server",
            True,
        ),
        ({"line": ("n1",)}, {}, {}, "n1 is the node whose writes are kept", True),
        ({"line": ("n1", "n2")}, {}, {}, "nobody can tell whether n1 or n2", True),
        (
            {"line": ("n3",)},
            {},
            {},
            "holds everybody against n3, not n2",
            True,
        ),
        ({}, {}, {"lineage": line(2, (1, 50), system="2")}, "another database", False),
        ({}, {}, {"in_recovery": True}, "n2 is itself a standby", False),
        (
            {},
            {"lineage": line(2, (1, 40))},
            {"lineage": line(1)},
            "n2 is on timeline 1, and timeline 2 is taken",
            True,
        ),
        ({"later_timeline": 5}, {}, {}, "timeline 5 is taken", True),
        ({}, {"major": 11}, {}, "11 is made a standby by recovery.conf", False),
    ],
)
def test_what_speaks_against_it_is_told(around, target, source, sentence, forcible):
    around = replace(AROUND, **around)
    sides = (replace(LOSER, **target), replace(WINNER, **source))
    [found] = refusals(*sides, around)
    assert sentence in found.sentence
    assert found.help
    assert found.forcible is forcible
    forced = refusals(*sides, replace(around, forced=True))
    assert (forced == ()) is forcible


@pytest.mark.parametrize(
    ("target", "around"),
    [
        ({"major": 12}, AROUND),
        ({"lineage": line(2, (1, 40))}, AROUND),
        ({}, replace(AROUND, later_timeline=2)),
        ({}, replace(AROUND, line=("n2", "n3"))),
    ],
)
def test_nothing_speaks_against_what_is_just_right(target, around):
    assert refusals(replace(LOSER, **target), WINNER, around) == ()


def test_everything_that_speaks_against_it_is_told_at_once():
    around = Around(
        running_managers=("Patroni: use a",),
        configured_managers=("repmgr: use b",),
        line=("n1", "n3"),
    )
    found = refusals(
        replace(LOSER, major=11), replace(WINNER, in_recovery=True), around
    )
    assert [one.forcible for one in found] == [False, True, False, True, False]
    assert found[0].help == "use a"
    assert found[1].help.startswith("use b; or, if it is not used any more, --force")
    forced = refusals(LOSER, WINNER, replace(around, forced=True))
    assert [one.sentence.partition(" ")[0] for one in forced] == ["Patroni"]


def test_nothing_speaks_against_an_ordinary_loser():
    assert refusals(LOSER, WINNER, AROUND) == ()
    assert refusals(LOSER, WINNER, Around()) == ()


@pytest.mark.fact("older-timeline-wins")
def test_the_lift_above_an_older_timeline_is_told_with_its_commands():
    older = replace(WINNER, lineage=line(1))
    [found] = refusals(replace(LOSER, lineage=line(2, (1, 40))), older, AROUND)
    for words in (
        "00000002.history",
        "recovery.signal",
        "restore_command = '/bin/false'",
        "recovery_target_timeline = 'current'",
        "00000003",
    ):
        assert words in found.help


FOLLOWS = Following(True, 2, Lsn(100), line(2, (1, 50), sha="a"), True)
OF_SOURCE = line(2, (1, 50), sha="a")


@pytest.mark.fact("streaming-lies")
@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        ({}, None),
        ({"streaming": False}, "does not stream"),
        ({"streaming": False, "silent": "no password"}, "whether it streams: no"),
        ({"received_timeline": 1}, "receives timeline 1, the source is on 2"),
        ({"replay_lsn": Lsn(99)}, "replayed up to 0/63, not yet 0/64"),
        ({"replay_lsn": None}, "not yet 0/64"),
        ({"lineage": None}, "history cannot be read"),
        ({"lineage": line(2, (1, 50), sha="b")}, "history is not the source's"),
        ({"lineage": line(2, (1, 40))}, "history is not the source's"),
        ({"same_wal": False}, "its WAL below 0/64 differs from"),
        ({"same_wal": None}, "was not compared"),
    ],
)
def test_streaming_alone_is_no_success(seen, missing):
    found = shortcomings(replace(FOLLOWS, **seen), 2, Lsn(100), OF_SOURCE)
    if missing is None:
        assert found == ()
    else:
        assert missing in "; ".join(found)
