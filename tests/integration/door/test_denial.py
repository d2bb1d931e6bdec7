"""A refusal on the wire: over HTTP, or accepted for one frame and closed, as the table says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.door_client import opened
from tests.door_server import BEARER, RunningDoor, running_door
from websockets.exceptions import InvalidStatus

from doorward.testing import Endpoint, FakeAuthService, Fault, eventually, opaque_token

MAX_REASON_BYTES = 123
FAST: dict[str, Any] = {"deadline_seconds": 0.6, "patience_seconds": 0.1}


@dataclass(frozen=True)
class Case:
    """A situation of the table. `arrange` breaks something; `token` makes what the client brings."""

    code: str
    http: int
    close: int
    http_style: int
    action: str
    token: Callable[[FakeAuthService], str | None]
    cause: str | None = None
    retry_seconds: tuple[float, float] | None = None
    arrange: Callable[[RunningDoor], Awaitable[None] | None] = lambda _: None
    path: str = "/ws"


def frozen(running: RunningDoor) -> None:
    running.proxy.fault = Fault.SILENCE


def refusing(running: RunningDoor) -> None:
    running.proxy.fault = Fault.REFUSE


def throttled(running: RunningDoor) -> None:
    running.auth.answer_with(429, headers={"Retry-After": "20"})


def our_secret_is_wrong(running: RunningDoor) -> None:
    running.auth.refuse_service_credential = True


def no_contract(running: RunningDoor) -> None:
    running.auth.answer_with(200, {"valid": "true"})


def draining(running: RunningDoor) -> None:
    running.door.draining = True


async def breaker_open(running: RunningDoor) -> None:
    running.proxy.fault = Fault.REFUSE
    for _ in range(6):
        await running.ask(opaque_token())
    await eventually(lambda: running.issuer.gate.breaker.state == "open", what="the breaker opened")


async def no_keyset(running: RunningDoor) -> None:
    """A key that the set does not have, and no way to look again."""
    data_dir = running.app.settings.data_dir
    await eventually(lambda: list(data_dir.glob("keyset-*.json")), what="the first fetch is done")
    await running.ask(running.auth.issue("ada"))
    running.auth.rotate_key()
    running.auth.answer_with(500, endpoint=Endpoint.JWKS)
    running.issuer.keys.keyset.fetched_at -= 60  # type: ignore[union-attr]


async def revoked(running: RunningDoor) -> None:
    running.auth.revoke(session_id="gone")
    await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")


def rejected(auth: FakeAuthService) -> str:
    token = auth.issue("ada")
    auth.reject(token)
    return token


SOON = (1.0, 5.0)
RETRY = {"http": 503, "close": 1013, "http_style": 4503, "action": "retry", "code": "SERVICE_UNAVAILABLE"}
SIGN_IN = {"http": 401, "close": 3000, "http_style": 4401, "action": "sign_in"}
CASES: dict[str, Case] = {
    "no credential": Case("AUTH_REQUIRED", token=lambda _: None, **SIGN_IN),  # type: ignore[arg-type]
    "junk": Case("BAD_CREDENTIAL_FORMAT", 400, 1008, 1008, "stop", lambda _: "a b"),
    "forged": Case("TOKEN_INVALID", token=lambda auth: auth.mint.forged("ada"), **SIGN_IN),  # type: ignore[arg-type]
    "expired": Case("TOKEN_EXPIRED", token=lambda auth: auth.mint.expired("ada"), **SIGN_IN),  # type: ignore[arg-type]
    "revoked": Case(
        "TOKEN_REVOKED",
        token=lambda auth: auth.issue("ada", session_id="gone"),
        arrange=revoked,
        **SIGN_IN,  # type: ignore[arg-type]
    ),
    "rejected": Case("TOKEN_REJECTED", token=rejected, **SIGN_IN),  # type: ignore[arg-type]
    "forbidden": Case("FORBIDDEN", 403, 3003, 4403, "stop", lambda auth: auth.issue("ada"), path="/admin"),
    "deadline": Case(token=lambda _: opaque_token(), cause="deadline", retry_seconds=SOON, arrange=frozen, **RETRY),  # type: ignore[arg-type]
    "upstream": Case(token=lambda _: opaque_token(), cause="upstream", retry_seconds=SOON, arrange=refusing, **RETRY),  # type: ignore[arg-type]
    "breaker": Case(
        token=lambda _: opaque_token(),
        cause="breaker_open",
        retry_seconds=SOON,
        arrange=breaker_open,
        **RETRY,  # type: ignore[arg-type]
    ),
    "throttled": Case(
        token=lambda _: opaque_token(),
        cause="throttled",
        retry_seconds=(20.0, 31.0),
        arrange=throttled,
        **RETRY,  # type: ignore[arg-type]
    ),
    "config": Case(
        token=lambda _: opaque_token(),
        cause="config",
        retry_seconds=(30.0, 31.0),
        arrange=our_secret_is_wrong,
        **RETRY,  # type: ignore[arg-type]
    ),
    "protocol": Case(
        token=lambda _: opaque_token(),
        cause="protocol",
        retry_seconds=SOON,
        arrange=no_contract,
        **RETRY,  # type: ignore[arg-type]
    ),
    "keyset": Case(
        token=lambda auth: auth.issue("ada"),
        cause="keyset",
        retry_seconds=SOON,
        arrange=no_keyset,
        **RETRY,  # type: ignore[arg-type]
    ),
    "draining": Case(
        "RESTARTING", 503, 1012, 1012, "retry", lambda auth: auth.issue("ada"), None, (0.0, 5.0), draining
    ),
}
ROUTES = ({"path": "/admin", "required_scopes": ("admin",)},)


@pytest.mark.parametrize("name", CASES)
async def test_a_client_that_is_no_browser_reads_problem_details(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    async with running_door(tmp_path, routes=ROUTES, **FAST) as running:
        await running.settled()
        token = await arranged(case, running)
        with pytest.raises(InvalidStatus) as refused:
            await running.connect(token, path=case.path)
        response = refused.value.response
        problem = json.loads(response.body or b"")
        assert response.status_code == problem["status"] == case.http
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"
        assert problem["type"] == f"https://doorward.dev/problems/{case.code.lower().replace('_', '-')}"
        assert (problem["code"], problem.get("cause")) == (case.code, case.cause)
        assert problem["decision_id"] == running.records[-1].id
        assert running.records[-1].code == case.code
        assert ("www-authenticate" in response.headers) is (case.http == 401)
        check_retry(case, problem.get("retry_after_ms"))
        if case.retry_seconds is None:
            assert "retry-after" not in response.headers
        else:
            assert int(response.headers["retry-after"]) == -(-problem["retry_after_ms"] // 1000)
        if token is not None:
            assert token not in str(problem) + str(response.headers)


@pytest.mark.parametrize("style", ["iana", "http"])
@pytest.mark.parametrize("name", CASES)
async def test_a_page_is_told_in_a_frame_and_a_close_code(name: str, style: str, tmp_path: Path) -> None:
    case = CASES[name]
    async with running_door(tmp_path, routes=ROUTES, close_codes=style, **FAST) as running:
        await running.settled()
        token = await arranged(case, running)
        async with opened(running.browser(token, path=case.path)) as page:
            assert page.client.subprotocol == "doorward.v1"
            error = await page.frame(type="auth.error")
            assert error == {
                "type": "auth.error",
                "code": case.code,
                "cause": case.cause,
                "retry_after_ms": error["retry_after_ms"],
                "action": case.action,
                "decision_id": running.records[-1].id,
            }
            check_retry(case, error["retry_after_ms"])
            code, reason = await page.closed()
            assert code == (case.close if style == "iana" else case.http_style)
            assert code != 1000
            retry = f";retry_after_ms={error['retry_after_ms']}" if case.retry_seconds else ""
            assert reason == f"{case.code}{retry};id={error['decision_id']}"
            assert len(reason.encode()) <= MAX_REASON_BYTES
            assert page.frames == []


async def arranged(case: Case, running: RunningDoor) -> str | None:
    done = case.arrange(running)
    if done is not None:
        await done
    return case.token(running.auth)


def check_retry(case: Case, retry_after_ms: int | None) -> None:
    if case.retry_seconds is None:
        assert retry_after_ms is None
    else:
        least, most = case.retry_seconds
        assert retry_after_ms is not None
        assert least <= retry_after_ms / 1000 <= most


# Which of the two


async def refused_status(connecting: websockets.connect) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connecting
    return refused.value.response.status_code


async def test_a_foreign_origin_is_never_accepted(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        for origin in ("https://evil.example", "null", f"https://127.0.0.1:{running.port}", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as refused:
                await running.browser(token, origin=origin)
            assert refused.value.response.status_code == 403
            assert json.loads(refused.value.response.body or b"")["code"] == "ORIGIN_DENIED"
        assert running.auth.asked_about[token] == 0


async def test_a_foreign_origin_is_not_accepted_in_a_drain_either(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        running.door.draining = True
        assert await refused_status(running.browser(None, origin="https://evil.example")) == 503
        async with opened(running.browser(None)) as page:
            assert (await page.closed())[0] == 1012


async def test_a_listed_origin_is_as_good_as_the_same(tmp_path: Path) -> None:
    async with running_door(tmp_path, allowed_origins=("https://app.example",)) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada"), origin="https://app.example")) as page:
            await page.frame(notice="auth.assurance")


async def test_http_by_setting(tmp_path: Path) -> None:
    async with running_door(tmp_path, denial="http") as running:
        await running.settled()
        assert await refused_status(running.browser(None)) == 401


async def test_close_by_setting_where_there_is_something_to_echo(tmp_path: Path) -> None:
    async with running_door(tmp_path, denial="close") as running:
        await running.settled()
        async with opened(running.connect(None, subprotocols=["doorward.v1"])) as page:
            assert (await page.frame(type="auth.error"))["code"] == "AUTH_REQUIRED"
            assert (await page.closed())[0] == 3000
        assert await refused_status(running.connect(None)) == 401


@pytest.mark.parametrize("subprotocols", [[], ["graphql-ws"], ["doorward-ish"]])
async def test_a_page_that_does_not_speak_to_us_is_refused_over_http(subprotocols: list[str], tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        assert await refused_status(running.browser(None, subprotocols=subprotocols)) == 401


async def test_the_bearer_protocol_alone_is_a_bad_request_and_never_echoed(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        token = base64.urlsafe_b64encode(running.auth.issue("ada").encode()).rstrip(b"=").decode()
        with pytest.raises(InvalidStatus) as refused:
            await running.browser(None, subprotocols=[BEARER + token])
        assert refused.value.response.status_code == 400
        assert "sec-websocket-protocol" not in refused.value.response.headers


async def test_the_real_protocol_is_echoed_whatever_the_order(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        carrier = BEARER + base64.urlsafe_b64encode(b"junk.junk").rstrip(b"=").decode()
        async with opened(running.browser(None, subprotocols=[carrier, "chat.v2"])) as page:
            assert page.client.subprotocol == "chat.v2"
            assert (await page.closed())[0] != 1000


async def test_a_crowd_is_shed_over_http(tmp_path: Path) -> None:
    """Accepted-then-refused sockets cost more than a response; past the limit they get none of it."""
    limits = {"address_rate_per_second": 0.001, "address_burst": 1, "lingering_refusals": 2}
    async with running_door(tmp_path, limits=limits) as running:
        await running.settled()
        assert (await running.ask(running.auth.issue("ada"))).status == 101
        for _ in range(2):
            async with opened(running.browser(None)) as page:
                assert (await page.frame(type="auth.error"))["code"] == "RATE_LIMITED"
                assert (await page.closed())[0] == 1013
        assert running.door.denier.lingering == 2
        assert await refused_status(running.browser(None)) == 429
        await eventually(lambda: running.door.denier.lingering == 0, what="they have gone")


async def everything(client: socket.socket) -> bytes:
    """What comes until the connection ends, one way or the other."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            while part := await asyncio.get_running_loop().sock_recv(client, 65536):
                received += part
    return received


async def test_a_peer_that_does_not_answer_the_close_is_cut_after_a_second(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", running.port))
            key = base64.b64encode(os.urandom(16)).decode()
            request = (
                f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nOrigin: http://127.0.0.1:{running.port}\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Protocol: doorward.v1\r\n\r\n"
            )
            began = time.monotonic()
            await loop.sock_sendall(client, request.encode())
            received = await everything(client)
            assert b"101 Switching Protocols" in received
            assert b"AUTH_REQUIRED" in received
            assert 0.9 <= time.monotonic() - began <= 2.0
        await eventually(lambda: running.connections == 0, what="nothing is left")
