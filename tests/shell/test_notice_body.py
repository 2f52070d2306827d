"""What a receiver reads: shape, length, the head of the summary, data at stake."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from agent.core.capture import Grade, Phase
from agent.core.incident import Flip, Status
from agent.core.loss import Loss
from agent.core.lsn import Lsn
from agent.core.notice import Notice, NoticeReason
from agent.core.permit import Permit, PermitState
from agent.core.verdict import Family, Severity, Verdict, VerdictCode
from agent.notify.body import LIMIT_BYTES, RUNBOOKS, Urls, render
from agent.notify.routing import channels_for
from agent.notify.stakes import Stake, data_at_stake
from tests.core import given

POLICY = given.policy()
AT = given.at(12.5)


def rendered(incident=None, reason=NoticeReason.FIRST, urls=None, **ledger):
    incident = incident or given.incident()
    state = given.state(incidents=(incident,), **ledger)
    notice = Notice("msg-1", incident.id, reason, 1)
    text = render(notice, state, AT, POLICY, urls or Urls())
    assert len(text.encode()) < LIMIT_BYTES
    return json.loads(text)


@pytest.mark.parametrize(
    ("code", "page"),
    [
        ("split-brain", "split-brain.md"),
        ("role-mismatch", "split-brain.md"),
        ("failover", "active-down.md"),
        ("node-down", "node-down.md"),
        ("config-drift", ""),
    ],
)
def test_a_runbook_that_is_a_folder_leads_to_the_page_of_the_verdict(code, page):
    incident = given.incident()
    verdict = replace(incident.verdict, code=VerdictCode(code))
    told = rendered(replace(incident, verdict=verdict), urls=Urls(None, "https://w/r/"))
    assert told["data"]["runbook_url"] == f"https://w/r/{page}"


def test_every_runbook_that_notices_link_to_is_there():
    folder = Path(__file__).parents[2] / "deploy" / "runbooks"
    assert {page.name for page in folder.glob("*.md")} >= set(RUNBOOKS.values())


def test_the_body_has_the_published_shape():
    flip = Flip(given.at(1).wall_s, Status.OPEN, "split-brain", 501, "It is proven.")
    incident = replace(given.incident(), history=(flip,))
    urls = Urls("https://page/#{incident}", "https://runbooks/{verdict}")
    body = rendered(incident, urls=urls, captures=(given.capture(),))
    assert list(body) == ["type", "timestamp", "data"]
    assert body["type"] == "splitguard.incident.opened"
    assert body["timestamp"] == "2027-01-15T08:00:12.500Z"
    data = body["data"]
    assert list(data) == [
        "incident", "cluster", "reporter", "summary", "sentences", "next_step",
        "runbook_url", "page_url", "data_at_stake", "evidence",
    ]  # fmt: skip
    assert data["incident"] == {
        "id": incident.id,
        "family": "split",
        "verdict": "split-brain",
        "severity": "critical",
        "status": "open",
        "subject": "cluster",
        "since": "2027-01-15T08:00:00.000Z",
        "occurrence": 1,
    }
    assert (data["cluster"], data["reporter"]) == ("test", "n1")
    assert data["page_url"] == f"https://page/#{incident.id}"
    assert data["runbook_url"] == "https://runbooks/split-brain"
    assert data["data_at_stake"] == {
        "state": "safe", "bytes": None, "transactions": None, "snapshots": ["n1-1"],
    }  # fmt: skip
    assert data["evidence"]["rule"] == 501
    assert data["sentences"][-1].endswith("open: It is proven.")
    assert data["next_step"]


def test_the_next_step_is_a_command_that_can_be_copied():
    said = given.verdict(VerdictCode.FAILOVER, Family.PRIMARY)
    incident = given.incident(said)
    told = rendered(incident)["data"]["next_step"]
    assert f"splitguard incidents ack {incident.id}" in told


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (NoticeReason.FIRST, "opened"),
        (NoticeReason.WORSE, "changed"),
        (NoticeReason.CHANGED, "changed"),
        (NoticeReason.REMINDER, "reminder"),
        (NoticeReason.RESOLVED, "resolved"),
        (NoticeReason.TEST, "test"),
    ],
)
def test_every_reason_has_its_type(reason, kind):
    assert rendered(reason=reason)["type"] == f"splitguard.incident.{kind}"


@pytest.mark.parametrize("code", list(VerdictCode))
@pytest.mark.parametrize("reason", [NoticeReason.FIRST, NoticeReason.RESOLVED])
def test_a_phone_shows_cluster_verdict_node_and_data(code, reason):
    said = replace(given.verdict(code), subject="a-node-with-a-rather-long-name")
    policy = replace(POLICY, cluster="a-cluster-with-a-rather-long-name")
    incident = given.incident(said)
    notice = Notice("msg-1", incident.id, reason, 1)
    state = given.state(incidents=(incident,), captures=(given.capture(),))
    summary = json.loads(render(notice, state, AT, policy, Urls()))["data"]["summary"]
    head = summary[:120]
    assert head.startswith("a-cluster-with-a-rather-l")
    for word in (code.value, "a-node-with-a-rather-l", "data"):
        assert word in head
    assert any(stake.words in head for stake in Stake)
    assert ("resolved: " in head) == (reason is NoticeReason.RESOLVED)


facts = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.just("ß" * 5000)
)


@drawn(
    st.dictionaries(st.text(max_size=80), facts, max_size=60),
    st.lists(st.text(max_size=900), max_size=50),
)
def test_whatever_the_evidence_the_body_is_short_and_valid(evidence, words):
    said = replace(given.verdict(VerdictCode.NODE_DOWN), evidence=evidence)
    flips = tuple(Flip(AT.wall_s, Status.OPEN, "node-down", 1, text) for text in words)
    body = rendered(replace(given.incident(said), history=flips))
    assert body["data"]["evidence"]["rule"] == 501
    assert body["data"]["summary"]


def test_a_test_message_needs_no_incident():
    notice = Notice("msg-1", "inc-test", NoticeReason.TEST, 1)
    body = json.loads(render(notice, given.state(), AT, POLICY, Urls()))
    assert body["type"] == "splitguard.incident.test"
    assert body["data"]["summary"].startswith("test: test: healthy on cluster")


def test_news_of_an_unknown_incident_are_an_error():
    notice = Notice("msg-1", "inc-none", NoticeReason.FIRST, 1)
    with pytest.raises(LookupError, match="inc-none"):
        render(notice, given.state(), AT, POLICY, Urls())


# --- data at stake ------------------------------------------------------------


def stake_of(*captures, incident=None, permits=()):
    ledger = given.ledger(captures=captures, permits=permits)
    return data_at_stake(incident or given.incident(), ledger)


def released(capture_id: str | None) -> Permit:
    return Permit(
        id="permit-1",
        node="n1",
        purpose="pg_rewind",
        state=PermitState.RELEASED,
        reason="",
        asked_wall_s=0.0,
        asked_s=0.0,
        granted_s=None,
        system_id=None,
        timeline=None,
        final_lsn=None,
        capture_id=capture_id,
        bytes_done=0,
        bytes_total=0,
        seconds_left=None,
        released_by="somebody",
    )


copying = given.capture(grade=Grade.NONE, phase=Phase.COPYING)
failed = given.capture(grade=Grade.NONE, phase=Phase.FAILED)
read_back = given.capture(grade=Grade.CAPTURED, phase=Phase.VERIFYING)
complete = given.capture()
tail_only = given.capture(grade=Grade.NONE, phase=Phase.CLOSED)
isolated = given.incident(
    given.verdict(VerdictCode.OBSERVER_ISOLATED, Family.SELF, "n1")
)
unprotected = given.incident(
    given.verdict(VerdictCode.UNPROTECTED, Family.PROTECTION, "n1")
)


@pytest.mark.parametrize(
    ("captures", "state"),
    [
        ((complete,), Stake.SAFE),
        ((complete, copying), Stake.COPYING),
        ((copying,), Stake.COPYING),
        ((read_back,), Stake.COPYING),
        ((complete, failed), Stake.AT_RISK),
        ((failed,), Stake.AT_RISK),
        ((), Stake.AT_RISK),
    ],
)
def test_a_split_is_safe_only_when_every_copy_is_complete(captures, state):
    assert stake_of(*captures).state is state


def test_a_copy_that_somebody_let_pass_unfinished_is_lost():
    assert stake_of(copying, permits=(released("n1-1"),)).state is Stake.LOST
    assert stake_of(complete, permits=(released("n1-1"),)).state is Stake.SAFE
    assert stake_of(copying, permits=(released("older"),)).state is Stake.COPYING


def test_other_troubles_put_nothing_at_stake_by_themselves():
    assert stake_of(incident=isolated).state is Stake.NONE
    assert stake_of(copying, incident=isolated).state is Stake.NONE
    for_it = replace(tail_only, order=replace(tail_only.order, incident_ids=("i",)))
    theirs = replace(isolated, id="i")
    assert stake_of(for_it, incident=theirs).state is Stake.NONE


def test_unprotected_speaks_of_its_nodes_captures():
    assert stake_of(copying, incident=unprotected).state is Stake.AT_RISK
    assert stake_of(complete, incident=unprotected).state is Stake.SAFE
    assert stake_of(incident=unprotected).state is Stake.AT_RISK


def test_a_resolved_split_without_a_copy_puts_nothing_at_stake():
    over = replace(given.incident(), status=Status.RESOLVED)
    assert stake_of(incident=over).state is Stake.NONE


def test_the_bytes_at_stake_are_those_that_no_other_node_confirmed():
    order = replace(complete.order, confirmed_lsn=Lsn(0x1800))
    assert stake_of(replace(complete, order=order)).bytes == 0x800
    final = replace(order, final_lsn=Lsn(0x1900))
    assert stake_of(replace(complete, order=final)).bytes == 0x100
    assert stake_of(complete).bytes is None


# --- routing ------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A route as the configuration has it."""

    channels: tuple[str, ...]
    severity: Severity | None = None
    verdict: tuple[VerdictCode, ...] = ()
    node: tuple[str, ...] = ()


ALL = ("pager", "chat", "mail")


def told(*rows, severity=Severity.CRITICAL, worst=None, **more) -> tuple[str, ...]:
    said = Verdict(
        more.get("code", VerdictCode.NODE_DOWN),
        Family.REACH,
        more.get("subject", "n1"),
        severity,
        1,
        {},
    )
    return channels_for(said, rows, ALL, worst)


@pytest.mark.parametrize(
    ("severity", "channels"),
    [
        (Severity.CRITICAL, ALL),
        (Severity.WARNING, ALL),
        (Severity.UNKNOWN, ()),
        (Severity.INFO, ()),
    ],
)
def test_without_routes_every_channel_gets_warnings_and_graver(severity, channels):
    assert told(severity=severity) == channels


def test_every_route_that_fits_is_used_in_the_channels_order():
    assert told(Row(("chat",)), Row(("pager",), Severity.CRITICAL)) == ("pager", "chat")
    assert told(
        Row(("chat",)), Row(("pager",), Severity.CRITICAL), severity=Severity.INFO
    ) == ("chat",)


def test_a_route_may_ask_for_verdicts_and_nodes():
    down, split = (VerdictCode.NODE_DOWN,), (VerdictCode.SPLIT_BRAIN,)
    warning = Severity.WARNING
    assert told(Row(("chat",), verdict=down), severity=warning) == ("chat",)
    assert told(Row(("chat",), verdict=split), severity=warning) == ()
    assert told(Row(("chat",), node=("n1",)), severity=warning) == ("chat",)
    assert told(Row(("chat",), node=("n2",)), severity=warning) == ()
    assert told(Row(("chat",), node=("n2",)), subject="n1|n2") == ("chat",)


def test_a_critical_verdict_that_fits_no_route_is_told_everywhere():
    assert told(Row(("chat",), node=("n2",))) == ALL


def test_who_was_told_of_the_worst_is_told_of_the_end():
    rows = (Row(("pager",), Severity.CRITICAL),)
    ended = told(*rows, severity=Severity.INFO, worst=Severity.CRITICAL)
    assert ended == ("pager",)


def test_a_route_to_an_unknown_channel_tells_nobody_else():
    assert told(Row(("fax",))) == ()


def test_a_loss_report_speaks_first_and_counts_what_is_at_stake():
    read = Loss("n1-1", "n1", "not compared yet: 3 rows inserted", 7, 3, Lsn(0x2000))
    incident = replace(given.incident(), losses=(read,))
    body = rendered(incident, NoticeReason.LOSS)
    assert body["type"] == "splitguard.incident.changed"
    assert body["data"]["summary"].endswith(
        "n1 wrote alone, not compared yet: 3 rows inserted."
    )
    assert body["data"]["sentences"][1] == read.told
    assert body["data"]["data_at_stake"]["transactions"] == 7


def test_a_loss_report_after_the_end_opens_nothing_again():
    compared = Loss("n1-1", "n1", "2 users", 7, 2, Lsn(0x2000), winner="n2")
    over = replace(given.incident(), losses=(compared,), status=Status.RESOLVED)
    body = rendered(over, NoticeReason.LOSS)
    assert body["type"] == "splitguard.incident.resolved"
    assert "What n1 wrote alone and n2 lacks: 2 users." in body["data"]["summary"]
