"""The page of a loss report in a real Chromium, from a file, on two widths."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from agent.divergence.report import Report
from agent.divergence.report_plain import plain
from agent.web.loss import render_loss
from tests.fix_losses import managers_report, shop_report

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield made
        made.close()


@pytest.mark.parametrize("width", [900, 400])
@pytest.mark.parametrize(
    "report", [shop_report(), managers_report()], ids=["shop", "manager"]
)
def test_a_report_is_read_offline_without_a_script_on_any_width(
    browser: Browser, tmp_path: Path, report: Report, width: int
):
    file = tmp_path / "report.html"
    file.write_text(render_loss(plain(report), "1.2.3"), encoding="utf-8")
    complaints: list[str] = []
    requests: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=False
    )
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    commands = page.locator(".next code.command")
    expect(commands.first).to_be_visible()
    box = commands.first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900, "the next step is seen without scrolling"
    for command in commands.all():
        box = command.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
    for one in page.locator("h2").all():
        place = one.bounding_box()
        assert place is not None
        assert place["x"] + place["width"] <= width, "nothing is wider than the screen"
    assert complaints == [], "the policy stops nothing that the page needs"
    assert requests == [file.as_uri()]
    context.close()
