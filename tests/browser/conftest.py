"""Chromium and the whole product: what the browser tests stand on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright
from playwright.async_api import TimeoutError as PlaywrightTimeoutError
from pytest_asyncio import is_async_test
from tests.browser.puppet import Puppet, puppet_agent

from doorward.cli.up import ADMIN

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60.0
STOP_SECONDS = 40.0
PASSWORD = "a long enough passphrase"
ADA = "ada@example.com"
NOT_RUN = "NOT RUN: there is no Chromium here (tools/install-chromium, or CHROMIUM_PATH=<path>)"


def find_chromium() -> str | None:
    if named := os.environ.get("CHROMIUM_PATH"):
        return named if Path(named).is_file() else None
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for test in filter(is_async_test, ours):
        test.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    if not ours or find_chromium():
        return
    if os.environ.get("CI"):
        pytest.exit(f"{NOT_RUN}; CI must run the browser tests", returncode=1)
    for item in ours:
        item.add_marker(pytest.mark.skip(reason=NOT_RUN))
    config.stash[_MISSING] = len(ours)


_MISSING = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if missing := config.stash.get(_MISSING, 0):
        terminalreporter.section("browser tests did not run", sep="!", red=True, bold=True)
        terminalreporter.line(f"{missing} browser tests: {NOT_RUN}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Product:
    """`doorward up`, running. `url` ends without a slash."""

    url: str
    sign_in_link: str
    auth_pid: int
    ops_link: str
    admin_password: str
    folder: Path
    auth_url: str
    process: subprocess.Popen[bytes]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The auth service stops answering, as with the printed `kill -STOP`."""
        os.kill(self.auth_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.auth_pid, signal.SIGCONT)

    def last_words(self, lines: int = 20) -> str:
        """The end of both logs, for a test that fails."""
        logs = [self.folder / ".doorward" / name for name in ("doorward.log", "authd.log")]
        return "\n".join(line for log in logs for line in log.read_text().splitlines()[-lines:])

    def kill(self) -> None:
        """`kill -9` of the server. The auth service dies with it."""
        self.process.kill()
        self.process.wait(5)

    def post(self, path: str, **content: str) -> dict[str, str]:
        """Ask the product itself, for what a test needs to have happened elsewhere."""
        return _posted(self.url + path, content, {})

    def revoke(self, **what: str) -> None:
        """An admin ends a session, or everything of a user. That is between them and the auth service."""
        admin = self.post("/auth/login", email=ADMIN, password=self.admin_password)
        _posted(self.auth_url + "/auth/revoke", what, {"authorization": f"Bearer {admin['access_token']}"})


def _posted(url: str, content: dict[str, str], headers: dict[str, str]) -> dict[str, str]:
    body, headers = json.dumps(content).encode(), {"content-type": "application/json"} | headers
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST"), timeout=10) as response:
        answer: dict[str, str] = json.loads(response.read() or b"{}")
        return answer


def _wait_for_welcome(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = output.read_text()
        if "tail -f" in text:
            return text
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail(f"`doorward up` did not start:\n{output.read_text()}")


@contextmanager
def running(folder: Path, *, port: int = 0, auth_port: int | None = None, **settings: str) -> Iterator[Product]:
    """`doorward up` in a folder of its own, with these settings besides, until the block ends."""
    output = folder / "output"
    auth_port = auth_port or free_port()
    command = [sys.executable, "-m", "doorward", "up", "--port", str(port), "--auth-port", str(auth_port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD_")}
    environment = inherited | settings | {"COLUMNS": "200"}
    with output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, env=environment)
    try:
        text = _wait_for_welcome(process, output)
        link = re.search(r"(http://127\.0\.0\.1:\d+)/#signin=[\w.~-]+", text)
        freeze = re.search(r"kill -STOP (\d+)", text)
        ops = re.search(r"http://\S+/ops#change=[\w-]+", text)
        admin = re.search(rf"{re.escape(ADMIN)} +(\S+)", text)
        assert link
        assert freeze
        assert ops
        auth_url = f"http://127.0.0.1:{auth_port}"
        password = admin[1] if admin else ""  # shown at the first start
        yield Product(link[1], link[0], int(freeze[1]), ops[0], password, folder, auth_url, process)
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait(5)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("up")) as product:
        yield product


@dataclass
class Person:
    """Somebody with an account, in a browser profile of their own."""

    product: Product
    context: BrowserContext
    email: str
    password: str = PASSWORD
    complaints: list[str] = field(default_factory=list)

    async def tab(self, path: str = "/") -> Page:
        page = await self.context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(self.product.url + path)
        return page

    async def signed_in(self) -> Page:
        page = await self.tab()
        await page.get_by_label("Email").fill(self.email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await self.connected(page)
        return page

    async def connected(self, page: Page, *, within_seconds: float = 10.0) -> None:
        try:
            await page.get_by_text("Connected", exact=True).wait_for(timeout=within_seconds * 1000)
        except PlaywrightTimeoutError:
            shown = await page.locator("body").inner_text()
            pytest.fail(f"not connected; the page says:\n{shown}\nand the logs:\n{self.product.last_words()}")

    def _console(self, message: ConsoleMessage) -> None:
        if (
            message.type == "error"
            and "Failed to load resource" not in message.text
            and "WebSocket" not in message.text
        ):
            self.complaints.append(message.text)


@pytest.fixture(scope="session")
def account(product: Product) -> str:
    product.post("/auth/register", email=ADA, password=PASSWORD)
    return ADA


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_for_all() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def browser(one_for_all: Browser) -> AsyncIterator[Browser]:
    """A test opens its profiles in it; none is left to the next."""
    yield one_for_all
    for context in one_for_all.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def person(product: Product, account: str, browser: Browser) -> AsyncIterator[Person]:
    """Fails the test if a page of theirs threw, or broke the Content-Security-Policy."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    somebody = Person(product, context, account)
    yield somebody
    await context.close()
    assert somebody.complaints == []


@pytest.fixture(scope="session")
def puppet() -> Iterator[Puppet]:
    with puppet_agent() as puppet:
        yield puppet


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, puppet: Puppet) -> Iterator[Product]:
    """The product with an agent on strings."""
    folder = tmp_path_factory.mktemp("stage")
    with running(folder, DOORWARD_CHAT__AGENT="http", DOORWARD_CHAT__AGENT_URL=puppet.url) as product:
        product.post("/auth/register", email=ADA, password=PASSWORD)
        yield product
        puppet.let_go()


@pytest_asyncio.fixture(loop_scope="session")
async def ada(stage: Product, browser: Browser) -> AsyncIterator[Person]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    somebody = Person(stage, context, ADA)
    yield somebody
    await context.close()
    assert somebody.complaints == []
