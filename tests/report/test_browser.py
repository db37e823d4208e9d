"""The HTML report in a real browser: light and dark, by keyboard, on a phone, printed, large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import launched, opened
from playwright.sync_api import Browser
from report_support import HOSTILE, applied, leak, matrix, program, unknown
from test_page import _everything, timeline

from gradguard.core.flow import FlowMatrix, Reach
from gradguard.report import html, save

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run one browser for all tests of this file."""
    with launched() as running:
        yield running


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Save a report with everything in it and return its address."""
    monkeypatch.chdir(tmp_path)
    train = program(tmp_path)
    page = html(
        [applied(train), leak(train), unknown(train)],
        matrix=matrix(),
        timeline=timeline(train, 8),
        figures={"steps": 400},
    )
    save(tmp_path / "report.html", page)
    return (tmp_path / "report.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_on_its_ground(browser: Browser, report: str, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to 1, in both schemes, and the two differ."""
    with opened(browser, report, color_scheme=scheme) as page:
        low = page.evaluate(CONTRAST)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert low == []
    assert (int(ground[4:].split(",")[0]) > 128) is (scheme == "light")


def test_a_phone_scrolls_down_and_never_sideways(browser: Browser, report: str) -> None:
    """What is wide scrolls in its own box, and drawings stand above their source."""
    with opened(browser, report, viewport=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        figure = page.locator("#f2 figure").bounding_box()
        source = page.locator("#f2 .source").bounding_box()
        assert figure is not None
        assert source is not None
        assert figure["y"] + figure["height"] <= source["y"]
        assert figure["x"] + figure["width"] <= PHONE["width"]


def test_the_keyboard_reaches_everything(browser: Browser, report: str) -> None:
    """The first Tab offers to skip, boxes that scroll take focus, j and k go through findings."""
    with opened(browser, report, viewport=PHONE) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate(UNREACHABLE) == 0
        visited = []
        for key in "jjjk":
            page.keyboard.press(key)
            visited.append(page.evaluate("document.activeElement.id"))
        assert visited == ["f1", "f2", "f3", "f2"]
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "words"


def test_findings_can_be_searched_and_sifted(browser: Browser, report: str) -> None:
    """By words and by severity; what is hidden is counted aloud."""
    with opened(browser, report) as page:
        page.fill("#words", "gg101 GENERATOR")
        shown = page.locator(".finding:not([hidden])")
        assert shown.evaluate_all("all => all.map(one => one.id)") == ["f2"]
        assert page.inner_text("output") == "1 of 3 shown"
        page.fill("#words", "")
        page.uncheck("input[value=error]")
        assert shown.evaluate_all("all => all.map(one => one.id)") == ["f2", "f3"]


def test_a_sign_in_the_matrix_leads_to_its_finding(browser: Browser, report: str) -> None:
    """The pair that leaked is a link."""
    with opened(browser, report) as page:
        page.click("#flow a[aria-label^=unknown]")
        assert page.url.endswith("#f3")


def test_a_screen_reader_is_told_what_is_drawn(browser: Browser, report: str) -> None:
    """Cells have words, drawings have sentences, and no picture is without a name."""
    with opened(browser, report) as page:
        assert page.get_by_role("cell", name="spilled on the way").count() == 1
        assert page.get_by_role("rowheader", name="generator_loss").count() == 1
        assert page.get_by_role("columnheader", name="codebook").count() == 1
        assert page.get_by_role("img", name="gradient of critic_loss to critic").count() == 1
        unnamed = ":is(svg[role=img], [role=region]):not([aria-label], [aria-labelledby])"
        assert page.locator(unnamed).count() == 0


def test_a_printed_report_has_what_was_folded(browser: Browser, report: str) -> None:
    """Everything is on paper: nothing is cut off, and lists are open."""
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".events li").first.is_visible()
        page.set_viewport_size({"width": 720, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
        assert page.pdf().startswith(b"%PDF")


def test_it_reads_without_its_script(browser: Browser, report: str) -> None:
    """Where scripts are off, everything is there but the search."""
    with opened(browser, report, java_script_enabled=False) as page:
        assert page.locator(".filter").is_hidden()
        assert page.locator(".finding").count() == 3


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_name_runs(browser: Browser, tmp_path: Path, name: str) -> None:
    """No dialog, no request, no complaint of the browser, and the name on the page as it is."""
    save(tmp_path / "report.html", _everything(name, program(tmp_path)))
    with opened(browser, (tmp_path / "report.html").as_uri()) as page:
        assert page.locator("script").count() == 1
        assert page.locator(".finding").count() == 2


def test_a_large_run_stays_quick(browser: Browser, tmp_path: Path) -> None:
    """1,000 findings and 100 by 100 pairs: only what is in sight is laid out."""
    train = program(tmp_path)
    names = tuple(f"model_{number}" for number in range(100))
    losses = tuple(f"loss_{number}" for number in range(100))
    flow = FlowMatrix(losses, names, {(loss, names[0]): Reach.REACHED for loss in losses})
    found = [replace(leak(train), loss=losses[number % 100]) for number in range(1000)]
    save(tmp_path / "large.html", html(found, matrix=flow))
    with opened(browser, (tmp_path / "large.html").as_uri(), viewport=PHONE) as page:
        assert (
            page.evaluate(
                "[...document.querySelectorAll('.finding')].filter(one =>"
                " one.checkVisibility({ contentVisibilityAuto: true }) &&"
                " one.querySelector('svg').checkVisibility({ contentVisibilityAuto: true })).length"
            )
            < 50
        )
        page.fill("#words", "loss_7")
        assert page.inner_text("output") == "110 of 1000 shown"
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


UNREACHABLE = """() => [...document.querySelectorAll('*')].filter((one) =>
  one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0 &&
  ['auto', 'scroll'].includes(getComputedStyle(one).overflowX)).length"""

CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest('svg, script, title')) continue;
    const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(light)
      .sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(walk.currentNode.data.trim());
  }
  return low;
}"""
