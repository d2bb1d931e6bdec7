"""Your app behind a real door, for your own end-to-end tests: real sockets, an auth service's stand-in, and faults on demand.

It all runs in a thread with an event loop of its own, so that any test can use it, synchronous or not, on any test runner's loop.
Needs `doorward[server]`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import uvicorn
import websockets
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus
from websockets.sync import client as sync_client

from doorward.asgi.middleware import Doorward
from doorward.asgi.types import App
from doorward.config import AuthSettings, Environment, Settings
from doorward.testing.auth_service import FakeAuthService
from doorward.testing.faults import Fault
from doorward.testing.proxy import FaultProxy
from doorward.testing.waiting import eventually

STEP_SECONDS = 30.0
"""Longest wait for anything that the thread is asked to do."""
OPEN_SECONDS = 10.0
HEAL_SECONDS = 10.0
STOP_SECONDS = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a handshake was refused, as a client that is no browser is told: see docs/reference/close-codes.md."""

    status: int
    code: str | None
    cause: str | None
    retry_after_ms: int | None


class GuardedApp:
    """An app, the door before it, an auth service, and a proxy between the two that breaks the way.

    ```python
    with GuardedApp(app) as guarded:
        with guarded.connect(guarded.token("ada")) as ws:
            ws.send("hello")
        with guarded.broken(Fault.SILENCE):
            assert guarded.refusal(guarded.token("bob")).code == "SERVICE_UNAVAILABLE"
    ```

    Args:
        app: an ASGI app without a door; or with one, which is replaced by one with the same settings and this auth service.
        settings: of the door, as for `Settings(...)`; `auth`, `data_dir` and `environment` are the fixture's own.
    """

    def __init__(self, app: App | Doorward, settings: Mapping[str, Any] | None = None) -> None:
        self._app = app
        self._given = settings or {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="guarded-app", daemon=True)
        self._stack = AsyncExitStack()
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def url(self) -> str:
        """`ws://127.0.0.1:PORT`, without a path."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # Who comes

    def token(self, user: str = "ada", *, permissions: tuple[str, ...] = ("chat",), **claims: Any) -> str:
        """A token that the auth service calls valid. `claims` as for `FakeAuthService.issue`; `ttl_seconds=-1`: expired."""
        return self.call(lambda: self.auth.issue(user, permissions=permissions, **claims))

    def forged(self, user: str = "ada") -> str:
        """A token that somebody else has signed."""
        return self.call(lambda: self.auth.mint.forged(user))

    def connect(self, token: str | None = None, *, path: str = "/ws", **options: Any) -> sync_client.ClientConnection:
        """A client that is signed in: a context manager, for a test that is not asynchronous.

        Args:
            token: default: a new one for ada.
            options: as for `websockets.sync.client.connect`.
        """
        return self._connect(path, self.headers(token), options)

    def connect_async(self, token: str | None = None, *, path: str = "/ws", **options: Any) -> websockets.connect:
        """The same, for `async with`, on asyncio."""
        options = {"open_timeout": OPEN_SECONDS, "proxy": None, **options}
        return websockets.connect(self.url + path, additional_headers=self.headers(token), **options)

    def headers(self, token: str | None = None) -> dict[str, str]:
        """For any other client."""
        return {"Authorization": f"Bearer {self.token() if token is None else token}"}

    def refusal(self, token: str | None, *, path: str = "/ws", **options: Any) -> Refusal:
        """How a client with this token, or with none, is refused.

        Raises:
            AssertionError: it was let in.
        """
        headers = self.headers(token) if token is not None else {}
        try:
            with self._connect(path, headers, options):
                raise AssertionError("the client was let in")
        except InvalidStatus as refused:
            return _told(refused.response.status_code, bytes(refused.response.body or b""))

    # What goes wrong

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """While entered, the way to the auth service is broken; it ends when the door has noticed that all is well again."""
        self._set(fault)
        try:
            yield
        finally:
            self.heal()

    def heal(self) -> None:
        """Mend the way, and wait until the door knows.

        Raises:
            AssertionError: it does not find out within ten seconds.
        """
        self._set(Fault.NONE)
        self.run(eventually(lambda: not self.door.in_outage, within_seconds=HEAL_SECONDS, what="the door has healed"))

    def reject(self, token: str) -> None:
        """The auth service calls this token invalid from now on."""
        self.call(lambda: self.auth.reject(token))

    def revoke(self, user: str) -> None:
        """The auth service revokes all tokens of this user; the door closes the user's sockets when it hears of it."""
        self.call(lambda: self.auth.revoke(user_id=user))

    # The thread

    def call(self, function: Callable[[], T]) -> T:
        """The result of a function called in the thread: for anything of `auth`, `proxy` and `door` that is not above."""

        async def called() -> T:
            return function()

        return self.run(called())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine run in the thread, within 30 seconds."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(STEP_SECONDS)
        except TimeoutError:
            future.cancel()
            raise

    def _connect(self, path: str, headers: Mapping[str, str], options: dict[str, Any]) -> sync_client.ClientConnection:
        options = {"open_timeout": OPEN_SECONDS, "proxy": None, **options}
        client: sync_client.ClientConnection = sync_client.connect(
            self.url + path, additional_headers=headers, **options
        )
        return client

    def _set(self, fault: Fault) -> None:
        self.call(lambda: setattr(self.proxy, "fault", fault))

    async def _open(self) -> None:
        self.auth = await self._stack.enter_async_context(FakeAuthService())
        self.proxy = await self._stack.enter_async_context(FaultProxy(self.auth.host, self.auth.port, seed=1))
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="doorward-"))
        app = self._guarded(folder)
        self.door = app.door
        await self._serve(app)
        await eventually(lambda: self.door.opened_at is None or self.door.ready, what="the door is ready")

    def _guarded(self, folder: str) -> Doorward:
        own: dict[str, Any] = {
            "environment": Environment.DEVELOPMENT,
            "data_dir": folder,
            "auth": AuthSettings(
                url=self.proxy.url,
                issuer=self.auth.issuer,
                audience=(self.auth.audience,),
                service_id=self.auth.service_id,
                service_secret=SecretStr(self.auth.service_secret),
            ),
        }
        if isinstance(self._app, Doorward):
            theirs = {name: getattr(self._app.settings, name) for name in self._app.settings.model_fields_set}
            return Doorward(self._app.app, Settings(**{**theirs, **self._given, **own}))
        return Doorward(self._app, Settings(**{**self._given, **own}))

    async def _serve(self, app: Doorward) -> None:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            ws="websockets-sansio",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=STOP_SECONDS,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(_until_stopped(server, listener))

        async def stop() -> None:
            server.should_exit = True
            await asyncio.wait({serving}, timeout=STOP_SECONDS * 2)
            serving.cancel()
            await app.door.aclose()

        self._stack.push_async_callback(stop)
        await eventually(lambda: server.started or serving.done(), within_seconds=OPEN_SECONDS, what="the server is up")
        if serving.done():
            await serving

    def _stop(self) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STEP_SECONDS)
            self._loop.close()


async def _until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    """Raises: AssertionError: the app did not start. (uvicorn would end the process.)"""
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        raise AssertionError("the app did not start; its log says why") from None


def _told(status: int, body: bytes) -> Refusal:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    return Refusal(status, problem.get("code"), problem.get("cause"), problem.get("retry_after_ms"))
