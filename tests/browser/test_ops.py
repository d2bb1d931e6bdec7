"""The ops page in Chromium, on the whole product: watch decisions, filter them, break the auth service, heal it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from doorward.cli.up import ADMIN
from doorward.ops.faults import CHOICES

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route
    from tests.browser.conftest import Person

pytestmark = pytest.mark.browser

OPEN = "No good answer. The breaker is open."
KNOCK = "Knock six times"
ROUND_MS = 20_000
"""Six knocks, each up to the deadline."""

RECOVERY_SECONDS = 5.0
PAGE_SECONDS = 1.5
"""How late the page may be, which looks once a second."""

FORWARDED = {"X-Forwarded-For": "192.0.2.7"}
FOREIGN_PATH = "/<img src=x onerror=alert(1)>"


def labelled(label: str) -> re.Pattern[str]:
    """A button of the panel is named by its label and what happens then."""
    return re.compile(rf"^{re.escape(label)}(\s|$)")


async def watching(person: Person, path: str | None = None) -> Page:
    """The ops page, opened by the link that was printed."""
    page = await person.tab(path or person.product.ops_link.removeprefix(person.product.url))
    await expect(page.locator("#pill")).to_have_text("Live")
    return page


async def knocked(page: Page) -> Locator:
    """Six handshakes, made and answered. The lines that the newest round left."""
    await page.get_by_role("button", name=KNOCK).click()
    await expect(page.get_by_role("button", name=KNOCK)).to_be_enabled(timeout=ROUND_MS)
    return page.locator("#knocks li")


async def unfolded(page: Page) -> None:
    """Every group of faults."""
    closed = page.locator("#fault-choices details:not([open]) > summary")
    while await closed.count():
        await closed.first.click()


async def fault(page: Page, label: str) -> Locator:
    """Its button, with its group open."""
    group = page.locator("#fault-choices details").filter(has=page.get_by_text(label, exact=True))
    if await group.get_attribute("open") is None:
        await group.locator("summary").click()
    return page.get_by_role("button", name=labelled(label))


@asynccontextmanager
async def broken(page: Page, label: str) -> AsyncIterator[None]:
    """Broken by hand, and healed for whoever comes next."""
    button = await fault(page, label)
    await button.click()
    try:
        await expect(button).to_have_attribute("aria-pressed", "true")
        yield
    finally:
        if await page.get_by_role("button", name="Heal").is_enabled():
            await page.get_by_role("button", name="Heal").click()
            await expect(page.get_by_role("button", name="Heal")).to_be_disabled()
        await expect(page.locator("#headline")).to_have_text("Answering.", timeout=10_000)


def ops_token(person: Person) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD_")}
    command = [sys.executable, "-m", "doorward", "ops-token"]
    made = subprocess.run(
        command, cwd=person.product.folder, env=environment, capture_output=True, text=True, timeout=30
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@asynccontextmanager
async def elsewhere(person: Person, browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser that is not on this host, as the door sees it."""
    context = await browser.new_context(extra_http_headers=FORWARDED)
    here, person.context = person.context, context
    try:
        yield context
    finally:
        person.context = here
        await context.close()


# ------------------------------------------------------------------------------------------------- who may look


async def test_the_printed_link_opens_the_page_and_leaves_no_token_in_the_address(person: Person) -> None:
    page = await watching(person)
    assert page.url == person.product.url + "/ops"
    await expect(page.get_by_role("button", name="Silence")).to_be_enabled()
    await page.reload()
    await expect(page.get_by_role("button", name="Silence")).to_be_enabled()


async def test_without_the_link_this_host_may_only_look(person: Person) -> None:
    page = await watching(person, "/ops")
    await expect(page.locator("#who")).to_have_text("From this host")
    await expect(page.locator("#faults-locked")).to_be_visible()
    await unfolded(page)
    for choice in CHOICES:
        await expect(page.get_by_role("button", name=labelled(choice.label))).to_be_disabled()


async def test_of_several_issuers_one_is_shown_at_a_time(person: Person) -> None:
    """The first in trouble, until somebody chooses another. The second one here is put into what the door says."""

    async def add_one(route: Route) -> None:
        answer = await route.fetch()
        state = await answer.json()
        (ours,) = state["services"]
        state["services"].append({**ours, "issuer": "acme", "breaker": "open", "in_outage": True})
        await route.fulfill(response=answer, json=state)

    page = await watching(person)
    issuers = page.get_by_role("group", name="Issuers")
    await expect(issuers).to_be_hidden()
    await page.route("**/ops/api/state*", add_one)
    await expect(issuers.get_by_role("button", name="acme, in trouble")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#headline")).to_have_text(OPEN)
    await issuers.get_by_role("button", name="auth").click()
    await expect(page.locator("#headline")).to_have_text("Answering.")
    async with page.expect_response("**/ops/api/state*"), page.expect_response("**/ops/api/state*"):
        await expect(issuers.get_by_role("button", name="auth")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#headline")).to_have_text("Answering.")


async def test_from_elsewhere_an_ops_token_lets_in(person: Person, browser: Browser) -> None:
    async with elsewhere(person, browser):
        page = await person.tab("/ops")
        await expect(page.get_by_role("heading", name="Who may look")).to_be_visible()
        await expect(page.locator("#board")).to_be_hidden()
        await page.keyboard.type("dwops1.not.one")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not of this door")
        await page.get_by_label("Ops token").fill(ops_token(person))
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_contain_text("Ops token, until")
        await expect(page.get_by_role("button", name="Silence")).to_be_disabled()
        await page.reload()
        await expect(page.locator("#who")).to_contain_text("Ops token, until")
        await page.get_by_role("button", name="Forget token").click()
        await expect(page.get_by_role("heading", name="Who may look")).to_be_visible()


async def test_from_elsewhere_an_admin_looks_and_others_do_not(person: Person, browser: Browser) -> None:
    async with elsewhere(person, browser):
        page = await person.signed_in()
        await page.goto(person.product.url + "/ops")
        await expect(page.get_by_role("alert")).to_contain_text("needs the permission")
        await page.goto(person.product.url)
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("Email").fill(ADMIN)
        await page.get_by_label("Password").fill(person.product.admin_password)
        await page.keyboard.press("Enter")
        await page.get_by_text("Connected", exact=True).wait_for()
        await page.goto(person.product.url + "/ops")
        await expect(page.locator("#who")).to_have_text(ADMIN)


# ------------------------------------------------------------------------------------------------- decisions


async def test_a_decision_appears_with_its_timeline(person: Person) -> None:
    page = await watching(person)
    lines = await knocked(page)
    await expect(lines.first).to_contain_text("refused: no such token")
    await expect(page.locator(".decision").first).to_contain_text("token rejected")
    await page.locator(".decision summary").first.click()
    newest = page.locator(".decision:has(details[open])")  # a newer one may come above it
    await expect(newest.locator(".steps li")).to_have_count(await newest.locator(".strip .step").count())
    for step in ("admit", "local", "remote"):
        await expect(newest.locator(".step-name").filter(has_text=re.compile(f"^{step}$"))).to_be_visible()
    await expect(newest.locator(".step-ms").last).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    await expect(newest.get_by_text("TOKEN_REJECTED")).to_be_visible()


async def test_handshakes_are_told_apart_from_the_requests_of_pages(person: Person) -> None:
    page = await person.signed_in()
    await page.goto(person.product.ops_link)
    await expect(page.locator("#pill")).to_have_text("Live")
    shown = page.locator(".decision:visible")
    await expect(shown.first).to_be_visible()
    await page.get_by_role("button", name="Pause").click()
    for kind, paths in (("Requests", r", /api/"), ("Handshakes", r", /ws$")):
        await page.get_by_label("Kind").select_option(kind)
        await shown.first.locator("summary").click()
        await expect(shown.first.locator(".detail-facts dd").filter(has_text=re.compile(paths))).to_be_visible()


async def test_decisions_are_filtered_by_verdict_reason_and_id(person: Person) -> None:
    page = await person.signed_in()
    await page.goto(person.product.ops_link)
    await expect(page.locator("#pill")).to_have_text("Live")
    await knocked(page)
    shown = page.locator(".decision:visible")
    await expect(page.locator(".decision[data-verdict=deny]").first).to_be_visible()
    await page.get_by_label("Verdict").select_option("Let in")
    await expect(page.locator(".decision[data-verdict=deny]:visible")).to_have_count(0)
    await expect(shown.first).to_contain_text("let in")
    await page.get_by_label("Reason").select_option("token rejected")
    await expect(page.locator("#decisions-none")).to_have_text("None of the last decisions is like that.")
    await page.get_by_label("Verdict").select_option("Every verdict")
    await expect(shown.first).to_contain_text("token rejected")
    await page.get_by_role("button", name="Pause").click()  # or another one may be the first when it is read
    await shown.first.locator("summary").click()
    decision_id = await shown.first.locator(".detail-facts dd").first.inner_text()
    await page.get_by_label("Decision id").fill(decision_id[:12])
    await expect(shown).to_have_count(1)
    await expect(page.locator("#shown")).to_contain_text("1 of the last")
    await page.get_by_label("Decision id").fill("")
    assert await shown.count() > 1


async def test_a_pause_holds_the_list_still(person: Person) -> None:
    page = await watching(person)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    before = await page.locator("#decisions").inner_text()
    await knocked(page)
    await expect(page.locator("#shown")).to_contain_text("6 new since the pause")
    assert await page.locator("#decisions").inner_text() == before
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("#shown")).not_to_contain_text("since the pause")
    assert await page.locator("#decisions").inner_text() != before


async def test_what_a_stranger_writes_is_shown_as_it_is_written(person: Person) -> None:
    page = await watching(person)
    await page.evaluate(
        "(path) => new Promise((done) => { new WebSocket(path, ['doorward.v1']).onclose = done; })", FOREIGN_PATH
    )
    newest = page.locator(".decision").first
    await expect(newest).to_contain_text("auth required")
    await newest.locator("summary").click()
    await expect(newest.locator(".detail-facts")).to_contain_text("img")
    assert await page.locator("main img").count() == 0


async def test_a_connection_is_listed_while_it_lasts(person: Person) -> None:
    page = await watching(person)
    before = int(await page.locator("#connections-total").inner_text())
    chat = await person.signed_in()
    await expect(page.locator("#connections-total")).to_have_text(str(before + 1))
    await expect(page.locator("#connections li").first).to_contain_text("/ws from 127.0.0.1")
    await chat.close()
    await expect(page.locator("#connections-total")).to_have_text(str(before))


# ------------------------------------------------------------------------------------------------- break, watch, heal


async def test_break_watch_the_breaker_open_heal_watch_it_close(person: Person) -> None:
    page = await watching(person)
    async with broken(page, "Silence"):
        button = page.get_by_role("button", name=labelled("Silence"))
        await expect(button).to_have_accessible_name("Silence Calls are read, and never answered.")
        await expect(page.locator("#fault-name")).to_have_text("Silence")
        lines = await knocked(page)
        await expect(page.locator("#headline")).to_have_text(OPEN)
        await expect(lines.filter(has_text="no answer by the deadline").first).to_be_visible()
        again = await knocked(page)
        await expect(again.first).to_contain_text("told to come back: the breaker is open")
        assert re.search(r"\d+ ms$", await again.first.inner_text())
        await expect(page.locator("#events")).to_contain_text("Breaker opened")
        healed = time.monotonic()
        await page.get_by_role("button", name="Heal").click()
        await expect(page.locator("#fault-words")).to_have_text(re.compile("Recovered"), timeout=10_000)
        assert time.monotonic() - healed < RECOVERY_SECONDS + PAGE_SECONDS
        await expect(page.locator("#events")).to_contain_text("Breaker closed")
        await expect(page.get_by_role("button", name="Heal")).to_be_disabled()


async def test_whoever_is_signed_in_gets_in_while_it_is_broken(person: Person) -> None:
    await person.signed_in()
    page = await watching(person)
    async with broken(page, "Refused"):
        lines = await knocked(page)
        await expect(lines.filter(has_text=re.compile("You: let in"))).to_have_count(1)
        await expect(lines.filter(has_text="told to come back")).not_to_have_count(0)


@pytest.mark.parametrize("label", ["401 on our secret", "429, too many", "Wrong JSON", "Reset"])
async def test_each_fault_is_felt_and_healed(person: Person, label: str) -> None:
    page = await watching(person)
    async with broken(page, label):
        lines = await knocked(page)
        await expect(lines.first).to_contain_text("told to come back")
        await expect(page.locator("#headline")).not_to_have_text("Answering.")


@pytest.mark.parametrize(
    ("label", "reason", "words"),
    [("Silence", "deadline", "no answer before the deadline"), ("Reset", "upstream", "the connection broke")],
)
async def test_what_went_wrong_is_told_in_words(person: Person, label: str, reason: str, words: str) -> None:
    """Names of classes are for the log."""
    page = await watching(person)
    async with broken(page, label):
        await knocked(page)
        because, why = page.locator("#because"), page.locator(".detail-facts div").filter(has_text="Why")
        await expect(because).to_contain_text(words)
        await page.get_by_role("button", name="Pause").click()
        decided = page.locator(".decision").filter(has=page.locator(".reason", has_text=reason))
        await decided.first.locator("summary").click()
        await expect(why).to_contain_text(words)
        for told in (because, why):
            await expect(told).not_to_have_text(re.compile(r"[A-Z][a-z]+[A-Z]"))


async def test_one_fault_follows_another_without_a_repair_between(person: Person) -> None:
    page = await watching(person)
    async with broken(page, "300 ms late"), broken(page, "Reset"):
        await expect(page.get_by_role("button", name="300 ms late")).to_have_attribute("aria-pressed", "false")


async def test_on_a_phone_what_happens_stays_in_sight(person: Person) -> None:
    """The last of nineteen faults is as near as the first, and a reload finds it under its heading."""
    page = await watching(person)
    await page.set_viewport_size({"width": 390, "height": 844})
    await unfolded(page)
    async with broken(page, "Flapping"):
        for part in ("#fault-name", "#fault-words", "#heal", "#knock"):
            await expect(page.locator(part)).to_be_in_viewport(ratio=1)
        await page.reload()
        await expect(page.get_by_role("button", name=labelled("Flapping"))).to_have_attribute("aria-pressed", "true")
        await expect(page.get_by_role("button", name="Wrong JSON")).to_have_count(0)
        await page.get_by_text("It comes and goes").click()
        await expect(page.locator("#fault-choices summary").filter(has_text="It comes and goes")).to_contain_text(
            "Flapping"
        )


async def test_on_a_phone_the_page_has_an_end_and_more_when_it_is_asked_for(person: Person) -> None:
    """With all 200 decisions. Who is there comes after what was decided, and a decision that is being read stays."""
    waiting = list(range(200, 0, -1))

    async def many(route: Route) -> None:
        answer = await route.fetch()
        state = await answer.json()
        state["decisions"] = [{**state["decisions"][0], "id": f"{number:030x}"} for number in waiting]
        waiting.clear()
        await route.fulfill(response=answer, json=state)

    page = await watching(person)
    await knocked(page)  # so that there is one to take as a pattern
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.route("**/ops/api/state*", many)
    await page.reload()
    shown = page.locator(".decision:visible")
    more = page.get_by_role("button", name=re.compile(r"^Show more"))
    await expect(shown).to_have_count(10)
    await expect(more).to_have_text("Show more (190)")
    assert await page.evaluate("document.documentElement.scrollHeight") < 4_000
    tops = "(ids) => ids.map((id) => document.getElementById(id).getBoundingClientRect().top)"
    places = await page.evaluate(tops, ["headline", "verdicts-head", "heat", "decisions", "connections"])
    assert places == sorted(places)
    await shown.first.locator("summary").click()
    waiting += range(212, 200, -1)
    await expect(shown).to_have_count(11)
    await expect(shown.last.locator("details")).to_have_attribute("open", "")
    await more.click()
    await expect(shown).to_have_count(50)
    await expect(shown.nth(10).locator("summary")).to_be_focused()


# ------------------------------------------------------------------------------------------------- how it looks


async def test_of_a_door_that_is_gone_nothing_says_that_all_is_well(person: Person) -> None:
    """Whatever is drawn at the first look is right at once, also for who wants no motion: no second look mends it."""
    looks = 0

    async def the_first_alone(route: Route) -> None:
        nonlocal looks
        looks += 1
        await (route.continue_() if looks == 1 else route.abort())

    page = await person.tab("/")
    await page.emulate_media(reduced_motion="reduce")
    await page.route("**/ops/api/state*", the_first_alone)
    await page.goto(person.product.url + "/ops")
    await expect(page.locator("#headline")).to_have_text("Answering.")
    assert await page.evaluate("(({ height, clientHeight }) => height - clientHeight)(strips)") == 0
    await expect(page.locator("#pill")).to_have_text("The door is not answering")
    await expect(page.locator("#headline")).to_have_text("Not known.")
    await expect(page.locator("#because")).to_have_text(re.compile(r"All that stands here is from \d\d:\d\d:\d\d"))
    await page.unroute("**/ops/api/state*")
    await expect(page.locator("#headline")).to_have_text("Answering.")
    await expect(page.locator("#because")).to_be_empty()


async def test_pictures_without_a_decision_say_so(person: Person) -> None:
    async def without(route: Route) -> None:
        answer = await route.fetch()
        state = await answer.json()
        state["latency"]["columns"] = []
        await route.fulfill(response=answer, json=state)

    page = await person.tab("/")
    await page.route("**/ops/api/state*", without)
    await page.goto(person.product.url + "/ops")
    await expect(page.locator("#readout")).to_have_text("No decision in these ten minutes.")


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1360])
async def test_nothing_sticks_out_sideways(person: Person, width: int) -> None:
    page = await watching(person)
    await page.set_viewport_size({"width": width, "height": 800})
    await unfolded(page)
    await knocked(page)
    await page.locator(".decision summary").first.click()
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    for button in await page.get_by_role("button").all():
        box = await button.bounding_box()
        if box is not None:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


async def test_the_pictures_are_drawn_and_said(person: Person) -> None:
    page = await watching(person)
    await knocked(page)
    colours = """(id) => { const { width, height } = document.getElementById(id);
        return new Set(document.getElementById(id).getContext('2d').getImageData(0, 0, width, height).data).size; }"""
    for name in ("heat", "strips"):
        assert await page.evaluate(colours, name) > 4
    await expect(page.get_by_role("img", name=re.compile(r"in the last ten minutes: \d+ decisions"))).to_be_visible()
    await expect(
        page.get_by_role("img", name=re.compile(r"Breaker: closed.*Health: healthy.*Fault: none"))
    ).to_be_visible()


async def test_every_control_has_a_name_and_can_be_reached_by_keyboard(person: Person) -> None:
    page = await watching(person)
    await expect(page.get_by_role("button", name="Silence")).to_be_enabled()
    focused = "(() => { const e = document.activeElement; return e.id || e.innerText.split('\\n')[0]; })()"
    reached = []
    for _ in range(20):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate(focused))
    filters = {"filter-kind", "filter-verdict", "filter-reason", "filter-id"}
    assert {"Silence", "1.5 s late", "knock", "pause"} | filters <= set(reached)
    unnamed = """[...document.querySelectorAll('main button, main input, main select, main canvas, main progress')].filter(
        (node) => node.checkVisibility() && !(node.innerText || node.labels?.length || node.ariaLabel
            || node.getAttribute('aria-labelledby'))).length"""
    assert await page.evaluate(unnamed) == 0


async def test_the_fault_panel_by_keyboard_alone(person: Person) -> None:
    page = await watching(person)
    button = page.get_by_role("button", name=labelled("Drip"))
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_attribute("aria-pressed", "true")
    await expect(button).to_be_focused()
    await expect(page.get_by_role("status").filter(has_text="Broken")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await expect(page.locator("#headline")).to_have_text("Answering.", timeout=10_000)
