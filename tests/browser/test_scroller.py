"""Who is at the end of a conversation stays there while it grows, and who goes up does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.browser.talk import LONG, asked

if TYPE_CHECKING:
    from tests.browser.conftest import Person
    from tests.browser.puppet import Puppet

pytestmark = pytest.mark.browser

GROWS_BEFORE_IT_IS_TOLD = """
() => {
  const tall = () => Object.assign(document.createElement("p"), { style: "height: 300px" });
  const grow = () => { document.querySelector(".answer").append(tall()); };
  addEventListener("scroll", grow, { capture: true, once: true });
  grow();
}
"""
"""The page follows to the end, and before it hears of its own scrolling there is more."""

GAP = "() => ((frame) => frame.scrollHeight - frame.scrollTop - frame.clientHeight)(document.querySelector('#scroll'))"
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


async def test_the_end_is_followed_though_it_moves_before_the_scrolling_is_told_of(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say(LONG)
    await expect(page.get_by_text("Paragraph 11.")).to_be_in_viewport()
    run.end()
    await expect(page.get_by_role("button", name="Ask again")).to_be_in_viewport()
    for _ in range(3):
        await page.evaluate(GROWS_BEFORE_IT_IS_TOLD)
        await page.evaluate(TWO_FRAMES)
        assert await page.evaluate(GAP) < 24
        await expect(page.get_by_role("button", name="Latest")).to_be_hidden()


async def test_one_step_up_by_keyboard_stops_it_and_the_end_takes_it_up_again(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say(LONG)
    await expect(page.get_by_text("Paragraph 11.")).to_be_in_viewport()
    await page.locator("#scroll").focus()
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_role("button", name="Latest")).to_be_visible()
    run.say(" And so on. " + LONG)
    await expect(page.get_by_text("And so on.")).to_be_attached()
    await expect(page.get_by_role("button", name="Latest")).to_be_visible()
    await page.keyboard.press("End")
    await expect(page.get_by_role("button", name="Latest")).to_be_hidden()
    run.say(" The very last. " + LONG)
    run.end()
    await expect(page.get_by_role("button", name="Ask again")).to_be_in_viewport()
