"""The drill's report in Chromium: on a phone and a wide screen, by day and by night, and on paper. It needs nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.browser.test_accessibility import serious
from tests.drill_support import a_whole_drill

from doorward.drill.report import page as written

pytestmark = pytest.mark.browser

A4_WIDTH = 794
MARGIN = 53
"""14 mm, as the page's own style has it."""

OUTSIDE = """() => {
  const wider = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = element.getBoundingClientRect();
    const scrolls = element.closest(".wide");
    if (!scrolls && own.width > 0 && own.right > innerWidth + 1) wider.push(element.outerHTML.slice(0, 120));
  }
  return wider;
}"""
CLIPPED = """() => {
  const clipped = [];
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        clipped.push(`${svg.getAttribute("aria-label")}: ${text.textContent}`);
    }
  }
  return clipped;
}"""
SMALLEST = """() => {
  const sizes = [];
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    if (svg.closest(".wide") && svg.closest(".wide").scrollWidth > svg.closest(".wide").clientWidth) continue;
    for (const text of svg.querySelectorAll("text")) sizes.push(text.getBoundingClientRect().height);
  }
  return Math.min(...sizes);
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "drill.html"
    file.write_text(written(a_whole_drill()), encoding="utf-8")
    return file


class Reader:
    """Somebody who opens the file, with a network that would tell on it."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.asked_for: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked_for.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._url = file.as_uri()

    async def open(self) -> Page:
        await self.page.goto(self._url)
        return self.page

    def needed_nothing(self) -> None:
        assert self.asked_for == [self._url]
        assert self.complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def reader(request: pytest.FixtureRequest, browser: Browser, report: Path) -> AsyncIterator[Reader]:
    width, scheme = request.param
    context = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    yield Reader(await context.new_page(), report)
    await context.close()


SCREENS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]


@pytest.mark.parametrize("reader", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]} px, {screen[1]}")
async def test_on_every_screen_all_of_it_can_be_seen(reader: Reader) -> None:
    page = await reader.open()

    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert await page.evaluate(OUTSIDE) == []
    assert await page.evaluate(CLIPPED) == []
    assert await page.evaluate(SMALLEST) >= 9.0, "letters that can be read"
    assert await serious(page) == []
    reader.needed_nothing()


@pytest.mark.parametrize("reader", [(1280, "light")], indirect=True)
async def test_every_link_leads_to_its_place_and_every_rule_unfolds(reader: Reader) -> None:
    page = await reader.open()
    for link in await page.locator("a[href^='#']").all():
        target = await link.get_attribute("href")
        assert await page.locator(f"[id='{(target or '')[1:]}']").count() == 1

    held = page.locator("summary", has_text="big-cookie")
    await held.click()
    assert await page.locator("details[open] td", has_text="every answer was the right one").last.is_visible()


@pytest.mark.parametrize("reader", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]} px, {screen[1]}")
async def test_what_failed_is_seen_first_and_leads_to_its_rules(reader: Reader) -> None:
    page = await reader.open()
    failed = page.get_by_role("region", name="What failed").get_by_role("listitem")
    assert await failed.count() == 1
    await expect(failed).to_be_in_viewport(ratio=1)
    await expect(failed).to_have_text(
        "drip/warm/without-keys/breaker-open in-time: the slowest client waited <3.000> s & more, of at most 2.1 s"
    )

    await failed.get_by_role("link").click()
    await expect(page.locator("details[open] td", has_text="the slowest client waited")).to_be_in_viewport()


@pytest.mark.parametrize("reader", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]} px, {screen[1]}")
async def test_on_every_screen_each_scenario_says_once_whether_it_held(reader: Reader) -> None:
    page = await reader.open()
    for name, verdict in (("silence", "held"), ("drip", "FAILED"), ("big-cookie", "held")):
        row = page.locator(".own tr").filter(has=page.get_by_role("cell", name=re.compile(f"^{name}")))
        mark = row.locator(".held:visible, .failed:visible")
        await expect(mark).to_have_text([verdict])
        await mark.scroll_into_view_if_needed()
        await expect(mark).to_be_in_viewport(ratio=1)
        assert await page.evaluate("Math.max(...[...document.querySelectorAll('.wide')].map((e) => e.scrollLeft))") == 0


@pytest.mark.parametrize("reader", [(390, "light")], indirect=True)
async def test_what_is_wider_than_a_phone_moves_by_keyboard(reader: Reader) -> None:
    page = await reader.open()
    table = page.get_by_role("region", name="The longest waits")
    await table.focus()
    await page.keyboard.press("ArrowRight")
    async with asyncio.timeout(10):
        while await table.evaluate("(region) => region.scrollLeft") == 0:  # noqa: ASYNC110 - it glides there, and tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("reader", [(A4_WIDTH - 2 * MARGIN, "dark")], indirect=True)
async def test_on_paper_nothing_is_cut_off_and_everything_is_unfolded(reader: Reader) -> None:
    page = await reader.open()
    await page.emulate_media(media="print")

    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert await page.evaluate(OVER_THE_EDGE) == []
    assert await page.evaluate(CLIPPED) == []
    assert await page.locator("details td", has_text="every answer was the right one").first.is_visible()
    assert await page.get_by_role("region", name="What failed").is_visible()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"

    pdf = await page.pdf(format="A4", prefer_css_page_size=True, print_background=True)
    assert pdf.startswith(b"%PDF-")
    boxes: list[Any] = re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert boxes
    for width, height in boxes:
        assert (float(width), float(height)) == pytest.approx((595.3, 841.9), abs=2), "A4, in points"
    reader.needed_nothing()


OVER_THE_EDGE = """() => [...document.querySelectorAll(".wide, .card, table, svg")]
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 120))"""
