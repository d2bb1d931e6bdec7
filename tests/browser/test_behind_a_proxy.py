"""The pages behind `deploy/caddy/Caddyfile`: TLS at the proxy, and a path of its own before ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, expect
from tests.browser.conftest import PASSWORD, running
from tests.proxies import PREFIX, proxy

if TYPE_CHECKING:
    from tests.browser.conftest import Product

pytestmark = pytest.mark.browser


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Product]:
    with running(tmp_path, DOORWARD_TRUSTED_PROXIES="127.0.0.1") as product:
        yield product


async def test_the_chat_and_the_ops_page_work_under_a_path(behind: Product, browser: Browser, tmp_path: Path) -> None:
    behind.post("/auth/register", email="eve@example.com", password=PASSWORD)
    (tmp_path / "caddy").mkdir()
    async with proxy("caddy", behind.url.removeprefix("http://"), tmp_path / "caddy") as caddy:
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        complaints: list[str] = []
        strays: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: strays.append(request.url) if PREFIX not in request.url else None)

        await page.goto(f"{caddy.origin}{PREFIX}")
        await sign_in(page, "eve@example.com", PASSWORD)
        await page.get_by_label("Your message").fill("How is the auth service?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".run .answer")).to_have_count(1)
        await expect(page.get_by_role("button", name="Send")).to_be_visible()
        await page.reload()
        await expect(page.locator(".question")).to_have_text("How is the auth service?")
        assert await page.evaluate("Object.keys(localStorage)") == [f"doorward.session{PREFIX}"]
        await page.get_by_role("button", name="Sign out").click()

        await sign_in(page, "admin@doorward.local", behind.admin_password)
        await page.goto(f"{caddy.origin}{PREFIX}/ops/")
        await expect(page.locator("#decisions li").first).to_be_visible()
        assert page.url == f"{caddy.origin}{PREFIX}/ops"
        await page.get_by_role("link", name="Chat", exact=True).click()
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        await context.close()
    assert complaints == []
    assert strays == []


async def sign_in(page: Page, email: str, password: str) -> None:
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
