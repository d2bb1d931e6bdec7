"""Answers in the making, on the real page: reloads, other tabs, lost lines, tokens that end, outages. The agent is on strings."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from tests.browser.talk import LONG, answer, ask, asked, same_thread, unseen_token

from doorward.testing.waiting import eventually

if TYPE_CHECKING:
    from typing import Any

    from playwright.async_api import Page, WebSocketRoute
    from tests.browser.conftest import Person
    from tests.browser.puppet import Puppet, Run

pytestmark = pytest.mark.browser

LONG_TALK = 115
"""Questions: with their answers more messages than come at once."""

WATCH = """
globalThis.sockets = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    sockets.push(this);
  }
};
"""
"""Keeps the page's sockets."""

STORE_AWAY = """
globalThis.sockets = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    sockets.push(this);
  }

  send(frame) {
    const { type, id } = JSON.parse(frame);
    if (!sessionStorage.away || type !== "thread.subscribe") return super.send(frame);
    const away = { code: "UNAVAILABLE", message: "the chat's storage does not answer now; try again in a few seconds" };
    const error = { ...away, ...JSON.parse(sessionStorage.away) };
    setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ reply_to: id, error }) })));
  }
};
"""
"""As long as `sessionStorage.away` is set, who subscribes is answered as by a server whose store is away, or by the error that
it holds. Keeps the sockets too."""

STALLED = "The server cannot go on with this conversation just now. Trying again."
PROVISIONAL = "Signed in provisionally while the auth service is not answering."


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


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_who_sends_while_an_answer_comes_is_told_to_wait_or_stop_it(
    ada: Person, puppet: Puppet, width: int
) -> None:
    page = await ada.signed_in()
    await page.set_viewport_size({"width": width, "height": 800})
    run = await asked(page, puppet)
    box, note = page.get_by_label("Your message"), page.get_by_text("Still answering. Stop it to send this.")
    await page.keyboard.press("Enter")
    await expect(note).to_be_hidden()  # there is nothing to send
    await box.fill("And then?")
    before = await page.locator("#ask").bounding_box()
    await page.keyboard.press("Enter")
    await expect(note).to_be_visible()
    await expect(box).to_have_accessible_description("Still answering. Stop it to send this.")
    assert await page.locator("#ask").bounding_box() == before
    await page.keyboard.type(" Go on.")
    await expect(note).to_be_visible()
    run.end()
    await expect(note).to_be_hidden()
    await expect(box).to_have_value("And then? Go on.")
    await page.keyboard.press("Enter")
    assert (await puppet.asked()).question == "And then? Go on."


async def test_a_failed_answer_can_be_asked_for_again(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.fail()
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
    run.think(LONG)
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
    const onEvent = ({ event }) => { if (/^RUN_(FINISHED|ERROR)$/.test(event.type)) ended(); };
    const client = connect({ url: '/ws', getToken, refresh, onEvent });
    await client.subscribe(threadId);
    for (let run = 0; run < runs; run += 1) {
        const over = new Promise((resolve) => { ended = resolve; });
        await client.startRun(threadId, `Question ${run}`);
        await over;
    }
    client.close();
}"""


def fail_some(run: Run) -> None:
    """Every tenth question gets no answer."""
    if run.question.endswith("0"):
        run.fail()
    else:
        run.answer("An answer.")


def shown_of(number: int) -> list[str]:
    if number % 10:
        return ["An answer.", "Copy", "Ask again"]
    return ["The agent failed. The question can be asked again.", "Ask again"]


async def test_what_a_long_conversation_said_before_is_fetched_on_request(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    thread_id = f"t-{time.time_ns()}"
    with puppet.by_itself(fail_some):
        await page.evaluate(TALK, [thread_id, LONG_TALK])
    await page.get_by_role("link", name="Question 0").first.click()
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
    runs = [text.split("\n") for text in await page.locator(".run").all_inner_texts()]
    assert [[line for line in lines if line] for lines in runs] == [shown_of(number) for number in range(LONG_TALK)]
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
    await page.evaluate("sockets.at(-1).close()")
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


async def test_an_outage_of_auth_lets_an_answer_go_on_and_says_so(ada: Person, puppet: Puppet) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await unseen_token(ada, page)
    with ada.product.frozen():
        tab = await same_thread(ada, page, until="Provisional")
        await expect(tab.locator("#banner")).to_have_text(PROVISIONAL)
        await expect(answer(tab)).to_have_text("Once upon a time")
        run.say(" there was")
        for each in (page, tab):
            await expect(answer(each)).to_have_text("Once upon a time there was")
    run.say(" a door.")
    await expect(tab.locator("#banner")).to_have_text("All is normal again.")
    await expect(tab.locator("#pill")).to_have_text("Connected")
    run.end()
    for each in (page, tab):
        await expect(answer(each)).to_have_text("Once upon a time there was a door.")
        await expect(each.get_by_role("button", name="Send")).to_be_visible()


async def test_in_an_outage_of_auth_a_reload_gets_in_by_what_is_known(ada: Person, puppet: Puppet) -> None:
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


# ------------------------------------------------------------------------------------------------- a store that is away


async def test_a_store_that_is_away_after_a_break_is_waited_for_and_nothing_goes(ada: Person, puppet: Puppet) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.evaluate("sessionStorage.away = 1; sockets.at(-1).close()")
    await expect(page.locator("#banner")).to_have_text(STALLED)
    await expect(page.locator("#pill")).to_have_text("Connected")
    await expect(answer(page)).to_have_text("Once upon a time")
    run.say(" there was a door.")
    await page.evaluate("delete sessionStorage.away")
    await expect(answer(page)).to_have_text("Once upon a time there was a door.")
    await expect(page.get_by_text(STALLED)).to_be_hidden()
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_a_conversation_that_is_opened_while_the_store_is_away_is_there_once_it_is_back(
    ada: Person, puppet: Puppet
) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    run = await asked(page, puppet)
    await page.evaluate("sessionStorage.away = 1")
    await page.reload()
    await expect(page.locator("#banner")).to_have_text(STALLED)
    await page.evaluate("delete sessionStorage.away")
    await expect(answer(page)).to_have_text("Once upon a time")
    await expect(page.get_by_text(STALLED)).to_be_hidden()
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_who_leaves_a_conversation_that_waits_for_the_store_sees_no_word_of_it(
    ada: Person, puppet: Puppet
) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    (await asked(page, puppet)).end()
    await page.evaluate("sessionStorage.away = 1")
    await page.reload()
    await expect(page.locator("#banner")).to_have_text(STALLED)
    await page.get_by_role("button", name="New chat").click()
    await expect(page.locator("#banner")).to_be_hidden()
    await page.evaluate("delete sessionStorage.away")


async def test_a_first_question_is_answered_though_the_store_was_away_for_its_conversation(
    ada: Person, puppet: Puppet
) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    await page.evaluate("sessionStorage.away = 1")
    await ask(page, "Tell me a story")
    run = await puppet.asked()
    await expect(page.locator("#banner")).to_have_text(STALLED)
    await page.evaluate("delete sessionStorage.away")
    run.answer("Here it is.")
    await expect(answer(page)).to_have_text("Here it is.")
    await expect(page.locator(".question")).to_have_text("Tell me a story")


# ------------------------------------------------------------------------------------------------- refused for good

REFUSED = [
    ("TOO_MANY_SUBSCRIPTIONS", "This page follows too many conversations at once, so this one is not shown. Reload"),
    ("NO_SUCH_WORD", "The server does not show this conversation: it has no room. Try again, or reload the page."),
]


async def refuse(page: Page, code: str) -> None:
    """From now on, until `accept`."""
    error = {"code": code, "message": "it has no room"}
    await page.evaluate("(error) => { sessionStorage.away = JSON.stringify(error); }", error)


async def accept(page: Page) -> None:
    await page.evaluate("delete sessionStorage.away")


@pytest.mark.parametrize(("code", "words"), REFUSED)
async def test_a_conversation_that_the_server_does_not_show_says_why_and_what_to_do(
    ada: Person, puppet: Puppet, code: str, words: str
) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    run = await asked(page, puppet)
    run.end()
    await refuse(page, code)
    await page.reload()
    absent = page.get_by_role("status").filter(has=page.get_by_role("button", name="Try again"))
    await expect(absent).to_contain_text(words)
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_hidden()
    await accept(page)
    await absent.get_by_role("button").click()
    await expect(answer(page)).to_have_text("Once upon a time")
    await expect(absent).to_be_hidden()


async def test_a_conversation_that_was_refused_is_asked_for_on_the_next_connection(ada: Person, puppet: Puppet) -> None:
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    (await asked(page, puppet)).end()
    await refuse(page, "TOO_MANY_SUBSCRIPTIONS")
    await page.evaluate("sockets.at(-1).close()")
    await expect(page.locator("#absent")).to_contain_text("too many conversations")
    await accept(page)
    await page.evaluate("sockets.at(-1).close()")
    await expect(answer(page)).to_have_text("Once upon a time")
    await expect(page.locator("#absent")).to_be_hidden()


async def test_an_answer_that_cannot_be_followed_is_no_blank(ada: Person, puppet: Puppet) -> None:
    """The question reaches the agent, and its conversation is refused. The next one asks for that again."""
    await ada.context.add_init_script(STORE_AWAY)
    page = await ada.signed_in()
    await refuse(page, "TOO_MANY_SUBSCRIPTIONS")
    await ask(page, "Tell me a story")
    (await puppet.asked()).answer("Here it is.")
    await expect(page.locator("#absent")).to_contain_text("too many conversations")
    await accept(page)
    await ask(page, "And now?")
    (await puppet.asked()).answer("Now this.")
    await expect(page.locator(".answer")).to_have_text(["Here it is.", "Now this."])
    await expect(page.locator("#absent")).to_be_hidden()


async def test_a_first_question_that_was_refused_makes_its_conversation_once_it_is_sent_again(
    ada: Person, puppet: Puppet
) -> None:
    """There were too many conversations, and one is deleted elsewhere: what is asked next is followed too."""
    is_full = True

    async def on_the_way(line: WebSocketRoute) -> None:
        server = line.connect_to_server()

        def to_server(text: str | bytes) -> None:
            command = json.loads(text)
            if is_full and command["type"] in {"thread.subscribe", "run.start"}:
                error = {"code": "TOO_MANY_THREADS", "message": "you have as many as there may be"}
                line.send(json.dumps({"reply_to": command["id"], "ok": False, "error": error}))
            else:
                server.send(text)

        line.on_message(to_server)

    await ada.context.route_web_socket(re.compile("/ws$"), on_the_way)
    page = await ada.signed_in()
    await ask(page, "Tell me a story")
    await expect(page.get_by_text("Not sent: you have as many as there may be.")).to_be_visible()
    is_full = False
    await ask(page, "Tell me another")
    (await puppet.asked()).answer("Here it is.")
    await expect(answer(page)).to_have_text("Here it is.")


async def test_a_first_question_is_not_lost_by_connecting_anew(ada: Person, puppet: Puppet) -> None:
    lines: list[WebSocketRoute] = []
    commands: list[dict[str, Any]] = []

    async def on_the_way(line: WebSocketRoute) -> None:
        server = line.connect_to_server()

        def to_server(text: str | bytes) -> None:
            commands.append(json.loads(text))
            server.send(text)

        line.on_message(to_server)
        lines.append(line)

    await ada.context.route_web_socket(re.compile("/ws$"), on_the_way)
    page = await ada.signed_in()
    await lines[-1].close(code=3003, reason="FORBIDDEN")
    await expect(page.locator("#pill")).to_have_text("Disconnected")
    await ask(page, "Tell me a story")
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await page.get_by_role("button", name="Reconnect").click()
    await ada.connected(page)
    await expect(page.locator(".question")).to_contain_text("Tell me a story")
    made = [each for each in commands if each["type"] == "thread.subscribe" and each.get("create", True)]
    assert made == [], "an empty conversation was made by connecting"
    await page.get_by_role("button", name="Try again").click()
    (await puppet.asked()).answer("Here it is.")
    await expect(answer(page)).to_have_text("Here it is.")
