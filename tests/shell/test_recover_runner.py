"""The runner of recovery scenarios: what it shows, does, waits for and remembers."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.core.moment import Moment
from agent.errors import ManagerError
from agent.vnfm.records import Generation
from agent.vnfm.recovery import journal as journals
from agent.vnfm.recovery.journal import Header, Journal
from agent.vnfm.recovery.model import (
    Each,
    Facts,
    Kind,
    Lines,
    Scenario,
    Step,
    Words,
    both,
)
from agent.vnfm.recovery.ports import Note, Outcome, Seen, Shown
from agent.vnfm.recovery.runner import Runner, of_node

OLD, NEW = Generation.ACTIVE_STANDBY, Generation.ALL_ACTIVE
HEADER = Header("test", "lab", OLD.value, "2026-11-23T15:00:00Z")


@dataclass
class Dial:
    """A clock that goes on by what is slept; implements ports.Clock."""

    at_s: float = 0.0

    def moment(self) -> Moment:
        return Moment(monotonic_s=self.at_s, wall_s=1_795_446_000.0 + self.at_s)

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds
        await asyncio.sleep(0)


@dataclass
class Workshop:
    """Hands for a world of switches; implements ports.Hands.

    A check `on:X` wants switch X; a do `turn:X` turns it on.
    """

    on: set[str] = field(default_factory=set)
    did: list[str] = field(default_factory=list)
    after_look: dict[int, str] = field(default_factory=dict)
    """After so many looks somebody turns a switch on."""
    looks: int = 0
    breaks: str = ""

    async def plan(self, act: str, facts: Facts) -> str:
        return f"turns {act.partition(':')[2]} on for {facts.get('node', 'all')}"

    async def do(self, act: str, facts: Facts, note: Note) -> Seen:
        what = act.partition(":")[2]
        note({f"begun.{what}": "yes"})
        if what == self.breaks:
            raise ManagerError(f"{what} is stuck", "oil it")
        self.on.add(what)
        self.did.append(f"{what}@{facts.get('node', '')}")
        return Seen(ok=True, told=f"{what} is on", facts={f"seen_{what}": "1"})

    async def check(self, act: str, facts: Facts) -> Seen:
        self.looks += 1
        self.on.add(self.after_look.get(self.looks, ""))
        what = act.partition(":")[2].replace("NODE", facts.get("node", ""))
        return Seen(
            ok=what in self.on, told=f"{what} is {'on' if what in self.on else 'off'}"
        )


@dataclass
class Page:
    """Notes what a person would see; implements ports.Screen."""

    wants: bool = True
    lines: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def step(self, shown: Shown) -> None:
        self.lines.append(f"{shown.step.kind} {shown.title}")
        self.commands += shown.commands

    def progress(self, told: str, left_s: float) -> None:
        self.lines.append(f"waits: {told}, {left_s:.0f} s")

    def ended(self, shown: Shown, state: str, told: str) -> None:
        self.lines.append(f"{state}: {shown.step.id}")

    def allows(self, shown: Shown) -> bool:
        self.lines.append(f"asks: {shown.plan}")
        return self.wants


TURN = Step("turn", Kind.DO, "Turn it on", both("x"), act="turn:lamp", changes=True)
TELL = Step(
    "tell",
    Kind.SAY,
    "Plug in {node}",
    both("By hand."),
    commands=Lines(("plug {node} {address}",), ("plug --new {node}",)),
    each=Each.MANAGERS,
)
SEE = Step(
    "see",
    Kind.CHECK,
    "{node} is plugged in",
    both("x"),
    act="on:NODE",
    each=Each.MANAGERS,
    wait_s=60,
)
END = Step("end", Kind.CHECK, "All is well", both("x"), act="on:lamp")
STEPS = (TURN, TELL, SEE, END)
FACTS = {"managers": "n1,n2", "address.n1": "10.0.0.1", "address.n2": "10.0.0.2"}


def runner(
    hands: Workshop, page: Page, journal: Journal | None, steps: tuple[Step, ...]
) -> Runner:
    facts = {**FACTS, **(journal.facts if journal is not None else {})}
    return Runner(
        Scenario("test", "Test", "About.", (), steps),
        OLD,
        hands,
        page,
        Dial(),
        journal,
        facts,
    )


def play(
    hands: Workshop,
    page: Page,
    journal: Journal | None,
    steps: tuple[Step, ...] = STEPS,
) -> Outcome:
    return asyncio.run(runner(hands, page, journal, steps).run())


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return journals.begin(tmp_path / "test.jsonl", HEADER)


def test_each_step_is_shown_before_it_is_done_and_people_are_waited_for(
    journal: Journal,
) -> None:
    hands, page = Workshop(after_look={2: "n1", 4: "n2"}), Page()
    assert play(hands, page, journal).ok
    assert page.lines == [
        "do Turn it on",
        "asks: turns lamp on for all",
        "done: turn",
        "say Plug in n1",
        "told: tell",
        "say Plug in n2",
        "told: tell",
        "check n1 is plugged in",
        "waits: n1 is off, 60 s",
        "done: see",
        "check n2 is plugged in",
        "waits: n2 is off, 60 s",
        "done: see",
        "check All is well",
        "done: end",
    ]
    assert page.commands == ["plug n1 10.0.0.1", "plug n2 10.0.0.2"]


def test_what_nobody_does_ends_the_run_when_the_time_is_over(journal: Journal) -> None:
    hands, page = Workshop(), Page()
    outcome = play(hands, page, journal)
    assert (outcome.ok, outcome.stopped_at, outcome.told) == (False, "see", "n1 is off")
    assert 20 < hands.looks < 32  # every two seconds, and more and more rarely


def test_a_run_goes_on_where_it_stopped_and_says_again_what_was_not_done(
    journal: Journal,
) -> None:
    hands = Workshop(after_look={1: "n1"})
    assert not play(hands, Page(), journal).ok
    journal.close()
    again, page = journals.resume(journal.path), Page()
    hands.on.add("n2")
    assert play(hands, page, again).ok
    assert hands.did == ["lamp@"], "what was done is not done twice"
    assert page.commands == ["plug n2 10.0.0.2"], "n1 was seen to be plugged in"
    assert again.facts["seen_lamp"] == "1"
    again.close()
    assert journals.resume(journal.path).ended


def test_a_step_that_failed_is_done_again_with_what_it_had_noted(
    journal: Journal,
) -> None:
    hands = Workshop(on={"n1", "n2"}, breaks="lamp")
    with pytest.raises(ManagerError, match="stuck"):
        play(hands, Page(), journal)
    journal.close()
    again = journals.resume(journal.path)
    assert again.facts == {"begun.lamp": "yes"}
    hands.breaks = ""
    assert play(hands, Page(), again).ok


def test_a_change_that_nobody_wants_is_not_made(journal: Journal) -> None:
    hands, page = Workshop(), Page(wants=False)
    outcome = play(hands, page, journal)
    assert (outcome.ok, outcome.stopped_at) == (False, "turn")
    assert hands.did == []


def test_a_dry_run_shows_all_and_neither_does_nor_waits() -> None:
    hands, page = Workshop(), Page()
    first = Step("first", Kind.CHECK, "Look", both("x"), act="on:sun", wait_s=60)
    assert play(hands, page, None, (first, *STEPS)).ok
    assert hands.did == []
    assert [line for line in page.lines if line.startswith(("asks", "waits"))] == []
    assert page.lines[:2] == ["check Look", "not yet: first"]
    assert page.lines[-1:] == ["check All is well"]
    assert hands.looks == 1, "what would be so after the first act, nobody knows"
    assert page.commands == ["plug n1 10.0.0.1", "plug n2 10.0.0.2"]


def test_a_branch_is_taken_by_what_was_seen(journal: Journal) -> None:
    way = Step("way", Kind.DO, "Look", both("x"), act="turn:way")
    branch = Step("branch", Kind.DO, "x", both("x"), act="turn:b", when=("seen_b", "1"))
    taken = Step("taken", Kind.DO, "x", both("x"), act="turn:c", when=("seen_way", "1"))
    hands, page = Workshop(), Page()
    assert play(hands, page, journal, (way, branch, taken)).ok
    assert hands.did == ["way@", "c@"]


def test_a_step_without_words_for_a_generation_is_left_out(journal: Journal) -> None:
    old = Step("old", Kind.DO, "x", Words(old="x"), act="turn:old")
    new = Step("new", Kind.DO, "x", Words(new="x"), act="turn:new")
    hands = Workshop()
    assert play(hands, Page(), journal, (old, new)).ok
    assert hands.did == ["old@"]


def test_a_hopeless_check_is_not_waited_for(journal: Journal) -> None:
    class Gloomy(Workshop):
        async def check(self, act: str, facts: Facts) -> Seen:
            return Seen(ok=False, told="it is gone", hopeless=True)

    page = Page()
    assert not play(Gloomy(), page, journal, (SEE,)).ok
    assert not [line for line in page.lines if line.startswith("waits")]


def test_two_runs_do_not_share_a_journal(journal: Journal) -> None:
    with pytest.raises(ManagerError, match="another run is at work"):
        journals.resume(journal.path)


def test_an_existing_file_is_not_overwritten(journal: Journal) -> None:
    before = journal.path.read_bytes()
    with pytest.raises(ManagerError, match="File exists"):
        journals.begin(journal.path, HEADER)
    assert journal.path.read_bytes() == before


def test_a_line_that_a_crash_cut_short_is_left_out(journal: Journal) -> None:
    journal.told("t", ("turn", ""), "done", "x", {"a": "1"})
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"at": "t", "step": "te')
    again = journals.resume(journal.path)
    again.told("t", ("end", ""), "done")
    again.close()
    lines = journal.path.read_text().splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["began", "done", "done"]
    assert journals.resume(journal.path).done == {("turn", ""), ("end", "")}


@pytest.mark.parametrize(
    "content", ["", "hello\n", "[]\n", "{}\n", '{"scenario": 1}\n', "\x00" * 40]
)
def test_what_is_no_journal_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(content)
    with pytest.raises(ManagerError, match="is no journal of a recovery"):
        journals.resume(file)
    assert file.read_text() == content


def test_the_newest_run_that_did_not_end_is_found(tmp_path: Path) -> None:
    assert journals.unfinished(tmp_path, "test") is None
    made = journals.begin(journals.place_of(tmp_path, HEADER), HEADER)
    assert made.path.name == "test-20261123T150000Z.jsonl"
    assert journals.unfinished(tmp_path, "test") == made.path
    assert journals.unfinished(tmp_path, "other") is None
    made.end("t", "well")
    assert journals.unfinished(tmp_path, "test") is None


def test_a_nodes_own_facts_take_their_plain_names() -> None:
    assert of_node(FACTS, "n2")["address"] == "10.0.0.2"
    assert of_node({**FACTS, "node": "n1"}, "")["address"] == "10.0.0.1"
    assert "address" not in of_node(FACTS, "")


def test_what_a_step_leaves_is_said_at_the_end_and_done_by_the_next_run(
    journal: Journal,
) -> None:
    class Hasty(Workshop):
        async def do(self, act: str, facts: Facts, note: Note) -> Seen:
            seen = await super().do(act, facts, note)
            return replace(seen, left="oil it: `oil`")

    first, page = Step("first", Kind.DO, "x", both("x"), act="turn:a"), Page()
    hands = Hasty(on={"n1", "n2"})
    outcome = play(hands, page, journal, (first, END))
    assert not outcome.ok  # the lamp is off
    hands.on.add("lamp")
    journal.close()
    again = journals.resume(journal.path)
    outcome, page = play(hands, Page(), again, (first, END)), Page()
    assert (outcome.ok, outcome.stopped_at) == (False, "")
    assert outcome.left == ("oil it: `oil`",)
    assert outcome.told == "lamp is on"
    again.close()
    last = journals.resume(journal.path)
    assert not last.ended
    assert play(Workshop(on={"lamp"}), page, last, (first, END)).ok
    assert page.lines == ["do x", "done: first", "check All is well", "done: end"]
    last.close()
    assert journals.resume(journal.path).ended


def test_what_was_not_done_is_not_called_done_and_stops_nothing(
    journal: Journal,
) -> None:
    class Modest(Workshop):
        async def do(self, act: str, facts: Facts, note: Note) -> Seen:
            return Seen(ok=True, told="it is gone", undone=True)

    page = Page(wants=True)
    assert play(Modest(on={"lamp"}), page, journal, (TURN, END)).ok
    assert "not done: turn" in page.lines


def test_where_nothing_can_be_begun_nothing_is_left_to_go_on_with(
    journal: Journal,
) -> None:
    class Gloomy(Workshop):
        async def check(self, act: str, facts: Facts) -> Seen:
            return Seen(ok=False, told="nothing to do", hopeless=True)

    outcome = play(Gloomy(), Page(), journal, (END, TURN))
    assert outcome.hopeless
    journal.close()
    assert journals.resume(journal.path).ended
