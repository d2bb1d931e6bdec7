"""The real page in Chromium, on the whole product: sign in, chat, auth frozen, auth thawed."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.conftest import PASSWORD, running
from tests.browser.talk import ask, stored, unseen_token
from tests.chat_support import FakeInsight

from doorward.chat.agents.tools import Tools
from doorward.cli.up import ADMIN
from doorward.core.verdict import TABLE, Action

if TYPE_CHECKING:
    from tests.browser.conftest import Person

pytestmark = pytest.mark.browser

PROVISIONAL = "Signed in provisionally while the auth service is not answering."
RETRYING = re.compile(
    r"The auth service is not answering\. You are still signed in\. (Retrying in \d+ s|Retrying now|Trying now)"
)
NOT_ASKED = "The auth service is not answering. Nothing is wrong with what you entered."
FOREIGN = """<img src=x onerror=alert(1)> **bold** `a<b` [good](https://example.org/x) [bad](javascript:alert(1))

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```
<script>alert(2)</script>
```
"""
DEADLINE_SECONDS = 2.0
PAGE_SECONDS = 1.0
"""What Chromium may take to open a tab and start the page, besides."""
RECOVERY_SECONDS = 5.0
SLOW_SECONDS = 3.0  # longer than a handshake may take, shorter than a password may
DRAWER_BELOW = 896
"""Pixels of width: below, the list of conversations is a drawer."""


async def late(route: Route) -> None:
    """As where many sign in at once, and a password waits its turn."""
    await asyncio.sleep(SLOW_SECONDS)
    await route.continue_()


async def answered(page: Page, *, count: int = 1) -> str:
    """The text of the newest answer, once all of it is there."""
    await expect(page.locator(".run .answer")).to_have_count(count)
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator(".answer[aria-busy]")).to_have_count(0)
    return await page.locator(".run .answer").last.inner_text()


async def expire(page: Page) -> None:
    """Make this profile's access token look expired, so that a page has to refresh before it connects."""
    await page.evaluate(
        "const held = JSON.parse(localStorage['doorward.session']); held.expiresAt = 0;"
        "localStorage['doorward.session'] = JSON.stringify(held)"
    )


# ------------------------------------------------------------------------------------------------- signing in


async def test_sign_in_and_ask_the_warden(person: Person) -> None:
    page = await person.signed_in()
    await ask(page, "How is the auth service?")
    answer = await answered(page)
    assert len(answer) > 20
    await expect(page.locator(".question")).to_have_text("How is the auth service?")
    await expect(page.get_by_label("Your message")).to_have_value("")
    tool = page.locator(".tool").first
    await expect(tool.locator("pre").last).to_be_hidden()
    await tool.locator("summary").click()
    shown = await tool.locator("pre").last.inner_text()
    assert shown.startswith("{\n  "), "the result is laid out for reading"


async def test_a_suggestion_is_a_question(person: Person) -> None:
    page = await person.signed_in()
    await page.get_by_role("button", name="What did you decide in the last minutes?", exact=True).click()
    assert re.search(r"\d", await answered(page))


async def test_the_link_signs_in_once(person: Person, tmp_path: Path) -> None:
    """A link is good for 15 minutes, so it is that of a product that has just begun."""
    with running(tmp_path) as fresh:
        newcomer = replace(person, product=fresh)
        link = fresh.sign_in_link.removeprefix(fresh.url)
        page = await newcomer.tab(link)
        await page.get_by_text("Connected", exact=True).wait_for()
        assert "signin" not in page.url
        await page.get_by_role("button", name="Sign out").click()
        again = await newcomer.tab(link)
        await expect(again.get_by_role("alert")).to_contain_text("was used already")
        assert "signin" not in again.url
        await page.close()
        await again.close()


async def test_a_link_that_works_signs_in_as_its_person_also_where_somebody_else_is(
    person: Person, tmp_path: Path
) -> None:
    with running(tmp_path) as fresh:
        fresh.post("/auth/register", email=person.email, password=person.password)
        newcomer = replace(person, product=fresh)
        page = await newcomer.signed_in()
        await expect(page.locator("#who")).to_have_text(person.email)
        await ask(page, "How is the auth service?")
        await page.goto(fresh.sign_in_link)
        await expect(page.locator("#who")).to_have_text(ADMIN)
        await newcomer.connected(page)
        await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
        await expect(page.locator("#banner")).to_be_hidden()  # the conversation before was not theirs
        assert page.url == fresh.url + "/"
        await page.close()


async def test_a_used_link_throws_nobody_out(person: Person) -> None:
    page = await person.signed_in()
    other = await person.tab("/#signin=used")
    await page.goto(person.product.url + "/#signin=used")
    for tab in (page, other):
        await expect(tab.locator("#banner")).to_contain_text(
            "was used already, or is too old. You are still signed in."
        )
        await expect(tab.locator("#who")).to_have_text(person.email)
        await person.connected(tab)
        assert "signin" not in tab.url
    await page.get_by_role("button", name="Close", exact=True).click()
    await ask(page, "How is the auth service?")
    assert await answered(page)


async def test_a_used_link_leaves_the_conversation_and_its_address_alone(person: Person) -> None:
    page = await person.signed_in()
    await ask(page, "How is the auth service?")
    assert await answered(page)
    address = page.url
    assert "#thread=" in address
    await page.goto(person.product.url + "/#signin=used")
    await expect(page.locator("#banner")).to_contain_text("You are still signed in.")
    for _ in ("as it was", "after a reload"):
        assert page.url == address
        await expect(page.locator(".question")).to_have_text(["How is the auth service?"])
        await page.reload()


async def test_a_link_that_nobody_looked_at_throws_nobody_out_either(person: Person) -> None:
    await person.signed_in()
    await person.context.route("**/auth/login", lambda route: route.fulfill(status=503))
    page = await person.tab("/#signin=code")
    await expect(page.locator("#banner")).to_contain_text("could not be used just now. Please open it again.")
    await person.connected(page)
    await person.context.unroute("**/auth/login")


async def test_signing_in_says_that_it_is_under_way_and_outlasts_a_slow_answer(person: Person) -> None:
    page = await person.tab()
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.route("**/auth/login", late)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("button", name="Signing you in…")).to_be_disabled()
    await person.connected(page)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Sign in")).to_be_enabled()


async def test_a_full_house_is_told_as_such_and_not_as_an_outage(person: Person) -> None:
    page = await person.tab()
    busy = {"code": "OVERLOADED", "title": "busy", "status": 503, "retry_after_ms": 1000}
    await page.route("**/auth/login", lambda route: route.fulfill(status=503, json=busy))
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Too many people are signing in just now.")


async def test_a_wrong_password_is_told_plainly(person: Person) -> None:
    page = await person.tab()
    await page.get_by_label("Email").fill("nobody@example.com")
    await page.get_by_label("Password").fill("not the right one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("Email or password is not right.")
    assert await stored(page) is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, "<html>blocked by your company</html>", NOT_ASKED),
        (404, "not found", NOT_ASKED),
        (404, '{"code": "NOT_FOUND"}', "Nobody can sign in at this address."),
        (408, '{"code": "BODY_TOO_SLOW"}', NOT_ASKED),
        (400, '{"error": "invalid_request"}', "The auth service cannot read this."),
        (413, '{"code": "MESSAGE_TOO_BIG"}', "This is longer than the auth service takes."),
        (429, '{"code": "RATE_LIMITED"}', "Too many attempts."),
        (401, "", "Email or password is not right."),
    ],
)
async def test_a_password_is_called_wrong_only_by_who_looked_at_it(
    person: Person, status: int, body: str, words: str
) -> None:
    page = await person.tab()
    await page.route("**/auth/login", lambda route: route.fulfill(status=status, body=body))
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(words)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, "<html>blocked by your company</html>", NOT_ASKED),
        (400, '{"error": "invalid_request"}', "The auth service cannot read this sign-in link."),
        (429, '{"error": "too_many_attempts"}', "Too many attempts."),
    ],
)
async def test_a_link_that_nobody_looked_at_can_be_tried_again(
    person: Person, status: int, body: str, words: str
) -> None:
    await person.context.route("**/auth/login", lambda route: route.fulfill(status=status, body=body))
    page = await person.tab("/#signin=code")
    await expect(page.get_by_role("alert")).to_contain_text(words)
    await person.context.unroute("**/auth/login")
    await page.get_by_role("button", name="Try the link again").click()
    await expect(page.get_by_role("alert")).to_contain_text("was used already, or is too old")
    await expect(page.get_by_role("button", name="Try the link again")).to_be_hidden()


async def test_an_account_can_be_made_where_that_is_on(person: Person) -> None:
    page = await person.tab()
    await page.get_by_role("button", name="Create one").click()
    await page.get_by_label("Email").fill(f"new-{time.time_ns()}@example.com")
    await page.get_by_label("Password").fill(person.password)
    await page.get_by_role("button", name="Create account").click()
    await page.get_by_text("Connected", exact=True).wait_for()


@pytest.mark.parametrize(
    ("email", "password", "words"),
    [
        ("new@example.com", "short", "A password needs at least 8 characters."),
        ("notanemail", PASSWORD, "This is not an e-mail address."),
    ],
)
async def test_what_is_wrong_with_a_new_account_is_told(person: Person, email: str, password: str, words: str) -> None:
    page = await person.tab()
    await page.get_by_role("button", name="Create one").click()
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("alert")).to_have_text(words)


async def asks_for_an_account(page: Page) -> None:
    await page.get_by_role("button", name="Create one").click()
    await page.get_by_label("Email").fill("new@example.com")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()


@pytest.mark.parametrize("content", [{}, {"message": ""}, {"message": 7}, {"message": "no " * 100}])
async def test_a_new_account_that_is_refused_without_good_words_gets_general_ones(
    person: Person, content: dict[str, Any]
) -> None:
    page = await person.tab()
    answer = {"error": "invalid_request"} | content
    await page.route("**/auth/register", lambda route: route.fulfill(status=400, json=answer))
    await asks_for_an_account(page)
    await expect(page.get_by_role("alert")).to_contain_text("This account could not be made.")


async def test_where_accounts_cannot_be_made_the_page_says_so(person: Person) -> None:
    page = await person.tab()
    off = {"title": "Not Found", "status": 404, "code": "NOT_FOUND"}  # as authd answers
    await page.route("**/auth/register", lambda route: route.fulfill(status=404, json=off))
    await asks_for_an_account(page)
    await expect(page.get_by_role("alert")).to_contain_text("Accounts cannot be made here.")


async def test_who_signs_in_on_a_device_that_is_offline_is_told_so(person: Person) -> None:
    page = await person.tab()
    await person.context.set_offline(True)
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This device is offline.")
    await person.context.set_offline(False)
    await page.get_by_role("button", name="Sign in").click()
    await person.connected(page)


async def test_an_auth_service_that_answers_is_not_called_a_device_that_is_offline(person: Person) -> None:
    """With everything on this machine, a laptop without a network is offline and has a server."""
    page = await person.tab()
    busy = {"code": "SERVICE_UNAVAILABLE", "title": "away", "status": 503}
    await page.route("**/auth/login", lambda route: route.fulfill(status=503, json=busy))
    await person.context.set_offline(True)
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(NOT_ASKED)


async def test_a_device_that_is_offline_is_told_so_and_comes_back_by_itself(person: Person) -> None:
    page = await person.signed_in()
    await person.context.set_offline(True)
    await expect(page.locator("#pill")).to_have_text("Offline", timeout=5_000)
    await expect(page.locator("#banner")).to_contain_text("This device is offline. You are still signed in.")
    await person.context.set_offline(False)
    await person.connected(page, within_seconds=5)


async def test_signing_out_in_one_tab_signs_out_the_other(person: Person) -> None:
    first = await person.signed_in()
    second = await person.tab()
    await second.get_by_text("Connected", exact=True).wait_for()
    await first.get_by_role("button", name="Sign out").click()
    await first.get_by_role("button", name="Sign in").wait_for()
    await expect(first.get_by_role("alert")).to_be_empty()
    await expect(second.get_by_role("alert")).to_contain_text("You were signed out because")
    assert await stored(first) is None


async def test_nothing_that_was_written_is_left_for_the_next_one(person: Person) -> None:
    page = await person.signed_in()
    await page.get_by_label("Your message").fill("A secret")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Email").fill(ADMIN)
    await page.get_by_label("Password").fill(person.product.admin_password)
    await page.keyboard.press("Enter")
    await page.get_by_text("Connected", exact=True).wait_for()
    await expect(page.get_by_label("Your message")).to_have_value("")


async def test_a_session_ended_elsewhere_leads_to_the_sign_in_page(person: Person) -> None:
    page = await person.signed_in()
    tokens = await stored(page)
    assert tokens is not None
    person.product.post("/auth/logout", refresh_token=tokens["refreshToken"])
    await expect(page.get_by_role("alert")).to_contain_text("You were signed out because your session was ended")


async def test_of_several_tabs_one_refreshes_and_all_get_in(person: Person) -> None:
    first = await person.signed_in()
    tabs = [first, await person.tab(), await person.tab()]
    await expire(first)
    asked: list[str] = []
    person.context.on("request", lambda request: asked.append(request.url))
    await asyncio.gather(*(tab.reload() for tab in tabs))
    for tab in tabs:
        await expect(tab.locator("#pill")).to_have_text("Connected")
    assert sum(url.endswith("/auth/refresh") for url in asked) == 1


# ------------------------------------------------------------------------------------------------- the conversation


async def test_a_reload_brings_the_conversation_back(person: Person) -> None:
    page = await person.signed_in()
    await ask(page, "Who is connected?")
    before = await answered(page)
    await page.reload()
    await expect(page.locator(".question")).to_have_text("Who is connected?")
    assert await answered(page) == before


async def test_a_new_chat_is_empty_and_the_next_question_is_answered(person: Person) -> None:
    page = await person.signed_in()
    await ask(page, "How is the auth service?")
    await answered(page)
    await page.get_by_role("button", name="New chat").click()
    await expect(page.locator(".run")).to_have_count(0)
    await expect(page.get_by_role("heading", name="Good to see you.")).to_be_visible()
    await ask(page, "Why was my last decision made?")
    assert await answered(page)


async def test_shift_enter_starts_a_line(person: Person) -> None:
    page = await person.signed_in()
    box = page.get_by_label("Your message")
    await box.press_sequentially("one")
    await page.keyboard.press("Shift+Enter")
    await box.press_sequentially("two")
    await expect(box).to_have_value("one\ntwo")
    await expect(page.locator(".question")).to_have_count(0)


async def test_a_message_is_measured_as_the_server_measures_it(person: Person) -> None:
    """In bytes: of other scripts than Latin fewer characters fit. It is said before anything is sent."""
    page = await person.signed_in()
    box, note = page.get_by_label("Your message"), page.locator("#ask-note")
    await box.fill("я" * 8_192)
    await expect(note).to_be_empty()
    await box.fill("я" * 8_192 + "😀😀")
    await expect(note).to_have_text("Too long by 2 characters. Shorten it to send it.")
    await expect(box).to_have_attribute("aria-invalid", "true")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".question")).to_have_count(0)
    await box.fill("я" * 8_192)
    await page.keyboard.press("Enter")
    await answered(page)
    await expect(page.locator(".question")).to_have_text("я" * 8_192)
    await expect(page.locator("#pill")).to_have_text("Connected")


async def test_the_page_and_the_server_mean_the_same_length(person: Person) -> None:
    page = await person.tab()
    beyond = "(texts) => import('/static/composer.js').then(({ beyond }) => texts.map((text) => beyond(text, 8)))"
    texts = ["", "12345678", "123456789", "яяяя", "яяяяя", "1234567я", "😀😀", "😀😀😀", "123456😀"]
    excess = [0, 0, 1, 0, 1, 1, 0, 1, 1]
    assert await page.evaluate(beyond, texts) == excess
    assert [len(text.encode()) > 8 for text in texts] == [count > 0 for count in excess]


async def test_what_nobody_can_see_is_not_sent(person: Person) -> None:
    """Such characters, pasted by accident, take six bytes each on the wire."""
    page = await person.signed_in()
    await ask(page, "\x00" * 20_000 + "How is\x1b the auth\tservice?")
    await answered(page)
    await expect(page.locator(".question")).to_have_text("How is the auth service?")


async def test_the_warden_runs_a_drill_for_an_admin(person: Person) -> None:
    suggestion = "Run a drill"
    page = await person.signed_in()
    await expect(page.get_by_role("button", name="Who is connected?", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name=suggestion, exact=True)).to_have_count(0)
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Email").fill(ADMIN)
    await page.get_by_label("Password").fill(person.product.admin_password)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name=suggestion, exact=True).click()
    tool = page.locator(".tool")
    await expect(tool).to_contain_text("Running a drill")
    await page.keyboard.press("Escape")
    await expect(page.locator(".stopped")).to_have_text("Stopped.")


async def test_every_tool_of_the_warden_has_words(person: Person) -> None:
    page = await person.tab()
    tools = ["run_drill", *Tools(FakeInsight())._tools]
    words = (
        "(tools) => import('/static/run-view.js').then(({ toolWords }) => tools.map((tool) => toolWords(tool, true)))"
    )
    assert [text for text in await page.evaluate(words, tools) if text.startswith("Used ")] == []


async def test_what_looks_like_html_is_shown_as_it_is_written(person: Person) -> None:
    page = await person.tab()
    shown = await page.evaluate(
        """async (text) => {
            const { Prose } = await import('/static/prose.js');
            const target = document.createElement('div');
            const prose = new Prose(target);
            prose.append(text);
            prose.finish();
            const count = (selector) => target.querySelectorAll(selector).length;
            return [count('img, script'), count('strong'), count('li'), count('td'), count('a'), target.innerText];
        }""",
        FOREIGN,
    )
    assert shown[:5] == [0, 1, 2, 2, 1]
    assert "<img src=x onerror=alert(1)>" in shown[5]
    assert "[bad](javascript:alert(1))" in shown[5]
    assert "<script>alert(2)</script>" in shown[5]


# ------------------------------------------------------------------------------------------------- auth frozen, thawed


async def test_auth_frozen_then_thawed(person: Person) -> None:
    """New tabs get in before their deadline and say so; five seconds after the thaw all is normal."""
    first = tab = await person.signed_in()
    await unseen_token(person, first)
    with person.product.frozen():
        for _ in range(3):
            began = time.monotonic()
            tab = await person.tab()
            await tab.locator("#pill[data-tone=ok], #pill[data-tone=warn]").wait_for()
            assert time.monotonic() - began < DEADLINE_SECONDS + PAGE_SECONDS
        await expect(tab.locator("#banner")).to_have_text(PROVISIONAL)
        await expect(first.locator("#pill")).to_have_text("Connected")
        await ask(tab, "How is the auth service?")
        assert await answered(tab)
    thawed = time.monotonic()
    await expect(tab.locator("#pill")).to_have_text("Connected", timeout=RECOVERY_SECONDS * 1000)
    await expect(tab.locator("#banner")).to_have_text("All is normal again.")
    assert time.monotonic() - thawed < RECOVERY_SECONDS


async def test_auth_frozen_and_no_token_left(person: Person) -> None:
    """Nothing proves who this is, and nobody is signed out for it: words, a countdown, and in again after the thaw."""
    page = await person.signed_in()
    await ask(page, "How is the auth service?")
    await answered(page)
    with person.product.frozen():
        await expire(page)
        await page.reload()
        await expect(page.locator("#banner")).to_have_text(RETRYING)
        await expect(page.get_by_text("This conversation will be here as soon as")).to_be_visible()
        first = await page.locator("#banner-text").inner_text()
        await expect(page.locator("#banner-text")).not_to_have_text(first)
        await expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_hidden()
        assert (await stored(page) or {}).get("refreshToken")
    await expect(page.locator("#pill")).to_have_text("Connected", timeout=15_000)
    await expect(page.locator(".question")).to_have_text("How is the auth service?")
    await expect(page.get_by_text("This conversation will be here as soon as")).to_be_hidden()


async def test_auth_frozen_at_the_sign_in_page(person: Person) -> None:
    page = await person.tab()
    with person.product.frozen():
        await page.get_by_label("Email").fill(person.email)
        await page.get_by_label("Password").fill(person.password)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Nothing is wrong with what you entered", timeout=5_000)
    await page.keyboard.press("Enter")
    await page.get_by_text("Connected", exact=True).wait_for()


# ------------------------------------------------------------------------------------------------- how it looks


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_nothing_sticks_out_sideways(person: Person, width: int) -> None:
    page = await person.tab()
    await page.set_viewport_size({"width": width, "height": 700})
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(overflow) == 0
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(person.password)
    await page.keyboard.press("Enter")
    await page.get_by_text("Connected", exact=True).wait_for()
    assert await page.evaluate(overflow) == 0
    await within(page, width, "New chat", "Send")
    if width < DRAWER_BELOW:
        await page.get_by_role("button", name="Conversations", exact=True).click()
        await expect(page.locator("#side")).to_be_in_viewport(ratio=1)
    await within(page, width, "Sign out", "Keyboard shortcuts")


async def within(page: Page, width: int, *names: str) -> None:
    for name in names:
        box = await page.get_by_role("button", name=name).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_banner_moves_nothing_and_hides_no_message(person: Person, width: int) -> None:
    page = await person.signed_in()
    await page.set_viewport_size({"width": width, "height": 844})
    await ask(page, "How is the auth service?")
    await answered(page)
    places = """['#question', '.question', '.composer', '.bar'].map(
        (selector) => JSON.stringify(document.querySelector(selector).getBoundingClientRect()))"""
    before = await page.evaluate(places)
    await say(page, "The auth service is not answering. You are still signed in. Retrying in 30 s.")
    assert await page.evaluate(places) == before
    assert await room_below_banner(page) >= 8


async def test_a_banner_of_many_lines_hides_no_message(person: Person) -> None:
    page = await person.signed_in()
    await page.set_viewport_size({"width": 320, "height": 844})
    await ask(page, "How is the auth service?")
    await answered(page)
    await say(
        page, "The auth service refuses the chat server itself, not you. You are still signed in. Retrying in 30 s."
    )
    assert await room_below_banner(page) >= 0


async def say(page: Page, text: str) -> None:
    await page.evaluate(
        """(text) => {
            for (const name of ['banner', 'banner-action']) document.getElementById(name).hidden = false;
            document.getElementById('banner-text').textContent = text;
            document.getElementById('banner-action').textContent = 'Retry now';
        }""",
        text,
    )


async def room_below_banner(page: Page) -> float:
    """CSS pixels down to the first message, at the head of the conversation."""
    await page.evaluate("document.querySelector('#scroll').scrollTop = 0")
    banner = await page.locator("#banner").bounding_box()
    question = await page.locator(".question").bounding_box()
    assert banner
    assert question
    return question["y"] - banner["y"] - banner["height"]


async def test_everything_can_be_reached_by_keyboard(person: Person) -> None:
    page = await person.signed_in()
    await ask(page, "How is the auth service?")
    await answered(page)
    reached = set()
    for _ in range(120):  # the list of conversations lies on the way
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"new-thread", "sign-out", "question", "send", "SUMMARY"} <= reached


async def test_every_row_of_the_table_has_words(person: Person) -> None:
    """And none of those that mean "try again" or "could not ask" says that somebody is signed out."""
    page = await person.tab()
    rows = [{"code": row.code, "cause": row.cause, "action": row.action} for row in TABLE]
    words: list[str] = await page.evaluate(
        """async (rows) => {
            const { describe } = await import('/static/status.js');
            const name = (row) => row.action === 'stop' ? 'stopped' : 'waiting';
            return rows.map((reason) => describe({ name: name(reason), reason, retryAt: 3000 }, { now: 100 }).banner);
        }""",
        rows,
    )
    for row, text in zip(TABLE, words, strict=True):
        assert text, row
        if row.action is Action.RETRY:
            assert "You are still signed in. Retrying in 3 s." in text
