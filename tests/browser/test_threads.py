"""The list of conversations at the side: made, named, searched, deleted, and the same in every tab."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect
from tests.browser.conftest import PASSWORD, Person

if TYPE_CHECKING:
    from playwright.async_api import Route
    from tests.browser.conftest import Product

pytestmark = pytest.mark.browser

GONE = "This conversation is not there any more."


@pytest_asyncio.fixture(loop_scope="session")
async def newcomer(product: Product, browser: Browser) -> AsyncIterator[Person]:
    """Somebody without a conversation yet."""
    email = f"new-{time.time_ns()}@example.com"
    product.post("/auth/register", email=email, password=PASSWORD)
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    somebody = Person(product, context, email)
    yield somebody
    await context.close()
    assert somebody.complaints == []


async def ask(page: Page, question: str) -> None:
    """A question, and its whole answer."""
    runs = await page.locator(".run").count()
    await page.get_by_label("Your message").fill(question)
    await page.keyboard.press("Enter")
    await expect(page.locator(".run")).to_have_count(runs + 1)
    await expect(page.locator(".run-foot button").last).to_be_visible()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


def titles(page: Page) -> Locator:
    return page.locator(".thread-title")


async def renamed(page: Page, title: str, *, at: int = 0) -> None:
    await page.locator(".thread").nth(at).hover()
    await page.get_by_role("button", name=re.compile("^Rename ")).nth(at).click()
    await page.get_by_label("Title of the conversation").fill(title)
    await page.keyboard.press("Enter")
    await expect(titles(page).nth(at)).to_have_text(title)


async def deleted(page: Page) -> None:
    """The one conversation of the list."""
    await page.locator(".thread").hover()
    await page.get_by_role("button", name=re.compile("^Delete ")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(titles(page)).to_have_count(0)


async def nothing_was_made(page: Page) -> None:
    """Neither in the list as it is, nor in that of the server."""
    await expect(titles(page)).to_have_count(0)
    await page.reload()
    await expect(page.get_by_text("What you ask will be kept here.")).to_be_visible()


async def test_the_first_question_makes_a_conversation(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await expect(page.get_by_text("What you ask will be kept here.")).to_be_visible()
    await ask(page, "How is the auth service?")
    await expect(titles(page)).to_have_text(["How is the auth service?"])
    await expect(page.locator("#title")).to_have_text("How is the auth service?")
    await expect(page).to_have_title("How is the auth service? · Doorward")
    await expect(page.get_by_role("link", name="How is the auth service?")).to_have_attribute("aria-current", "page")


async def test_a_page_that_only_looks_makes_none(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await page.get_by_role("button", name="New chat").click()
    await page.reload()
    await expect(page.get_by_text("What you ask will be kept here.")).to_be_visible()


async def test_every_tab_lists_the_same_newest_first(newcomer: Person) -> None:
    first = await newcomer.signed_in()
    second = await newcomer.tab()
    await ask(first, "How is the auth service?")
    await expect(titles(second)).to_have_text(["How is the auth service?"])
    await second.get_by_role("link", name="How is the auth service?").click()
    await expect(second.locator(".question")).to_have_text(["How is the auth service?"])
    await first.get_by_role("button", name="New chat").click()
    await ask(first, "Who is connected?")
    for tab in (first, second):
        await expect(titles(tab)).to_have_text(["Who is connected?", "How is the auth service?"])
    await ask(second, "What did you decide in the last minutes?")
    for tab in (first, second):
        await expect(titles(tab)).to_have_text(["How is the auth service?", "Who is connected?"])
    await expect(first.locator(".question")).to_have_text(["Who is connected?"])


async def test_going_back_goes_to_the_conversation_before(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Who is connected?")
    await page.get_by_role("link", name="How is the auth service?").click()
    await expect(page.locator(".question")).to_have_text(["How is the auth service?"])
    await page.go_back()
    await expect(page.locator(".question")).to_have_text(["Who is connected?"])
    await page.reload()
    await expect(page.locator(".question")).to_have_text(["Who is connected?"])


async def test_a_title_is_edited_in_its_place_and_everywhere(newcomer: Person) -> None:
    first = await newcomer.signed_in()
    second = await newcomer.tab()
    await ask(first, "How is the auth service?")
    await expect(titles(second)).to_have_text(["How is the auth service?"])
    await renamed(first, "Health <b>")
    await expect(first.locator("#title")).to_have_text("Health <b>")
    await expect(titles(second)).to_have_text(["Health <b>"])
    await first.locator("#title").click()
    await first.get_by_label("Title of the conversation").fill("Not this")
    await first.keyboard.press("Escape")
    await expect(first.locator("#title")).to_have_text("Health <b>")
    await first.keyboard.press("F2")
    await first.get_by_label("Title of the conversation").fill("Its health")
    await first.keyboard.press("Enter")
    await first.reload()
    await expect(first.locator("#title")).to_have_text("Its health")


async def test_search_finds_titles_and_what_was_said(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Who is connected?")
    await renamed(page, "Visitors")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_label("Search conversations")).to_be_focused()
    await page.keyboard.type("VISIT")
    await expect(titles(page)).to_have_text(["Visitors"])
    await expect(page.get_by_text("1 found")).to_be_visible()
    await page.get_by_label("Search conversations").fill("connected?")
    await expect(titles(page)).to_have_text(["Visitors"])
    await page.get_by_label("Search conversations").fill("no such word")
    await expect(page.get_by_text("Nothing was found.")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(titles(page)).to_have_text(["Visitors", "How is the auth service?"])
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="Visitors")).to_be_focused()


async def test_what_is_found_under_one_title_is_told_apart_by_its_time(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "Who is connected?")
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Who is connected?")
    times = page.locator(".thread-found")
    await expect(times.first).to_be_hidden()  # the list is in the order of time as it is

    async def used(route: Route) -> None:
        answer = await route.fetch()
        found = await answer.json()
        now = datetime.now(UTC)
        for thread, used_at in zip(
            found["threads"], (now - timedelta(hours=3), datetime(2025, 11, 3, 12, tzinfo=UTC)), strict=True
        ):
            thread["updated_at"] = used_at.isoformat()
        await route.fulfill(response=answer, json=found)

    await page.route("**/api/threads?*q=*", used)
    await page.get_by_label("Search conversations").fill("connected")
    await expect(times).to_have_text([re.compile("^3 h ago"), re.compile("^Nov 3, 2025")])
    await expect(page.get_by_role("link", name="Who is connected? 3 h ago")).to_be_visible()
    await page.get_by_label("Search conversations").fill("")
    await expect(times.first).to_be_hidden()


async def test_what_was_said_is_shown_with_what_was_searched_for_in_it(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "Is <img src=x onerror=alert(1)> a WARDEN's word?")
    await renamed(page, "The warden")
    search, found = page.get_by_label("Search conversations"), page.locator(".thread-said")
    await search.fill("a warden's")
    await expect(found).to_have_text("…<img src=x onerror=alert(1)> a WARDEN's word?")
    await expect(found.locator("mark")).to_have_text("a WARDEN's")
    assert await page.locator(".side img").count() == 0
    await renamed(page, "The warden's word")
    await expect(found.locator("mark")).to_have_text("a WARDEN's")  # a notice of it has no excerpt
    await search.fill("the warden's word")
    await expect(page.get_by_text("1 found")).to_be_visible()
    await expect(found).to_have_count(0)  # only its title says so


async def test_deleting_asks_first_and_is_deletion_everywhere(newcomer: Person) -> None:
    first = await newcomer.signed_in()
    await ask(first, "How is the auth service?")
    second = await newcomer.tab(first.url.removeprefix(newcomer.product.url))
    await expect(second.locator(".question")).to_have_text(["How is the auth service?"])
    delete = first.get_by_role("button", name="Delete How is the auth service?")
    await first.locator(".thread").hover()
    await delete.click()
    await expect(first.get_by_role("button", name="Keep it")).to_be_focused()
    await first.keyboard.press("Escape")
    await expect(titles(first)).to_have_count(1)
    await delete.click()
    await first.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for tab in (first, second):
        await expect(titles(tab)).to_have_count(0)
        await expect(tab.get_by_role("heading", name="Good to see you.")).to_be_visible()
        await expect(tab.locator(".question")).to_have_count(0)
    await first.reload()
    await expect(first.get_by_text("What you ask will be kept here.")).to_be_visible()


async def test_somebody_elses_conversation_is_not_there(newcomer: Person, person: Person) -> None:
    theirs = await person.signed_in()
    await ask(theirs, "How is the auth service?")
    mine = await newcomer.signed_in()
    await mine.goto(theirs.url)
    await expect(mine.get_by_role("heading", name="Good to see you.")).to_be_visible()
    assert "#thread" not in mine.url
    await expect(mine.locator(".question")).to_have_count(0)
    await expect(mine.locator("#banner")).to_contain_text(GONE)


async def test_a_deleted_conversation_does_not_come_back_by_going_back(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.get_by_role("button", name="New chat").click()
    await page.get_by_role("link", name="How is the auth service?").click()
    await expect(page.locator(".question")).to_have_count(1)
    await deleted(page)
    await expect(page.locator("#banner")).to_be_hidden()  # who deleted it needs no telling
    while "#thread" not in page.url:
        await page.go_back()
    await expect(page.locator("#banner")).to_contain_text(GONE)
    assert "#thread" not in page.url
    await nothing_was_made(page)


async def test_a_wrong_link_makes_nothing_and_says_so(newcomer: Person) -> None:
    await newcomer.signed_in()
    page = await newcomer.tab("/#thread=t-doesnotexist")
    await expect(page.locator("#banner")).to_contain_text(GONE)
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
    assert "#thread" not in page.url
    await page.get_by_role("button", name="Close", exact=True).click()
    await expect(page.locator("#banner")).to_be_hidden()
    await nothing_was_made(page)


async def test_words_about_a_wrong_link_go_when_the_person_goes_on(newcomer: Person) -> None:
    await newcomer.signed_in()
    page = await newcomer.tab("/#thread=t-doesnotexist")
    await expect(page.locator("#banner")).to_contain_text(GONE)
    await ask(page, "How is the auth service?")
    await expect(page.locator("#banner")).to_be_hidden()


async def test_a_conversation_that_was_deleted_in_another_tab_is_told_of(newcomer: Person) -> None:
    first = await newcomer.signed_in()
    await ask(first, "How is the auth service?")
    second = await newcomer.tab(first.url.removeprefix(newcomer.product.url))
    await expect(second.locator(".question")).to_have_count(1)
    await deleted(first)
    await expect(second.locator("#banner")).to_contain_text(GONE)
    await expect(first.locator("#banner")).to_be_hidden()


@pytest.mark.parametrize("question", ["", "Who is connected?"])
async def test_a_device_that_was_offline_does_not_make_a_deleted_conversation_anew(
    newcomer: Person, browser: Browser, question: str
) -> None:
    """A question that was asked there meanwhile is not lost with it."""
    first = await newcomer.signed_in()
    await ask(first, "How is the auth service?")
    context = await browser.new_context()
    other = Person(newcomer.product, context, newcomer.email)
    away = await other.signed_in()
    await away.get_by_role("link", name="How is the auth service?").click()
    await expect(away.locator(".question")).to_have_count(1)
    await context.set_offline(True)
    await expect(away.locator("#pill")).to_have_text("Offline", timeout=20_000)
    await away.get_by_label("Your message").fill(question)
    await away.keyboard.press("Enter")
    await deleted(first)
    await context.set_offline(False)
    await expect(away.locator("#banner")).to_contain_text(GONE, timeout=20_000)
    await expect(away.get_by_label("Your message")).to_have_value(question)
    await nothing_was_made(away)
    await nothing_was_made(first)
    await context.close()
    assert other.complaints == []


async def test_a_conversation_that_began_here_is_followed_after_a_break_and_not_made_anew(
    newcomer: Person, browser: Browser
) -> None:
    """It was made by this page's question, and so it could be made once more."""
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    context = await browser.new_context()
    elsewhere = await Person(newcomer.product, context, newcomer.email).signed_in()
    await newcomer.context.set_offline(True)
    await expect(page.locator("#pill")).to_have_text("Offline", timeout=20_000)
    await newcomer.context.set_offline(False)
    await newcomer.connected(page)
    await ask(page, "Who is connected?")
    await newcomer.context.set_offline(True)
    await expect(page.locator("#pill")).to_have_text("Offline", timeout=20_000)
    await deleted(elsewhere)
    await newcomer.context.set_offline(False)
    await expect(page.locator("#banner")).to_contain_text(GONE, timeout=20_000)
    await nothing_was_made(page)
    await context.close()


# ------------------------------------------------------------------------------------------------- by keyboard, on a phone


async def test_the_shortcuts_do_what_their_list_says(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    box = page.get_by_label("Your message")
    await expect(box).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await expect(box).to_have_value("How is the auth service?")
    await box.fill("")
    await page.keyboard.press("Control+Shift+O")
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
    await page.locator("#new-thread").focus()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()
    await page.keyboard.press("/")
    await expect(box).to_be_focused()
    await page.keyboard.type("what? / is written")
    await expect(box).to_have_value("what? / is written")


async def test_the_last_question_that_is_shown_comes_back_after_a_reload_too(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    box = page.get_by_label("Your message")
    await ask(page, "How is the auth service?")
    await box.fill("Who is\nconnected?")
    await page.keyboard.press("Enter")
    await expect(page.locator(".run-foot button")).to_have_count(4)
    await page.reload()
    await expect(page.locator(".question")).to_have_count(2)
    await box.press("ArrowUp")
    await expect(box).to_have_value("Who is\nconnected?")
    await box.fill("")
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Why was my last decision made?")
    await page.get_by_role("link", name="How is the auth service?").click()
    await expect(page.locator(".question")).to_have_count(2)
    await box.press("ArrowUp")
    await expect(box).to_have_value("Who is\nconnected?")


async def test_the_list_is_walked_and_renamed_by_keyboard(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.keyboard.press("Control+Shift+O")
    await ask(page, "Who is connected?")
    await page.keyboard.press("Control+k")
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="Who is connected?")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="How is the auth service?")).to_be_focused()
    await page.keyboard.press("F2")
    await page.keyboard.type("Its health")
    await page.keyboard.press("Enter")
    await expect(titles(page)).to_have_text(["Who is connected?", "Its health"])
    await expect(page.locator("#title")).to_have_text("Who is connected?")
    await expect(page.get_by_role("link", name="Its health")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_label("Search conversations")).to_be_focused()
    await page.locator("#skip").focus()
    await expect(page.locator("#skip")).to_be_in_viewport(ratio=1)
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Your message")).to_be_focused()


async def test_a_conversation_that_was_only_made_greets_like_a_new_one(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await page.evaluate(
        """async () => {
            const { createApi, createSession, localStore } = await import('/static/doorward.js');
            await createApi(createSession({ store: localStore() })).createThread({ title: 'Nothing yet' });
        }"""
    )
    await page.get_by_role("link", name="Nothing yet").click()
    await expect(page.locator("#title")).to_have_text("Nothing yet")
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
    await expect(page.get_by_role("button", name="Who is connected?", exact=True)).to_be_visible()


async def test_on_a_phone_the_list_is_a_drawer(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.get_by_role("button", name="New chat").click()
    await page.set_viewport_size({"width": 390, "height": 780})
    menu = page.get_by_role("button", name="Conversations", exact=True)
    await expect(page.get_by_role("link", name="How is the auth service?")).to_have_count(0)
    await menu.click()
    await expect(page.get_by_role("button", name="Close the list")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(menu).to_be_focused()
    await menu.click()
    await page.get_by_role("link", name="How is the auth service?").click()
    await expect(page.locator(".question")).to_have_text(["How is the auth service?"])
    await expect(page.locator("#side")).not_to_be_in_viewport()


async def test_the_focus_goes_from_the_side_to_the_conversation_to_the_box(newcomer: Person) -> None:
    page = await newcomer.signed_in()
    await ask(page, "How is the auth service?")
    await page.locator("#new-thread").focus()
    reached = ["new-thread"]
    for _ in range(30):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    places = [reached.index(name) for name in ("new-thread", "search", "A", "sign-out", "title", "SUMMARY", "question")]
    assert places == sorted(places)
