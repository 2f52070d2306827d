"""The page of a loss report: whole in itself, and nothing in it runs."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from agent.divergence.report import Counts, Report, Side, Waiting
from agent.divergence.report_plain import plain
from agent.web.loss import content_security_policy, render_loss
from tests.fix_losses import NIGHT_S, managers_report, shop_report, shop_tables

CALM = shop_report(
    tables=shop_tables()[3:], objects=(), gaps=(), waiting=(), delivered=(), released=()
)
EVERY = {
    "shop": shop_report(),
    "manager": managers_report(),
    "not compared": shop_report(winner=None),
    "nothing missing": CALM,
}


def page(report: Report) -> str:
    return render_loss(plain(report), "1.2.3")


def text(report: Report) -> str:
    """What a reader sees of it, in one line."""
    seen = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page(report), flags=re.DOTALL)
    return " ".join(seen.split())


@pytest.mark.parametrize("name", EVERY)
def test_the_page_asks_nobody_for_anything(name):
    made = page(EVERY[name])
    assert not re.search(r"<script|<link|<img|url\(|@import|https?://|\son\w+=", made)
    assert "default-src &#39;none&#39;" in made


def test_its_policy_lets_in_its_own_style_alone():
    [style] = re.findall(r"<style>(.*?)</style>", page(CALM), flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in content_security_policy()
    assert "style=" not in page(shop_report())


def test_it_says_what_how_much_who_when_and_what_next():
    seen = text(shop_report())
    for words in (
        "412 rows in 3 tables lost, 5 changed, 2 deleted",
        "439 transactions from 16:53:01 to 16:54:10 UTC",
        "loss rescue 20261123T165500Z-n1-4f1a --apply &#34;host=10.0.0.2 port=5432",
        "splitguard loss rescue 20261123T165500Z-n1-4f1a --format sql",
        "Released by mira at 2026-11-23 16:55:01 UTC, for n1: the shop must open",
        "Not protected past LSN 0/5A00000",
        "2 commits still waited for a synchronous standby from 16:54:01 to 16:54:10",
        "a server&#39;s log has no names",
        "slot to_warehouse (pgoutput, database shop) stood at 0/59F0000",
        "partition of public.order_lines",
        "10 rows that the losing side wrote are the same on the winner.",
        "role night_shift created by the losing side",
        "table public.sessions in database shop it is unlogged",
    ):
        assert words in seen
    assert "public.rates" not in seen, "what is alike takes no room"


def test_a_managers_things_come_before_rows():
    seen = text(managers_report())
    assert seen.index("edge-vnf-17") < seen.index("public.deployments")
    assert "Matched by tenant and id" in seen
    assert "default_tenant 2026-11-23 16:53:20 mira" in seen
    assert "rows alone do not bring them back" in seen
    assert '<code class="command">cfy snapshots restore</code>' in page(
        managers_report()
    )


def test_values_from_the_database_stay_text():
    made = page(shop_report())
    assert "Æsop &amp; Sons &lt;ltd&gt;" in made
    assert "customer = Æther &lt;co&gt;, status = paid" in made
    assert "<ltd>" not in made
    odd = replace(shop_report(), headline="<b>x</b>; `rm`", node="<n>")
    assert "<b>x" not in page(odd)
    assert "<n>" not in page(odd)


def test_one_is_one_and_an_instant_is_no_span():
    one = replace(shop_tables()[0], counts=Counts(lost=2, conflicts=1, collisions=1))
    moment = Waiting(1, NIGHT_S, NIGHT_S + 0.5)
    side = Side(1, 0, 0, 1, NIGHT_S, NIGHT_S + 0.5)
    seen = text(shop_report(tables=(one,), waiting=(moment,), loser=side))
    assert "1 conflict rows of before" in seen
    assert "1 collision two different rows" in seen
    assert "1 commit still waited for a synchronous standby at 16:53:01 UTC:" in seen
    assert "1 transaction committed at 16:53:01 UTC, of which 1 was" in seen


def test_who_wrote_is_told_where_an_audit_log_has_it_and_else_that_nobody_knows():
    assert "When and who" not in text(shop_report())
    assert "audit log stand beside its things" not in text(shop_report())
    assert "audit log stand beside its things" in text(managers_report())


def test_the_state_is_told_in_words():
    assert "not compared yet" in text(EVERY["not compared"])
    assert "nothing is missing" in text(CALM)
    assert "data is missing or in conflict" in text(EVERY["manager"])
    unsure = replace(CALM, gaps=shop_report().gaps)
    assert "no row is missing" in text(unsure)
