"""The door behind servers that behave in other ways than our own: what it does is seen at the ASGI messages."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.log_support import structlog_as

from doorward import Doorward, Settings
from doorward.asgi.door import Door
from doorward.asgi.session import AdmittedConnection
from doorward.asgi.types import App, Message, Receive, Scope, Send
from doorward.core.answer import Invalid, Valid
from doorward.core.deadline import Deadline
from doorward.core.health import Condition
from doorward.core.verdict import Cause, Code, Source, Unavailable
from doorward.runtime.clock import SystemClock
from doorward.runtime.gate import UNHEARD_SECONDS, Unanswered
from doorward.runtime.health_monitor import HealthMonitor
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock, RevocationItem
from doorward.runtime.verifier import Judgement
from doorward.runtime.wakes import Sleeper, Wakes
from doorward.testing import eventually, opaque_token

QUICK: dict[str, Any] = {"deadline_seconds": 0.5, "patience_seconds": 0.1}


class Says:
    """A validator without a network: good tokens are in the map, the rest are not."""

    def __init__(self, **users: str) -> None:
        self.users = users

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        user_id = self.users.get(token)
        if user_id is None:
            return Invalid("unknown")
        lives = {"brief": 30.0, "ending": 0.5, "endless": math.inf}.get(token)
        expires_at = time.time() + lives if lives is not None else None
        return Valid(user_id, permissions=frozenset({"chat"}), session_id=f"of-{user_id}", expires_at=expires_at)


@dataclass
class Peer:
    """One client as a server hands it over: what it sends, and what it was sent."""

    scope: Scope
    inbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    sent: list[Message] = field(default_factory=list)
    accepts: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    async def receive(self) -> Message:
        return await self.inbox.get()

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            async with asyncio.timeout(5):
                await self.accepts.wait()
        self.waiting += 1
        async with asyncio.timeout(5):
            await self.reads.wait()
        self.waiting -= 1
        self.sent.append(message)

    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(message["text"]) for message in self.sent if message["type"] == "websocket.send"]

    def notices(self) -> list[str]:
        return [frame["notice"] for frame in self.frames() if "notice" in frame]

    def of_type(self, kind: str) -> list[Message]:
        return [message for message in self.sent if message["type"] == kind]


def peer(
    token: str | None = None, *, ours: bool = True, extensions: dict[str, Any] | None = None, kind: type[Peer] = Peer
) -> Peer:
    headers = [(b"host", b"door.example")]
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    scope = {
        "type": "websocket",
        "path": "/ws",
        "scheme": "ws",
        "headers": headers,
        "subprotocols": ["doorward.v1"] if ours else [],
        "client": ("192.0.2.7", 4711),
        "extensions": {"websocket.http.response": {}} if extensions is None else extensions,
    }
    made = kind(scope)
    made.inbox.put_nowait({"type": "websocket.connect"})
    made.accepts.set()
    made.reads.set()
    return made


@asynccontextmanager
async def open_door(
    tmp_path: Path,
    app: App,
    *,
    emit: Callable[[DecisionRecord], None] = lambda _: None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Doorward]:
    loaded = Settings(auth={"url": "http://127.0.0.1:9", "revocations": "off"}, data_dir=tmp_path / "data", **settings)
    validator = Says(good="ada", other="eve", brief="ada", ending="ada", endless="ada")
    door = Door(loaded, validator=validator, emit=emit, clock=clock)
    middleware = Doorward(app, loaded, door=door)
    await door.open()
    try:
        yield middleware
    finally:
        await door.aclose()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": json.dumps({"echo": event["text"]})})


@asynccontextmanager
async def running(app: Doorward, client: Peer) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(app(client.scope, client.receive, client.send))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


def revoke(app: Doorward, user_id: str = "ada") -> None:
    app.door.issuers["auth"].registry.revoke([RevocationItem(user_id=user_id, not_before_ms=10**15)])


async def test_our_protocol_is_taken_where_the_app_takes_none(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            assert client.of_type("websocket.accept") == [{"type": "websocket.accept", "subprotocol": "doorward.v1"}]


async def test_a_server_that_does_not_wake_the_app_after_the_close(tmp_path: Path) -> None:
    """The app's `receive` is woken by the door itself, and gets its disconnect once, and again if it asks again."""
    seen: list[Message] = []

    async def curious(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.extend([await receive(), await receive()])
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "too late"})

    async with open_door(tmp_path, curious) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(lambda: client.frames(), what="the greeting")
            revoke(app)
            await eventually(task.done, within_seconds=2, what="the app has left")
            assert task.exception() is None
            assert seen == [{"type": "websocket.disconnect", "code": 3000, "reason": "TOKEN_REVOKED"}] * 2
            assert client.of_type("websocket.close")[0]["code"] == 3000


async def test_revoked_while_the_server_is_at_the_accept(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        client.accepts.clear()
        async with running(app, client) as task:
            await eventually(lambda: len(app.door.issuers["auth"].registry) == 1, what="it is registered")
            revoke(app)
            await asyncio.sleep(0)
            assert client.sent == []
            client.accepts.set()
            await eventually(task.done, within_seconds=2, what="the app has left")
            assert [message["type"] for message in client.sent] == [
                "websocket.accept",
                "websocket.send",
                "websocket.close",
            ]
            assert client.frames()[0]["code"] == "TOKEN_REVOKED"
        assert len(app.door.issuers["auth"].registry) == 0


@pytest.mark.parametrize("meanwhile", [False, True], ids=["and revoked later", "while revoked"])
async def test_an_accept_that_fails_leaves_the_refusal_to_the_door(meanwhile: bool, tmp_path: Path) -> None:
    failed: list[Exception] = []

    class Refuses(Peer):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if message["type"] == "websocket.accept":
                raise RuntimeError("Invalid HTTP header")

    async def tries(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await send({"type": "websocket.accept"})
        except RuntimeError as error:
            failed.append(error)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with open_door(tmp_path, tries, session={"app_exit_seconds": 60}) as app:
        client = peer("good", kind=Refuses)
        client.accepts.clear()
        async with running(app, client) as task:
            await eventually(lambda: len(app.door.issuers["auth"].registry) == 1, what="it is registered")
            if meanwhile:
                revoke(app)
            client.accepts.set()
            await eventually(lambda: failed, what="the accept has failed")
            if not meanwhile:
                revoke(app)
            await eventually(task.done, within_seconds=1, what="the app has left")
            (start,) = client.of_type("websocket.http.response.start")
            assert start["status"] == 401


async def test_a_server_without_the_extension_closes_before_the_accept(tmp_path: Path) -> None:
    """Which such a server tells the client as a 403."""
    async with open_door(tmp_path, echo) as app:
        client = peer(None, ours=False, extensions={})
        async with running(app, client) as task:
            await eventually(task.done, what="it is answered")
        (refusal,) = client.sent
        assert (refusal["type"], refusal["code"]) == ("websocket.close", 3000)
        assert refusal["reason"].startswith("AUTH_REQUIRED;id=")


async def test_a_server_without_the_extension_lets_in_whom_a_403_would_send_away_for_good(tmp_path: Path) -> None:
    """An outage, or a drain, is no *no*: where there can be no 503 the close code has to say it."""
    async with open_door(tmp_path, echo) as app:
        app.door.draining = True
        client = peer("good", ours=False, extensions={})
        async with running(app, client) as task:
            await eventually(task.done, what="it is answered")
        accept, close = client.sent
        assert (accept["type"], accept["subprotocol"]) == ("websocket.accept", None)
        assert (close["type"], close["code"]) == ("websocket.close", 1012)
        assert close["reason"].startswith("RESTARTING;retry_after_ms=")


@pytest.mark.parametrize("origin", [None, b"https://evil.example"])
@pytest.mark.parametrize("denial", ["auto", "http"])
async def test_but_no_foreign_origin_and_nobody_where_the_setting_forbids_it(
    origin: bytes | None, denial: str, tmp_path: Path
) -> None:
    async with open_door(tmp_path, echo, denial=denial) as app:
        app.door.draining = True
        client = peer("good", ours=False, extensions={})
        if origin is not None:
            client.scope["headers"].append((b"origin", origin))
        async with running(app, client) as task:
            await eventually(task.done, what="it is answered")
        let_in = origin is None and denial == "auto"
        assert client.sent[0]["type"] == ("websocket.accept" if let_in else "websocket.close")


class Daphne(Peer):
    """Autobahn, below it, takes no close code but 1000 and those from 3000 on."""

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.close" and not 3000 <= message["code"] <= 4999:
            raise Exception(f"invalid close code {message['code']}")  # noqa: TRY002 - its very words
        await super().send(message)


@pytest.mark.parametrize(
    ("token", "draining", "code"), [(None, False, 3000), ("a b", False, 4400), ("good", True, 4503)]
)
async def test_a_server_that_does_not_send_the_close_code_gets_a_private_one(
    token: str | None, draining: bool, code: int, tmp_path: Path
) -> None:
    async with open_door(tmp_path, echo) as app:
        app.door.draining = draining
        client = peer(token, kind=Daphne)
        client.scope["headers"].append((b"origin", b"http://door.example"))
        async with running(app, client) as task:
            await eventually(task.done, what="it is answered")
        assert [message["code"] for message in client.of_type("websocket.close")] == [code]
        assert client.frames()[0]["type"] == "auth.error"


async def test_a_server_that_does_not_send_the_refusal_holds_nobody_up(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer(None)
        client.scope["headers"].append((b"origin", b"http://door.example"))
        client.accepts.clear()
        async with running(app, client) as task:
            await eventually(task.done, within_seconds=2, what="it is given up")
            assert task.exception() is None
        assert client.sent == []


async def test_an_abort_is_asked_for_after_every_close_of_ours(tmp_path: Path) -> None:
    aborted = asyncio.Event()
    async with open_door(tmp_path, echo) as app:
        client = peer("good", extensions={"doorward": {"abort": aborted.set}})
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            revoke(app)
            await eventually(aborted.is_set, within_seconds=3, what="the abort")


def broken(*_: Any) -> Any:
    raise ZeroDivisionError


async def broken_later(*_: Any) -> Any:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.mark.parametrize("deciding", [broken, broken_later])
async def test_a_bug_of_ours_fails_closed_and_is_told_as_ours(tmp_path: Path, deciding: Callable[..., Any]) -> None:
    async with open_door(tmp_path, echo) as app:
        app.door.authenticator.deciding = deciding  # type: ignore[method-assign]
        client = peer("good", ours=False)
        async with running(app, client) as task:
            await eventually(task.done, what="it is answered")
        start, body = client.sent
        assert start["status"] == 500
        assert json.loads(body["body"])["code"] == "INTERNAL"


async def test_a_log_that_fails_keeps_nobody_out(tmp_path: Path) -> None:
    def full(_: DecisionRecord) -> None:
        raise OSError("disk full")

    async with open_door(tmp_path, echo, emit=full) as app:
        client = peer("good")
        async with running(app, client):
            await eventually(lambda: client.of_type("websocket.accept"), what="it is let in")
        assert len(app.door.issuers["auth"].registry) == 0


async def test_the_last_lines_are_written_when_the_door_has_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most servers end by the signal that stopped them: nothing runs after that."""
    with structlog_as():
        async with open_door(tmp_path, echo):
            get_logger("doorward").error("the last line")
        assert "the last line" in capsys.readouterr().err


@pytest.mark.parametrize("configuration", [{}, {"context_class": dict}], ids=["not configured", "configured"])
async def test_a_bug_of_ours_does_not_log_the_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], configuration: dict[str, Any]
) -> None:
    """structlog itself shows local variables in tracebacks, where `rich` is installed; the token is in several."""
    assert find_spec("rich")
    said = ""

    def heard() -> bool:
        nonlocal said
        said += "".join(capsys.readouterr())
        return "broken_later" in said

    with structlog_as(**configuration):
        async with open_door(tmp_path, echo) as app:
            app.door.authenticator.deciding = broken_later  # type: ignore[assignment,method-assign]
            client = peer(token := opaque_token())
            async with running(app, client):
                await eventually(heard, what="the bug is told")
    assert "a decision failed: this is a bug" in said
    assert token not in said


async def test_the_record_of_an_allow_ends_where_the_app_begins(tmp_path: Path) -> None:
    """The app accepts, so what the door is answerable for ends there: between the record and the app the loop does not turn."""
    order: list[str] = []

    def emit(_: DecisionRecord) -> None:
        order.append("recorded")
        asyncio.get_running_loop().call_soon(order.append, "the loop turns")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("the app begins")
        await echo(scope, receive, send)

    client = peer("good")
    async with open_door(tmp_path, app, emit=emit) as door, running(door, client):
        await eventually(lambda: client.of_type("websocket.accept"))
        assert order == ["recorded", "the app begins", "the loop turns"]


async def test_an_open_connection_does_not_show_the_token(tmp_path: Path) -> None:
    client = peer("good")
    async with open_door(tmp_path, echo) as door, running(door, client):
        await eventually(lambda: client.of_type("websocket.accept"))
        (connection,) = door.door.connections
        assert "good" in str(connection.scope["headers"])
        assert "good" not in f"{connection!r} {connection} {connection.admission!r}"


async def test_a_client_that_leaves_during_the_app(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(lambda: client.frames(), what="the greeting")
            client.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
            await eventually(task.done, what="the app has left")
            assert task.exception() is None
        assert len(app.door.issuers["auth"].registry) == 0


async def test_an_app_that_closes_by_itself(tmp_path: Path) -> None:
    async def brief(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.send", "text": "too late"})

    async with open_door(tmp_path, brief) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(task.done, what="the app has left")
            assert task.exception() is None
        assert client.sent[-1]["type"] == "websocket.close"
        assert len(app.door.issuers["auth"].registry) == 0


async def test_an_error_of_the_app_is_the_servers_to_tell(tmp_path: Path) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("bug")

    async with open_door(tmp_path, broken) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(task.done, what="the app has left")
            assert isinstance(task.exception(), KeyError)
        assert len(app.door.issuers["auth"].registry) == 0


async def test_the_server_cancels_a_connection(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(lambda: client.frames(), what="the greeting")
            task.cancel()
            await eventually(task.done, what="it has ended")
            assert task.cancelled()
        assert len(app.door.issuers["auth"].registry) == 0


async def test_messages_that_only_look_like_a_refresh_are_the_apps(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        async with running(app, client):
            texts = [
                "auth.refresh",
                '{"type": "note", "text": "auth.refresh"}',
                '["auth.refresh"]',
                "auth.refresh" * 2000,
            ]
            for text in texts:
                client.inbox.put_nowait({"type": "websocket.receive", "text": text})
            await eventually(lambda: len(client.frames()) == 1 + len(texts), what="the app has answered")
            assert [frame["echo"] for frame in client.frames()[1:]] == texts


async def test_a_client_that_is_not_ours_keeps_its_messages(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good", ours=False)
        async with running(app, client):
            text = '{"type": "auth.refresh", "token": "other"}'
            client.inbox.put_nowait({"type": "websocket.receive", "text": text})
            await eventually(lambda: client.frames() == [{"echo": text}], what="the app has answered")


async def test_a_refresh_that_meets_a_bug_is_answered(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:

        async def broken(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

        client = peer("good")
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            app.door.issuers["auth"].verifier.judge = broken  # type: ignore[method-assign]
            command = {"id": 7, "type": "auth.refresh", "token": "good"}
            for _ in range(2):
                client.sent.clear()
                client.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(command)})
                await eventually(lambda: client.frames(), what="the reply")
                (reply,) = client.frames()
                assert reply["reply_to"] == 7
                assert reply["error"]["code"] == "INTERNAL"


async def test_refused_refreshes_send_nobody_away(tmp_path: Path) -> None:
    """Their sender stays connected: it is no crowd that comes back."""
    async with open_door(tmp_path, echo) as app:

        async def cannot_ask(*_: Any, **__: Any) -> Judgement:
            return Judgement(Unavailable(Code.SERVICE_UNAVAILABLE, Source.REMOTE, Cause.UPSTREAM))

        client = peer("good")
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            app.door.issuers["auth"].verifier.judge = cannot_ask  # type: ignore[method-assign]
            command = {"type": "websocket.receive", "text": json.dumps({"type": "auth.refresh", "token": "good"})}
            for _ in range(200):
                client.inbox.put_nowait(command)
            await eventually(lambda: len(client.sent) == 202, what="the replies")
            assert all(frame["error"]["retry_after_ms"] >= 1_000 for frame in client.frames()[1:])
        assert app.door.denier._crowd.waiting(app.door.clock.monotonic()) == 0


# What happens before the app has accepted, and while the door is at it


async def test_a_warning_that_is_due_before_the_accept_follows_the_greeting(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("brief")
        client.accepts.clear()
        async with running(app, client):
            await eventually(lambda: len(app.door.issuers["auth"].registry) == 1, what="it is registered")
            (connection,) = app.door.issuers["auth"].registry
            assert isinstance(connection, AdmittedConnection)
            await eventually(lambda: connection.session.wake_at == connection.admission.expires_at, what="the warning")
            client.accepts.set()
            await eventually(lambda: len(client.frames()) == 2, what="greeting and warning")
            assert [frame["notice"] for frame in client.frames()] == ["auth.assurance", "auth.expiring"]


async def test_the_greeting_is_how_it_stands_then(tmp_path: Path) -> None:
    """A notice about the assurance that is due before the accept would say it twice."""
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        client.accepts.clear()
        async with running(app, client):
            await eventually(lambda: len(app.door.issuers["auth"].registry) == 1, what="it is registered")
            (connection,) = app.door.issuers["auth"].registry
            assert isinstance(connection, AdmittedConnection)
            connection.settle(replace(connection.session.allow, degraded=True))
            client.accepts.set()
            await eventually(lambda: client.frames(), what="the greeting")
            client.inbox.put_nowait({"type": "websocket.receive", "text": "hello"})
            await eventually(lambda: client.frames()[-1] == {"echo": "hello"}, what="the app's answer")
            assert [frame["degraded"] for frame in client.frames()[:-1]] == [True]


async def test_a_greeting_that_cannot_be_sent_is_not_the_apps_trouble(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")

        async def deaf(message: Message) -> None:
            if message["type"] == "websocket.send" and "notice" in message["text"]:
                raise ConnectionResetError
            await client.send(message)

        task = asyncio.create_task(app(client.scope, client.receive, deaf))
        client.inbox.put_nowait({"type": "websocket.receive", "text": "hello"})
        await eventually(lambda: client.frames() == [{"echo": "hello"}], what="the app goes on")
        client.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, 5)


async def test_only_the_first_refusal_closes(tmp_path: Path) -> None:
    """A revocation comes in while the notice of the drain is being sent."""
    restarting = Unavailable(Code.RESTARTING, Source.DRAIN)
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        async with running(app, client) as task:
            await eventually(lambda: client.frames(), what="the greeting")
            (connection,) = app.door.issuers["auth"].registry
            assert isinstance(connection, AdmittedConnection)
            client.reads.clear()
            draining = asyncio.create_task(connection.drain(restarting, extra_waiting=0))
            await eventually(lambda: client.waiting, what="the notice is on its way")
            connection.revoke()
            client.reads.set()
            await draining
            await connection.drain(restarting, extra_waiting=0)
            await eventually(task.done, within_seconds=2, what="the app has left")
        assert [message["code"] for message in client.of_type("websocket.close")] == [3000]


def probed(health: HealthMonitor, *, succeeded: bool) -> None:
    """As many probes as it takes."""
    while not health.health.record(succeeded=succeeded):
        pass
    health.on_change()


async def test_without_a_canary_health_says_when_it_is_over(tmp_path: Path) -> None:
    """Nobody asks about a token here, so nothing else would tell."""
    options: dict[str, Any] = {"breaker": {"canary": False}, "session": {"expiring_notice_seconds": 0}}
    async with open_door(tmp_path, echo, **options) as app:
        health = app.door.issuers["auth"].health
        await eventually(lambda: health.health.condition is Condition.UNHEALTHY, what="the first probe has failed")
        probed(health, succeeded=True)
        assert not app.door.in_outage
        probed(health, succeeded=False)
        assert app.door.in_outage
        client = peer("ending")
        async with running(app, client):
            await eventually(lambda: client.notices() == ["auth.assurance", "auth.grace"], what="the grace")
            probed(health, succeeded=True)
            await eventually(lambda: client.notices()[2:] == ["auth.expiring"], what="the warning")


async def test_without_a_canary_a_trouble_that_nobody_asks_about_ends_by_itself(tmp_path: Path) -> None:
    """Else one failed question would keep expired connections open for as long as nobody asks another."""
    later = [0.0]
    clock = SystemClock(monotonic=lambda: time.monotonic() + later[0])
    async with open_door(tmp_path, echo, clock=clock, breaker={"canary": False}) as app:
        app.door.issuers["auth"].gate.misconfigured(Unanswered(Code.SERVICE_UNAVAILABLE, Cause.CONFIG))
        assert app.door.in_outage
        later[0] += UNHEARD_SECONDS
        assert not app.door.in_outage


async def test_a_server_that_gives_no_connect_is_not_waited_for(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer(None, ours=False)
        client.inbox.get_nowait()
        async with running(app, client) as task:
            await eventually(task.done, within_seconds=3, what="it is answered")
        assert client.sent[0]["status"] == 401


async def test_a_door_that_is_slow_to_open_is_not_waited_for(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo, **QUICK) as app:
        opened_at, app.door.opened_at = app.door.opened_at, None

        async def stuck() -> None:
            await asyncio.Event().wait()

        app.door.open = stuck  # type: ignore[method-assign]
        client = peer("good", ours=False)
        async with running(app, client) as task:
            await eventually(task.done, within_seconds=1.0, what="it is answered")
        start, body = client.sent
        assert start["status"] == 503
        assert json.loads(body["body"])["cause"] == "store"
        app.door.opened_at = opened_at


async def test_other_scopes_and_other_servers(tmp_path: Path) -> None:
    """HTTP passes through; on a server of somebody else's a drain is the middleware's own method."""
    seen: list[str] = []

    async def app_of_http(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seen.append(scope["path"])
        else:
            await echo(scope, receive, send)

    async with open_door(tmp_path, app_of_http) as app:
        client = peer("good")
        await app({"type": "http", "path": "/page"}, client.receive, client.send)
        assert seen == ["/page"]
        async with running(app, client) as task:
            await eventually(lambda: client.frames(), what="the greeting")
            await app.drain(spread_seconds=0.0)
            await eventually(task.done, within_seconds=2, what="the app has left")
        assert client.of_type("websocket.close")[0]["code"] == 1012


class NoWakes(Wakes):
    """Has no timer to give."""

    def add(self, sleeper: Sleeper, at: float) -> None:
        raise RuntimeError("no timer")


async def test_a_connection_that_cannot_be_armed_is_not_kept(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        issuer = app.door.issuers["auth"]
        issuer.surroundings = replace(issuer.surroundings, wakes=NoWakes(app.door.clock))
        client = peer("brief")
        with pytest.raises(RuntimeError, match="no timer"):
            await app(client.scope, client.receive, client.send)
        assert len(issuer.registry) == 0
        assert client.sent == []


async def test_a_validator_that_knows_no_end_lets_in_for_ever(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("endless")
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            assert client.frames()[0]["expires_at"] is None
            assert len(app.door.issuers["auth"].registry) == 1
        assert len(app.door.issuers["auth"].registry) == 0


async def test_what_the_door_knows_of_itself(tmp_path: Path) -> None:
    async with open_door(tmp_path, echo) as app:
        client = peer("good")
        insight = app.door.insight
        async with running(app, client):
            await eventually(lambda: client.frames(), what="the greeting")
            (view,) = insight.connections("ada")
            assert (view.user_id, view.path, view.address) == ("ada", "/ws", "192.0.2.7")
            assert insight.connections("eve") == []
            (record,) = insight.decisions()
            assert insight.decision(record.id) is record
            assert record.id == view.id
            assert insight.statistics().by_verdict == {"allow": 1}
            (service,) = insight.services()
            assert (service.issuer, service.tenant, service.in_outage) == ("auth", None, False)
            assert (service.url, service.breaker, service.bars) == ("http://127.0.0.1:9", "closed", 0)
            assert service.degrade_mode == "cached_only"
            assert service.feed_age_seconds is None
