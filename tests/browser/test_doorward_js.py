"""doorward.js in Chromium, on pages that have nothing else, behind a real door: what the client's README promises."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route
from tests.browser.conftest import PASSWORD

from doorward.asgi.types import Receive, Scope, Send
from doorward.core.verdict import TABLE, close_code, close_reason
from doorward.testing import Fault, FaultProxy, eventually
from doorward.testing.guarded_app import GuardedApp

if TYPE_CHECKING:
    from tests.browser.conftest import Product

pytestmark = pytest.mark.browser

CLIENT = Path(__file__).parents[2] / "clients" / "js"
BOUND_MS = 20_000
MINUTES_MS = 300_000
STYLES: tuple[Literal["iana", "http"], ...] = ("iana", "http")


# ------------------------------------------------------------------------------------------------ a session that lasts

BEGIN = """async (minutes) => {
  const { connect, createSession, localStore } = await import("/static/doorward.js");
  Object.assign(window, { chance: 1, states: [], standings: [], shown: [] });
  window.WebSocket = class extends WebSocket {
    send(frame) {
      if (JSON.parse(frame).type === "auth.refresh") shown.push(JSON.parse(frame).token);
      super.send(frame);
    }
  };
  window.session = createSession({ store: localStore("lasting") });
  window.openLine = (getToken = session.getToken) => {
    window.line = connect({
      url: "/ws", getToken, refresh: session.refresh, watchToken: session.watchToken,
      random: () => chance, backoffBaseMs: minutes, backoffCapMs: minutes,
      onState: (state) => states.push(state), onResume: (standing) => standings.push(standing),
    });
  };
}"""
"""By `chance` the next attempt is minutes away, or at once where something says that one is worth while."""


@dataclass
class Tab:
    page: Page
    proxy: FaultProxy

    async def does(self, program: str, argument: Any = None) -> Any:
        return await self.page.evaluate(program, argument)

    async def until(self, condition: str, argument: Any = None) -> None:
        await self.page.wait_for_function(condition, arg=argument, timeout=BOUND_MS)

    async def becomes(self, name: str) -> None:
        await self.until("name => line.state.name === name", name)

    async def broken_off(self) -> None:
        """The line is cut and mended, and the client, which would try again in minutes, does not know that it is mended."""
        self.proxy.fault = Fault.REFUSE
        await self.becomes("waiting")
        self.proxy.fault = Fault.NONE
        assert await self.does("line.state.retryInMs") == MINUTES_MS
        await self.does("chance = 0")

    async def looks(self, visibility: str) -> str:
        """The state right after a person left this tab, or came back to it. Headless Chromium shows every tab, so we say it."""
        name: str = await self.does(
            """visibility => {
              Object.defineProperty(document, "visibilityState", { value: visibility, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
              return line.state.retryInMs === undefined ? line.state.name : `${line.state.name} ${line.state.retryInMs}`;
            }""",
            visibility,
        )
        return name


class Profile:
    """A browser profile with one session, as many tabs as it takes, and a line that can be cut."""

    def __init__(self, context: BrowserContext, proxy: FaultProxy) -> None:
        self.context = context
        self.proxy = proxy

    async def tab(self) -> Tab:
        page = await self.context.new_page()
        await page.goto(f"http://{self.proxy.host}:{self.proxy.port}/healthz")  # a page with nothing on it
        tab = Tab(page, self.proxy)
        await tab.does(BEGIN, MINUTES_MS)
        return tab

    async def open_tab(self) -> Tab:
        tab = await self.tab()
        await tab.does("openLine()")
        await tab.becomes("open")
        return tab


@pytest_asyncio.fixture(loop_scope="session")
async def profile(product: Product, account: str, browser: Browser) -> AsyncIterator[Profile]:
    upstream = urlsplit(product.url)
    assert upstream.hostname
    assert upstream.port
    async with FaultProxy(upstream.hostname, upstream.port) as proxy:
        context = await browser.new_context()
        profile = Profile(context, proxy)
        tab = await profile.tab()
        await tab.does("credentials => session.signIn(credentials)", {"email": account, "password": PASSWORD})
        await tab.page.close()
        yield profile
        await context.close()


async def test_who_comes_back_to_a_tab_finds_it_connecting_at_once(profile: Profile) -> None:
    tab = await profile.open_tab()
    await tab.broken_off()
    assert await tab.looks("hidden") == f"waiting {MINUTES_MS}"
    assert await tab.looks("visible") == "waiting 0"
    await tab.becomes("open")


async def test_a_device_that_is_online_again_connects_at_once(profile: Profile) -> None:
    tab = await profile.open_tab()
    await tab.broken_off()
    await profile.context.set_offline(True)
    await tab.until("line.state.reason?.code === 'OFFLINE'")
    await profile.context.set_offline(False)
    await tab.becomes("open")


async def test_a_thread_goes_on_where_it_stood_before_the_break(profile: Profile) -> None:
    tab = await profile.open_tab()
    thread = await tab.does("(async () => { const id = `t-${Date.now()}`; await line.subscribe(id); return id; })()")
    await tab.does("thread => line.startRun(thread, 'How is the auth service?')", thread)
    await tab.until("thread => line.position(thread) !== null", thread)
    await tab.broken_off()
    place = await tab.does("thread => line.position(thread)", thread)
    await tab.does("line.retryNow()")
    await tab.until("standings.length === 2")
    again = (await tab.does("standings"))[1]
    assert {name: again[name] for name in ("threadId", "resumed", "epoch", "afterSeq")} == {
        "threadId": thread,
        "resumed": True,
        **place,
    }


async def test_a_token_is_renewed_on_the_open_socket_before_it_ends(profile: Profile) -> None:
    tab = await profile.tab()
    await tab.does("openLine(() => ({ ...session.getToken(), expiresAt: Date.now() + 1500 }))")
    await tab.until("shown.length === 1")
    assert await tab.does("shown[0] === session.getToken().token")
    assert await tab.does("states.filter(({ name }) => name === 'connecting').length") == 1


async def test_a_token_that_is_refused_is_refreshed_once_and_nobody_notices(profile: Profile) -> None:
    tab = await profile.tab()
    await tab.does("openLine(() => states.length > 1 ? session.getToken() : session.getToken().token.slice(0, -8))")
    await tab.becomes("open")
    assert await tab.does("states.map(({ name }) => name)") == ["connecting", "connecting", "open"]


async def test_one_tab_refreshes_for_all_and_each_shows_the_new_token_to_the_door(profile: Profile) -> None:
    let_go = asyncio.Event()
    asked: list[str] = []

    async def held(route: Route) -> None:
        asked.append(route.request.url)
        await let_go.wait()
        await route.continue_()

    tabs = [await profile.open_tab(), await profile.open_tab()]
    await profile.context.route("**/auth/refresh", held)
    refresh = "(async () => (await session.refresh({ stale: session.getToken().token })).token)()"
    refreshing = [asyncio.ensure_future(tabs[0].does(refresh))]
    await eventually(lambda: asked, within_seconds=BOUND_MS / 1000, what="the first tab asks")
    refreshing.append(asyncio.ensure_future(tabs[1].does(refresh)))
    await tabs[1].until("async () => (await navigator.locks.query()).pending.length > 0")
    assert len(asked) == 1, "the second tab waits for the first"
    let_go.set()
    first, second = await asyncio.gather(*refreshing)
    assert first == second
    for tab in tabs:
        await tab.until("token => shown.includes(token)", first)
        assert await tab.does("line.state.name") == "open"


async def test_signing_out_in_one_tab_ends_the_others(profile: Profile) -> None:
    tabs = [await profile.open_tab(), await profile.open_tab()]
    assert await tabs[0].does("session.signOut()") is True
    for tab in tabs:
        await tab.becomes("signed_out")
        assert await tab.does("[line.state.reason.code, session.signedIn()]") == ["SIGNED_OUT", False]


async def test_who_signs_in_as_somebody_else_in_one_tab_is_that_person_in_the_others(
    profile: Profile, product: Product
) -> None:
    tabs = [await profile.open_tab(), await profile.tab()]
    before = await tabs[0].does("line.door.userId")
    grace = {"email": "grace@example.com", "password": PASSWORD}
    product.post("/auth/register", **grace)
    somebody_else = (await tabs[1].does("credentials => session.signIn(credentials)", grace))["user_id"]
    assert somebody_else != before
    await tabs[0].until("somebody => line.state.name === 'open' && line.door.userId === somebody", somebody_else)


async def test_a_session_that_was_ended_elsewhere_leads_to_the_sign_in_page(profile: Profile, product: Product) -> None:
    tab = await profile.open_tab()
    tokens = await tab.does("JSON.parse(localStorage.getItem('lasting'))")
    product.post("/auth/logout", refresh_token=tokens["refreshToken"])
    await tab.becomes("signed_out")
    assert await tab.does("[line.state.reason.code, line.state.reason.closeCode]") == ["TOKEN_REVOKED", 3000]


# ------------------------------------------------------------------------------------------------ what a close leads to

BARE = """<!doctype html><title>A bare page</title><script type="module">
import { connect, readReason } from "/doorward.js";
window.WebSocket = class extends WebSocket {
  constructor(...how) {
    super(...how);
    this.addEventListener("close", ({ code, reason }) => { window.ending = { number: code, ...readReason(reason) }; });
  }
};
/** What comes of connecting to `url` with `token`: the close, and what the client made of it: a refresh, or a state. */
window.comesOf = ([url, token]) => new Promise((resolve) => {
  const line = window.line = connect({
    url, getToken: () => token, random: () => 0,
    refresh: () => { resolve({ ...ending, name: "refresh" }); return new Promise(() => {}); },
    onState: ({ name, retryInMs }) => {
      if (name === "waiting" || name === "stopped") resolve({ ...ending, name, retryInMs });
    },
  });
}).finally(() => line.close());
window.ready = true;
</script>"""


async def endings(scope: Scope, receive: Receive, send: Send) -> None:
    """The bare page and the client; behind the door a socket that ends as its path says: `/ends/<close code>/<reason>`."""
    if scope["type"] == "lifespan":
        raise RuntimeError("this app has no lifespan")
    if scope["type"] == "http":
        is_client = scope["path"] == "/doorward.js"
        content, kind = ((CLIENT / "doorward.js").read_text(), "javascript") if is_client else (BARE, "html")
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", f"text/{kind}".encode())]}
        )
        await send({"type": "http.response.body", "body": content.encode()})
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "doorward.v1"})
    if ends := re.fullmatch(r"/ends/(\d+)/(.*)", scope["path"]):
        await send({"type": "websocket.close", "code": int(ends[1]), "reason": ends[2]})
    else:
        while (await receive())["type"] != "websocket.disconnect":
            pass


@pytest.fixture
def guarded() -> Iterator[GuardedApp]:
    routes = [
        {"path": "/admin", "required_scopes": ["admin"]},
        {"path": "/strict", "allow_degraded": False},
    ]
    with GuardedApp(endings, {"routes": routes}) as guarded:
        yield guarded


@pytest_asyncio.fixture(loop_scope="session")
async def page(guarded: GuardedApp, browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(BOUND_MS)
    await page.goto(guarded.http_url)
    await page.wait_for_function("window.ready")
    yield page
    await context.close()


def promised() -> dict[str, str]:
    """Of each refusal that a browser can read, what the README says that the client does then: told by its first words."""
    rows = [line.split("|") for line in (CLIENT / "README.md").read_text().splitlines() if line.startswith("|")]
    said = {word: cells[3].strip() for cells in rows for word in re.findall(r"`([A-Z_]+)`", cells[2])}
    named = {"one refresh": "refresh", "`stopped`": "stopped", "waits and retries": "waiting"}
    return {
        row.code.value: next(name for words, name in named.items() if said[row.code].startswith(words))
        for row in TABLE
        if row.close is not None
    }


Came = Callable[[str, str], Awaitable[dict[str, Any]]]


@pytest.fixture
def comes_of(page: Page) -> Came:
    async def came(path: str, token: str) -> dict[str, Any]:
        content: dict[str, Any] = await page.evaluate("where => comesOf(where)", [path, token])
        assert content.get("retryInMs") in {None, content["retryAfterMs"] or 0}, "by chance it would come at once"
        return content

    return came


async def test_each_refusal_leads_to_what_the_readme_says(guarded: GuardedApp, page: Page, comes_of: Came) -> None:
    """By the door where a page can make it refuse so. The rest is said by the app, in the door's words."""
    token, rejected, zoe = guarded.token(), guarded.token("eve"), guarded.token("zoe")
    guarded.reject(rejected)
    ended = asyncio.ensure_future(comes_of("/ws", zoe))
    await page.wait_for_function("window.line?.state.name === 'open'")
    guarded.revoke("zoe")
    came = {
        "TOKEN_REVOKED": await ended,
        "TOKEN_INVALID": await comes_of("/ws", guarded.forged()),
        "TOKEN_EXPIRED": await comes_of("/ws", guarded.token(ttl_seconds=-3600)),
        "TOKEN_REJECTED": await comes_of("/ws", rejected),
        "BAD_CREDENTIAL_FORMAT": await comes_of("/ws", "no token at all"),
        "FORBIDDEN": await comes_of("/admin", token),
    }
    for row in TABLE:
        if row.close is not None and row.code not in came and row.code not in {"SERVICE_UNAVAILABLE", "RESTARTING"}:
            reason = close_reason(row.code, "d1", 1500 if row.retry_seconds else None)
            came[row.code] = await comes_of(f"/ends/{row.close}/{reason}", token)
    guarded.call(lambda: setattr(guarded.proxy, "fault", Fault.REFUSE))
    came["SERVICE_UNAVAILABLE"] = await comes_of("/strict", guarded.token("bob"))
    guarded.run(guarded.door.drain(spread_seconds=0))
    came["RESTARTING"] = await comes_of("/ws", token)
    assert {word: one["code"] for word, one in came.items()} == {word: word for word in came}
    assert {row.code: came[row.code]["number"] for row in TABLE if row.close} == {
        row.code: row.close for row in TABLE if row.close
    }
    assert {word: one["name"] for word, one in came.items()} == promised()
    assert came["SERVICE_UNAVAILABLE"]["retryInMs"] >= 1000


async def test_a_number_alone_leads_there_too(guarded: GuardedApp, comes_of: Came) -> None:
    """In both styles of close codes, where a proxy has lost the reason."""
    token = guarded.token()
    expected = {close_code(row, style=style): promised()[row.code] for row in TABLE if row.close for style in STYLES}
    assert {number: (await comes_of(f"/ends/{number}/", token))["name"] for number in expected} == expected


async def test_a_refusal_that_a_browser_cannot_read_looks_like_a_broken_line(
    guarded: GuardedApp, comes_of: Came
) -> None:
    elsewhere = guarded.url.replace("127.0.0.1", "localhost")
    came = await comes_of(f"{elsewhere}/ws", guarded.token())
    assert (came["number"], came["name"]) == (1006, "waiting")
