"""Tokens that end during an answer: by their time, in an outage, and because somebody ended them. The auth service is real."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, WebSocket, expect
from tests.browser.conftest import ADA, PASSWORD, Person, Product, running
from tests.browser.talk import answer, asked, same_thread, stored

from doorward.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.browser.puppet import Puppet

pytestmark = pytest.mark.browser

LIFE_SECONDS = 10
NOTICE_SECONDS = 6
"""Before the end; sooner than the page would renew its token by itself, which is after 70 % of its life."""

MAY_STAY = re.compile(r"Your sign-in has run out while the auth service is not answering\. You may stay until .+\.")
ENDED = "You were signed out because your session was ended, here or on another device."


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory, puppet: Puppet) -> Iterator[Product]:
    """The product with tokens that live for seconds."""
    folder = tmp_path_factory.mktemp("hurried")
    (folder / "doorward.toml").write_text(
        f"[authd]\naccess_token_seconds = {LIFE_SECONDS}\n[session]\nexpiring_notice_seconds = {NOTICE_SECONDS}\n"
    )
    with running(folder, DOORWARD_CHAT__AGENT="http", DOORWARD_CHAT__AGENT_URL=puppet.url) as product:
        product.post("/auth/register", email=ADA, password=PASSWORD)
        yield product
        puppet.let_go()


@pytest_asyncio.fixture(loop_scope="session")
async def eve(hurried: Product, browser: Browser) -> AsyncIterator[Person]:
    context = await browser.new_context()
    somebody = Person(hurried, context, ADA)
    yield somebody
    await context.close()
    assert somebody.complaints == []


class Line:
    """What the door and a page tell each other about tokens, over as many sockets as it takes."""

    def __init__(self, page: Page) -> None:
        self.sockets = 0
        self.notices: list[str] = []
        self.renewed = 0
        self._asked: set[str] = set()
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        self.sockets += 1
        socket.on("framesent", lambda frame: self._sent(json.loads(frame)))
        socket.on("framereceived", lambda frame: self._received(json.loads(frame)))

    def _sent(self, message: dict[str, Any]) -> None:
        if message.get("type") == "auth.refresh":
            self._asked.add(message["id"])

    def _received(self, message: dict[str, Any]) -> None:
        self.notices += [message["notice"]] if "notice" in message else []
        self.renewed += message.get("reply_to") in self._asked and message.get("ok") is True


async def signed_in(person: Person) -> tuple[Page, Line]:
    page = await person.tab()
    line = Line(page)
    await page.get_by_label("Email").fill(person.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("#pill")).to_have_text("Connected")
    return page, line


async def ends_well(page: Page, puppet_says: Any) -> None:
    puppet_says.say(" there was a door.")
    await expect(answer(page)).to_have_text("Once upon a time there was a door.")
    puppet_says.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def session_of(page: Page) -> dict[str, Any]:
    """What the access token says."""
    tokens = await stored(page)
    assert tokens is not None
    body: str = tokens["accessToken"].split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=="))
    return claims


async def test_a_token_that_runs_out_during_a_run_is_renewed_on_the_open_socket(eve: Person, puppet: Puppet) -> None:
    page, line = await signed_in(eve)
    run = await asked(page, puppet)
    first = (await session_of(page))["exp"]
    within = 3 * LIFE_SECONDS
    await eventually(
        lambda: line.renewed >= 3, within_seconds=within, what="a third renewal, past the first token's end"
    )
    assert (await session_of(page))["exp"] >= first + LIFE_SECONDS
    assert line.notices.count("auth.expiring") >= 3, "the door says when it is time"
    await ends_well(page, run)
    await expect(page.locator("#pill")).to_have_text("Connected")
    assert line.sockets == 1, "the socket was kept"


async def test_a_token_that_runs_out_in_an_outage_signs_nobody_out(eve: Person, puppet: Puppet) -> None:
    page, line = await signed_in(eve)
    run = await asked(page, puppet)
    with eve.product.frozen():
        await expect(page.locator("#banner")).to_have_text(MAY_STAY, timeout=3_000 * LIFE_SECONDS)
        await expect(page.locator("#pill")).to_have_text("Provisional")
        assert line.notices[-1] == "auth.grace"
        run.say(" it went on:")
        await expect(answer(page)).to_have_text("Once upon a time it went on:")
    await expect(page.locator("#banner")).to_have_text("All is normal again.", timeout=20_000)
    await expect(page.locator("#pill")).to_have_text("Connected")
    run.say(" the end.")
    await expect(answer(page)).to_have_text("Once upon a time it went on: the end.")
    run.end()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert line.sockets == 1, "the socket was kept"


# ------------------------------------------------------------------------------------------------- ended by somebody


async def is_signed_out(page: Page) -> None:
    await expect(page.get_by_role("alert")).to_have_text(ENDED)
    await expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    assert await page.locator("#transcript").inner_text() == "", "nothing of the conversation is left on the page"
    assert await stored(page) is None


async def test_an_admin_ends_the_session_during_a_run(ada: Person, browser: Browser, puppet: Puppet) -> None:
    """This one ends with what was started on it; another session of the same person goes on."""
    page = await ada.signed_in()
    elsewhere = Person(ada.product, await browser.new_context(), ada.email)
    other = await elsewhere.signed_in()
    run = await asked(page, puppet)
    ada.product.revoke(session_id=(await session_of(page))["sid"])
    await is_signed_out(page)
    await eventually(run.cut, within_seconds=10, what="the agent's being told")
    await other.reload()
    await expect(other.locator("#pill")).to_have_text("Connected")
    await elsewhere.context.close()
    assert elsewhere.complaints == []


async def test_an_admin_signs_somebody_out_everywhere_during_a_run(
    stage: Product, browser: Browser, puppet: Puppet
) -> None:
    """Two browsers, three tabs, one run: all of it is over."""
    email = "leaving@example.com"
    stage.post("/auth/register", email=email, password=PASSWORD)
    people = [Person(stage, await browser.new_context(), email) for _ in range(2)]
    first, other = [await person.signed_in() for person in people]
    run = await asked(first, puppet)
    second = await same_thread(people[0], first)
    await expect(answer(second)).to_have_text("Once upon a time")
    stage.revoke(user_id=(await session_of(first))["sub"])
    for tab in (first, second, other):
        await is_signed_out(tab)
    await eventually(run.cut, within_seconds=10, what="the agent's being told")
    for person in people:
        await person.context.close()
        assert person.complaints == []


async def test_signing_out_from_another_browser_leaves_this_one_alone(
    ada: Person, browser: Browser, puppet: Puppet
) -> None:
    page = await ada.signed_in()
    run = await asked(page, puppet)
    elsewhere = Person(ada.product, await browser.new_context(), ada.email)
    other = await elsewhere.signed_in()
    await other.get_by_role("button", name="Sign out").click()
    await expect(other.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    await ends_well(page, run)
    await expect(page.locator("#pill")).to_have_text("Connected")
    await elsewhere.context.close()
    assert elsewhere.complaints == []
