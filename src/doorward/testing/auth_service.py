"""An auth service for tests: real sockets, real tokens, the contract's answers, and misbehaviour on request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from doorward.errors import UsageError
from doorward.testing.received import Endpoint, ReceivedRequest
from doorward.testing.revocation_feed import FakeRevocationFeed
from doorward.testing.stand_in import StandIn
from doorward.testing.tokens import TokenMint, opaque_token

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

REMEMBERED_REQUESTS = 10_000
BACKLOG = 4096
"""Room for a burst: a SYN that finds the backlog full costs its client a second."""

STOP_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Scripted:
    status: int
    body: bytes
    headers: Mapping[str, str]


class FakeAuthService(StandIn):
    """Speaks the auth service contract on a real socket, in the test's own loop.

    A token is valid if this service issued it, for the audience that is asked about, it has not expired, and nobody rejected or
    revoked it.
    State outlives `aclose`, and `start` then takes the same port again: that is a restart.

    ```python
    async with FakeAuthService() as auth:
        token = auth.issue("ada", permissions=["chat"])
        auth.latency_seconds = 3.0
        assert auth.calls[Endpoint.VALIDATE] == 0
    ```

    Args:
        host: a loopback address.
        port: 0 picks a free one.
        issuer: the `iss` of its tokens; default: its own URL.
        audience: the `aud` of its tokens.
        service_id: the only name that may ask.
        service_secret: and its secret, over HTTP Basic or `X-Service-ID` / `X-Service-Secret`.
        ssl_context: serve TLS with it.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        issuer: str | None = None,
        audience: str = "doorward",
        service_id: str = "doorward",
        service_secret: str = "fake-service-secret",
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.service_id = service_id
        self.service_secret = service_secret
        self.latency_seconds = 0.0
        """Each answer waits this long first (the feed: this much longer)."""
        self.clock_skew_seconds = 0.0
        """How far this service's wall clock runs ahead."""
        self.refuse_service_credential = False
        """Answer 401 to our own credential, as after a botched secret rotation."""
        self.invalid_as_401 = False
        """Say "not valid" as 401 `invalid_token` rather than as 200 `valid: false`."""
        self.cache_seconds: float | None = None
        self.healthy = True
        self.calls: Counter[Endpoint] = Counter()
        self.requests: deque[ReceivedRequest] = deque(maxlen=REMEMBERED_REQUESTS)
        self.asked_about: Counter[str] = Counter()
        """How often each token was asked about."""
        self.mint = TokenMint(issuer or "", audience=audience, wall=self._wall)
        self._own_issuer = issuer is None
        self._ssl_context = ssl_context
        self._answers: dict[str, dict[str, Any]] = {}
        self._barred: set[str] = set()
        self._revocations = FakeRevocationFeed(self._wall)
        self._scripts: dict[Endpoint, tuple[_Scripted, int | None]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. After `aclose` on the same port as before."""
        if self._runner is not None:
            raise UsageError("the fake auth service is already running")
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_post(Endpoint.VALIDATE, self._endpoint(Endpoint.VALIDATE, self._validate))
        app.router.add_post(Endpoint.INTROSPECT, self._endpoint(Endpoint.INTROSPECT, self._introspect))
        app.router.add_get(Endpoint.HEALTH, self._endpoint(Endpoint.HEALTH, self._health))
        app.router.add_get(Endpoint.JWKS, self._endpoint(Endpoint.JWKS, self._jwks))
        app.router.add_get(Endpoint.REVOCATIONS, self._endpoint(Endpoint.REVOCATIONS, self._feed_page))
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, ssl_context=self._ssl_context, backlog=BACKLOG).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._revocations.opening()
        self.port = runner.addresses[0][1]
        if self._own_issuer:
            self.mint.issuer = self.url

    async def aclose(self) -> None:
        """Stop listening and cut every connection. Keys, tokens and revocations are kept."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._revocations.closing()
            await runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        return f"{'https' if self._ssl_context else 'http'}://{self.host}:{self.port}"

    @property
    def issuer(self) -> str:
        return self.mint.issuer

    @property
    def audience(self) -> str:
        return self.mint.audience

    # --- tokens -------------------------------------------------------------------------------------------------------

    def issue(
        self,
        user_id: str = "ada",
        *,
        permissions: Sequence[str] = ("chat",),
        session_id: str | None = None,
        email: str | None = None,
        ttl_seconds: float = 600.0,
        age_seconds: float = 0.0,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A JWT that this service will call valid.

        Args:
            user_id: `sub`.
            permissions: `permissions`.
            session_id: `sid`; a random one if `None`.
            email: `email`.
            ttl_seconds: life from now on; negative for one that has expired.
            age_seconds: how long ago it was issued (`iat`).
            header: added to the JOSE header; `None` values are left out.
            claims: replace or add claims; `None` leaves one out.
        """
        content = self.mint.claims(
            user_id,
            permissions=permissions,
            session_id=session_id,
            email=email,
            ttl_seconds=ttl_seconds,
            age_seconds=age_seconds,
            **claims,
        )
        token = self.mint.sign(content, header=header)
        self._answers[token] = _answer_of(content)
        return token

    def issue_opaque(
        self,
        user_id: str = "ada",
        *,
        permissions: Sequence[str] = ("chat",),
        session_id: str | None = None,
        email: str | None = None,
        ttl_seconds: float = 600.0,
    ) -> str:
        """A token that only this service can read."""
        token = opaque_token()
        claims = self.mint.claims(
            user_id, permissions=permissions, session_id=session_id, email=email, ttl_seconds=ttl_seconds
        )
        self._answers[token] = _answer_of(claims)
        return token

    def reject(self, token: str) -> None:
        """Call this token invalid from now on, without a revocation."""
        self._barred.add(token)

    def accept(self, token: str) -> None:
        """Undo `reject`."""
        self._barred.discard(token)

    def alter_answer(self, token: str, **fields: Any) -> None:
        """Change what is said about a valid token, e.g. `user_id="mallory"`; `None` leaves the field out."""
        if token not in self._answers:
            raise UsageError("this service did not issue that token")
        self._answers[token].update(fields)

    def rotate_key(self, *, publish: bool = True, keep_old: bool = True) -> str:
        """Sign with a new key from now on; returns its `kid`. See `TokenMint.rotate`."""
        return self.mint.rotate(publish=publish, keep_old=keep_old)

    # --- revocations --------------------------------------------------------------------------------------------------

    def revoke(
        self,
        *,
        jti: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        not_before_ms: int | None = None,
    ) -> None:
        """Revoke and tell every waiting follower at once. Exactly one of `jti`, `session_id`, `user_id`.

        Args:
            not_before_ms: with `user_id`: tokens with an `iat` up to this moment (wall milliseconds); default: now.
        """
        given = {"jti": jti, "session_id": session_id, "user_id": user_id}
        item: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if len(item) != 1 or (not_before_ms is not None and user_id is None):
            raise UsageError("revoke takes exactly one of jti, session_id and user_id; not_before_ms goes with user_id")
        if user_id is not None:
            item["not_before"] = int(self._wall() * 1000) if not_before_ms is None else not_before_ms
        self._revocations.add(item)

    @property
    def feed(self) -> bool:
        """Whether there is a revocation feed; without one it answers 404."""
        return self._revocations.there

    @feed.setter
    def feed(self, there: bool) -> None:
        self._revocations.there = there

    @property
    def page_size(self) -> int:
        """How many items an answer of the feed holds at most."""
        return self._revocations.page_size

    @page_size.setter
    def page_size(self, items: int) -> None:
        self._revocations.page_size = items

    def expire_cursors(self) -> None:
        """Every cursor handed out so far is too old (410); the items stay."""
        self._revocations.expire_cursors()

    # --- scripts ------------------------------------------------------------------------------------------------------

    def answer_with(
        self,
        status: int,
        body: bytes | str | Mapping[str, Any] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        endpoint: Endpoint = Endpoint.VALIDATE,
        times: int | None = None,
    ) -> None:
        """Answer this, whatever is asked, until `answer_normally`.

        Args:
            status: the HTTP status.
            body: raw; a mapping is sent as JSON.
            headers: default: `Content-Type: application/json`.
            endpoint: whose answers are replaced.
            times: after so many of them answer normally again; `None`: no end.
        """
        raw = (
            body.encode()
            if isinstance(body, str)
            else body
            if isinstance(body, bytes)
            else json.dumps(dict(body)).encode()
        )
        self._scripts[endpoint] = (_Scripted(status, raw, headers or {"Content-Type": "application/json"}), times)

    def answer_normally(self) -> None:
        """Forget every script, delay and refusal."""
        self._scripts.clear()
        self.latency_seconds = 0.0
        self.refuse_service_credential = False
        self.invalid_as_401 = False
        self.healthy = True

    # --- answers ------------------------------------------------------------------------------------------------------

    def _endpoint(
        self, endpoint: Endpoint, answer: Callable[[ReceivedRequest], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            received = await self._received(endpoint, request)
            if self.latency_seconds > 0:
                await asyncio.sleep(self.latency_seconds)
            scripted = self._take_script(endpoint)
            if scripted is not None:
                return web.Response(status=scripted.status, body=scripted.body, headers=scripted.headers)
            return await answer(received)

        return handle

    async def _received(self, endpoint: Endpoint, request: web.Request) -> ReceivedRequest:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(endpoint, headers, dict(request.query), await request.read())
        self.calls[endpoint] += 1
        self.requests.append(received)
        if (token := received.token()) is not None:
            self.asked_about[token] += 1
        return received

    def _take_script(self, endpoint: Endpoint) -> _Scripted | None:
        if endpoint not in self._scripts:
            return None
        scripted, times = self._scripts[endpoint]
        if times is not None and times <= 1:
            del self._scripts[endpoint]
        elif times is not None:
            self._scripts[endpoint] = (scripted, times - 1)
        return scripted

    async def _validate(self, request: ReceivedRequest) -> web.Response:
        if not self._knows_service(request):
            return _service_refused()
        token = request.token()
        if token is None:
            return web.json_response({"error": "invalid_request"}, status=400)
        answer = self._valid_answer(token, request.audience())
        if answer is not None:
            hint = {} if self.cache_seconds is None else {"cache_seconds": self.cache_seconds}
            return web.json_response({"valid": True, **answer, **hint})
        if self.invalid_as_401:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"valid": False, "error": "invalid_token"})

    async def _introspect(self, request: ReceivedRequest) -> web.Response:
        if not self._knows_service(request):
            return _service_refused()
        token = request.token()
        if token is None:
            return web.json_response({"error": "invalid_request"}, status=400)
        answer = self._valid_answer(token)
        if answer is None:
            return web.json_response({"active": False})
        return web.json_response({"active": True, **_as_introspection(answer)})

    async def _health(self, _: ReceivedRequest) -> web.Response:
        return web.json_response({"status": "ok" if self.healthy else "sick"}, status=200 if self.healthy else 503)

    async def _jwks(self, _: ReceivedRequest) -> web.Response:
        return web.json_response(self.mint.key_set(), content_type="application/jwk-set+json")

    async def _feed_page(self, request: ReceivedRequest) -> web.Response:
        if self.feed and not self._knows_service(request):
            return _service_refused()
        return await self._revocations.answer(request)

    def _valid_answer(self, token: str, audience: str | None = None) -> dict[str, Any] | None:
        answer = self._answers.get(token)
        if answer is None or token in self._barred or answer["_exp"] <= self._wall():
            return None
        if audience is not None and audience not in answer["_aud"]:
            return None
        if self._revocations.revokes(
            jti=answer["_jti"], session_id=answer["_sid"], user_id=answer["_sub"], issued_at=answer["_iat"]
        ):
            return None
        return {key: value for key, value in answer.items() if value is not None and not key.startswith("_")}

    def _knows_service(self, request: ReceivedRequest) -> bool:
        if self.refuse_service_credential:
            return False
        return request.service_credential() == (self.service_id, self.service_secret)

    def _wall(self) -> float:
        return time.time() + self.clock_skew_seconds


def _answer_of(claims: Mapping[str, Any]) -> dict[str, Any]:
    """What validate says about a token with these claims; keys with an underscore stay in here."""
    expires_at = claims.get("exp")
    return {
        "user_id": claims.get("sub"),
        "email": claims.get("email"),
        "permissions": claims.get("permissions"),
        "session_id": claims.get("sid"),
        "expires_at": expires_at,
        "_exp": expires_at if isinstance(expires_at, int | float) else float("inf"),
        "_sub": claims.get("sub"),
        "_sid": claims.get("sid"),
        "_jti": claims.get("jti"),
        "_iat": claims.get("iat", 0),
        "_aud": [audience] if isinstance(audience := claims.get("aud"), str) else audience or [],
    }


def _as_introspection(answer: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7662, section 2.2."""
    names = {"user_id": "sub", "email": "username", "session_id": "sid", "expires_at": "exp"}
    renamed = {names[key]: value for key, value in answer.items() if key in names}
    return {**renamed, "scope": " ".join(answer.get("permissions") or [])}


def _service_refused() -> web.Response:
    return web.json_response(
        {"error": "invalid_client"}, status=401, headers={"WWW-Authenticate": 'Basic realm="auth"'}
    )
