"""Answers in the making, on the real page: reloads, other tabs, lost lines, tokens that end, outages. The agent is on strings."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from tests.browser.conftest import PASSWORD, Person, Product, running
from tests.browser.puppet import Puppet, Run, puppet_agent

from doorward.testing.waiting import eventually

pytestmark = pytest.mark.browser

LONG_TALK = 105
"""Questions: with their answers more messages than come at once."""

LONG = "\n\n".join(f"Paragraph {number}. " + "It goes on and on. " * 12 for number in range(12))

WATCH = """
globalThis.seen = { dialled: [], sockets: [] };
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    seen.dialled.push(performance.now());
    seen.sockets.push(this);
    this.addEventListener('message', ({ data }) => { if (data.includes('"RUN_STARTED"')) seen.started ??= performance.now(); });
  }
};
globalThis.onScreen = (words) => new Promise((resolve) => {
  const look = () => {
    if ([...document.querySelectorAll('.answer')].at(-1)?.textContent.includes(words)) resolve(performance.now());
    else requestAnimationFrame(look);
  };
  look();
});
"""
"""Keeps the page's sockets, and when they were dialled; `onScreen(words)` is when a frame shows them in the last answer."""


@pytest.fixture(scope="module")
def puppet() -> Iterator[Puppet]:
    with puppet_agent() as puppet:
        yield puppet


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, puppet: Puppet) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("stage")
    with running(folder, DOORWARD_CHAT__AGENT="http", DOORWARD_CHAT__AGENT_URL=puppet.url) as product:
        product.post("/auth/register", email="ada@example.com", password=PASSWORD)
        yield product
        puppet.let_go()


@pytest.fixture
async def ada(stage: Product, browser: Browser) -> AsyncIterator[Person]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    somebody = Person(stage, context, "ada@example.com")
    yield somebody
    await context.close()
    assert somebody.complaints == []


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


async def same_thread(person: Person, page: Page) -> Page:
    """Another tab on the same conversation."""
    tab = await person.tab(page.url.removeprefix(person.product.url))
    await tab.get_by_text("Connected", exact=True).wait_for()
    return tab


# ------------------------------------------------------------------------------------------------- the answer itself


async def test_an_answer_is_rendered_as_it_comes(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say(", **long ago**:\n\n```python\nprint('x < 1')\n")
    await expect(answer(page).locator("strong")).to_have_text("long ago")
    await expect(answer(page).locator("pre")).to_have_text("print('x < 1')\n")
    run.say("```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n<img src=x onerror=alert(1)> [there](https://example.org/x)")
    run.end()
    await expect(answer(page).locator("td").last).to_have_text("2")
    await expect(answer(page).locator("a")).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(answer(page)).to_contain_text("<img src=x onerror=alert(1)>")
    assert await answer(page).locator("img").count() == 0


async def test_code_is_copied_as_it_is(ada: Person, puppet: Puppet) -> None:
    await ada.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await ada.signed_in()
    await ask(page, "Code, please")
    (await puppet.asked()).answer("Here:\n\n```python\nif x < 1:\n    print('&amp;')\n```\n")
    await page.get_by_role("button", name="Copy code").click()
    await expect(page.get_by_role("button", name="Copy code")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "if x < 1:\n    print('&amp;')\n"


async def test_reasoning_folds_away_and_tools_unfold(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "Think")
    run = await puppet.asked()
    run.emit("REASONING_START", messageId="p")
    run.emit("REASONING_MESSAGE_START", messageId="q", role="reasoning")
    run.emit("REASONING_MESSAGE_CONTENT", messageId="q", delta="First this,\nthen that.")
    thinking = page.locator(".thinking")
    await expect(thinking).to_contain_text("Thinking")
    await expect(thinking.locator(".fold-preview")).to_have_text("then that.")
    await expect(thinking.locator(".fold-body")).to_be_hidden()
    run.emit("REASONING_MESSAGE_END", messageId="q")
    run.emit("REASONING_END", messageId="p")
    await expect(thinking).to_contain_text("Thought it over")
    await expect(thinking.locator(".fold-preview")).to_be_empty()
    run.emit("TOOL_CALL_START", toolCallId="c", toolCallName="look_up")
    run.emit("TOOL_CALL_ARGS", toolCallId="c", delta='{"word": "door"}')
    run.emit("TOOL_CALL_END", toolCallId="c")
    run.emit("TOOL_CALL_RESULT", messageId="r", toolCallId="c", content='{"found": 1}')
    run.answer("There.")
    tool = page.locator(".tool")
    await expect(tool).to_contain_text("Used look up")
    await tool.locator("summary").click()
    await expect(tool.get_by_role("region", name="Asked")).to_have_text('{\n  "word": "door"\n}')
    await expect(tool.get_by_role("region", name="Result")).to_have_text('{\n  "found": 1\n}')


async def test_escape_stops_the_answer(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.keyboard.press("Escape")
    await expect(page.locator(".stopped")).to_have_text("Stopped.")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(answer(page)).to_have_text("Once upon a time")
    await eventually(run.cut, within_seconds=10, what="the agent's being told")


async def test_a_failed_answer_can_be_asked_for_again(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.emit("RUN_ERROR", message="the model fell over", code="broken")
    run.events.put(None)
    await expect(page.locator(".failed")).to_be_visible()
    await page.get_by_role("button", name="Ask again").click()
    again = await puppet.asked()
    assert (again.question, again.run_id != run.run_id) == ("Tell me a story", True)
    again.answer("Here it is.")
    await expect(answer(page)).to_have_text("Here it is.")
    await expect(page.locator(".question")).to_have_count(2)


# ------------------------------------------------------------------------------------------------- nothing jumps


async def test_somebody_who_reads_above_is_left_there(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.say(LONG)
    await expect(page.get_by_text("Paragraph 11.")).to_be_attached()
    await expect(page.get_by_text("Paragraph 11.")).to_be_in_viewport()
    await page.locator("#scroll").hover()
    await page.mouse.wheel(0, -700)
    await expect(page.get_by_role("button", name="Latest")).to_be_visible()
    place = (
        "JSON.stringify([...document.querySelectorAll('.answer p')].slice(0, 8).map((p) => p.getBoundingClientRect()))"
    )
    before = await page.evaluate(place)
    run.say(" And so on. " + LONG)
    run.end()
    await expect(page.get_by_role("button", name="Ask again")).to_be_attached()
    assert await page.evaluate(place) == before
    await page.get_by_role("button", name="Latest").click()
    await expect(page.get_by_role("button", name="Ask again")).to_be_in_viewport()


async def test_unfolding_at_the_end_moves_nothing_above(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    await ask(page, "Think")
    run = await puppet.asked()
    run.emit("REASONING_START", messageId="p")
    run.emit("REASONING_MESSAGE_START", messageId="p", role="reasoning")
    run.emit("REASONING_MESSAGE_CONTENT", messageId="p", delta=LONG)
    run.emit("REASONING_MESSAGE_END", messageId="p")
    run.emit("REASONING_END", messageId="p")
    run.answer("Done.")
    await expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    before = await page.locator(".thinking summary").bounding_box()
    await page.locator(".thinking summary").click()
    await expect(page.get_by_role("button", name="Latest")).to_be_visible()
    assert await page.locator(".thinking summary").bounding_box() == before


# ------------------------------------------------------------------------------------------------- reloads and tabs


async def test_a_reload_in_mid_answer_goes_on_where_it_was(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.reload()
    await expect(answer(page)).to_have_text("Once upon a time")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    run.say(" there was a door.")
    run.end()
    await expect(answer(page)).to_have_text("Once upon a time there was a door.")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator(".question")).to_have_count(1)


async def test_a_second_tab_shows_the_same_thing_live_and_can_stop_it(ada: Person, puppet: Puppet) -> None:
    first = await ada.signed_in()
    run = await asked(first, puppet)
    second = await same_thread(ada, first)
    await expect(answer(second)).to_have_text("Once upon a time")
    run.say(" there was")
    for tab in (first, second):
        await expect(answer(tab)).to_have_text("Once upon a time there was")
    await second.get_by_role("button", name="Stop").click()
    for tab in (first, second):
        await expect(tab.locator(".stopped")).to_have_text("Stopped.")
        await expect(tab.get_by_role("button", name="Send")).to_be_visible()


async def test_a_question_shows_in_the_other_tab(ada: Person, puppet: Puppet) -> None:
    first = await ada.signed_in()
    await ask(first, "One")
    (await puppet.asked()).answer("Answer one")
    await expect(answer(first)).to_have_text("Answer one")
    second = await same_thread(ada, first)
    await ask(second, "Two")
    (await puppet.asked()).answer("Answer two")
    for tab in (first, second):
        await expect(tab.locator(".question").last).to_have_text("Two")
        await expect(answer(tab)).to_have_text("Answer two")


TALK = """async ([threadId, runs]) => {
    const { connect, createSession, localStore } = await import('/static/doorward.js');
    const { getToken, refresh } = createSession({ store: localStore() });
    let ended;
    const onEvent = ({ event }) => { if (event.type === 'RUN_FINISHED') ended(); };
    const client = connect({ url: '/ws', getToken, refresh, onEvent });
    await client.subscribe(threadId);
    for (let run = 0; run < runs; run += 1) {
        const over = new Promise((resolve) => { ended = resolve; });
        await client.startRun(threadId, `Question ${run}`);
        await over;
    }
    client.close();
}"""


async def test_what_a_long_conversation_said_before_is_fetched_on_request(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    thread_id = f"t-{time.time_ns()}"
    puppet.auto = "An answer."
    await page.evaluate(TALK, [thread_id, LONG_TALK])
    puppet.auto, puppet.taken = None, len(puppet.runs)
    await page.get_by_role("link", name="Question 0").click()
    await expect(page.get_by_text(f"Question {LONG_TALK - 1}", exact=True)).to_be_in_viewport()
    shown = await page.locator(".question").count()
    assert shown < LONG_TALK
    await page.locator("#scroll").evaluate("(frame) => { frame.scrollTop = 0; }")
    oldest = page.locator(".question").first
    place, words = await oldest.bounding_box(), await oldest.inner_text()
    await page.get_by_role("button", name="Earlier messages").click()
    await expect(page.locator(".question")).to_have_count(LONG_TALK)
    assert await page.locator(".question").all_inner_texts() == [f"Question {number}" for number in range(LONG_TALK)]
    assert await page.locator(".question").nth(LONG_TALK - shown).inner_text() == words
    moved = await page.locator(".question").nth(LONG_TALK - shown).bounding_box()
    assert place is not None
    assert moved is not None
    assert abs(moved["y"] - place["y"]) < 2, "the reader's place is kept"
    await expect(page.get_by_role("button", name="Earlier messages")).to_be_hidden()


# ------------------------------------------------------------------------------------------------- lines and tokens


async def test_offline_and_online_again(ada: Person, puppet: Puppet) -> None:
    await ada.context.add_init_script(WATCH + "Math.random = () => 0.99;")
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.evaluate("seen.sockets.at(-1).close()")
    await ada.context.set_offline(True)
    await expect(page.locator("#banner")).to_contain_text("You are still signed in.")
    run.say(" there was a door.")
    await ask(page, "Is this kept?")
    await ada.context.set_offline(False)
    await expect(answer(page)).to_have_text("Once upon a time there was a door.")
    await expect(page.locator("#banner")).to_have_text("All is normal again.")
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.get_by_label("Your message")).to_have_value("Is this kept?")


async def test_a_token_that_ends_during_a_run_is_renewed_on_the_open_socket(ada: Person, puppet: Puppet) -> None:
    page = await ada.tab()
    await page.clock.install()
    await page.get_by_label("Email").fill(ada.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_text("Connected", exact=True).wait_for()
    run = await asked(page, puppet)
    lost: list[Any] = []
    page.on("websocket", lambda socket: lost.append(socket))
    async with page.expect_request("**/auth/refresh"):
        await page.clock.fast_forward("09:00")
    run.say(" there was a door.")
    await expect(answer(page)).to_have_text("Once upon a time there was a door.")
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator("#pill")).to_have_text("Connected")
    assert lost == [], "the socket was kept"


async def test_a_session_ended_elsewhere_during_a_run(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    refresh = await page.evaluate("JSON.parse(localStorage['doorward.session']).refreshToken")
    ada.product.post("/auth/logout", refresh_token=refresh)
    await expect(page.get_by_role("alert")).to_contain_text("You were signed out because your session was ended")
    assert await page.locator("#transcript").inner_text() == "", "nothing of the conversation is left on the page"
    run.end()


async def test_an_outage_of_auth_lets_an_answer_go_on(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    with ada.product.frozen():
        run.say(" there was a door.")
        await expect(answer(page)).to_have_text("Once upon a time there was a door.")
        await expect(page.locator("#pill")).to_have_text("Connected")
        await page.reload()
        await expect(answer(page)).to_have_text("Once upon a time there was a door.")
        run.end()
        await expect(page.get_by_role("button", name="Send")).to_be_visible()


# ------------------------------------------------------------------------------------------------- measured, not judged


async def test_how_long_first_words_and_coming_back_take(ada: Person, puppet: Puppet) -> None:
    """Printed with `-s`: RUN_STARTED to the first words on the screen; dialling again to all that was missed."""
    await ada.context.add_init_script(WATCH)
    page = await ada.signed_in()
    first, back = [], []
    for turn in range(3):
        await page.evaluate("delete seen.started")
        await ask(page, "Tell me a story")
        run = await puppet.asked()
        run.begin(f"Story {turn}. ")
        first.append(await page.evaluate(f"onScreen('Story {turn}.').then((at) => at - seen.started)"))
        await page.evaluate("seen.dialled.length = 0; seen.sockets.at(-1).close()")
        run.say(LONG + f"\n\nEnd of {turn}.")
        back.append(await page.evaluate(f"onScreen('End of {turn}.').then((at) => at - seen.dialled[0])"))
        run.end()
        await expect(page.get_by_role("button", name="Send")).to_be_visible()
    print(
        f"\nRUN_STARTED to the first words on the screen: {statistics.median(first):.0f} ms (worst {max(first):.0f});"
        f" dialling again to caught up: {statistics.median(back):.0f} ms (worst {max(back):.0f})"
    )
    assert len(first) == len(back) == 3
