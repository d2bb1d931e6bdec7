"""Pictures of the page in every state that matters, for eyes: `python -m tests.browser.screenshots FOLDER [--only NAME]`.

Each on a desk and on a phone, in light and in dark. It needs Chromium and takes a minute or two.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from itertools import product as every
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect
from tests.browser.conftest import FLAGS, NOT_RUN, PASSWORD, Person, Product, find_chromium, running
from tests.browser.puppet import Puppet, puppet_agent
from tests.browser.talk import answer, ask, over, unseen_token

SIZES = {"wide": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
NUMBERS = count(1)

SHORT = """The door **never hangs**: each handshake gets its answer before one deadline, whatever the auth service does.

- *Yes* and *no* come from the auth service, or from a proof that is good for a while.
- *Could not ask* is a third answer. It signs nobody out.
"""
WHOLE = """## How long a handshake takes

With a token that the door knows already, it takes about a millisecond. Here is what each step takes:

| step | what happens | microseconds |
|---|---|--:|
| `extract` | the one credential | 1.9 |
| `local` | signature and claims | 50.5 |
| `cache` | revocations and verdicts | 0.6 |

In your own application it is one line:

```python
from doorward import Doorward, Settings

app = Doorward(app, Settings(auth={"url": "https://auth.internal"}))  # every WebSocket route is guarded, also those that come later
```

1. Start the auth service.
2. Start the application.
3. Read [the five-minute tutorial](https://example.org/tutorial).

> Whoever was refused once stays out, over outages and restarts.
"""
PIECE = WHOLE[: WHOLE.index('url": "https')]
TITLES = (
    "How long does a handshake take?",
    "Plan for the move to the new auth service, with all that has to be done",
    "Wer ist gerade angemeldet?",
    "متى تنتهي صلاحية الرمز؟",
    "Stats",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen",
)


@dataclass
class Stage:
    """What a picture is taken of: the product with the warden, the same with an agent on strings, and one person."""

    warden: Product
    strings: Product
    puppet: Puppet
    browser: Browser
    size: str
    scheme: str

    @asynccontextmanager
    async def person(self, product: Product) -> AsyncIterator[Person]:
        """Somebody new."""
        email = f"ada{next(NUMBERS)}@example.com"
        product.post("/auth/register", email=email, password=PASSWORD)
        width, height = SIZES[self.size]
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if self.scheme == "dark" else "light",
            device_scale_factor=2 if self.size == "phone" else 1,
            has_touch=self.size == "phone",
            is_mobile=self.size == "phone",
            reduced_motion="reduce",
        )
        try:
            yield Person(product, context, email)
        finally:
            await context.close()

    async def finished(self, page: Page, question: str, text: str) -> None:
        await ask(page, question)
        (await self.puppet.asked()).answer(text)
        await expect(page.locator(".run-foot button").last).to_be_visible()
        await over(page)


Take = Callable[[Page], Awaitable[None]]
Scene = Callable[[Stage, Take], Awaitable[None]]


async def sign_in(stage: Stage, take: Take) -> None:
    async with stage.person(stage.warden) as person:
        page = await person.tab()
        await expect(page.get_by_role("button", name="Create one")).to_be_visible()
        await take(page)


async def sign_in_refused(stage: Stage, take: Take) -> None:
    async with stage.person(stage.warden) as person:
        page = await person.tab()
        await page.get_by_label("Email").fill(person.email)
        await page.get_by_label("Password").fill("not the right one")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).not_to_be_empty()
        await take(page)


async def empty(stage: Stage, take: Take) -> None:
    async with stage.person(stage.warden) as person:
        page = await person.tab()
        await page.get_by_label("Email").fill("admin@doorward.local")
        await page.get_by_label("Password").fill(stage.warden.admin_password)
        await page.keyboard.press("Enter")
        await expect(page.locator("#pill")).to_have_text("Connected")
        await expect(page.get_by_role("button", name="Run a drill")).to_be_attached()
        await take(page)


async def warden(stage: Stage, take: Take) -> None:
    async with stage.person(stage.warden) as person:
        page = await person.signed_in()
        await ask(page, "What did you decide in the last minutes?")
        await expect(page.locator(".run-foot button").last).to_be_visible()
        await over(page)
        await page.locator("summary").first.click()
        await take(page)


async def streaming(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await ask(page, "How long does a handshake take?")
        run = await stage.puppet.asked()
        run.think("The person asks for numbers. I look them up first.")
        run.emit("TOOL_CALL_START", toolCallId="c", toolCallName="read_benchmarks")
        run.emit("TOOL_CALL_END", toolCallId="c")
        run.emit("TOOL_CALL_RESULT", messageId="r", toolCallId="c", content='{"extract": 1.9, "local": 50.5}')
        run.begin(PIECE)
        await expect(answer(page).locator("pre")).to_be_visible()
        await take(page)
        run.end()


async def thinking(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await ask(page, "How long does a handshake take?")
        run = await stage.puppet.asked()
        run.emit("REASONING_START", messageId="p")
        run.emit("REASONING_MESSAGE_START", messageId="p", role="reasoning")
        thought = (
            "The person asks for numbers.\nI look them up first, then I put them into a table with one line a step."
        )
        run.emit("REASONING_MESSAGE_CONTENT", messageId="p", delta=thought)
        await expect(page.locator(".fold-preview")).not_to_be_empty()
        await take(page)
        run.finish()


async def finished(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await stage.finished(page, "What is this door about?", SHORT)
        await stage.finished(page, "How long does a handshake take, step by step?", WHOLE)
        await page.get_by_role("button", name="Copy code").scroll_into_view_if_needed()
        await take(page)


async def failed(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await ask(page, "What is this door about?")
        run = await stage.puppet.asked()
        run.begin(SHORT)
        await expect(answer(page).locator("li")).to_have_count(2)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator(".stopped")).to_be_visible()
        await ask(page, "And how long does a handshake take?")
        (await stage.puppet.asked()).fail()
        await expect(page.locator(".failed")).to_be_visible()
        await over(page)
        await take(page)


async def outage(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await stage.finished(page, "What is this door about?", SHORT)
        await unseen_token(person, page)
        with stage.strings.frozen():
            await page.reload()
            await expect(page.locator("#pill")).to_have_text("Provisional")
            await over(page)
            await take(page)
        await expect(page.locator("#pill")).to_have_text("Connected")


async def offline(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await stage.finished(page, "What is this door about?", SHORT)
        with stage.strings.frozen():
            await page.evaluate(
                "const held = JSON.parse(localStorage['doorward.session']); held.expiresAt = 0;"
                "localStorage['doorward.session'] = JSON.stringify(held)"
            )
            await page.reload()
            await expect(page.locator("#banner")).to_contain_text("You are still signed in.")
            await take(page)
        await expect(page.locator("#pill")).to_have_text("Connected", timeout=20_000)


async def conversations(stage: Stage, take: Take) -> None:
    """The list: beside the conversation on a desk, over it on a phone."""
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        for title in TITLES:
            await stage.finished(page, title, SHORT)
            await page.get_by_role("button", name="New chat").locator("visible=true").first.click()
        if stage.size == "phone":
            await page.get_by_role("button", name="Conversations", exact=True).click()
        await page.get_by_role("link", name=TITLES[1]).click()
        await expect(page.locator(".question")).to_have_text([TITLES[1]])
        await over(page)
        if stage.size == "phone":
            await page.get_by_role("button", name="Conversations", exact=True).click()
            await expect(page.locator("#side")).to_be_in_viewport(ratio=1)
        else:
            await page.get_by_role("link", name=TITLES[2]).hover()
        await take(page)


async def deleting(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await stage.finished(page, TITLES[1], SHORT)
        if stage.size == "phone":
            await page.get_by_role("button", name="Conversations", exact=True).click()
        else:
            await page.locator(".thread").hover()
        await page.get_by_role("button", name=f"Delete {TITLES[1]}").first.click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await take(page)


async def keys(stage: Stage, take: Take) -> None:
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await page.evaluate("document.querySelector('#help').click()")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await take(page)


async def writing(stage: Stage, take: Take) -> None:
    """A message that is too long, and one that did not reach the server."""
    async with stage.person(stage.strings) as person:
        page = await person.signed_in()
        await stage.finished(
            page, "مرحبا! كيف تعمل هذه البوابة؟", "يعمل الباب **دائمًا**.\n\n- نعم\n- لا\n\nSee `doorward up`."
        )
        await stage.finished(
            page, "Supercalifragilisticexpialidocious" * 6, "`" + "x" * 160 + "` and " + "longword" * 30
        )
        await page.get_by_label("Your message").fill("Was ist das für eine Tür? " * 650)
        await take(page)


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        sign_in, sign_in_refused, empty, warden, streaming, thinking, finished, failed,
        outage, offline, conversations, deleting, keys, writing,
    )
}  # fmt: skip


async def take_all(folder: Path, names: list[str], products: tuple[Product, Product], puppet: Puppet) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        for name, size, scheme in every(names, SIZES, SCHEMES):
            file = folder / f"{name}-{size}-{scheme}.png"

            async def take(page: Page, file: Path = file) -> None:
                await page.screenshot(path=file)

            await SCENES[name](Stage(*products, puppet, browser, size, scheme), take)
            print(file, flush=True)
        await browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=list(SCENES), help="just this one; may be repeated")
    options = parser.parse_args()
    if find_chromium() is None:
        print(NOT_RUN, file=sys.stderr)
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doorward-pictures-")))
        for name in ("warden", "strings"):
            (here / name).mkdir()
        puppet = stack.enter_context(puppet_agent())
        warden_product = stack.enter_context(running(here / "warden"))
        strings = stack.enter_context(
            running(here / "strings", DOORWARD_CHAT__AGENT="http", DOORWARD_CHAT__AGENT_URL=puppet.url)
        )
        asyncio.run(take_all(options.folder, options.only or list(SCENES), (warden_product, strings), puppet))
    return 0


if __name__ == "__main__":
    sys.exit(main())
