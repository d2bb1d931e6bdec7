"""The auth service on a real server, with a real database and a real client."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from doorward.authd.app import create_app, drain
from doorward.config import Settings

SECRET = "s3cret-of-the-door"
STOP_SECONDS = 5.0
Answer = tuple[int, Any]


@dataclass
class Authd:
    """A running auth service, as its clients see it."""

    url: str
    settings: Settings
    http: aiohttp.ClientSession
    stop: Callable[[], None]

    @property
    def database(self) -> Path:
        return self.settings.data_dir / "authd" / "authd.sqlite3"

    async def sql(self, *statements: str) -> None:
        """Run statements as another process would. Off the loop: the service may hold the lock that this waits for."""
        await asyncio.to_thread(_run_sql, self.database, statements)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the write lock, as another process would."""
        database = await asyncio.to_thread(_lock, self.database)
        try:
            yield
        finally:
            database.close()

    async def post(self, path: str, body: object = None, **options: Any) -> Answer:
        async with self.http.post(self.url + path, json=body, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str, **options: Any) -> Answer:
        async with self.http.get(self.url + path, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def sign_up(self, email: str = "ann@example.com", password: str = "correct horse") -> dict[str, Any]:
        status, body = await self.post("/auth/register", {"email": email, "password": password})
        assert status == 201, body
        return dict(body)

    async def sign_in(self, email: str, password: str) -> dict[str, Any]:
        status, body = await self.post("/auth/login", {"email": email, "password": password})
        assert status == 200, body
        return dict(body)

    async def validate(self, token: str, **fields: object) -> Answer:
        return await self.post("/auth/validate", {"token": token, **fields}, headers=service_header())

    async def revocations(self, **query: object) -> Answer:
        params = {name: str(value) for name, value in query.items()}
        return await self.get("/auth/revocations", params=params, headers=service_header())


def _run_sql(path: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        for statement in statements:
            database.execute(statement)


def _lock(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    database.execute("BEGIN IMMEDIATE")
    return database


def service_header(secret: str = SECRET) -> dict[str, str]:
    return {"authorization": aiohttp.encode_basic_auth("doorward", secret)}


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['access_token']}"}


Serve = Callable[..., AbstractAsyncContextManager[Authd]]


def serve_in(data_dir: Path, **always: Any) -> Serve:
    """A function that starts a server; its keyword arguments and `always` go to the section `authd`, `settings` to the top."""

    @asynccontextmanager
    async def start(**authd: Any) -> AsyncIterator[Authd]:
        top = authd.pop("settings", {})
        options = {
            "allow_register": True,
            "store_seconds": 10,
            "admin_email": "root@example.com",
            "admin_password": "correct horse",
        }
        settings = Settings(
            data_dir=data_dir, auth={"service_secret": SECRET}, authd={**options, **always, **authd}, **top
        )
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            app = create_app(settings, issuer=url)
            config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False, proxy_headers=False)
            server = uvicorn.Server(config)

            def stop() -> None:
                server.should_exit = True
                drain(app)

            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
                    await _answering(http, url, running)
                    yield Authd(url, settings, http, stop)
            finally:
                stop()
                await asyncio.wait_for(running, STOP_SECONDS)

    return start


async def _answering(http: aiohttp.ClientSession, url: str, running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        while not running.done():
            try:
                async with http.get(f"{url}/auth/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
    raise AssertionError("the server ended before it answered")
