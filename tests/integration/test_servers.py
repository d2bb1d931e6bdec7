"""The door on every server, as real processes: what each can do is measured, and docs/reference/servers.md must say just that."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

import aiohttp
import daphne.cli  # type: ignore[import-untyped]
import hypercorn.config
import pytest
import uvicorn
import websockets
from tests.docs.pages import read
from tests.door_client import frames, heard
from tests.door_server import BEARER
from tests.servers import SERVERS, Running, listening, server, settings_for
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from doorward import Settings
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.server import Server
from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, opaque_token

HERE = Path(__file__).parent
PAGE = "docs/reference/servers.md"
PATIENCE_SECONDS = 10.0
STAYS_SECONDS = 9.0
"""What is still open then is called staying."""

EARLY_SECONDS = 0.25
"""How much earlier than the page says something may happen: uvloop counts from when it last looked at the clock."""

LATE_SECONDS, LATE_SHARE = 0.7, 0.2
"""How much later: so long, or this share of what is promised. Machines are busy, but 0, 1 and 2 s stay three things."""

WITHIN_SHARE = 0.6
"""So much of the time that a server cuts within must be seen."""

TRIES, TRYING_SECONDS = 3, 6.0
"""The earliest of so many counts, as a busy machine only adds; none is begun when so long was tried already."""

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PING, PONG, CLOSE = b"\x89", b"\x8a", b"\x88"
MASKED, NO_MASK = 0x80, bytes(4)
ABNORMAL = 1006


@dataclass(frozen=True, slots=True)
class Site:
    """A server under test, and the auth service that all of them ask. `user` is nobody else's."""

    kind: str
    running: Running
    auth: FakeAuthService

    def user(self, name: str) -> str:
        return f"{name} of {self.kind}"

    def connect(self, token: str | None = None, **options: Any) -> websockets.connect:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return websockets.connect(
            self.running.url, additional_headers=headers, proxy=None, open_timeout=PATIENCE_SECONDS, **options
        )

    def page(self) -> websockets.connect:
        """A client of ours in a browser, with a token that nobody knows."""
        carrier = BEARER + base64.urlsafe_b64encode(opaque_token().encode()).rstrip(b"=").decode()
        protocols = [websockets.Subprotocol("doorward.v1"), websockets.Subprotocol(carrier)]
        return self.connect(origin=websockets.Origin(self.running.origin), subprotocols=protocols)

    async def raw(
        self, *lines: str, path: str = "/ws", whole: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An upgrade request as bytes, from a peer that answers nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port, limit=2**20)
        head = UPGRADE.format(path=path, port=self.running.port) + "".join(f"{line}\r\n" for line in lines)
        writer.write((head + ("\r\n" if whole else "")).encode())
        return reader, writer


# What is measured, each as the words that stand in the page


async def a_refused_program(site: Site) -> str:
    with pytest.raises(InvalidStatus) as refused:
        await site.connect()
    response = refused.value.response
    body = bytes(response.body or b"")
    said = json.loads(body)["code"] if body else "nothing"
    return f"{response.status_code}, {said}"


async def a_refused_page(site: Site) -> str:
    async with site.page() as client:
        assert client.subprotocol == "doorward.v1"
        return await last_words(client, "TOKEN_REJECTED")


async def a_program_in_an_outage(site: Site) -> str:
    """Where there can be no 503 it is let in, and told by the close code."""
    try:
        async with site.connect(opaque_token()) as client:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
            return str(client.close_code)
    except InvalidStatus as refused:
        return f"{refused.response.status_code}, {json.loads(bytes(refused.response.body or b''))['code']}"


async def a_page_in_an_outage(site: Site) -> str:
    async with site.page() as client:
        return await last_words(client, "SERVICE_UNAVAILABLE")


async def an_open_socket_that_is_revoked(site: Site) -> str:
    user = site.user("rita")
    protocols = [websockets.Subprotocol("doorward.v1")]
    async with site.connect(site.auth.issue(user), subprotocols=protocols) as client:
        await heard(client, f"hello {user}")
        await client.send("still there?")
        await heard(client, "still there?")
        site.auth.revoke(user_id=user)
        return await last_words(client, "TOKEN_REVOKED")


async def last_words(client: ClientConnection, code: str) -> str:
    """What of a refusal reaches the client before the socket ends: the frame, the close code, the word in the close reason."""
    words = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for frame in frames(client):
            words += ["frame"] if frame.get("code") == code else []
    words.append("cut" if client.close_code == ABNORMAL else str(client.close_code))
    words += ["reason"] if (client.close_reason or "").startswith(f"{code};") else []
    return ", ".join(words)


async def a_peer_that_does_not_hang_up(site: Site) -> str:
    async def attempt(number: int) -> float | None:
        user = site.user(f"linda {number}")
        reader, writer = await site.raw(f"Authorization: Bearer {site.auth.issue(user)}")
        await asyncio.wait_for(reader.readuntil(f"hello {user}".encode()), PATIENCE_SECONDS)
        began = asyncio.get_running_loop().time()
        site.auth.revoke(user_id=user)
        return await until_cut(began, reader, writer, 2 * STAYS_SECONDS)

    return await of_some_tries(attempt)


async def half_an_upgrade(site: Site) -> str:
    async def attempt(_number: int) -> float | None:
        began = asyncio.get_running_loop().time()
        return await until_cut(began, *await site.raw(whole=False), STAYS_SECONDS)

    return await of_some_tries(attempt)


async def of_some_tries(attempt: Callable[[int], Awaitable[float | None]]) -> str:
    began, found = asyncio.get_running_loop().time(), []
    for number in range(TRIES):
        seconds = await attempt(number)
        if seconds is None:
            return "stays"
        found.append(seconds)
        if asyncio.get_running_loop().time() - began > TRYING_SECONDS:
            break
    return f"cut after {' '.join(f'{seconds:.2f}' for seconds in found)} s"


async def until_cut(
    began: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stays_seconds: float
) -> float | None:
    """Seconds since `began`, which is before the server can have begun to count. `None`: it stays."""
    try:
        async with asyncio.timeout(stays_seconds):
            with contextlib.suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
    except TimeoutError:
        return None
    finally:
        writer.close()
    return asyncio.get_running_loop().time() - began


async def a_cookie_of_9_kb(site: Site) -> str:
    return await answer_to(site, "Cookie: c=" + "c" * 9_000)


async def two_hundred_headers(site: Site) -> str:
    return await answer_to(site, *(f"X-{number}: a" for number in range(200)))


async def answer_to(site: Site, *lines: str) -> str:
    reader, writer = await site.raw(f"Authorization: Bearer {site.auth.issue(site.user('hank'))}", *lines)
    try:
        status = (await asyncio.wait_for(reader.readline(), STAYS_SECONDS)).split()
    except TimeoutError:
        return "no answer"
    finally:
        writer.close()
    return {"101": "reaches the app", "431": "431"}.get(status[1].decode(), f"unexpected {status}")


async def when_the_door_opens(site: Site) -> str:
    """Asked before any handshake."""
    async with aiohttp.ClientSession(site.running.origin) as http, http.get("/who") as answer:
        return "at the start" if (await answer.json())["opened"] else "at the first handshake"


async def an_event_stream_that_is_revoked(site: Site) -> str:
    user = site.user("stan")
    bearer = {"Authorization": f"Bearer {site.auth.issue(user)}"}
    async with aiohttp.ClientSession(site.running.origin) as http:
        async with http.get("/api/stream") as refused:
            assert (refused.status, (await refused.json())["code"]) == (401, "AUTH_REQUIRED")
        async with http.get("/api/stream", headers=bearer) as answer, asyncio.timeout(PATIENCE_SECONDS):
            assert await answer.content.readline() == b"data: hello\n"
            site.auth.revoke(user_id=user)
            rest = (await answer.content.read()).decode()
    found = re.fullmatch(r"\nevent: auth\.error\ndata: (\{.*\})\n\n", rest)
    return f"a last event, {json.loads(found[1])['code']}" if found else "cut"


async def pings(site: Site) -> str:
    user = site.user("paul")
    reader, writer = await site.raw(f"Authorization: Bearer {site.auth.issue(user)}")
    try:
        await asyncio.wait_for(reader.readuntil(f"hello {user}".encode()), PATIENCE_SECONDS)
        sent = await asyncio.wait_for(reader.read(1), STAYS_SECONDS) == PING
    except TimeoutError:
        sent = False
    finally:
        writer.close()
    interval = PING_SECONDS[site.kind]
    assert sent is (site.kind not in {"granian", "doorward serve"}), "with the options of tests/servers.py"
    return f"every {interval:g} s" if interval else "if told to" if sent else "never"


async def no_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Is never called."""


PING_SECONDS: Mapping[str, float | None] = {
    "doorward serve": Server(
        no_app, opening=OpeningPolicy.of(Settings(auth={"url": "http://127.0.0.1:1"})), counters=OpeningCounters()
    )._config.ws_ping_interval,
    "uvicorn": uvicorn.Config(app="").ws_ping_interval,
    "UvicornProtocol": uvicorn.Config(app="").ws_ping_interval,
    "granian": None,
    "hypercorn": hypercorn.config.Config().websocket_ping_interval,
    "daphne": daphne.cli.CommandLineInterface().parser.get_default("ping_interval"),
}
"""As they come."""


async def a_first_message(site: Site) -> str:
    """How much of one goes in, whose end never comes. A pong says that all before its ping was read, and not refused."""
    reader, writer = await site.raw(path="/first")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).split()[1] == b"101"
    sent = 0
    try:
        for name, bound in BOUNDS.items():
            for size in (bound - sent, 1):
                for part in range(0, size, PART_BYTES):
                    await send_part(writer, min(PART_BYTES, size - part), is_first=sent == 0)
                    sent += min(PART_BYTES, size - part)
                if not await was_read(reader, writer):
                    return name if size == 1 else f"less than {name}"
        return f"more than {name}"
    finally:
        writer.transport.abort()


async def send_part(writer: asyncio.StreamWriter, size: int, *, is_first: bool) -> None:
    """RFC 6455, section 5.2: a frame without FIN, of text or of what continues it."""
    length = bytes([MASKED | size]) if size < 126 else bytes([MASKED | 127]) + size.to_bytes(8, "big")
    writer.write(bytes([is_first]) + length + NO_MASK + b"a" * size)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(writer.drain(), PATIENCE_SECONDS)


async def was_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(PING + bytes([MASKED]) + NO_MASK)
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while (kind := await reader.readexactly(1)) != PONG:
                await reader.readexactly((await reader.readexactly(1))[0])
                if kind == CLOSE:
                    return False
            await reader.readexactly(1)
        except (ConnectionError, asyncio.IncompleteReadError):
            return False
    return True


BOUNDS = {"64 KiB": 2**16, "1 MiB": 2**20, "16 MiB": 2**24, "64 MiB": 2**26}
PART_BYTES = 2**20

T = TypeVar("T")
Probe = Callable[[Site], Awaitable[str]]
PROBES: Mapping[str, Probe] = {
    "a program that is refused reads": a_refused_program,
    "a page that is refused gets": a_refused_page,
    "a socket that is revoked gets": an_open_socket_that_is_revoked,
    "a peer that does not answer the close frame is": a_peer_that_does_not_hang_up,
    "an event stream that is revoked gets": an_event_stream_that_is_revoked,
    "half an upgrade request is": half_an_upgrade,
    "a cookie of 9 KB": a_cookie_of_9_kb,
    "200 headers": two_hundred_headers,
    "an idle socket is pinged": pings,
}
OPENING = "the door opens"
IN_AN_OUTAGE: Mapping[str, Probe] = {
    "a program that comes in an outage reads": a_program_in_an_outage,
    "a page that comes in an outage gets": a_page_in_an_outage,
}
FIRST_MESSAGE = "a first message is held in memory up to"
FIRST_MESSAGE_ROUTE = {
    "routes": json.dumps([{"path": "/first", "transports": ["first_message"]}]),
    "limits.first_message_seconds": "60",
}
SOCKET_AT_SIGTERM = "SIGTERM: an open socket gets"
HANDSHAKE_AT_SIGTERM = "SIGTERM: a handshake under way gets"


async def at_sigterm(site: Site) -> dict[str, str]:
    """The auth service takes its time, so that a handshake is under way; no drain was called."""
    user = site.user("sue")
    async with site.connect(site.auth.issue(user)) as client:
        await heard(client, f"hello {user}")
        token = opaque_token()
        under_way = asyncio.ensure_future(handshake(site, token))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not site.auth.asked_about[token]:  # noqa: ASYNC110 - the service's books tell nobody
                await asyncio.sleep(0.02)
        site.running.terminate()
        open_socket = await end_of(client)
        return {SOCKET_AT_SIGTERM: open_socket, HANDSHAKE_AT_SIGTERM: await under_way}


async def end_of(client: ClientConnection) -> str:
    try:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
    except TimeoutError:
        return "stays"
    reason = (client.close_reason or "").partition(";")[0]
    code = "cut" if client.close_code == ABNORMAL else str(client.close_code)
    return f"{code}, {reason}" if reason else code


async def handshake(site: Site, token: str) -> str:
    try:
        async with site.connect(token):
            return "let in"
    except InvalidStatus as refused:
        status = refused.response.status_code
        return "its answer" if status in {401, 403} else str(status)
    except (InvalidHandshake, OSError, EOFError):
        return "cut"


async def measured(folder: Path) -> dict[tuple[str, str], str]:
    """Every cell of the table, by row and server. All servers at once: most of it is waiting."""
    async with FakeAuthService() as auth, contextlib.AsyncExitStack() as stack:
        sites = []
        for kind in SERVERS:
            settings = settings_for(auth, folder / f"data {kind}") | {"protect_http": "/api/*"} | FIRST_MESSAGE_ROUTE
            starting = server(kind, "server_app:app", cwd=HERE, settings=settings, log=folder / f"{kind}.log")
            sites.append(asyncio.ensure_future(stack.enter_async_context(starting)))
        up = [Site(kind, await running, auth) for kind, running in zip(SERVERS, sites, strict=True)]
        cells = {(OPENING, site.kind): await when_the_door_opens(site) for site in up}
        for row, words in zip(
            PROBES, await asyncio.gather(*(on_all(up, probe) for probe in PROBES.values())), strict=True
        ):
            cells |= {(row, kind): word for kind, word in words.items()}
        cells |= {(FIRST_MESSAGE, kind): held for kind, held in (await on_all(up, a_first_message)).items()}
        auth.answer_with(500)
        for row, probe in IN_AN_OUTAGE.items():
            cells |= {(row, kind): word for kind, word in (await on_all(up, probe)).items()}
        auth.answer_normally()
        auth.latency_seconds = 1.5
        for kind, ends in (await on_all(up, at_sigterm)).items():
            cells |= {(row, kind): word for row, word in ends.items()}
        return cells


async def on_all(sites: list[Site], probe: Callable[[Site], Awaitable[T]]) -> dict[str, T]:
    words = await asyncio.gather(*(probe(site) for site in sites))
    return {site.kind: word for site, word in zip(sites, words, strict=True)}


# The page


ROWS = (OPENING, *PROBES, FIRST_MESSAGE, *IN_AN_OUTAGE, SOCKET_AT_SIGTERM, HANDSHAKE_AT_SIGTERM)
HEADINGS = ("`doorward serve`", "uvicorn", "uvicorn, `UvicornProtocol`", "granian", "hypercorn", "daphne")
CUT_SAID = re.compile(r"cut (after|within) (\d+) s")
CUT_FOUND = re.compile(r"cut after ([\d. ]+) s")
SINCE_PYTHON_3_12 = {(SOCKET_AT_SIGTERM, "hypercorn"): "stays"}
"""`asyncio.Server.wait_closed`, which hypercorn awaits before it closes sockets, waits for them since."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    return asyncio.run(measured(tmp_path_factory.mktemp("servers")))


def documented() -> dict[tuple[str, str], str]:
    lines = [line.strip("|").split("|") for line in read(PAGE).splitlines() if line.startswith("|")]
    headings, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert tuple(headings[1:]) == HEADINGS
    return {(row[0], kind): word for row in rows for kind, word in zip(SERVERS, row[1:], strict=True)}


def test_the_page_has_these_rows_and_no_others() -> None:
    assert list(dict.fromkeys(row for row, _ in documented())) == list(ROWS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("row", ROWS)
def test_the_page_says_what_is_measured(row: str, kind: str, cells: dict[tuple[str, str], str]) -> None:
    said, found = documented()[row, kind], cells[row, kind]
    if sys.version_info >= (3, 12):
        said = SINCE_PYTHON_3_12.get((row, kind), said)
    promise, cut = CUT_SAID.fullmatch(said), CUT_FOUND.fullmatch(found)
    if promise and cut:
        assert keeps(promise[1], float(promise[2]), [float(seconds) for seconds in cut[1].split()]), found
    else:
        assert found == said


def keeps(when: str, seconds: float, tries: list[float]) -> bool:
    """`within`: a server that looks around so often. A try that begins when it has just looked takes nearly all of that."""
    latest = seconds + max(LATE_SECONDS, LATE_SHARE * seconds)
    if when == "within":
        return WITHIN_SHARE * seconds <= max(tries) and median_low(tries) <= latest
    return seconds - EARLY_SECONDS <= min(tries) <= latest


@pytest.mark.parametrize("said", [0, 1, 2, 5, 8, 10, 30, 99])
@pytest.mark.parametrize("real", [0, 1, 2, 5, 8, 10])
def test_no_time_is_taken_for_another(said: float, real: float) -> None:
    assert keeps("after", said, [real + 0.6, real, real + 3.0]) is (said == real)


@pytest.mark.parametrize("said", [0, 1, 2, 5, 10, 30])
@pytest.mark.parametrize("real", [1, 2, 5, 10])
def test_no_time_within_which_is_taken_for_another(said: float, real: float) -> None:
    assert keeps("within", said, [real / 4, real * 0.9, real * 0.9]) is (said == real)


# What bounds a first message, where the server has an option for that


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("uvicorn", "--ws-max-size 65536"),
        ("UvicornProtocol", "--ws-max-size 65536"),
        ("hypercorn", "websocket_max_message_size = 65536"),
        ("daphne", "--websocket-max-message-size 65536"),
    ],
)
async def test_an_option_bounds_a_first_message(kind: str, option: str, tmp_path: Path) -> None:
    assert option in read(PAGE)
    assert option.split()[0] in read("docs/how-to/guard-an-app.md")
    options = option.split()
    if kind == "hypercorn":
        (tmp_path / "hypercorn.toml").write_text(option)
        options = ["--config", str(tmp_path / "hypercorn.toml")]
    at = str(free_port())
    command = (*SERVERS[kind]("server_app:app", at), *options)
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data") | FIRST_MESSAGE_ROUTE
        async with listening(command, at, HERE, settings, tmp_path / "log") as running:
            assert await a_first_message(Site(kind, running, auth)) == "64 KiB"


# A proxy on a Unix socket


async def says_who(kind: str, auth: FakeAuthService, folder: Path) -> dict[str, Any]:
    settings = settings_for(auth, folder / f"data {kind}") | {"trusted_proxies": "unix"}
    unix = folder / f"{kind}.sock"
    running = server(kind, "server_app:app", cwd=HERE, settings=settings, log=folder / f"{kind}.log", unix=unix)
    forwarded = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "X-Forwarded-Proto": "https"}
    async with (
        running,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(unix))) as http,
        http.get("http://door.example/who", headers=forwarded) as answer,
    ):
        seen: dict[str, Any] = await answer.json()
        return seen


async def test_a_proxy_on_a_unix_socket_says_who_the_client_is(tmp_path: Path) -> None:
    kinds = ["UvicornProtocol", "granian", "hypercorn", "daphne"]
    async with FakeAuthService() as auth:
        seen = await asyncio.gather(*(says_who(kind, auth, tmp_path) for kind in kinds))
    assert {(each["address"], each["scheme"]) for each in seen} == {("203.0.113.9", "https")}
