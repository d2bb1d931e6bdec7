"""The example of a front end, as its page tells to run it: behind Caddy, on one origin with Doorward."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, expect
from tests.browser.conftest import PASSWORD, free_port

from doorward.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.browser.conftest import Product

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[2] / "examples" / "front_end"
CADDY = Path(sys.executable).parent / "caddy"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def has_begun_or_ended(process: subprocess.Popen[bytes], url: str) -> bool:
    return process.poll() is not None or answers(url)


@pytest.fixture
async def front_end(product: Product) -> AsyncIterator[str]:
    """Its port is free when it is looked for; if it is another's by then, Caddy ends, and is started on the next."""
    for _ in range(3):
        address = f"127.0.0.1:{free_port()}"
        environment = {"LISTEN": address, "DOORWARD": product.url.removeprefix("http://"), "HOME": str(product.folder)}
        process = subprocess.Popen([CADDY, "run"], cwd=EXAMPLE, env=environment, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            url = f"http://{address}/"
            await eventually(partial(has_begun_or_ended, process, url), within_seconds=60, what="Caddy")
            if process.poll() is None:
                yield url
                return
        finally:
            process.terminate()
            process.wait(20)
    pytest.fail("Caddy does not start")


async def test_it_signs_in_asks_and_goes_on_after_a_reload(front_end: str, account: str, browser: Browser) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(front_end)
    await page.get_by_label("Email").fill(account)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#state")).to_have_text("open")
    await page.get_by_label("Your question").fill("How is the auth service?")
    await page.keyboard.press("Enter")
    said = page.locator("#said p")
    await expect(said.first).to_have_text("How is the auth service?")
    await expect(said).to_have_count(2)
    await expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    answer = await said.last.inner_text()
    assert len(answer) > 20
    await page.reload()
    await expect(said).to_have_text(["How is the auth service?", answer])
    await context.close()
    assert complaints == []
