"""A growing answer on the real page: nothing jumps, nothing flickers, and a word costs the same however long the answer is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.talk import LONG, answer, ask, asked, over

if TYPE_CHECKING:
    from tests.browser.conftest import Person
    from tests.browser.puppet import Puppet, Run

pytestmark = pytest.mark.browser

STORY = """## How a door works

A door **opens**, then it *closes*. It has a `handle`, and [a page](https://example.org/door) about it.

- The hinge, which carries
- The handle:
  - inside
  - outside

| part | count |
|---|--:|
| hinge | 2 |
| handle | 1 |

```python
def open(door):
    return door.handle.turn()
```

1. Knock.
2. Wait for **an answer**.

> Whoever knocks is let in.

The end.
"""
"""Everything that has a look of its own; each piece has to be told from what it looks like while it is written."""

WATCH_SHIFTS = """
globalThis.shifts = [];
const named = (node) => {
  const element = node?.nodeType === Node.TEXT_NODE ? node.parentElement : node;
  const part = element?.closest('.run-foot, .question, .fold, .answer > *, .composer, .bar, .side') ?? element;
  return part?.className || part?.localName || 'nothing that is there any more';
};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    for (const { node, previousRect: before, currentRect: after } of entry.sources) shifts.push(after.width === 0
      ? { what: named(node), down: Infinity, aside: 0 }
      : { what: named(node), down: Math.round(after.y - before.y), aside: Math.round(after.x - before.x) });
}).observe({ type: 'layout-shift', buffered: false });
"""
"""The browser's own record of what moved without being scrolled. What was moved out of sight has no place: `Infinity`."""

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Shift:
    """Something that stood elsewhere in the frame before, by so many pixels."""

    what: str
    down: float
    aside: float


async def shifts(page: Page) -> list[Shift]:
    await page.evaluate(TWO_FRAMES)
    return [Shift(**moved) for moved in await page.evaluate("new Promise((done) => setTimeout(() => done(shifts)))")]


async def told(page: Page, run: Run, text: str, *, characters: int = 23) -> None:
    """The text in small pieces, with frames in between."""
    for begins in range(0, len(text), characters):
        run.say(text[begins : begins + characters])
        await page.evaluate(TWO_FRAMES)


def is_a_jump(moved: Shift) -> bool:
    """Two things belong where they go: the foot of a run, down before the words that come, and the columns of a table that
    is being written, apart from each other."""
    is_foot = moved.what == "run-foot" and moved.down > 0 and moved.aside == 0
    is_column = moved.what == "table-frame" and moved.down == 0
    return not is_foot and not is_column


async def test_nothing_jumps_for_somebody_who_follows(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.evaluate(WATCH_SHIFTS)
    await told(page, run, "\n\n" + STORY + LONG[:1500] + "\n\n" + STORY)
    await expect(page.get_by_text("The end.").last).to_be_in_viewport()
    run.end()
    await over(page)
    moved = await shifts(page)
    assert moved, "the browser reports what moves"
    assert [each for each in moved if is_a_jump(each)] == []


async def test_nothing_moves_at_all_for_somebody_who_reads_above(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say("\n\n" + LONG)
    await expect(page.get_by_text("Paragraph 11.")).to_be_in_viewport()
    await page.locator("#scroll").hover()
    await page.mouse.wheel(0, -900)
    await expect(page.get_by_role("button", name="Latest")).to_be_visible()
    await page.evaluate(WATCH_SHIFTS)
    await told(page, run, "\n\n" + STORY)
    run.end()
    await over(page)
    assert await shifts(page) == []


async def test_nothing_jumps_when_the_servers_rendering_takes_the_place_of_the_plain_one(
    ada: Person, puppet: Puppet
) -> None:
    """Until the server answers a text is shown by other means. The server is held back here, so that both are on the screen."""
    page = await ada.signed_in()
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        await route.continue_()

    await page.route("**/api/render", hold)
    await ask(page, "Tell me a story")
    run = await puppet.asked()
    run.begin(STORY)
    await expect(answer(page).locator("ol")).to_have_count(1)
    await expect(answer(page).locator("ul ul")).to_have_count(0)
    await page.evaluate(WATCH_SHIFTS)
    held.set()
    await expect(answer(page).locator("ul ul")).to_have_count(1)
    assert [each for each in await shifts(page) if is_a_jump(each)] == []
    run.end()
    await over(page)
    assert [each for each in await shifts(page) if is_a_jump(each)] == []


async def test_a_planted_jump_is_seen(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    (await asked(page, puppet)).end()
    await over(page)
    await page.evaluate(WATCH_SHIFTS)
    await page.evaluate("document.querySelector('.transcript').style.marginTop = '60px'")
    assert Shift("transcript", down=60, aside=0) in [each for each in await shifts(page) if is_a_jump(each)]


async def test_what_is_read_of_a_block_that_grows_is_left_alone(ada: Person, puppet: Puppet) -> None:
    """A selection, and a box that was scrolled, outlive the words that come."""
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say("\n\n```python\n" + "wide = " + "'x' + " * 80 + "'x'\n")
    code = answer(page).locator("pre")
    await expect(code).to_contain_text("wide")
    await code.evaluate("(pre) => { pre.scrollLeft = 120; }")
    await code.evaluate("({ firstChild: { firstChild: text } }) => getSelection().setBaseAndExtent(text, 4, text, 20)")
    selected = await page.evaluate("getSelection().toString()")
    run.say("more = 1\n")
    await expect(code).to_contain_text("more = 1")
    run.say("```\n\nDone.")
    await expect(answer(page).locator("p").last).to_have_text("Done.")
    assert await code.evaluate("(pre) => pre.scrollLeft") == 120
    assert await page.evaluate("getSelection().toString()") == selected != ""
    run.end()


async def test_a_word_costs_the_same_in_a_long_answer_as_in_a_short_one(ada: Person, puppet: Puppet) -> None:
    """What is finished is not sent to be rendered again."""
    page = await ada.signed_in()
    run = await asked(page, puppet)
    sent: list[int] = []
    page.on(
        "request",
        lambda request: sent.append(len(request.post_data or "")) if request.url.endswith("/api/render") else None,
    )
    paragraphs = [f"Paragraph number {number}. " + "It goes on and on. " * 15 for number in range(40)]
    for number, paragraph in enumerate(paragraphs):
        run.say("\n\n" + paragraph)
        await expect(answer(page).locator("p").nth(number + 1)).to_be_attached()
        await expect(page.locator(".answer[aria-busy]")).to_have_count(0)
    run.end()
    await over(page)
    assert len(sent) >= len(paragraphs), "each was rendered as it came"
    assert sum(sent) < 4 * sum(map(len, paragraphs))
    assert max(sent) < 4 * max(map(len, paragraphs))


async def test_a_text_that_is_longer_than_a_request_is_rendered_piece_by_piece(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "All of it")
    run = await puppet.asked()
    run.begin("# Begin\n\n" + "\n\n".join(f"Part **{number}** " + "of it all. " * 300 for number in range(30)))
    run.say("\n\nThe [end][1].\n\n[1]: https://example.org/end")
    run.end()
    for tab in (page, None):
        if tab is None:
            await page.reload()
        await expect(answer(page).locator("strong")).to_have_count(30)
        await expect(answer(page).locator("a")).to_have_count(1)
        await over(page)


async def test_an_address_that_comes_last_makes_links_above(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say(", see [here][1].\n\nAnd more.\n\n")
    await expect(answer(page).locator("p").last).to_have_text("And more.")
    run.say("[1]: https://example.org/here")
    run.end()
    await expect(answer(page).get_by_role("link", name="here")).to_have_attribute("href", "https://example.org/here")


async def test_an_answer_that_could_not_be_rendered_is_rendered_later(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.route("**/api/render", lambda route: route.abort())
    run.say(", ~~long~~ ago.")
    await expect(answer(page)).to_have_text("Once upon a time, ~~long~~ ago.")
    run.end()
    await page.unroute("**/api/render")
    await expect(answer(page).locator("s")).to_have_text("long")


async def test_each_block_runs_in_the_direction_of_its_language(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "كيف؟")
    (await puppet.asked()).answer("يعمل الباب.\n\nAnd this.\n\n- نعم\n\n| اسم |\n|---|\n| باب |\n\n```\nx\n```")
    await expect(answer(page).locator("td")).to_have_count(1)
    directions = "(blocks) => blocks.map((block) => getComputedStyle(block).direction)"
    assert await answer(page).locator("> *").evaluate_all(directions) == ["rtl", "ltr", "rtl", "rtl", "ltr"]
    assert await page.locator(".question p, #title, [aria-current] .thread-title").evaluate_all(directions) == [
        "rtl",
        "rtl",
        "rtl",
    ]


HALF_WRITTEN = [
    ("Items:\n-", "Items:\n"),
    ("Items:\n- one", "Items:\n- one"),
    ("One\n2.", "One\n"),
    ("It is **bo", "It is **bo**"),
    ("It is **bold*", "It is **bold**"),
    ("It is **", "It is "),
    ("Call `f(**kw", "Call `f(**kw`"),
    ("A **`b", "A **`b`**"),
    ("See [here](https://exa", "See here"),
    ("Code:\n```py", "Code:\n"),
    ("Code:\n```py\na = 2 **", "Code:\n```py\na = 2 **"),
    ("Code:\n```py\na\n``", "Code:\n```py\na\n"),
    ("A table:\n\n| a | b |\n", "A table:\n\n"),
    ("A table:\n\n| a | b |\n|--", "A table:\n\n"),
    ("| a | b |\n|---|---|\n| 1", "| a | b |\n|---|---|\n| 1"),
    ("a | b", "a | b"),
]


async def test_what_is_half_written_is_shown_as_what_it_will_be(ada: Person) -> None:
    page = await ada.tab()
    shown = await page.evaluate(
        """async (texts) => {
            const { presentable } = await import('/static/unfinished.js');
            return texts.map((text) => presentable(text).text);
        }""",
        [text for text, _ in HALF_WRITTEN],
    )
    assert shown == [text for _, text in HALF_WRITTEN]


async def held_back(page: Page, puppet: Puppet) -> tuple[Run, asyncio.Queue[Route], Route]:
    """An answer whose renderings wait for the test: the queue of them, and that of the first words."""
    waiting: asyncio.Queue[Route] = asyncio.Queue()
    await page.route("**/api/render", waiting.put)
    run = await asked(page, puppet)
    return run, waiting, await waiting.get()


async def test_what_has_ended_never_loses_its_last_words_to_an_answer_that_comes_late(
    ada: Person, puppet: Puppet
) -> None:
    """The server renders the first words when all are there already."""
    page = await ada.signed_in()
    run, waiting, first = await held_back(page, puppet)
    run.say(", and **that** was all")
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(answer(page)).to_have_text("Once upon a time, and that was all")
    await expect(page.locator(".answer[aria-busy]")).to_have_count(1)
    await first.continue_()
    last = await waiting.get()
    await page.evaluate(TWO_FRAMES)
    assert await answer(page).inner_text() == "Once upon a time, and that was all"
    await last.continue_()
    await expect(answer(page).locator("strong")).to_have_text("that")
    await expect(page.locator(".answer[aria-busy]")).to_have_count(0)


async def test_while_it_grows_nothing_that_is_shown_goes_away_and_comes_back(ada: Person, puppet: Puppet) -> None:
    """The server renders the first words when more of them are on the screen already."""
    page = await ada.signed_in()
    run, waiting, first = await held_back(page, puppet)
    run.say(", and **that**")
    await expect(answer(page)).to_have_text("Once upon a time, and that")
    await first.continue_()
    second = await waiting.get()
    run.say(" was not all")
    await page.evaluate(TWO_FRAMES)
    assert await answer(page).inner_text() == "Once upon a time, and that"
    await second.continue_()
    await expect(answer(page).locator("strong")).to_have_text("that")
    await (await waiting.get()).continue_()
    await expect(answer(page)).to_have_text("Once upon a time, and that was not all")
    await page.unroute("**/api/render")
    run.end()
    await over(page)
