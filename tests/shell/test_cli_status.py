"""`status`, `explain` and `check` against the real API, core and judgement."""

import json
import queue
import re
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.fix_desk import (
    half_blind,
    healthy,
    isolated,
    listening,
    neglected,
    node_down,
    resynced,
    serve,
    split_brain,
)


def lines_of(stream) -> Iterator[str]:
    """The lines of a running command, each awaited for at most 20 s."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get(timeout=20)


def test_status_opens_with_verdict_and_next_step(splitguard, agent_for):
    agent = agent_for(split_brain())
    ran = splitguard("status", "--socket", agent.socket)
    assert (ran.code, ran.words) == (0, "")
    first, second, third = ran.out.splitlines()[:3]
    assert first.startswith("sim: CRITICAL split-brain, for ")
    assert "n1" in second
    assert "n2" in second
    assert third.startswith("Next: ")
    assert "Open incidents: 1\ninc-" in ran.out
    assert "told by n1 at " in ran.out


def test_status_shows_every_node_and_who_sees_it(splitguard, agent_for):
    agent = agent_for(node_down())
    out = splitguard("status", "--socket", agent.socket).out.splitlines()
    header = out.index(next(line for line in out if line.startswith("NODE ")))
    n1, n2, n3 = out[header + 1 : header + 4]
    assert n1.split()[:4] == ["n1*", "primary", "1", "0/3000000"]
    assert n2.split()[:2] == ["n2", "standby"]
    assert n3.endswith("nobody; not by n1, n2")


def test_status_names_the_channel_on_which_a_node_is_not_seen(splitguard, agent_for):
    agent = agent_for(half_blind())
    out = splitguard("status", "--socket", agent.socket).out.splitlines()
    n3 = next(line for line in out if line.startswith("n3 "))
    assert n3.endswith("n1, n2, n3; postgres not by n1")


def test_status_says_what_is_wrong_with_slots_and_archive(splitguard, agent_for):
    agent = agent_for(neglected())
    out = " ".join(splitguard("status", "--socket", agent.socket).out.split())
    assert "PostgreSQL of n1: archiving fails at 000000000000000000000007" in out
    assert "slots that nobody reads keep WAL: idle (2.1 GB)." in out
    assert "PostgreSQL of n2" not in out


def test_an_agent_that_doubts_itself_is_named_with_its_reason(splitguard, agent_for):
    agent = agent_for(isolated())
    out = " ".join(splitguard("status", "--socket", agent.socket).out.split())
    assert "doubts itself: this agent sees no majority of the voters." in out


def test_a_healthy_cluster_asks_for_nothing(splitguard, agent_for):
    agent = agent_for(healthy())
    out = splitguard("status", "--socket", agent.socket).out
    assert out.startswith("sim: OK healthy\n")
    assert "Next:" not in out
    assert "Open incidents" not in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("command", ["status", "explain", "incidents list"])
def test_a_split_that_ended_by_itself_is_pointed_to_until_somebody_takes_it(
    splitguard, agent_for, command
):
    agent = agent_for(resynced())
    listed = splitguard(
        "incidents", "list", "-a", "-o", "json", "--socket", agent.socket
    )
    [split] = [one for one in json.loads(listed.out) if one["family"] == "split"]
    assert split["status"] == "resolved"
    out = splitguard(*command.split(), "--socket", agent.socket).out
    assert f"taken by nobody: {split['id']}" in out
    assert f"splitguard incidents show {split['id']}" in out
    taken = splitguard("incidents", "ack", split["id"], "--socket", agent.socket)
    assert taken.code == 0
    assert split["id"] not in splitguard(*command.split(), "--socket", agent.socket).out


def test_status_as_json_is_what_the_agent_said(splitguard, agent_for):
    agent = agent_for(healthy())
    pretty = splitguard("status", "-o", "json", "--socket", agent.socket)
    [line] = splitguard(
        "status", "-o", "jsonl", "--socket", agent.socket
    ).out.splitlines()
    assert json.loads(pretty.out)["headline"]["verdict"] == "healthy"
    assert json.loads(line).keys() == json.loads(pretty.out).keys()


def test_the_socket_may_come_from_the_environment_or_the_configuration(
    splitguard, agent_for, tmp_path
):
    agent = agent_for(healthy())
    ran = splitguard("status", SPLITGUARD_SOCKET=str(agent.socket))
    assert ran.out.startswith("sim: OK")
    # A mistake elsewhere in the file does not keep a person from the agent.
    file = tmp_path / "agent.toml"
    file.write_text(f'mistake = 1\nsocket = "{agent.socket}"\n')
    assert splitguard("status", "--config", file).out.startswith("sim: OK")
    assert splitguard("status", SPLITGUARD_CONFIG=str(file)).code == 0


def test_an_agent_elsewhere_is_asked_by_address_and_token(splitguard, tmp_path):
    served = serve(healthy())
    token = tmp_path / "token"
    token.write_text(served.tokens["read"] + "\n")
    with listening(served) as url:
        ran = splitguard("status", "--url", url, "--token-file", token)
        assert ran.out.startswith("sim: OK")
        ran = splitguard("status", "--url", url, SPLITGUARD_TOKEN=served.tokens["read"])
        assert ran.code == 0
        nobody = splitguard("status", "--url", url)
        stranger = splitguard("status", "--url", url, SPLITGUARD_TOKEN="wrong")
        unfit = splitguard(
            "status", "--url", url, SPLITGUARD_TOKEN=served.tokens["data"]
        )
    assert nobody.code == stranger.code == unfit.code == 1
    assert "give --token-file FILE or SPLITGUARD_TOKEN" in nobody.words
    assert "This token is not known here" in stranger.words
    assert "This token lacks the scope read" in unfit.words
    assert "wrong" not in stranger.words


def test_watch_prints_a_line_for_each_verdict_that_comes_or_goes(spawned, agent_for):
    agent = agent_for(healthy())
    running = spawned.start("status", "--watch", "--socket", agent.socket)
    try:
        lines = lines_of(running.stdout)
        assert " ok healthy cluster: " in next(lines)

        def n3_dies(sim):
            sim.world.kill("n3")
            sim.run(12)

        agent.happen(n3_dies)
        assert next(lines).endswith(" over healthy cluster")
        assert " critical node-down n3: " in next(lines)
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 130
    finally:
        running.kill()
        running.communicate()


def test_watch_for_programs_prints_each_status_as_one_line(spawned, agent_for):
    agent = agent_for(healthy())
    running = spawned.start("status", "-w", "-o", "jsonl", "--socket", agent.socket)
    try:
        lines = lines_of(running.stdout)
        assert json.loads(next(lines))["headline"]["verdict"] == "healthy"
        agent.happen(lambda sim: sim.run(1))
        assert json.loads(next(lines))["cluster"] == "sim"
    finally:
        running.kill()
        running.communicate()


def test_watch_makes_no_single_document(splitguard):
    ran = splitguard("status", "--watch", "-o", "json", "--socket", "/nonexistent")
    assert ran.code == 1
    assert "--output jsonl" in ran.words


def test_watch_waits_for_an_agent_that_is_away(spawned, tmp_path):
    running = spawned.start("status", "--watch", "--socket", tmp_path / "none.sock")
    try:
        assert "waiting for it" in next(lines_of(running.stderr))
    finally:
        running.kill()
        running.communicate()


def test_a_reader_that_goes_away_ends_the_command_quietly(spawned, agent_for):
    agent = agent_for(healthy())
    running = spawned.start("status", "-w", "-o", "jsonl", "--socket", agent.socket)
    try:
        running.stdout.readline()
        running.stdout.close()
        agent.happen(lambda sim: sim.run(1))
        assert running.wait(20) == 1
        assert running.stderr.read() == ""
    finally:
        running.kill()
        running.stderr.close()


def test_where_a_node_was_last_is_told_with_its_age(splitguard, agent_for):
    agent = agent_for(isolated())
    out = splitguard("status", "--socket", agent.socket).out
    lines = out.splitlines()
    own = next(line for line in lines if line.startswith("n1* "))
    second = next(line for line in lines if line.startswith("n2 "))
    assert " ago" not in own
    assert re.search(r"n2 +unknown +1 +0/3000500, \d+ s ago", second)


def test_explain_says_what_each_verdict_means_and_rests_on(splitguard, agent_for):
    agent = agent_for(split_brain())
    out = splitguard("explain", "--socket", agent.socket).out
    assert out.startswith("CRITICAL split-brain cluster\n")
    assert "  Meaning: " in out
    assert "  Rule 501 fired on:\n" in out


def test_explain_tells_an_incidents_story(splitguard, agent_for):
    agent = agent_for(split_brain())
    [incident] = json.loads(
        splitguard("incidents", "list", "-o", "json", "--socket", agent.socket).out
    )
    told = splitguard("explain", incident["id"], "--socket", agent.socket)
    assert told.out.startswith(f"{incident['id']}: split-brain cluster (open since ")
    shown = splitguard("incidents", "show", incident["id"], "--socket", agent.socket)
    head = told.out.partition("\n\n")[0]
    assert shown.out.startswith(head)
    assert "Who saw what, when" in told.out
    assert "History" in shown.out


def test_an_incident_says_nothing_twice_and_no_raw_evidence(splitguard, agent_for):
    agent = agent_for(split_brain())
    [incident] = json.loads(
        splitguard("incidents", "list", "-o", "json", "--socket", agent.socket).out
    )
    out = splitguard("explain", incident["id"], "--socket", agent.socket).out
    assert "None" not in out
    assert out.count("Next: ") == 1
    assert out.count(incident["sentence"]) == 2, "once now, once in the history"
    assert "  they parted on timeline: 1\n" in out


def test_an_incident_that_is_over_names_the_snapshot_and_how_to_open_it(
    splitguard, agent_for
):
    agent = agent_for(resynced())
    listed = splitguard(
        "incidents", "list", "--all", "-o", "jsonl", "--socket", agent.socket
    ).out
    found = [json.loads(line) for line in listed.splitlines()]
    split = next(one for one in found if one["family"] == "split")
    out = splitguard("incidents", "show", split["id"], "--socket", agent.socket).out
    assert f"{split['id']}: lineage-diverged cluster (resolved at 20" in out
    assert "Last seen: n1 holds writes that n2 does not have" in out
    snapshot = split["snapshots"][0]
    assert "\nKept\n" in out
    assert f"    on n1: splitguard snapshots open {snapshot['id']}\n" in out


def test_explain_knows_every_verdict_without_an_agent(splitguard):
    ran = splitguard("explain", "unprotected", "--socket", "/nonexistent")
    assert (ran.code, ran.words) == (0, "")
    assert ran.out.startswith("unprotected (critical)\n  Meaning: A losing side exists")
    assert "  Next: Mend the reason" in ran.out
    assert "  Rule 601 (critical): " in ran.out
    assert ran.out.count("Next: ") == 2, "row 607 has a next step of its own"
    asked = splitguard("explain", "failover", "-o", "json", "--socket", "/nonexistent")
    told = json.loads(asked.out)
    assert "clients follow to the new primary" in told["next_step"]
    assert [row["rule"] for row in told["rules"]] == [401, 407]


def test_explain_of_nothing_known_says_where_to_look(splitguard, agent_for):
    agent = agent_for(healthy())
    ran = splitguard("explain", "inc-../x", "--socket", agent.socket)
    assert ran.code == 1
    assert "splitguard" in ran.words


@pytest.mark.parametrize(
    ("story", "code", "begin"),
    [
        (healthy, 0, "SPLITGUARD OK - sim: healthy: "),
        (split_brain, 2, "SPLITGUARD CRITICAL - sim: split-brain: "),
        (node_down, 2, "SPLITGUARD CRITICAL - sim: node-down n3: "),
    ],
)
def test_check_answers_in_one_line_with_nagios_codes(
    splitguard, agent_for, story, code, begin
):
    ran = splitguard("check", "--socket", agent_for(story()).socket)
    assert ran.code == code
    [line] = ran.out.splitlines()
    assert line.startswith(begin)
    text, bar, performance = line.partition(" | ")
    assert bar
    assert "|" not in text
    assert "incidents=" in performance
    assert "primaries=" in performance


def test_check_is_critical_until_somebody_takes_what_is_critical(splitguard, agent_for):
    def moved(sim):
        sim.world.stop("n1")
        sim.run(2)
        sim.world.promote("n2")
        sim.world.rewind("n1", "n2")
        sim.run(30)

    agent = agent_for(healthy())
    agent.happen(moved)
    status = json.loads(
        splitguard("status", "-o", "json", "--socket", agent.socket).out
    )
    assert status["headline"]["verdict"] == "healthy", "only the record is left"
    ran = splitguard("check", "--socket", agent.socket)
    assert ran.code == 2
    assert ran.out.startswith("SPLITGUARD CRITICAL - sim: failover: The primary moved")
    [incident] = json.loads(
        splitguard("incidents", "list", "-o", "json", "--socket", agent.socket).out
    )
    assert f"splitguard incidents ack {incident['id']}" in ran.out
    splitguard("incidents", "ack", incident["id"], "--socket", agent.socket)
    assert splitguard("check", "--socket", agent.socket).code == 0


def test_after_a_pin_nobody_is_told_to_decide(splitguard, agent_for):
    agent = agent_for(split_brain())
    before = splitguard("status", "--socket", agent.socket).out
    assert "Next: Decide which side is kept: `splitguard winner pin NODE" in before
    words = ("--reason", "it has the orders", "--who", "ann", "--socket", agent.socket)
    assert splitguard("winner", "pin", "n2", *words).code == 0
    agent.happen(lambda sim: sim.run(2))
    after = splitguard("status", "--socket", agent.socket).out
    assert "Decide" not in after
    assert "Next: n2 is kept, as ann has decided: stop clients from writing" in after
    assert "`splitguard resync n1` on n1" in after


def test_check_does_not_trust_an_agent_that_has_seen_nothing_lately(
    splitguard, agent_for
):
    agent = agent_for(healthy())
    ran = splitguard("check", "--max-age-s", "0.5", "--socket", agent.socket)
    assert ran.code == 3
    assert ran.out.startswith("SPLITGUARD UNKNOWN - the agent's newest sight is ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--socket", "/nonexistent/agent.sock"],
        ["check", "--no-such-option"],
        ["check", "--max-age-s", "soon"],
        ["check", "--config", "/nonexistent/agent.toml"],
        ["check", "--url", "not an address"],
    ],
)
def test_whatever_goes_wrong_with_check_itself_is_unknown(splitguard, arguments):
    ran = splitguard(*arguments)
    assert ran.code == 3
    assert ran.words == ""
    [line] = ran.out.splitlines()
    assert line.startswith("SPLITGUARD UNKNOWN - ")
