"""What a loss report says, hides and keeps."""

import json
from dataclasses import replace

import pytest

from agent import codec
from agent.api.models_loss import LossReport
from agent.config.loss import REDACT
from agent.divergence import report as reports
from agent.divergence.headline_of_loss import headline, next_step, transactions
from agent.divergence.model import Column, Name, Relation, Table
from agent.divergence.redaction import Redaction, printable, shown
from agent.divergence.report import Counts, Report, Side, TableLoss, Winner, Wrote
from agent.divergence.report_plain import plain
from agent.errors import SnapshotError
from tests.fix_losses import LOSER, NIGHT_S, SNAPSHOT, managers_report, shop_report


def table(name: str, *columns: str, root: Name | None = None) -> Table:
    made = tuple(Column(column, "text") for column in columns)
    return Table(1, Name("public", name), Relation(1663, 5, 1), made, root=root)


# --- the headline -------------------------------------------------------------------


def test_a_headline_counts_rows_and_tells_when():
    assert shop_report().headline == (
        "412 rows in 3 tables lost, 5 changed, 2 deleted, 4 conflicts, 10 collisions,"
        " 1 row could not be compared; 439 transactions from 16:53:01 to 16:54:10"
    )


def test_a_managers_headline_speaks_of_its_things():
    assert managers_report().headline == (
        "3 deployments, 1 plugin, 2 users, 1 deployment changed, 1 user made on both"
        " sides; 439 transactions from 16:53:01 to 16:54:10"
    )


def test_rows_of_other_databases_are_not_forgotten_beside_a_manager():
    tables = managers_report().tables + shop_report().tables[1:2]
    found = headline(LOSER, tables, managers_report().managers)
    assert "; in other databases 11 rows in 1 table lost; 439" in found


def test_without_a_winner_the_headline_says_what_was_written():
    assert shop_report(winner=None).headline == (
        "not compared yet: 425 rows inserted, 16 changed, 3 deleted in 4 tables;"
        " 439 transactions from 16:53:01 to 16:54:10"
    )


def test_a_headline_says_when_nothing_is_missing():
    alike = TableLoss("d", "s", "t", Counts(equal=3), Wrote(3, 0, 0))
    assert headline(Side(), (alike,)) == "no row is missing on the winner"
    one = TableLoss("d", "s", "t", Counts(conflicts=1, collisions=1), Wrote(2, 0, 0))
    assert headline(Side(), (one,)) == "1 conflict in 1 table, 1 collision"
    blind = TableLoss("d", "s", "t", Counts(unknown=2), Wrote(0, 0, 2))
    assert headline(Side(), (blind,)) == "2 rows could not be compared"


@pytest.mark.parametrize(
    ("side", "words"),
    [
        (Side(), ""),
        (Side(committed=0), "0 transactions"),
        (Side(committed=9, user=1, first_s=NIGHT_S, last_s=NIGHT_S),
         "1 transaction at 16:53:01"),
        (Side(committed=9, first_s=NIGHT_S, last_s=NIGHT_S + 30_000),
         "9 transactions from 2026-11-23 16:53:01 to 2026-11-24 01:13:01"),
    ],
)  # fmt: skip
def test_transactions_are_told_with_their_time(side, words):
    assert transactions(side) == words


def test_the_next_step_is_a_command_that_fits_what_was_found():
    step = next_step(shop_report())
    way = '"host=10.0.0.2 port=5432 user=postgres" --reason "WHY"`'
    assert f"`splitguard loss rescue {SNAPSHOT} --apply {way}" in step
    assert f"`splitguard loss rescue {SNAPSHOT} --format sql --to /tmp/" in step
    unknown = Winner("20261123T170000Z-n2-77aa", None, NIGHT_S)
    assert " --apply DSN --reason" in next_step(shop_report(winner=unknown))
    apart = next_step(shop_report(winner=None))
    assert f"`splitguard loss report {SNAPSHOT} --against NODE`" in apart
    alike = shop_report().tables[3:]
    assert "snapshots open" in next_step(shop_report(tables=alike))
    calm = shop_report(tables=alike, objects=())
    assert "could not be" in next_step(calm)
    assert "Nothing is missing" in next_step(replace(calm, gaps=()))


# --- what is not shown --------------------------------------------------------------


def test_secrets_are_hashed_alike_within_a_report_and_unlike_in_another():
    first, second = Redaction(REDACT, b"a" * 16), Redaction(REDACT, b"b" * 16)
    users = table("users", "id", "password_hash")
    show, again = first.shower(users), second.shower(users)
    hashed = show["password_hash"]("hunter2")
    assert hashed is not None
    assert hashed.startswith("sha256:")
    assert "hunter2" not in hashed
    assert hashed == show["password_hash"]("hunter2")
    assert hashed != show["password_hash"]("hunter3")
    assert hashed != again["password_hash"]("hunter2")
    assert show["password_hash"](None) is None
    assert show["id"]("7") == "7"


@pytest.mark.parametrize(
    ("name", "column", "covered"),
    [
        ("users", "password", True),
        ("users", "API_Token_Key", True),
        ("secrets", "value", True),
        ("secrets", "id", False),
        ("settings", "value", False),
        ("config", "value", True),
        ("tokens", "secret_hash", True),
        ("orders", "id", False),
    ],
)
def test_passwords_and_keys_are_hidden_by_default(name, column, covered):
    assert Redaction(REDACT, b"").covers(Name("public", name), column) is covered


def test_a_pattern_takes_signs_of_a_regular_expression_as_they_are():
    odd = Redaction(["*.a+b.c[1]", "my.x?y.*"], b"")
    assert odd.covers(Name("s", "a+b"), "c[1]")
    assert not odd.covers(Name("s", "aab"), "c1")
    assert odd.covers(Name("my", "x.y"), "line\nbreak")


def test_a_partition_is_covered_by_a_pattern_of_its_parent():
    found = Redaction(["*.logins.ip"], b"")
    part = table("logins_2026", "ip", root=Name("public", "logins"))
    assert found.columns(part) == ("ip",)


def test_values_are_shown_on_one_line_and_not_too_long():
    assert shown("a\nb\x1b[2J") == "a↵b\N{REPLACEMENT CHARACTER}[2J"
    assert shown("x" * 81) == "x" * 79 + "…"
    assert shown("x" * 80) == "x" * 80
    assert shown(None) is None
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\\xe9"


# --- its file and its shape ---------------------------------------------------------


def test_a_report_is_kept_and_read_again(tmp_path):
    made = shop_report()
    reports.save(made, tmp_path)
    assert reports.load(tmp_path) == made
    assert (tmp_path / reports.NAME).stat().st_mode & 0o077 == 0


def test_a_report_that_is_none_is_refused(tmp_path):
    assert reports.load(tmp_path) is None
    path = reports.save(shop_report(), tmp_path)
    path.write_text("{")
    with pytest.raises(SnapshotError, match="garbled"):
        reports.load(tmp_path)
    path.write_text(codec.to_json(replace(shop_report(), format=99)))
    with pytest.raises(SnapshotError, match="format 99"):
        reports.load(tmp_path)


@pytest.mark.parametrize(
    "report",
    [shop_report(), shop_report(winner=None), managers_report()],
    ids=["shop", "not compared", "manager"],
)
def test_the_published_shape_is_what_is_given(report: Report):
    given = plain(report)
    assert LossReport.model_validate(given).model_dump(mode="json") == given
    json.dumps(given).encode("utf-8")


def test_tables_with_the_most_differences_come_first():
    names = [each["table"] for each in plain(shop_report())["tables"]]
    assert names == ["orders", "order_lines_2026_11", "Notes of the day", "rates"]


def test_an_example_has_its_key_and_what_else_it_holds():
    orders = plain(shop_report())["tables"][0]
    assert orders["samples"][0]["key"] == [{"column": "id", "value": "20117"}]
    assert orders["samples"][0]["row"] == [
        {"column": "customer", "value": "Æther <co>"},
        {"column": "status", "value": "paid"},
    ]


def test_totals_are_sums():
    totals = plain(shop_report())["totals"]
    assert (totals["lost"], totals["equal"], totals["unknown"]) == (412, 10, 1)
    assert totals["wrote"] == {"inserted": 425, "changed": 16, "deleted": 3}
