"""What holds for a path: public ones, transports, scopes, degraded admission; and what the app sees of the handshake."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.door_client import opened
from tests.door_server import BEARER, RunningDoor, running_door, whoami
from websockets.exceptions import InvalidStatus

from doorward.asgi.types import Receive, Scope, Send
from doorward.testing import Fault, opaque_token

COOKIE = "__Host-doorward"
COOKIE_ROUTE: dict[str, Any] = {"path": "/cookie/*", "transports": ("cookie", "header")}
OUTAGE: dict[str, Any] = {"deadline_seconds": 0.5, "patience_seconds": 0.1}


async def says_what_it_got(scope: Scope, receive: Receive, send: Send) -> None:
    """Also where nobody was asked for a token."""
    if scope["type"] != "websocket":
        await whoami(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    got = {
        "guarded": "doorward" in scope,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "subprotocols": list(scope["subprotocols"]),
        "query": scope["query_string"].decode(),
    }
    await send({"type": "websocket.send", "text": json.dumps(got)})
    await receive()


def cookie(running: RunningDoor, token: str, *, origin: str | None = None, path: str = "/cookie/ws") -> Any:
    headers = {"Cookie": f"theme=dark; {COOKIE}={token}; lang=en"}
    if origin is not None:
        headers["Origin"] = origin
    return running.connect(None, path=path, headers=headers)


def own_origin(running: RunningDoor) -> str:
    return f"http://127.0.0.1:{running.port}"


async def problem_of(connecting: Any) -> dict[str, Any]:
    with pytest.raises(InvalidStatus) as refused:
        await connecting
    problem: dict[str, Any] = json.loads(refused.value.response.body or b"")
    assert problem["status"] == refused.value.response.status_code
    return problem


# Public


async def test_only_a_public_path_is_not_guarded(tmp_path: Path) -> None:
    async with running_door(tmp_path, app=says_what_it_got, public=("/status", "/pub/*")) as running:
        await running.settled()
        for path in ("/status", "/pub", "/pub/a/b"):
            async with opened(running.connect(None, path=path)) as page:
                assert (await page.frame())["guarded"] is False
        for path in (
            "/ws",
            "/statusx",
            "/status/",
            "/public",
            "/",
            "/pub/../ws",
            "/pub/%2e%2e/ws",
            "/pub//x",
            "//pub/x",
        ):
            assert (await problem_of(running.connect(None, path=path)))["code"] == "AUTH_REQUIRED", path
        assert all(record.verdict == "deny" for record in running.records)


async def test_public_paths_are_said_at_the_start(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with running_door(tmp_path, public=("/status",)):
            said = [line for line in lines if "is public" in line["event"]]
    assert [line["path"] for line in said] == ["/status"]


# Transports


async def test_a_cookie_counts_only_where_the_route_lists_it(tmp_path: Path) -> None:
    async with running_door(tmp_path, app=says_what_it_got, routes=(COOKIE_ROUTE,)) as running:
        await running.settled()
        token = running.auth.issue("ada")
        origin = own_origin(running)
        async with opened(cookie(running, token, origin=origin)) as page:
            got = await page.frame()
            assert got["guarded"] is True
            assert ["cookie", "theme=dark; lang=en"] in got["headers"]
        assert (await problem_of(cookie(running, token, origin=origin, path="/ws")))["code"] == "AUTH_REQUIRED"


async def test_a_cookie_without_an_allowed_origin_is_nobodys(tmp_path: Path) -> None:
    """A cookie is sent by the browser whoever asked for it; without an Origin nobody knows who asked."""
    async with running_door(tmp_path, routes=(COOKIE_ROUTE,)) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await problem_of(cookie(running, token)))["code"] == "ORIGIN_DENIED"
        assert (await problem_of(cookie(running, token, origin="https://evil.example")))["code"] == "ORIGIN_DENIED"
        assert running.auth.asked_about[token] == 0
        assert (await running.ask(token, path="/cookie/ws")).status == 101


async def test_an_explicit_credential_beats_the_cookie(tmp_path: Path) -> None:
    async with running_door(tmp_path, routes=(COOKIE_ROUTE,)) as running:
        await running.settled()
        headers = {"Cookie": f"{COOKIE}={running.auth.issue('eve')}", "Origin": own_origin(running)}
        async with opened(running.connect(running.auth.issue("ada"), path="/cookie/x", headers=headers)) as page:
            assert (await page.ask())["user_id"] == "ada"


async def test_a_transport_that_is_not_listed_is_not_looked_at(tmp_path: Path) -> None:
    async with running_door(tmp_path, routes=({"path": "/ws", "transports": ("subprotocol",)},)) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token)).code == "AUTH_REQUIRED"
        async with opened(running.browser(token)) as page:
            await page.frame(notice="auth.assurance")


async def test_a_raw_token_in_the_query_is_off_unless_listed_and_then_said_loudly(tmp_path: Path) -> None:
    routes = ({"path": "/legacy", "transports": ("query",)},)
    with capture_logs() as lines:
        async with running_door(tmp_path, routes=routes):
            assert "this path takes raw tokens in its query string" in str(lines)
    async with running_door(tmp_path, app=says_what_it_got, routes=routes) as running:
        token = running.auth.issue("ada")
        assert (await running.ask(None, path=f"/ws?access_token={token}")).code == "AUTH_REQUIRED"
        async with opened(running.connect(None, path=f"/legacy?a=1&access_token={token}")) as page:
            assert (await page.frame(guarded=True))["query"] == "a=1"
        assert token not in str(running.records)


async def test_two_explicit_credentials_are_one_too_many(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        carrier = BEARER + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
        answer = await running.ask(token, subprotocols=["doorward.v1", carrier])
        assert (answer.status, answer.code) == (400, "BAD_CREDENTIAL_FORMAT")


async def test_the_app_never_sees_the_credential(tmp_path: Path) -> None:
    async with running_door(tmp_path, app=says_what_it_got, routes=(COOKIE_ROUTE,)) as running:
        await running.settled()
        token = running.auth.issue("ada")
        encoded = base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
        ways = [
            running.connect(token),
            running.browser(token),
            cookie(running, token, origin=own_origin(running)),
            running.connect(token, path="/cookie/x", headers={"Cookie": f"{COOKIE}={token}"}),
        ]
        for way in ways:
            async with opened(way) as page:
                got = await page.frame(guarded=True)
                assert token not in json.dumps(got)
                assert encoded not in json.dumps(got)
                assert "authorization" not in dict(got["headers"])
                assert all(not name.startswith(BEARER) for name in got["subprotocols"])


# Scopes and degraded admission


async def test_a_required_scope(tmp_path: Path) -> None:
    async with running_door(tmp_path, routes=({"path": "/ws", "required_scopes": ("admin",)},)) as running:
        await running.settled()
        assert (await running.ask(running.auth.issue("ada"))).code == "FORBIDDEN"
        assert (await running.ask(running.auth.issue("root", permissions=["admin"]))).status == 101


async def test_a_scope_that_only_an_outage_takes_away_is_no_no(tmp_path: Path) -> None:
    degrade = {"mode": "local_jwt", "privileged_scopes": ("admin",)}
    routes = ({"path": "/ws", "required_scopes": ("admin",)},)
    async with running_door(tmp_path, degrade=degrade, routes=routes, **OUTAGE) as running:
        await running.settled()
        running.proxy.fault = Fault.REFUSE
        answer = await running.ask(running.auth.issue("root", permissions=["admin"]))
        assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
        assert answer.retry_after_ms is not None


async def test_a_route_that_wants_it_live(tmp_path: Path) -> None:
    routes = ({"path": "/live", "allow_degraded": False},)
    async with running_door(tmp_path, degrade={"mode": "local_jwt"}, routes=routes, **OUTAGE) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token, path="/live")).status == 101
        running.proxy.fault = Fault.SILENCE
        late = running.auth.issue("ada")
        refused = await running.ask(late, path="/live")
        assert (refused.status, refused.cause) == (503, "deadline")
        assert (await running.ask(late)).status == 101


async def test_no_patience_on_a_route_that_wants_it_live(tmp_path: Path) -> None:
    """With nothing to fall back on the whole deadline is there for the answer."""
    routes = ({"path": "/live", "allow_degraded": False},)
    async with running_door(tmp_path, degrade={"mode": "local_jwt"}, routes=routes, patience_seconds=0.05) as running:
        await running.settled()
        running.auth.latency_seconds = 0.4
        async with opened(running.connect(running.auth.issue("ada"), path="/live")) as page:
            assert (await page.ask())["assurance"] == "live"


# Addresses


def forwarded(addresses: str, **more: str) -> dict[str, str]:
    return {"X-Forwarded-For": addresses, **more}


@pytest.mark.parametrize(
    ("trusted", "header", "seen"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8",), "198.51.100.7, 203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8", "203.0.113.0/24"), "198.51.100.7, 203.0.113.9", "198.51.100.7"),
        (("127.0.0.0/8",), "203.0.113.9:4711", "203.0.113.9"),
        (("127.0.0.0/8",), "[2001:db8::1]:4711", "2001:db8::1"),
        (("127.0.0.0/8",), "198.51.100.7, nonsense", "127.0.0.1"),
        (("127.0.0.0/8",), "127.0.0.2", "127.0.0.1"),
        (("10.0.0.0/8",), "203.0.113.9", "127.0.0.1"),
    ],
)
async def test_whose_word_counts_about_the_address(
    trusted: tuple[str, ...], header: str, seen: str, tmp_path: Path
) -> None:
    async with running_door(tmp_path, trusted_proxies=trusted) as running:
        await running.ask(None, headers=forwarded(header))
        assert [record.address for record in running.records] == [seen]


async def test_behind_a_trusted_proxy_the_page_is_on_https(tmp_path: Path) -> None:
    async with running_door(tmp_path, trusted_proxies=("127.0.0.1",)) as running:
        await running.settled()
        token = running.auth.issue("ada")
        secure = f"https://127.0.0.1:{running.port}"
        headers = {**forwarded("203.0.113.9"), "X-Forwarded-Proto": "https", "Origin": secure}
        assert (await running.ask(token, headers=headers)).status == 101
        plain = {**forwarded("203.0.113.9"), "Origin": secure}
        assert (await running.ask(token, headers=plain)).code == "ORIGIN_DENIED"


async def test_one_address_does_not_use_up_the_limit_of_another(tmp_path: Path) -> None:
    limits = {"address_rate_per_second": 0.001, "address_burst": 1}
    async with running_door(tmp_path, trusted_proxies=("127.0.0.1",), limits=limits) as running:
        await running.settled()
        codes = [
            (await running.ask(opaque_token(), headers=forwarded(address))).code
            for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2")
        ]
        assert codes == ["TOKEN_REJECTED", "RATE_LIMITED", "TOKEN_REJECTED", "TOKEN_REJECTED", "RATE_LIMITED"]
