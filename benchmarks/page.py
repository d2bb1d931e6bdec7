"""`python -m benchmarks.page`: how long people wait at the page, in Chromium, by the page's own performance marks.

Two times, each over many turns: from `RUN_STARTED` to the agent's first words on the screen; and from a cut of the line in
mid-answer to the whole of that answer on the screen. The agent speaks at once; the line is cut by resetting TCP between the
browser and the server.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Page, async_playwright, expect
from tests.browser.conftest import FLAGS, NOT_RUN, Product, find_chromium, running

from benchmarks import machine, report
from benchmarks.speaking_agent import WORDS
from doorward.testing import Fault, FaultProxy

TURNS = 30
RESULT = machine.ROOT / "build" / "page.json"
AGENT = "benchmarks.speaking_agent:agent"

FIRST_WORDS = "RUN_STARTED to the first words on the screen"
BACK = "a cut line to all that was missed on the screen"
BACK_OFF = "of it: the client waits, by chance, up to 500 ms"
CATCH_UP = "of it: dialling, the door, the resume, the rendering"

WATCH = """
globalThis.marks = new Map();
const waiting = new Map();
new PerformanceObserver((list) => {
  for (const { name, startTime } of list.getEntries()) {
    marks.set(name, startTime);
    waiting.get(name)?.(startTime);
  }
}).observe({ type: 'mark' });
globalThis.marked = (name) => marks.has(name) ? marks.get(name) : new Promise((resolve) => waiting.set(name, resolve));
"""
"""The page marks its moments itself; nothing here asks again and again."""


async def moment(page: Page, name: str) -> float:
    """When the page marked this, in its own milliseconds."""
    at: float = await asyncio.wait_for(page.evaluate(f"marked('doorward:{name}')"), 30)
    return at


async def asked(page: Page, question: str) -> None:
    await page.evaluate("marks.clear()")
    await page.get_by_label("Your message").fill(question)
    await page.keyboard.press("Enter")


class Turns:
    """Questions, one after the other, each with a name that was never asked before."""

    def __init__(self, page: Page, product: Product, proxy: FaultProxy) -> None:
        self._page = page
        self._folder = product.folder
        self._proxy = proxy
        self._count = 0

    async def first_words(self) -> float:
        """Milliseconds until an answer begins."""
        question = self._next()
        await asked(self._page, question)
        words = await moment(self._page, "first-words") - await moment(self._page, "run-started")
        self._go_on(question)
        await expect(self._page.get_by_role("button", name="Send")).to_be_visible()
        return words

    async def coming_back(self) -> tuple[float, float]:
        """Milliseconds from a cut to dialling again, and from there to the end of the answer. In a page that was just opened:
        one that was cut lately waits longer."""
        await self._page.goto(self._proxy.url + "/")
        await expect(self._page.locator("#pill")).to_have_text("Connected")
        question = self._next()
        await asked(self._page, question)
        await moment(self._page, "first-words")
        await self._page.evaluate("marks.delete('doorward:dialling')")
        self._proxy.fault = Fault.RESET
        self._proxy.fault = Fault.NONE
        self._go_on(question)
        cut, ended = await moment(self._page, "cut"), await moment(self._page, "run-ended")
        dialled = await moment(self._page, "dialling")
        await expect(self._page.locator(".answer").last).to_contain_text(f"word {WORDS - 1},")
        return dialled - cut, ended - dialled

    def _next(self) -> str:
        self._count += 1
        return f"turn-{self._count}"

    def _go_on(self, question: str) -> None:
        (self._folder / question).touch()


async def measured(product: Product, turns: int) -> dict[str, list[float]]:
    host, port = product.url.removeprefix("http://").split(":")
    async with FaultProxy(host, int(port)) as proxy, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.add_init_script(WATCH)
        await page.goto(product.sign_in_link.replace(product.url, proxy.url))
        await expect(page.locator("#pill")).to_have_text("Connected")
        asking = Turns(page, product, proxy)
        await asking.first_words()  # one to warm up
        words = [await asking.first_words() for _ in range(turns)]
        back = [await asking.coming_back() for _ in range(turns)]
        await browser.close()
    return {
        FIRST_WORDS: words,
        BACK: [waited + caught_up for waited, caught_up in back],
        BACK_OFF: [waited for waited, _ in back],
        CATCH_UP: [caught_up for _, caught_up in back],
    }


def p95(samples: Sequence[float]) -> float:
    """By nearest rank."""
    return sorted(samples)[math.ceil(0.95 * len(samples)) - 1]


def table(samples: dict[str, list[float]]) -> str:
    lines = [["milliseconds from", "median", "p95", "turns"]]
    for name, values in samples.items():
        lines.append([name, f"{statistics.median(values):.0f}", f"{p95(values):.0f}", str(len(values))])
    return report.aligned(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of each kind; {TURNS} unless told otherwise")
    parser.add_argument("--json", type=Path, default=RESULT, metavar="FILE", help="where every sample goes")
    options = parser.parse_args()
    if find_chromium() is None:
        print(NOT_RUN, file=sys.stderr)
        return 2
    about: dict[str, Any] = machine.description()
    with (
        tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder,
        running(Path(folder), DOORWARD_CHAT__AGENT=AGENT, PYTHONPATH=str(machine.ROOT)) as product,
    ):
        samples = asyncio.run(measured(product, options.turns))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode({"environment": about, "milliseconds": samples})))
    print(f"{table(samples)}\nwritten to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
