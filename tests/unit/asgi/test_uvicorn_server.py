"""Whose bounds hold on a uvicorn that somebody else runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from doorward import Doorward, Settings, UvicornProtocol
from doorward.asgi.types import App, Receive, Scope, Send


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


def connection(config: Config) -> UvicornProtocol:
    return UvicornProtocol(config, ServerState(), {})


def door(tmp_path: Path, **settings: Any) -> App:
    limits = {"silent_seconds": 3.0, "incomplete_handshakes": 7}
    auth = {"url": "http://127.0.0.1:9", "service_secret": "secret"}
    return Doorward(nothing, Settings(auth=auth, deadline_seconds=1.5, data_dir=tmp_path, limits=limits, **settings))


async def test_they_are_those_of_the_door_that_it_serves(tmp_path: Path) -> None:
    for app in (door(tmp_path), ProxyHeadersMiddleware(door(tmp_path))):  # type: ignore[arg-type]
        policy = connection(Config(app, http=UvicornProtocol)).watch.policy
        assert (policy.header_seconds, policy.silent_seconds, policy.incomplete_handshakes) == (1.5, 3.0, 7)


async def test_an_app_without_a_door_gets_the_usual_ones() -> None:
    assert connection(Config(nothing, http=UvicornProtocol)).watch.policy.header_seconds == 2.0


async def test_connections_of_one_server_are_watched_together_and_those_of_two_are_not(tmp_path: Path) -> None:
    one, another = (Config(door(tmp_path), http=UvicornProtocol) for _ in range(2))
    assert connection(one).watch is connection(one).watch
    assert connection(one).watch is not connection(another).watch


FIRST = {"path": "/feed", "transports": ["header", "first_message"]}


@pytest.mark.parametrize(
    ("route", "ws_max_size", "warned"),
    [
        (FIRST, None, [16_777_216]),
        (FIRST, 65_536, []),
        ({"path": "/feed", "transports": ["header"]}, None, []),
    ],
)
async def test_who_lets_strangers_send_much_is_warned_once(
    route: dict[str, Any], ws_max_size: int | None, warned: list[int], tmp_path: Path
) -> None:
    config = Config(door(tmp_path, routes=[route]), http=UvicornProtocol)
    config.ws_max_size = ws_max_size or config.ws_max_size
    with capture_logs() as logs:
        connection(config)
        connection(config)
    assert [line["max_bytes"] for line in logs if "--ws-max-size" in line["event"]] == warned
