from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from tests.chat_server import ChatServer
from tests.chat_support import FakeInsight

from doorward.chat.app import create_app
from doorward.config import Settings
from doorward.ops.metrics import metrics_route


class Readiness:
    value = True


@asynccontextmanager
async def serving(
    *, token: str | None = None, **options: Any
) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Readiness]]:
    registry = CollectorRegistry()
    readiness = Readiness()
    metrics = metrics_route(registry, token=SecretStr(token) if token else None)
    app = create_app(
        Settings(auth={"url": "http://127.0.0.1:1"}),
        insight=FakeInsight(),
        ready=lambda: readiness.value,
        web_routes=[metrics],
        registry=registry,
        **options,
    )
    async with ChatServer.serving(app) as server, aiohttp.ClientSession() as client:
        yield server.url, client, readiness


async def status_of(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(url) as answer:
        return answer.status


async def test_alive_and_ready() -> None:
    async with serving() as (url, client, readiness):
        assert await status_of(client, f"{url}/healthz") == 200
        assert await status_of(client, f"{url}/readyz") == 200
        readiness.value = False
        assert await status_of(client, f"{url}/healthz") == 200
        async with client.get(f"{url}/readyz") as answer:
            assert answer.status == 503
            assert answer.content_type == "application/problem+json"


async def test_what_the_page_is_told() -> None:
    async with (
        serving(register=True, fault_hint=lambda: "kill -STOP 1") as (url, client, _),
        client.get(f"{url}/api/config") as answer,
    ):
        content = await answer.json()
        assert answer.headers["cache-control"] == "no-store"
    assert content["register"] is True
    assert content["fault_hint"] == "kill -STOP 1"
    assert content["product"] == "Doorward"
    assert content["max_message_bytes"] == 16_384
    assert content["warden"] is True
    assert content["drill"] is False


async def test_nobody_registers_unless_it_is_switched_on() -> None:
    async with serving() as (url, client, _), client.get(f"{url}/api/config") as answer:
        assert (await answer.json())["register"] is False


async def test_metrics_for_this_host() -> None:
    async with serving() as (url, client, _), client.get(f"{url}/metrics") as answer:
        text = await answer.text()
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        assert "doorward_chat_sockets 0.0" in text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
async def test_a_forwarded_request_is_not_from_this_host(header: str) -> None:
    async with serving() as (url, client, _), client.get(f"{url}/metrics", headers={header: "x"}) as answer:
        assert answer.status == 403
        assert "serve.metrics_token" in await answer.text()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer right", 200),
        ("bearer right", 200),
        ("Bearer wrong", 401),
        ("Bearer", 401),
        ("Basic right", 401),
        ("", 401),
        ("Bearer \u00fc", 401),
    ],
)
async def test_metrics_by_token(authorization: str, status: int) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1", "Authorization": authorization}
    async with serving(token="right") as (url, client, _), client.get(f"{url}/metrics", headers=headers) as answer:
        assert answer.status == status
        assert "right" not in await answer.text()
