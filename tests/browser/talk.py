"""Asking on the page, where the agent is on strings: what several files of tests do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import Locator, Page, expect

if TYPE_CHECKING:
    from tests.browser.conftest import Person
    from tests.browser.puppet import Puppet, Run

LONG = "\n\n".join(f"Paragraph {number}. " + "It goes on and on. " * 12 for number in range(12))


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Your message").fill(question)
    await page.keyboard.press("Enter")


async def asked(page: Page, puppet: Puppet, question: str = "Tell me a story") -> Run:
    """A question in the making: its first words are on the screen."""
    await ask(page, question)
    run = await puppet.asked()
    run.begin("Once upon a time")
    await expect(answer(page)).to_have_text("Once upon a time")
    return run


def answer(page: Page) -> Locator:
    return page.locator(".run .answer").last


async def over(page: Page) -> None:
    """The run is over, and all that it said is shown as the server renders it."""
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator("[aria-busy]")).to_have_count(0)


async def same_thread(person: Person, page: Page, *, until: str = "Connected") -> Page:
    """Another tab on the same conversation."""
    tab = await person.tab(page.url.removeprefix(person.product.url))
    await expect(tab.locator("#pill")).to_have_text(until)
    return tab


async def stored(page: Page) -> dict[str, Any] | None:
    """The tokens of this profile."""
    tokens: dict[str, Any] | None = await page.evaluate("JSON.parse(localStorage.getItem('doorward.session'))")
    return tokens


async def unseen_token(person: Person, page: Page) -> None:
    """Give this profile a good token that the door has never seen, so that no cached verdict can speak for it."""
    tokens = await stored(page)
    assert tokens is not None
    fresh = person.product.post("/auth/refresh", refresh_token=tokens["refreshToken"])
    tokens |= {"accessToken": fresh["access_token"], "refreshToken": fresh["refresh_token"]}
    await page.evaluate("(tokens) => localStorage.setItem('doorward.session', JSON.stringify(tokens))", tokens)
