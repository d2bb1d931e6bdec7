"""axe-core on every page, light and dark: no violation that is serious or worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.browser.conftest import ADA, Person
from tests.browser.talk import answer, ask, asked, over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.browser.conftest import Product
    from tests.browser.puppet import Puppet

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "js" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = {"serious", "critical"}


async def serious(page: Page) -> list[str]:
    """What axe complains of, as one line each."""
    if not await page.evaluate("'axe' in globalThis"):
        await page.evaluate(AXE.read_text() + "; void 0")
    found: list[dict[str, Any]] = (await page.evaluate("axe.run({ resultTypes: ['violations'] })"))["violations"]
    return [
        f"{item['id']}: {node['target']} {node['failureSummary']}"
        for item in found
        if item["impact"] in SERIOUS
        for node in item["nodes"]
    ]


@pytest_asyncio.fixture(params=["light", "dark"], loop_scope="session")
async def viewer(
    request: pytest.FixtureRequest, product: Product, account: str, browser: Browser
) -> AsyncIterator[Person]:
    """Somebody who likes it light, and somebody who likes it dark; neither wants things to move."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 800},
        color_scheme=request.param,
        reduced_motion="reduce",
    )
    yield Person(product, context, account)
    await context.close()


async def test_signing_in(viewer: Person) -> None:
    page = await viewer.tab()
    await page.get_by_label("Email").fill("nobody@example.com")
    await page.get_by_label("Password").fill("not the right one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).not_to_be_empty()
    assert await serious(page) == []


async def test_the_chat(viewer: Person) -> None:
    page = await viewer.signed_in()
    assert await serious(page) == []
    await page.get_by_label("Your message").fill("What did you decide in the last minutes?")
    await page.keyboard.press("Enter")
    await expect(page.locator(".run-foot button").first).to_be_visible()
    for summary in await page.locator("summary").all():
        await summary.click()
    assert await serious(page) == []


async def test_the_chat_on_a_phone(viewer: Person) -> None:
    page = await viewer.signed_in()
    await page.set_viewport_size({"width": 390, "height": 780})
    assert await serious(page) == []
    await page.get_by_role("button", name="Conversations", exact=True).click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_in_viewport(ratio=1)
    assert await serious(page) == []


async def test_the_dialogs(viewer: Person) -> None:
    page = await viewer.signed_in()
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await serious(page) == []


MARKDOWN = """## A heading

Words, **strong** and *not*, `code`, and [a link](https://example.org/x).

> A quote

| a | b |
|---|--:|
| 1 | 2 |

```python
print("a line that is much wider than the box that it stands in", "so that it has to be scrolled", "by keyboard too, and further")
```

1. one
2. two
   - deeper
"""


@pytest_asyncio.fixture(loop_scope="session")
async def reader(viewer: Person, stage: Product) -> Person:
    """The same viewer, where the agent is on strings."""
    return Person(stage, viewer.context, ADA)


async def test_an_empty_chat(reader: Person) -> None:
    page = await reader.signed_in()
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
    assert await serious(page) == []


async def test_an_answer_from_its_first_thought_to_its_end(reader: Person, puppet: Puppet) -> None:
    page = await reader.signed_in()
    await ask(page, "Tell me everything")
    run = await puppet.asked()
    await expect(page.locator(".typing")).to_be_visible()
    assert await serious(page) == [], "while it is waited for"
    run.think("## First\n\nThis, then `that`.\n\n- one\n- two")
    run.emit("TOOL_CALL_START", toolCallId="c", toolCallName="look_up")
    run.emit("TOOL_CALL_ARGS", toolCallId="c", delta='{"word": "door"}')
    run.emit("TOOL_CALL_END", toolCallId="c")
    run.emit("TOOL_CALL_RESULT", messageId="r", toolCallId="c", content='{"found": 1}')
    await expect(page.locator(".tool")).to_contain_text("Used look up")
    for summary in await page.locator("summary").all():
        await summary.click()
    await expect(page.locator(".thinking li").first).to_be_visible()
    run.begin(MARKDOWN[: MARKDOWN.index('"so that')])
    await expect(answer(page).locator("pre")).to_be_visible()
    assert await serious(page) == [], "in the middle of it"
    run.say(MARKDOWN[MARKDOWN.index('"so that') :])
    run.end()
    await over(page)
    await expect(answer(page).locator("ol li")).to_have_count(3)
    assert await serious(page) == [], "at its end"


async def test_an_answer_that_failed_and_one_that_was_stopped(reader: Person, puppet: Puppet) -> None:
    page = await reader.signed_in()
    await asked(page, puppet)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".stopped")).to_be_visible()
    await ask(page, "And now?")
    (await puppet.asked()).fail()
    await expect(page.locator(".failed")).to_be_visible()
    assert await serious(page) == []


async def test_a_message_that_is_too_long(reader: Person) -> None:
    page = await reader.signed_in()
    await page.get_by_label("Your message").fill("я" * 9_000)
    await expect(page.locator("#ask-note")).not_to_be_empty()
    assert await serious(page) == []


async def test_the_drawer_of_a_phone_with_conversations_in_it(reader: Person, puppet: Puppet) -> None:
    page = await reader.signed_in()
    await ask(page, "One")
    (await puppet.asked()).answer(MARKDOWN)
    await over(page)
    await page.set_viewport_size({"width": 390, "height": 780})
    assert await serious(page) == []
    await page.get_by_role("button", name="Conversations", exact=True).click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_in_viewport(ratio=1)
    await expect(page.locator(".thread").first).to_be_visible()
    assert await serious(page) == []
    shown = page.locator(".thread:has([aria-current])")
    await shown.get_by_role("link").focus()  # a pointer that rests is over another one when the list changes its order
    await shown.get_by_role("button", name="Delete One").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await serious(page) == []


async def test_the_banner(viewer: Person) -> None:
    page = await viewer.signed_in()
    for tone in ("ok", "warn", "bad"):
        await page.evaluate(
            """(tone) => {
                const banner = document.querySelector('#banner');
                banner.hidden = false;
                banner.dataset.tone = document.querySelector('#pill').dataset.tone = tone;
                document.querySelector('#banner-text').textContent = 'Something is to be said.';
                document.querySelector('#banner-action').hidden = false;
                document.querySelector('#banner-action').textContent = 'Retry now';
            }""",
            tone,
        )
        assert await serious(page) == []


async def test_operations(viewer: Person) -> None:
    gate = await viewer.tab("/ops")
    await expect(gate.get_by_role("heading", level=1).first).to_be_visible()
    assert await serious(gate) == []
    board = await viewer.tab(viewer.product.ops_link.removeprefix(viewer.product.url))
    await expect(board.locator("#pill")).not_to_have_text("Connecting")
    assert await serious(board) == []


async def test_a_planted_fault_is_seen(viewer: Person) -> None:
    page = await viewer.tab()
    await page.evaluate(
        "document.querySelector('label[for=email]').remove(); document.querySelector('#email').id = 'x'"
    )
    assert [line.split(":")[0] for line in await serious(page)] == ["label"]
