"""`Doorward(app, settings)`: guards every WebSocket route of an ASGI app.

Pure ASGI, so it works over Starlette, FastAPI, Litestar, Quart and Channels, on any ASGI server. HTTP requests pass through but
for those that `protect_http` names: these go through the same pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from doorward.asgi import first_message, tickets
from doorward.asgi.denial import SEND_SECONDS
from doorward.asgi.door import Door, new_decision_id
from doorward.asgi.exchange import AdmittedExchange, answer_preflight, is_preflight
from doorward.asgi.first_message import AcceptedConnection
from doorward.asgi.handshake import KEPT_PATHS, origin_of, scrubbed_scope
from doorward.asgi.lifespan import Lifespan
from doorward.asgi.session import AdmittedConnection, ClientDisconnected
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.config import Settings
from doorward.core.answer import shown
from doorward.core.credential import Credential, Transport, offers_ours
from doorward.core.deadline import Deadline
from doorward.core.origin import allowed
from doorward.core.routes import Route, guards_http, is_public, path_in_app, route_for
from doorward.core.verdict import Allow, Cause, Code, Deny, Source, Unavailable, Verdict
from doorward.errors import DoorwardError
from doorward.runtime.authenticator import Handshake
from doorward.runtime.bounded import promptly
from doorward.runtime.insight import DecisionRecord, Timeline, to_ms
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Validator
from doorward.runtime.telemetry import Trace
from doorward.runtime.tracing import DecisionSpan
from doorward.runtime.verifier import Judgement

log = get_logger("doorward")

Admitted = tuple[AdmittedConnection | None, Scope]
"""With the scope that the app behind gets to see."""

_shown_path = lru_cache(maxsize=KEPT_PATHS)(shown)


class Doorward:
    """ASGI middleware. The app behind it reads `scope["doorward"]`, a live `Admission`.

    Args:
        app: any ASGI 3 application.
        settings: `Settings(auth={"url": ..., "service_secret": ...})`.
        validator: another way to ask about a token; see `runtime.ports.Validator`. By the names of the issuers, where there are
            several.
        door: an assembled door, where the caller wants to share it.

    Raises:
        ConfigError: the settings cannot work.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        *,
        validator: Validator | Mapping[str, Validator] | None = None,
        door: Door | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.door = door or Door(settings, validator=validator)
        self._has_lifespan = False
        for pattern in settings.public:
            log.warning("this WebSocket path is public: nobody is asked for a token", path=pattern)
        for route in self.door.routes:
            if Transport.COOKIE in route.transports and not settings.cookie_name.startswith("__Host-"):
                log.warning(
                    "sibling domains can set a cookie of this name: call it __Host-...", name=settings.cookie_name
                )
            if Transport.QUERY in route.transports:
                log.warning(
                    "this path takes raw tokens in its query string: logs and proxies may keep them", path=route.path
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "websocket" and not is_public(self.settings.public, scope["path"], scope.get("root_path", "")):
            await self._guard(scope, receive, send)
        elif kind == "http":
            await self._server_of(scope)(scope, receive, send)
        elif kind == "lifespan":
            await Lifespan(self.app, self.door, receive, send).run(scope)
        else:
            await self.app(scope, receive, send)

    def _server_of(self, scope: Scope) -> App:
        """Who serves an HTTP request."""
        path, root_path = scope["path"], scope.get("root_path", "")
        if path_in_app(path, root_path) == self.settings.tickets.path:
            return self._give_ticket
        return self._guard_http if guards_http(self.settings.protect_http, path, root_path) else self.app

    async def drain(self, *, spread_seconds: float = 10.0, deadline: Deadline | None = None) -> None:
        """For servers other than `doorward serve`: call it on shutdown, before the server closes the sockets."""
        await self.door.drain(spread_seconds, deadline)

    # One handshake

    async def _guard_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._answers_preflight(scope, send):
            await self._guard(scope, receive, send)

    async def _answers_preflight(self, scope: Scope, send: Send) -> bool:
        """A browser asks for leave without any credential; the app is not bothered with that."""
        answers = is_preflight(scope) and self._knows_origin(self.door.reader.read(scope))
        if answers:
            await answer_preflight(scope, send)
        return answers

    async def _give_ticket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request goes through the pipeline as the handshake would that the ticket is for; only a header counts."""
        if await self._answers_preflight(scope, send):
            return
        path = tickets.target_of(scope)
        if path is None:
            await tickets.refuse(scope, send)
            return
        route = replace(route_for(self.door.routes, path), transports=frozenset({Transport.HEADER}))
        connection, _ = await self._admitted(scope, receive, send, route)
        if not isinstance(connection, AdmittedExchange):
            return
        try:
            ticket, seconds = self.door.tickets.give(
                connection.token, path=path, origin=origin_of(scope), until=connection.session.ends_at
            )
            await tickets.answer(scope, connection.send, ticket, seconds)
        except ClientDisconnected:
            await connection.concluded()
        finally:
            connection.left()

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        """While the app runs, nothing is held of how the decision was made: there are many open connections."""
        if self.door.tracing is None:
            connection, seen = await self._decided(scope, receive, send, None)
        else:
            connection, seen = await self._admitted(scope, receive, send)
        if connection is None:
            return
        try:
            await self.app(seen, connection.receive, connection.send)
        except ClientDisconnected:
            pass  # the app sent to a closed connection; that is how it learns
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not connection.forced or task is None or task.uncancel() > 0:
                raise
        except Exception as error:
            await connection.concluded()
            if not (connection.forced and isinstance(connection, AdmittedExchange)):
                raise
            log.debug("the app failed after its response was ended", error=type(error).__name__)
        finally:
            connection.left()
        if connection.forced:
            await connection.concluded()

    async def _admitted(self, scope: Scope, receive: Receive, send: Send, route: Route | None = None) -> Admitted:
        """As `_decided`, in a span of its own where there is tracing."""
        tracing = self.door.tracing
        if tracing is None:
            return await self._decided(scope, receive, send, route)
        with tracing.decision(scope["type"], scope["headers"]) as span:
            return await self._decided(scope, receive, send, route, span)

    async def _decided(
        self, scope: Scope, receive: Receive, send: Send, route: Route | None, span: DecisionSpan | None = None
    ) -> Admitted:
        """The registered connection, and the scope for the app behind; or `None` once the client has its refusal.

        Args:
            route: whose rules hold; by default that of the path.
        """
        clock = self.door.clock
        deadline = Deadline.after(clock.monotonic(), self.settings.deadline_seconds)
        trace = Trace(clock, span)
        decision_id = new_decision_id()
        if scope["type"] == "websocket":
            try:
                await promptly(receive(), SEND_SECONDS)  # `websocket.connect`, which servers give at once
            except TimeoutError:
                log.warning("the server gave no websocket.connect")
        handshake = self.door.reader.read(scope, route)
        judgement = await self._decide(handshake, deadline, trace, decision_id)
        verdict = judgement.verdict
        if isinstance(verdict, Deny) and first_message.is_awaited(verdict, handshake, scope):
            return await self._heard(scope, receive, send, handshake, decision_id, span)
        kind = AdmittedConnection if scope["type"] == "websocket" else AdmittedExchange
        return await self._concluded(judgement, handshake, deadline, trace, decision_id, scope, receive, send, kind)

    async def _heard(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        handshake: Handshake,
        decision_id: str,
        span: DecisionSpan | None,
    ) -> Admitted:
        """The client may send its token. The deadline begins when it is there; until then others bound the waiting."""
        clock, waiting = self.door.clock, self.door.waiting
        full = waiting.enter(handshake.address)
        found: Credential | Deny | Unavailable | None = full
        if full is None:
            try:
                found = await first_message.received(
                    scope,
                    receive,
                    send,
                    seconds=self.settings.limits.first_message_seconds,
                    listening=self.door.listening,
                )
            finally:
                waiting.leave(handshake.address)
        if found is None:
            return None, scope
        if self.door.draining:
            found = Unavailable(Code.RESTARTING, Source.DRAIN)
        deadline = Deadline.after(clock.monotonic(), self.settings.deadline_seconds)
        trace = Trace(clock, span)
        if isinstance(found, Credential):
            judgement = await self._decide(handshake, deadline, trace, decision_id, found)
        else:
            judgement = Judgement(found)
        kind = AcceptedConnection if full is None else AdmittedConnection
        return await self._concluded(judgement, handshake, deadline, trace, decision_id, scope, receive, send, kind)

    async def _concluded(
        self,
        judgement: Judgement,
        handshake: Handshake,
        deadline: Deadline,
        trace: Trace,
        decision_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        kind: type[AdmittedConnection],
    ) -> Admitted:
        """REGISTER, or the refusal; and the record of it.

        Args:
            kind: what the connection is if it is let in.
        """
        connection = self._registered(judgement, handshake, decision_id, scope, receive, send, kind)
        if not isinstance(connection, AdmittedConnection):
            refusal = self.door.denier.refusal(connection, decision_id)
            self.door.handshakes += 1
            try:
                if kind is AcceptedConnection:
                    await self.door.denier.say_and_close(scope, send, refusal, ours=_speaks_ours(scope, handshake))
                else:
                    await self.door.denier.deny(scope, send, refusal, may_accept=self._knows_origin(handshake))
            finally:
                self.door.handshakes -= 1
            trace.mark("answer")
            at = self.door.clock.wall()
            self._record(connection, at, judgement, handshake, deadline, trace, decision_id, scope["type"])
            return None, scope
        try:
            at = connection.since
            self._record(judgement.verdict, at, judgement, handshake, deadline, trace, decision_id, scope["type"])
            seen = scrubbed_scope(connection.scope, connection.admission, handshake, self.settings.cookie_name)
        except BaseException:
            connection.left()
            raise
        return connection, seen

    def _knows_origin(self, handshake: Handshake) -> bool:
        """A page of another origin is not let in even for one frame, whatever came before ORIGIN (a drain, a broken store)."""
        extra = frozenset(self.settings.allowed_origins)
        return allowed(handshake.origin, scheme=handshake.scheme, host=handshake.host, extra=extra)

    async def _decide(
        self,
        handshake: Handshake,
        deadline: Deadline,
        trace: Trace,
        decision_id: str,
        credential: Credential | None = None,
    ) -> Judgement:
        """Exceptions become a verdict here, and nowhere else: our bug fails closed, and is told as our bug."""
        door = self.door
        if door.draining:
            return Judgement(Unavailable(Code.RESTARTING, Source.DRAIN))
        door.handshakes += 1
        try:
            opened = await self._opened(deadline) if door.opened_at is None else None
            trace.mark("open")
            if opened is not None:
                return Judgement(opened)
            if credential is None:
                judging = door.authenticator.deciding(handshake, deadline, trace)
            else:
                judging = door.authenticator.examining(credential, handshake, deadline, trace)
            judgement = judging if isinstance(judging, Judgement) else await judging
        except Exception:
            log.exception("a decision failed: this is a bug", id=decision_id)
            return Judgement(Unavailable(Code.INTERNAL, Source.INTERNAL))
        finally:
            door.handshakes -= 1
        if door.draining:
            return Judgement(Unavailable(Code.RESTARTING, Source.DRAIN), judgement.subject)
        return judgement

    async def _opened(self, deadline: Deadline) -> Unavailable | None:
        """Where the app has no lifespan the first scope opens the door, under its own deadline."""
        try:
            async with asyncio.timeout(deadline.remaining(self.door.clock.monotonic())):
                await self.door.open()
        except TimeoutError:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.INTERNAL, Cause.STORE, "the door is still opening")
        except DoorwardError as error:
            log.error("the door cannot open", error=str(error))
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.INTERNAL, Cause.STORE, shown(error))
        return None

    def _registered(
        self,
        judgement: Judgement,
        handshake: Handshake,
        decision_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        kind: type[AdmittedConnection],
    ) -> AdmittedConnection | Deny | Unavailable:
        """REGISTER, then ask REVOKED once more: from here on a revocation finds the connection."""
        verdict = judgement.verdict
        if not isinstance(verdict, Allow) or judgement.subject is None:
            return verdict if not isinstance(verdict, Allow) else Unavailable(Code.INTERNAL, Source.INTERNAL)
        shared = self.door.issuers[judgement.issuer].surroundings
        connection = kind.let_in(
            shared,
            scope,
            receive,
            send,
            allow=verdict,
            subject=judgement.subject,
            handshake=handshake,
            decision_id=decision_id,
            ours=_speaks_ours(scope, handshake),
        )
        connection.open(judgement.question)
        if shared.verifier.knows_revocations and shared.verifier.is_revoked(connection.principal, connection.good_at):
            connection.gone()
            return Deny(Code.TOKEN_REVOKED, Source.REVOKED)
        return connection

    def _record(
        self,
        verdict: Verdict,
        at: float,
        judgement: Judgement,
        handshake: Handshake,
        deadline: Deadline,
        trace: Trace,
        decision_id: str,
        kind: str,
    ) -> None:
        reading = judgement.subject.reading if judgement.subject is not None else None
        principal = verdict.principal if isinstance(verdict, Allow) else reading.local if reading is not None else None
        overrun = self.door.clock.monotonic() - deadline.at
        record = DecisionRecord(  # so many keywords as here: one more, and CPython makes a dict of them first
            decision_id,
            at,
            _shown_path(handshake.path),
            handshake.address,
            verdict.verdict,
            verdict.source,
            verdict.reason,
            verdict.code,
            assurance=verdict.assurance,
            degraded=verdict.degraded,
            provisional=verdict.provisional,
            user_id=principal.user_id if principal is not None else None,
            fingerprint=reading.key.shown if reading is not None else None,
            detail=verdict.detail,
            total_ms=to_ms(trace.ended - trace.began),
            overrun_ms=to_ms(overrun) if overrun > 0 else 0.0,
            steps=Timeline(trace.began, trace.ends),
            kind=kind,
            issuer=judgement.issuer or None,
        )
        self.door.telemetry.decided(record)
        if trace.span is not None:
            trace.span.decided(record)


def _speaks_ours(scope: Scope, handshake: Handshake) -> bool:
    """Does the client get notices and refusal frames, and may it send `auth.refresh`?"""
    offered = handshake.presented.subprotocols
    return scope["type"] == "websocket" and (handshake.route.notices or (bool(offered) and offers_ours(offered)))
