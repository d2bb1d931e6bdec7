"""A conversation looks the same after a reload, however its runs ended. A reload is always a snapshot."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, Route, expect
from tests.browser.conftest import ADA, PASSWORD, Person, free_port, running
from tests.browser.talk import answer, ask, asked, over

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.puppet import Puppet

pytestmark = pytest.mark.browser

INTERRUPTED = "The server was restarted before this was finished."


async def shown(page: Page) -> str:
    return await page.locator("#transcript").inner_text()


async def is_the_same_after_a_reload(page: Page) -> None:
    await over(page)
    before = await shown(page)
    await page.reload()
    await expect(page.locator(".run-foot button").last).to_be_visible()
    await over(page)
    assert await shown(page) == before


async def test_a_question_that_failed_says_so_and_can_be_asked_again(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "Tell me a story")
    (await puppet.asked()).fail()
    await expect(page.locator(".failed")).to_have_text("The agent failed. The question can be asked again.")
    await is_the_same_after_a_reload(page)
    await page.get_by_role("button", name="Ask again").click()
    again = await puppet.asked()
    assert again.question == "Tell me a story"
    again.answer("Here it is.")
    await expect(answer(page)).to_have_text("Here it is.")
    await is_the_same_after_a_reload(page)


async def test_an_answer_that_broke_off_keeps_what_it_had_and_says_why(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    (await asked(page, puppet)).fail()
    await expect(page.locator(".failed")).to_be_visible()
    await is_the_same_after_a_reload(page)
    await expect(answer(page)).to_have_text("Once upon a time")


async def test_what_was_stopped_stays_stopped(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await asked(page, puppet)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".stopped")).to_have_text("Stopped.")
    await is_the_same_after_a_reload(page)
    await ask(page, "And now?")
    (await puppet.asked()).answer("Now this.")
    await expect(answer(page)).to_have_text("Now this.")
    await is_the_same_after_a_reload(page)


async def test_a_tool_that_did_not_finish_has_no_tick(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "Look it up")
    run = await puppet.asked()
    for name, tool in (("one", "look_up"), ("two", "look_on")):
        run.emit("TOOL_CALL_START", toolCallId=f"{run.run_id}-{name}", toolCallName=tool)
        run.emit("TOOL_CALL_END", toolCallId=f"{run.run_id}-{name}")
        if name == "one":
            run.emit("TOOL_CALL_RESULT", messageId="r", toolCallId=f"{run.run_id}-{name}", content="found")
    await expect(page.locator(".tool")).to_have_count(2)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".stopped")).to_have_text("Stopped.")
    words = page.locator(".tool .fold-words")
    ticked = "(nodes) => nodes.map((node) => getComputedStyle(node, '::before').borderLeftWidth === '2px')"
    for _ in ("before a reload", "after it"):
        await expect(words).to_have_text(["Used look up", "Using look on: not finished"])
        assert await page.locator(".tool .mark-run").evaluate_all(ticked) == [True, False]
        await page.reload()  # how long a tool took is not told any more, so not all is the same


async def test_a_tool_without_a_result_in_an_answer_that_ended_well_is_not_called_unfinished(
    ada: Person, puppet: Puppet
) -> None:
    """There are agents that do not tell what their tools returned."""
    page = await ada.signed_in()
    await ask(page, "Look it up")
    run = await puppet.asked()
    run.emit("TOOL_CALL_START", toolCallId=f"{run.run_id}-one", toolCallName="look_up")
    run.emit("TOOL_CALL_END", toolCallId=f"{run.run_id}-one")
    run.answer("There.")
    await over(page)
    await expect(page.locator(".tool .fold-words")).to_have_text("Using look up")
    await is_the_same_after_a_reload(page)


async def test_what_a_killed_server_interrupted(browser: Browser, puppet: Puppet, tmp_path: Path) -> None:
    """`kill -9` in mid-answer, and before the first word of another: the page comes back by itself, then by a reload."""
    agent = {"DOORWARD_CHAT__AGENT": "http", "DOORWARD_CHAT__AGENT_URL": puppet.url}
    start = partial(running, tmp_path, port=free_port(), auth_port=free_port(), **agent)
    context = await browser.new_context()
    with start() as first:
        first.post("/auth/register", email=ADA, password=PASSWORD)
        ada = Person(first, context, ADA)
        page = await ada.signed_in()
        await asked(page, puppet)
        other = await ada.tab()
        await ask(other, "Another story")
        await puppet.asked()
        await expect(other.get_by_role("button", name="Stop")).to_be_visible()
        first.kill()
        for tab in (page, other):
            await expect(tab.locator("#banner")).to_contain_text("You are still signed in.")
        with start():
            for tab in (page, other):
                await expect(tab.locator(".failed")).to_have_text(INTERRUPTED, timeout=30_000)
                await is_the_same_after_a_reload(tab)
            await expect(answer(page)).to_have_text("Once upon a time")
    await context.close()
    assert ada.complaints == []


async def test_words_that_come_late_are_put_in_all_the_same(ada: Person, puppet: Puppet) -> None:
    """A server that is slow to say how runs ended holds the conversation up for a moment only."""
    page = await ada.signed_in()
    (await asked(page, puppet)).fail()
    await over(page)
    before = await shown(page)
    released = asyncio.Event()

    async def held(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await page.route("**/runs?*", held)
    await page.reload()
    await expect(answer(page)).to_have_text("Once upon a time")
    await expect(page.locator(".failed")).to_have_count(0)
    released.set()
    await expect(page.locator(".failed")).to_be_visible()
    assert await shown(page) == before
