"""The page in a real Chromium: what people see, with a script and without one."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.fix_desk import (
    STORIES,
    Served,
    card,
    healthy,
    listening,
    node_down,
    serve,
    split_brain,
)

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


@dataclass
class Visit:
    """One visit of the page, and everything that it did beside being looked at."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def foreign(self) -> list[str]:
        return [one for one in self.requests if not one.startswith(self.url)]


def visit(browser: Browser, url: str, **options) -> Visit:
    context = browser.new_context(**options)
    made = Visit(context.new_page(), url)
    made.page.on("console", lambda said: made.complaints.append(said.text))
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on("request", lambda request: made.requests.append(request.url))
    made.page.goto(url)
    return made


def open_page(story: str = "healthy", me: str = "n1") -> Served:
    return serve(STORIES[story](), me, with_tokens=False)


@pytest.mark.parametrize(
    ("story", "me", "title"),
    [
        ("healthy", "n1", "Healthy"),
        ("node-down", "n2", "Node down"),
        ("isolated", "n1", "Split brain suspected"),
        ("split-brain", "n2", "Split brain"),
    ],
)
def test_the_verdict_is_readable_without_a_script(
    browser: Browser, story: str, me: str, title: str
):
    with listening(open_page(story, me)) as url:
        seen = visit(browser, url, java_script_enabled=False)
        expect(seen.page.get_by_role("heading", level=1)).to_have_text(title)
        expect(seen.page.locator(".verdict-sentence")).to_be_visible()
        assert title in seen.page.title()
        refresh = seen.page.locator("noscript meta[http-equiv=refresh]")
        assert refresh.get_attribute("content") == "5"
        seen.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1240])
def test_nothing_is_refused_by_the_policy_and_nothing_comes_from_elsewhere(
    browser: Browser, scheme, width: int
):
    served = open_page("split-brain", "n2")
    served.shelf.add(card(), {})
    with listening(served) as url:
        seen = visit(
            browser, url, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        expect(seen.page.locator("svg.graph .arrow")).to_have_count(6)
        expect(seen.page.locator("svg.tree .fork")).to_have_count(1)
        assert seen.complaints == []
        assert seen.foreign() == []
        wide = seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "the page never scrolls sideways"
        seen.page.context.close()


@pytest.mark.parametrize("width", [360, 420, 900])
@pytest.mark.parametrize("story", ["isolated", "split-brain", "resynced"])
def test_no_table_is_cut_off_at_the_edge_of_a_small_screen(
    browser: Browser, story: str, width: int
):
    served = open_page(story, "n2")
    served.shelf.add(card(), {})
    with listening(served) as url:
        seen = visit(browser, url, viewport={"width": width, "height": 800})
        expect(seen.page.locator("table.places tbody tr")).to_have_count(3)
        edges = seen.page.evaluate(
            "[...document.querySelectorAll('.places td, .list td')]"
            ".map((cell) => cell.getBoundingClientRect().right)"
        )
        assert max(edges) <= width
        seen.page.context.close()


def test_a_loser_that_is_not_seen_is_drawn_where_it_was_last(browser: Browser):
    with listening(open_page("isolated", "n2")) as url:
        seen = visit(browser, url)
        row = seen.page.locator("table.places tbody tr").first
        expect(row).to_contain_text("n1 not seen")
        expect(row).to_contain_text("s ago")
        expect(row.locator("td").last).to_have_text("not known")
        expect(seen.page.locator("svg.tree")).to_contain_text("n1 (last seen)")
        seen.page.context.close()


def test_an_incident_that_is_over_shows_how_to_open_what_it_left(browser: Browser):
    with listening(open_page("resynced", "n3")) as url:
        seen = visit(browser, url)
        kept = seen.page.locator(".kept", has_text="holds what n1 had written")
        expect(kept.locator("code.command")).to_contain_text(
            "splitguard snapshots open n1-"
        )
        seen.page.context.close()


def test_the_page_follows_the_cluster_without_being_loaded_again(browser: Browser):
    down = node_down()
    served = open_page()
    with listening(served) as url:
        seen = visit(browser, url)
        heading = seen.page.get_by_role("heading", level=1)
        expect(heading).to_have_text("Healthy")
        seen.page.evaluate("window.sameDocument = true")
        served.become(down)
        expect(heading).to_have_text("Node down")
        assert "Node down" in seen.page.title()
        icon = seen.page.locator("link[rel=icon]").get_attribute("href")
        assert icon == "/assets/icon-critical.svg"
        assert seen.page.evaluate("window.sameDocument")
        served.become(healthy())
        expect(heading).to_have_text("Healthy")
        assert seen.complaints == []
        seen.page.context.close()


def test_an_opened_table_stays_open_through_an_update(browser: Browser):
    served = open_page()
    with listening(served) as url:
        seen = visit(browser, url)
        seen.page.get_by_text("As a table").click()
        expect(seen.page.locator("#matrix table")).to_be_visible()
        served.become(node_down())
        expect(seen.page.get_by_role("heading", level=1)).to_have_text("Node down")
        expect(seen.page.locator("#matrix table")).to_be_visible()
        seen.page.context.close()


def test_old_news_is_never_shown_as_news(browser: Browser):
    served = open_page()
    with listening(served) as url:
        seen = visit(browser, url)
        expect(seen.page.locator("#lost")).to_be_hidden()
    expect(seen.page.locator("#lost")).to_contain_text(
        "does not answer", timeout=20_000
    )
    expect(seen.page.locator("#lost")).to_contain_text("What you see below is old")
    seen.page.context.close()


def test_every_picture_has_words_and_every_control_a_name(browser: Browser):
    with listening(open_page("split-brain", "n1")) as url:
        seen = visit(browser, url)
        pictures = seen.page.get_by_role("img")
        names = [
            pictures.nth(rank).evaluate(
                "one => (one.querySelector('title') || {}).textContent"
            )
            for rank in range(pictures.count())
        ]
        assert len(names) == 2
        assert all(name.strip() for name in names)
        headings = seen.page.locator("h1, h2, h3").all_inner_texts()
        assert {"Nodes", "Who sees whom", "Timelines", "Incidents"} <= set(headings)
        assert seen.page.locator("h1").count() == 1
        for row in ("n1", "n2", "n3"):
            expect(seen.page.get_by_role("article", name=row)).to_be_visible()
        seen.page.context.close()


def test_words_of_the_cluster_never_become_markup(browser: Browser):
    sim = split_brain()
    served = serve(sim, "n2", with_tokens=False)
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    served.shelf.add(card("evil", reason=evil), {})
    with listening(served) as url:
        seen = visit(browser, url)
        expect(seen.page.get_by_text(evil)).to_be_visible()
        assert seen.complaints == []
        assert seen.page.locator("img[src=x]").count() == 0
        seen.page.context.close()


CONTRAST = """
() => {
  const channel = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) =>
    .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const canvas = document.createElement("canvas").getContext("2d",
    {willReadFrequently: true});
  const over = (colour, ground) => {
    canvas.fillStyle = `rgb(${ground.join(",")})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const groundOf = (element) => {
    const line = [];
    for (let at = element; at; at = at.parentElement) line.unshift(at);
    return line.reduce((g, at) => over(getComputedStyle(at).backgroundColor, g),
      [255, 255, 255]);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(svg *)")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !element.checkVisibility()) continue;
    const ground = groundOf(element);
    const a = light(over(getComputedStyle(element).color, ground)), b = light(ground);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio}`);
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("story", ["healthy", "isolated", "split-brain"])
def test_text_stands_out_from_its_ground(browser: Browser, story: str, scheme):
    served = open_page(story, "n1")
    served.shelf.add(card(), {})
    with listening(served) as url:
        seen = visit(browser, url, color_scheme=scheme)
        assert seen.page.evaluate(CONTRAST) == []
        seen.page.context.close()
