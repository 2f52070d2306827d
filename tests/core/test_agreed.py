"""What is agreed with everybody outside the core, word by word and number by number.

Journals, peers' reports, the HTTP API, dashboards and alert rules name rows, verdicts
and stages by these texts and numbers, and a field that an older journal or peer leaves
out has the default given here. A change here is a change for all of them: it belongs
into the changelog. Names and rows may be added.
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest

from agent import core
from agent.core.policy import Minimum, Policy
from agent.core.rule import Rule
from agent.core.rules import BY_NUMBER
from agent.core.state import Knowledge, Ledger, View

ROWS = {
    101: "observer-isolated self critical self critical",
    103: "observer-isolated self warning self warning",
    201: "node-down reach critical nodes critical accuses",
    203: "node-unreachable reach critical nodes critical",
    205: "postgres-down reach critical nodes critical accuses",
    207: "agent-down reach warning nodes warning accuses",
    209: "manager-down reach critical nodes critical accuses",
    211: "node-suspect reach warning nodes warning accuses",
    301: "link-down link warning pairs warning accuses",
    401: "failover primary critical cluster critical accuses sticky",
    403: "no-primary primary critical cluster no-primary accuses",
    405: "writes-blocked primary critical nodes critical accuses",
    407: "failover primary info cluster critical accuses sticky",
    409: "stale-primary primary critical nodes readings accuses sticky",
    411: "stale-primary primary critical nodes readings accuses sticky",
    501: "split-brain split critical cluster critical",
    503: "lineage-twin split critical cluster lineage accuses",
    505: "lineage-diverged split critical cluster lineage accuses",
    507: "split-brain split critical cluster critical",
    509: "split-brain-suspected split critical cluster critical",
    511: "split-brain-suspected split critical cluster readings accuses",
    513: "split-brain-suspected split critical cluster readings accuses",
    601: "unprotected protection critical self critical",
    603: "unprotected protection critical self warning",
    605: "unprotected protection critical self critical",
    607: "unprotected protection critical self critical",
    701: "capture-not-ready ready warning self warning",
    703: "capture-not-ready ready warning self warning",
    705: "destructive-config ready warning self warning",
    707: "capture-not-ready ready warning self warning",
    801: "foreign-system other critical nodes readings accuses",
    803: "config-error other critical pairs readings accuses",
    805: "standby-detached other warning nodes warning accuses",
    807: "standby-lagging other warning nodes lag accuses",
    809: "standby-lagging other warning nodes lag accuses",
    811: "archive-conflict other warning pairs readings accuses",
    851: "config-error settings critical pairs settings accuses",
    853: "config-drift settings warning cluster settings accuses",
    855: "config-error settings warning pairs settings accuses",
    857: "config-error settings critical nodes settings accuses",
    859: "config-error settings warning nodes settings accuses",
    861: "cannot-alert alert critical nodes alert accuses",
    863: "cannot-alert alert warning nodes alert accuses",
    871: "role-mismatch role critical nodes settings accuses",
    873: "role-mismatch role critical nodes settings accuses",
    881: "capture-not-ready keeping warning self warning",
    901: "unknown other unknown cluster critical",
    903: "healthy other ok cluster critical",
}
"""By number: verdict, family, severity, scope, hold, and what else is so."""

NAMES = {
    "capture.Level": "tail, pin, full, rows",
    "capture.Grade": "none, captured, complete, opened",
    "capture.Phase": "ordered, following, copying, verifying, closed, failed",
    "detector.Look": "seen, suspect, unseen, unknown",
    "gate.Wired": "wired, bypassable, not wired",
    "incident.Status": "pending, open, acknowledged, resolved",
    "lineage.Kinship": "same, descends, ancestor, forked, twin, foreign",
    "notice.NoticeReason": "first, worse, changed, reminder, resolved, loss, test",
    "observation.Channel": "agent, postgres, manager",
    "observation.Outcome": (
        "answered, refused, garbled, foreign, incompatible, unreachable, timed-out"
    ),
    "permit.PermitState": "pending, granted, void, released",
    "policy.WinnerRule": "highest-timeline, newest-commit",
    "policy.Minimum": "full, rows",
    "quorum.Vote": "won, pending, lost",
    "resync.Method": "follow, rewind, clone, finish",
    "resync.Wish": "auto, rewind, clone",
    "resync.Step": "none, rewinding, rewound, cloning, cloned",
    "resync.Trial": "fits, clone, stop",
    "rule.Hold": (
        "critical, warning, no-primary, lineage, readings, lag, alert, settings"
    ),
    "rule.Scope": "self, nodes, pairs, cluster",
    "verdict.Family": (
        "self, reach, link, primary, split, protection, ready, alert, settings, "
        "role, keeping, other"
    ),
    "verdict.Severity": "ok, info, unknown, warning, critical",
    "verdict.VerdictCode": (
        "healthy, unknown, observer-isolated, node-suspect, node-unreachable, "
        "node-down, agent-down, postgres-down, manager-down, link-down, failover, "
        "no-primary, stale-primary, writes-blocked, split-brain-suspected, "
        "split-brain, lineage-diverged, lineage-twin, unprotected, "
        "capture-not-ready, destructive-config, foreign-system, standby-detached, "
        "standby-lagging, archive-conflict, config-error, config-drift, "
        "role-mismatch, cannot-alert"
    ),
}
"""By enumeration: the texts of its members, which are their names in small letters."""

LIMITS = {
    "agreement.CLOCKS_AGREE_S": 30.0,
    "agreement.EARLIER_MAX_S": 604800.0,
    "care.KEPT_MAX": 12,
    "care.TEXT_MAX": 200,
    "care.TRIED_MAX": 50,
    "care.TROUBLE_MAX": 600,
    "chronicle.JUMP_S": 1.0,
    "chronicle.LAG_S": 3.0,
    "chronicle.LOOK_BACK": 16,
    "chronicle.REASON_MAX": 100,
    "chronicle.TOGETHER_S": 1.5,
    "counsel.LATE_REPLAY": 809,
    "counsel.MANAGER_KEPT": 881,
    "counsel.NO_USE": 855,
    "counsel.PIN_LEFT": 607,
    "counsel.PRIMARY_SHUT": 857,
    "counsel.STRANGERS": 851,
    "counsel.TWO_ACTIVE": 873,
    "death.CHANNELS_THAT_COUNT": 4,
    "death.MISSED_BY_ALL": 5,
    "death.MISSED_IN_BAD_WEATHER": 7,
    "death.TOGETHER_ROUNDS": 3,
    "detector.REPLICATION_ROUNDS": 2,
    "highwater.MARKS_MAX": 16,
    "highwater.SAME_MINUTE_S": 60.0,
    "lastseen.SAME_WAIT_S": 5.0,
    "loss.SENTENCE_MAX": 400,
    "losses.LOSSES_MAX": 8,
    "losses.PERMIT_FIRST_S": 60.0,
    "maintenance.KEPT_MAX": 50,
    "maintenance.RUNNING_MAX": 20,
    "maintenance.SPAN_S_MAX": 86400.0,
    "maintenance.TEXT_MAX": 500,
    "maintenance.TOLD_MAX": 30,
    "managercare.RETRY_S": 60.0,
    "managercare.TRIES_MAX": 6,
    "memo.KEPT": 64,
    "pageprint.KEPT_MAX": 8,
    "pageprint.PAGE_BYTES": 8192,
    "pageprint.READ_MAX": 16,
    "pageprint._WIDER": 3,
    "permit_source.BELIEVES_PG_CONTROL": 160000,
    "permit_source.READY_S": 600.0,
    "permits.PENDING_LIMIT_S": 86400.0,
    "permits.PERMITS_KEPT": 50,
    "pinning.PINS_MAX": 8,
    "pinning.REVISION_MAX": 1000000000,
    "plausible.AGE_S_MAX": 1000000000.0,
    "plausible.LISTED_MAX": 1000,
    "plausible.REPORT_FORMAT": 2,
    "plausible.SWITCHES_MAX": 10000,
    "plausible.TIMELINE_MAX": 4294967295,
    "plausible.WALL_S_MAX": 253402300799.0,
    "plausible.XID_MAX": 18446744073709551616,
    "positions.TELLS_TIMELINE": 100000,
    "prints.START": 0,
    "proof.PROOFS_KEPT": 8,
    "proof.PROOF_KEPT_S": 3600.0,
    "proof.READINGS_PER_NODE": 4,
    "proof.SPANS_PER_NODE": 3,
    "proof.SPAN_KEPT_S": 1800.0,
    "protection.CAPTURES_KEPT": 20,
    "protection.RETRY_S": 10.0,
    "readiness._STEP": 1000.0,
    "reporting.BRIEFS": 50,
    "resync.SEES_TIMELINES": 16,
    "resync_refusal.SIGNAL_FILES": 12,
    "rules_agents.DRIFT_TOLD": 5,
    "rules_alert.DEAF_TOLD": 3,
    "rules_protection.BARE_ROUNDS": 3,
    "rules_reach.TWO_VOTERS": 2,
    "rules_split.LINGER_S": 30.0,
    "selfdoubt.JUMP_S": 1.0,
    "selfdoubt.ROUNDS": 3,
    "selfdoubt.STRETCH": 2,
    "settling.TOGETHER_S": 600.0,
    "spent.KEY_MAX": 1000,
    "spent.OCCURRENCES_MAX": 2000,
    "spent.OCCURRENCE_MAX": 1000000000,
    "spent.PASSED_ON": 50,
    "telling.STAGES": 1000,
    "telling.TOLD_KEPT": 200,
    "view.SAME_MINUTE_S": 60.0,
    "weather.LOST_MAX": 2,
    "weather.MEMORY_ROUNDS": 20,
}
"""Bounds, in the units of their names."""

DEFAULTS: dict[str, dict[str, object]] = {
    "capture.CaptureStatus": {
        "final_lsn": None,
        "missing_bytes": 0,
        "rows_from": None,
        "rows_lsn": None,
        "rows_reason": "",
    },
    "capture.Capture": {
        "asked": False,
        "loss": None,
    },
    "chronicle.Memory": {
        "last": {},
    },
    "event.CaptureAsked": {
        "joins": True,
    },
    "event.PermitAsked": {
        "source": None,
    },
    "gate.HaSoftware": {
        "destructive": (),
        "gaps": (),
        "notes": (),
        "broken": "",
        "unknown": "",
    },
    "gate.Gate": {
        "software": (),
        "unknown": "",
        "elsewhere": "",
    },
    "incident.Incident": {
        "sides": (),
        "taken": None,
        "stage_wall_s": None,
        "losses": (),
    },
    "incidents._Next": {
        "changes": (),
        "resolved": (),
    },
    "lineage.Lineage": {
        "fingerprints": (),
        "pages": (),
    },
    "observation.PostgresSight": {
        "control_timeline": None,
        "apply_delay_s": None,
        "replay_paused": None,
        "archiver": None,
        "slots": (),
    },
    "observation.ServerFacts": {
        "end_unknown": "",
        "single_user": False,
        "pages": (),
        "marks": None,
    },
    "observation.IncidentBrief": {
        "taken": None,
        "moved": False,
        "moved_to": 0,
        "spent": 0,
    },
    "observation.CaptureBrief": {
        "incidents": (),
        "timeline": None,
        "size_bytes": None,
        "ordered_wall_s": None,
        "loss": None,
    },
    "observation.PinBrief": {
        "over": False,
    },
    "observation.Report": {
        "gate": None,
        "maintenance": (),
        "pins": (),
        "settings": {},
        "receivers": 0,
        "deaf": (),
        "wall_s": None,
        "spent": {},
        "care": None,
    },
    "observation.Observation": {
        "postgres": None,
        "manager": None,
        "report": None,
    },
    "permit.Permit": {
        "granted_wall_s": None,
        "asked_s": 0.0,
        "source": None,
        "source_timeline": None,
        "at_work": False,
    },
    "pinning.Decision": {
        "pin": None,
        "disputed": (),
    },
    "plan.Maintenance": {
        "ended_wall_s": None,
        "ended_by": "",
    },
    "plan.Pin": {
        "incident": None,
        "over": False,
    },
    "policy.NodeSpec": {
        "has_agent": True,
        "upstreams": (),
        "local": True,
    },
    "policy.Policy": {
        "round_s": 1.0,
        "missed_to_suspect": 1,
        "missed_to_accuse": 2,
        "fresh_s": 3.0,
        "isolation_hold_s": 0.0,
        "open_hold_s": 0.0,
        "open_hold_warning_s": 3.0,
        "no_primary_hold_s": 5.0,
        "lineage_hold_s": 2.0,
        "lag_limit_bytes": 268435456,
        "lag_hold_s": 30.0,
        "alert_hold_s": 15.0,
        "settings_hold_s": 60.0,
        "resolve_hold_s": 5.0,
        "standin_s": 10.0,
        "capture_stall_s": 30.0,
        "permit_valid_s": 600.0,
        "permit_wait_s": 900.0,
        "reminder_s": 3600.0,
        "sync_wait_s": 5.0,
        "clock_drift": 0.01,
        "winner_rule": "highest-timeline",
        "capture_enabled": True,
        "history_limit": 50,
        "incidents_limit": 200,
        "sent_limit": 3600,
        "settings": {},
        "order": {},
        "voters": (),
        "channels": {},
        "guard_minimum": Minimum.FULL,
        "places": {},
        "asked_first": (),
        "servers": 0,
    },
    "prediction.Prediction": {
        "pin": None,
        "otherwise": None,
    },
    "protection.Need": {
        "permit": None,
    },
    "readiness.Readiness": {
        "obstacles": (),
        "yielding_bytes": 0,
        "reserve_bytes": None,
        "reserve_lacks": 0,
        "pins": (),
        "method": "",
        "offsite": "",
        "no_rows": "",
    },
    "replay.Outcome": {
        "verdicts": (),
        "incidents": (),
    },
    "resync.Target": {
        "told_twin": False,
    },
    "resync.Source": {
        "same_wal": None,
    },
    "resync.Choice": {
        "fork": None,
    },
    "resync_refusal.Around": {
        "running_managers": (),
        "configured_managers": (),
        "line": (),
        "forced": False,
        "later_timeline": 0,
    },
    "resync_refusal.Refusal": {
        "forcible": False,
    },
    "resync_success.Following": {
        "silent": "",
    },
    "rule.Finding": {
        "evidence": {},
        "discriminator": "",
    },
    "rule.Rule": {
        "hold": "critical",
        "accuses": True,
        "sticky": False,
        "about": None,
    },
    "selfdoubt.SelfDoubt": {
        "suspended": False,
    },
    "state.Ledger": {
        "incidents": (),
        "occurrences": {},
        "captures": (),
        "permits": (),
        "told": (),
        "maintenance": (),
        "pins": (),
    },
    "state.PrimarySeen": {
        "wall_s": 0.0,
    },
    "state.Knowledge": {
        "lineages": {},
        "primary": None,
        "highest": (),
        "confirmed_lsn": None,
        "confirmed_xid": None,
        "printed": {},
        "last_seen": None,
    },
    "state.SplitProof": {
        "ended": {},
    },
    "state.View": {
        "boot_id": "",
        "sequence": 0,
        "latest": {},
        "alive": {},
        "missed": {},
        "server": None,
        "server_read_s": 0.0,
        "readiness": None,
        "gate": None,
        "receivers": 0,
        "failing": (),
        "self_doubt": None,
        "writable": (),
        "reports": {},
        "readings": (),
        "marks": {},
        "positions": {},
        "received": {},
        "unconfirmed": None,
        "sent": (),
        "proofs": (),
        "closing": {},
        "bare_s": None,
        "dark": {},
        "isolated_s": None,
        "in_hand": frozenset(),
        "verdicts": (),
        "lost": (),
        "pages": (),
        "care": None,
        "offset_s": None,
        "untaken": {},
    },
    "verdict.Verdict": {
        "discriminator": "",
        "sticky": False,
    },
    "capture.CaptureOrder": {
        "fork": None,
    },
    "care.ManagerSight": {
        "silent": False,
    },
    "care.ManagerCare": {
        "version": "",
        "active": None,
        "cluster": "",
        "members": (),
        "refused_login": "",
        "failed": "",
        "failed_wall_s": None,
        "last_good_wall_s": None,
        "scheduled": False,
        "alert_after_s": 0.0,
        "running": "",
        "kept": (),
        "tried": (),
        "since_wall_s": None,
    },
    "incidents.Change": {
        "revision": None,
        "gives_way": False,
    },
    "incidents._Clock": {
        "judged": None,
    },
    "loss.Loss": {
        "winner": "",
        "made_wall_s": 0.0,
    },
    "observation.Slot": {
        "database": None,
        "plugin": None,
        "confirmed_lsn": None,
    },
    "observation.WritableSpan": {
        "system_id": "",
    },
    "rules_split.Branch": {
        "page": None,
    },
    "state.LastSeen": {
        "waiting": 0,
        "since_wall_s": None,
        "seen_wall_s": None,
        "sent": (),
    },
    "state.WritableSince": {
        "system_id": "",
    },
    "state.State": {
        "ledger": Ledger(),
        "knowledge": Knowledge(),
        "view": View(),
    },
}


def named(dotted: str) -> Any:
    module, name = dotted.split(".")
    return getattr(importlib.import_module(f"agent.core.{module}"), name)


def parts(*kinds: type) -> Iterator[tuple[str, Any]]:
    """What of these kinds the modules of the core define themselves."""
    for path in sorted(Path(core.__path__[0]).glob("[a-z]*.py")):
        defined = {
            target.id
            for node in ast.parse(path.read_text()).body
            for target in getattr(node, "targets", [getattr(node, "target", None)])
            if isinstance(target, ast.Name)
        }
        module = importlib.import_module(f"agent.core.{path.stem}")
        for name, made in vars(module).items():
            own = getattr(made, "__module__", None) == module.__name__
            if isinstance(made, kinds) and (own or name in defined):
                yield f"{path.stem}.{name}", made


def told(row: Rule) -> str:
    also = [word for word in ("accuses", "sticky") if getattr(row, word)]
    parts = (row.code, row.family, row.severity, row.scope, row.hold, *also)
    return " ".join(parts)


def test_each_row_says_what_it_always_said():
    assert {number: told(BY_NUMBER[number]) for number in ROWS} == ROWS


def test_row_numbers_are_odd_so_that_a_row_fits_between():
    assert [number for number in BY_NUMBER if number % 2 == 0] == []


def test_every_row_stands_under_its_own_number():
    assert all(number == row.number for number, row in BY_NUMBER.items())


@pytest.mark.parametrize("dotted", NAMES)
def test_names_in_journals_and_answers_stay(dotted):
    members = named(dotted).__members__
    for text in NAMES[dotted].split(", "):
        assert members[text.upper().replace("-", "_").replace(" ", "_")].value == text


def test_limits_are_what_they_are_said_to_be():
    assert {name: named(name) for name in LIMITS} == LIMITS


def test_nothing_that_is_agreed_is_left_out():
    """A name, a bound or a default that is added belongs into the tables above."""
    assert {name for name, made in parts(type) if hasattr(made, "__members__")} <= {
        *NAMES
    }
    numbers = {
        name for name, _ in parts(int, float) if name.rpartition(".")[2].isupper()
    }
    assert numbers <= {*LIMITS}
    fields = {
        f"{name}.{field.name}"
        for name, made in parts(type)
        for field in getattr(made, "__dataclass_fields__", {}).values()
        if MISSING is not field.default or MISSING is not field.default_factory
    }
    assert fields == {
        f"{name}.{field}" for name in DEFAULTS for field in DEFAULTS[name]
    }


@pytest.mark.parametrize("dotted", DEFAULTS)
def test_what_an_older_journal_or_peer_leaves_out_has_its_default(dotted):
    fields = named(dotted).__dataclass_fields__
    for name, expected in DEFAULTS[dotted].items():
        field = fields[name]
        found = (
            field.default if field.default is not MISSING else field.default_factory()
        )
        assert (found, type(found) is bool) == (expected, type(expected) is bool), name


def test_what_a_policy_derives_is_neither_asked_for_nor_compared():
    fields = Policy.__dataclass_fields__
    derived = {
        name: (fields[name].init, fields[name].compare, fields[name].repr)
        for name in ("voters", "channels", "order")
    }
    silent = (False, False, False)
    assert derived == {
        "voters": silent,
        "channels": silent,
        "order": (True, False, False),
    }
