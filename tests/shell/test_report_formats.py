"""Reports of other versions: one format off is understood, two are refused in words.

The report of format 1 was written by the agent that spoke it, of a cluster of three
whose n1 had been cut off and came back while both sides took writes.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.codec import from_json, from_plain, to_json
from agent.core.event import Observed
from agent.core.machine import step
from agent.core.observation import Channel, Outcome, Report
from agent.core.plausible import REPORT_FORMAT
from agent.core.state import State
from agent.daemon.clock import SystemClock
from agent.errors import CodecError
from agent.probe.prober import NetworkProber
from agent.probe.target import ProbeSettings, Target
from agent.transport import HttpClient
from tests.core import given
from tests.fix_network import http

FORMER = Path(__file__).parents[1] / "recorded/report-format-1.json"


async def asked(network, plain):
    there = await network.answer(http("200 OK", json.dumps(plain).encode()))
    client = HttpClient()
    probes = NetworkProber(
        {"n2": Target("n2", agent_url=there.url)},
        ProbeSettings("test", "n1", "the-token", 5.0),
        SystemClock(),
        client,
    )
    try:
        return await probes.probe("n2", Channel.AGENT)
    finally:
        await probes.close()
        await client.close()


def full_report():
    """A report in which every list has an entry, and nothing is missing."""
    former = json.loads(FORMER.read_text("utf-8"))
    extra = {
        "format": REPORT_FORMAT,
        "gate": {"software": [], "unknown": "", "elsewhere": ""},
        "pins": [
            {"node": "n2", "who": "ann", "reason": "newest orders", "revision": 1,
             "age_s": 3.5, "incident": None},
        ],
    }  # fmt: skip
    return {**former, **extra}


async def test_the_former_format_is_understood_and_what_it_lacks_is_not_told(network):
    former = json.loads(FORMER.read_text("utf-8"))
    assert former["format"] == REPORT_FORMAT - 1
    seen = await asked(network, former)
    assert seen.outcome is Outcome.ANSWERED, seen.reason
    told = seen.report
    assert (told.gate, told.maintenance, told.pins) == (None, (), ())
    assert all(one.incidents == () for one in told.captures)
    assert told.server.lineage.timeline == 2
    assert len(told.sights) == len(former["sights"])
    after = step(State(), Observed(given.at(seen.received_s), seen), given.policy())
    assert after.state.view.reports["n2"] is seen


async def test_the_next_format_is_understood_and_what_it_adds_is_left_aside(network):
    now = full_report()
    then = {**now, "format": REPORT_FORMAT + 1, "weather": {"sky": "clear"}}
    then["server"] = {**now["server"], "fans": [{"speed": 3}]}
    then["sights"] = [{**one, "mood": "fine"} for one in now["sights"]]
    seen = await asked(network, then)
    assert seen.outcome is Outcome.ANSWERED, seen.reason
    same = await asked(network, now)
    assert seen.report == replace(same.report, format=REPORT_FORMAT + 1)
    after = step(State(), Observed(given.at(seen.received_s), seen), given.policy())
    assert after.state.view.reports["n2"] is seen


async def test_words_that_only_the_next_format_has_are_left_out_and_not_guessed(
    network,
):
    now = full_report()
    strange = [
        {**now["sights"][0], "channel": "console"},
        {**now["sights"][0], "node": "n3", "outcome": "asleep"},
    ]
    then = {
        **now,
        "format": REPORT_FORMAT + 1,
        "sights": [*strange, *now["sights"]],
        "gate": {"software": [{"name": "Patroni", "file": "/p", "wired": "twice"}]},
        "told": [{"what": "else"}, *now["told"]],
    }
    seen = await asked(network, then)
    assert seen.outcome is Outcome.ANSWERED, seen.reason
    same = (await asked(network, now)).report
    assert seen.report.sights == same.sights
    assert (seen.report.gate, seen.report.told) == (None, same.told)


@pytest.mark.parametrize("number", [REPORT_FORMAT, REPORT_FORMAT - 1])
async def test_such_words_in_a_known_format_are_an_error(network, number):
    now = full_report()
    broken = [{**now["sights"][0], "channel": "console"}]
    seen = await asked(network, {**now, "format": number, "sights": broken})
    assert seen.outcome is Outcome.GARBLED
    assert "channel" in seen.reason


@pytest.mark.parametrize("missing", ["node", "boot_id", "sequence", "cluster"])
async def test_who_tells_and_in_which_order_the_next_format_has_to_say(
    network, missing
):
    then = {**full_report(), "format": REPORT_FORMAT + 1}
    del then[missing]
    seen = await asked(network, then)
    assert seen.outcome is Outcome.GARBLED
    assert missing in seen.reason


@pytest.mark.parametrize(
    ("number", "where"),
    [(REPORT_FORMAT - 2, "there"), (REPORT_FORMAT + 2, "here"), (-(2**62), "there")],
)
async def test_two_formats_off_names_both_and_what_to_upgrade(network, number, where):
    seen = await asked(network, {**full_report(), "format": number})
    assert (seen.outcome, seen.report) == (Outcome.INCOMPATIBLE, None)
    for words in (
        f"speaks report format {number}", f"this one {REPORT_FORMAT}",
        f"upgrade splitguard {where}",
    ):  # fmt: skip
        assert words in seen.reason
    # A report that was understood is not replaced, and its teller counts as alive.
    known = step(
        State(), Observed(given.at(1), given.heard("n2", given.report("n2"), 1)),
        given.policy(),
    ).state  # fmt: skip
    late = replace(seen, sent_s=2.0, received_s=2.1)
    after = step(known, Observed(given.at(2.1), late), given.policy()).state
    assert after.view.reports == known.view.reports
    assert after.view.missed["n2/agent"] == 0


def test_the_core_refuses_two_formats_off_with_the_same_words():
    seen = given.heard("n2", given.report("n2", format=REPORT_FORMAT + 2), 1)
    after = step(State(), Observed(given.at(1), seen), given.policy()).state
    refused = after.view.latest["n2/agent"]
    assert refused.outcome is Outcome.INCOMPATIBLE
    assert f"report format {REPORT_FORMAT + 2}" in refused.reason


@pytest.mark.parametrize("text", ["half a pair \ud83d", "a raw byte \udcff"])
async def test_a_report_with_a_text_that_nobody_can_tell_on_is_not_believed(
    network, text
):
    seen = await asked(network, {**full_report(), "protection": text})
    assert (seen.outcome, seen.report) == (Outcome.GARBLED, None)
    assert "text that is no text" in seen.reason
    whole = await asked(network, {**full_report(), "protection": "a whole pair 🙂"})
    assert whole.outcome is Outcome.ANSWERED


def test_a_report_tells_of_settings_and_receivers_and_may_leave_both_out():
    told = from_plain(full_report(), Report)
    assert (dict(told.settings), told.receivers, told.deaf) == ({}, 0, ())
    deaf = {"name": "on-call", "reason": "HTTP 503", "age_s": 4.0}
    more = {"settings": {"probe.round_s": "ab"}, "receivers": 2, "deaf": [deaf]}
    told = from_plain({**full_report(), **more}, Report)
    assert (told.settings["probe.round_s"], told.deaf[0].name) == ("ab", "on-call")


def test_a_report_tells_of_spent_numbers_and_may_leave_them_out():
    assert dict(from_plain(full_report(), Report).spent) == {}
    told = from_plain({**full_report(), "spent": {"1/reach/n3/": 2}}, Report)
    assert from_json(to_json(told), Report).spent == {"1/reach/n3/": 2}
    for damaged in ({"1/reach/n3/": "2"}, {"1/reach/n3/": True}, ["1/reach/n3/"], 2):
        with pytest.raises(CodecError):
            from_plain({**full_report(), "spent": damaged}, Report)
