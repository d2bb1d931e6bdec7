"""An admitted connection: what the app sees of it, and what the door does to it while it is open.

No task, no timer of its own and no polling: `Wakes` calls when something is due. Effects are performed by the supervisor's
tasks, each bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from doorward.asgi.denial import SEND_SECONDS, Denier, Refusal, encoded
from doorward.asgi.types import Message, Receive, Scope, Send
from doorward.core.credential import Transport, checked, offers_ours, real_protocols
from doorward.core.deadline import Deadline
from doorward.core.routes import Route
from doorward.core.session import Close, Effect, Notify, Session, SessionPolicy
from doorward.core.verdict import Allow, Assurance, Code, Deny, Principal, Source, Unavailable, Verdict
from doorward.runtime.authenticator import Handshake
from doorward.runtime.bounded import promptly
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock
from doorward.runtime.registry import Registry
from doorward.runtime.telemetry import Telemetry, Trace
from doorward.runtime.token_reader import Reading, Subject
from doorward.runtime.verifier import Question, Verifier
from doorward.runtime.wakes import Wakes

CONCLUDE_SECONDS = 2 * SEND_SECONDS
MAX_REFRESH_BYTES = 16_384
_REFRESH = "auth.refresh"

log = get_logger("doorward")


class ClientDisconnected(OSError):
    """The app sends to a connection that is closed (ASGI 2.4: an OSError)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every connection shares that came in with a token of one issuer."""

    verifier: Verifier
    verifier_of: Callable[[str], Verifier | Deny]
    admits: Callable[[str], bool]
    registry: Registry
    denier: Denier
    telemetry: Telemetry
    clock: Clock
    spawn: Callable[[Coroutine[Any, Any, None], str], None]
    deadline_seconds: float
    app_exit_seconds: float
    session_policy: SessionPolicy
    in_outage: Callable[[], bool]
    let_in_unproven: Callable[[], None]
    wakes: Wakes


class Admission:
    """`scope["doorward"]`: a live view. Read it when you need it; it changes when the auth service answers late."""

    __slots__ = ("_session", "decision_id")

    def __init__(self, session: Session, decision_id: str) -> None:
        self._session = session
        self.decision_id = decision_id

    @property
    def principal(self) -> Principal:
        return self._session.principal

    @property
    def assurance(self) -> Assurance:
        """live, cached or local: how sure we are."""
        return self._session.allow.assurance

    @property
    def degraded(self) -> bool:
        """Let in while the auth service could not be asked."""
        return self._session.allow.degraded

    @property
    def permissions(self) -> frozenset[str]:
        """What may be relied on now; a degraded connection lacks the privileged ones."""
        return self._session.permissions

    @property
    def expires_at(self) -> float | None:
        """Wall-clock second at which this admission ends unless it is refreshed."""
        return self._session.ends_at


class AdmittedConnection(msgspec.Struct, eq=False):
    """Stands between the server and the app for the life of one socket."""

    scope: Scope
    session: Session
    admission: Admission
    address: str
    ours: bool
    """Does the client speak our notices?"""
    since: float
    """Wall-clock seconds."""
    _shared: Surroundings
    _server_receive: Receive
    _server_send: Send
    _route: Route
    _reading: Reading
    _subject: Subject | None
    _loop: asyncio.AbstractEventLoop
    _task: asyncio.Task[Any] | None
    """That the app runs in."""
    _waking_at: float | None = None
    _receiving: asyncio.Task[Any] | None = None
    _accepting: bool = False
    _accepted: bool = False
    _connect_given: bool = False
    _refreshing: bool = False
    _held: tuple[Notify, ...] = ()
    _closing: Deny | Unavailable | None = None
    _said: asyncio.Event | None = None
    _exits: tuple[asyncio.TimerHandle, ...] = ()
    _over: bool = False
    _left: bool = False

    __repr__ = object.__repr__
    """The scope has the credential in it."""

    @classmethod
    def let_in(
        cls,
        shared: Surroundings,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        allow: Allow,
        subject: Subject,
        handshake: Handshake,
        decision_id: str,
        ours: bool,
    ) -> Self:
        """In the task that the app will run in."""
        now = shared.clock.wall()
        session = Session(allow, shared.session_policy, now)
        loop = asyncio.get_running_loop()
        return cls(
            scope,
            session,
            Admission(session, decision_id),
            handshake.address,
            ours,
            now,
            shared,
            receive,
            send,
            handshake.route,
            subject.reading,
            _kept(subject, allow),
            loop,
            asyncio.current_task(loop),
        )

    # What the registry asks

    @property
    def principal(self) -> Principal:
        return self.session.allow.principal

    @property
    def good_at(self) -> float:
        return self._shared.verifier.validated_at(self._reading) or self.since

    def revoke(self) -> None:
        self._perform(self.session.revoked())

    # The life of the connection

    def open(self, question: Question | None) -> None:
        """Register, arm the timer, and follow the question that is still open. After an error it is as if it never was."""
        self._shared.registry.add(self)
        try:
            self._arm()
        except BaseException:
            self.gone()
            raise
        self._tell_if_unproven()
        if question is not None:
            self._shared.spawn(self._follow(question), "late verdict")

    def left(self) -> None:
        """The app has returned: there is nobody to wake or to cancel any more."""
        self._left = True
        self.gone()
        for timer in self._exits:
            timer.cancel()

    async def concluded(self) -> None:
        """Until what the door says at a forced end is sent: a server whose app returns before answers with words of its own.

        Cancellation: nothing is left behind.
        """
        if self._said is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONCLUDE_SECONDS):
                    await self._said.wait()

    def gone(self) -> None:
        """The socket is closed."""
        if self._over:
            return
        self._over = True
        self.session.closed()
        self._shared.registry.remove(self)
        self._disarm()

    @property
    def forced(self) -> bool:
        """Did the door itself close it?"""
        return self._closing is not None

    async def receive(self) -> Message:
        """The app's `receive`. The in-band refresh stays with the door; after a forced close comes a disconnect."""
        if not self._connect_given:
            self._connect_given = True
            return {"type": "websocket.connect"}
        while self._closing is None and not self._over:
            event = await self._next_event()
            if event is None:
                break
            if event["type"] == "websocket.disconnect":
                if self._closing is not None:
                    break
                self.gone()
                return event
            command = _refresh_command(event.get("text")) if self.ours else None
            if command is None:
                return event
            await self._take(command)
        return self._disconnect_event()

    async def _next_event(self) -> Message | None:
        """What the server gives; `None` if the door closed the connection while we waited."""
        task = self._receiving = asyncio.current_task(self._loop)
        try:
            return await self._server_receive()
        except asyncio.CancelledError:
            if self._closing is None or task is None or task.uncancel() > 0:
                raise
            return None
        finally:
            self._receiving = None

    async def send(self, message: Message) -> None:
        """The app's `send`.

        Raises:
            ClientDisconnected: the door, or the peer, has closed the connection.
        """
        if self._over or self._closing is not None:
            if message["type"] == "websocket.close":  # many an app closes in any case, and it is closed
                return
            raise ClientDisconnected("the connection is closed")
        if message["type"] == "websocket.accept":
            await self._accept(message)
            return
        await self._server_send(message)
        if message["type"] == "websocket.close":
            self.gone()

    def settle(self, verdict: Verdict) -> None:
        """Take a late verdict, or the result of a re-validation."""
        before = self.session.principal
        effects = self.session.settled(verdict)
        if self._subject is not None:
            self._subject = _kept(self._subject, self.session.allow)
        self._moved(before)
        self._tell_if_unproven()
        self._perform(effects)

    def recovered(self) -> None:
        self._perform(self.session.recovered(self._shared.clock.wall()))

    def _tell_if_unproven(self) -> None:
        """Where there is no outage no recovery comes, after which everybody is asked about."""
        if self.session.allow.degraded:
            self._shared.let_in_unproven()

    async def recheck(self) -> None:
        """Ask anew about a connection that was let in degraded. Could not ask: it stays as it is."""
        deadline = Deadline.after(self._shared.clock.monotonic(), self._shared.deadline_seconds)
        subject = self._subject
        if subject is None:
            return
        verdict = await self._shared.verifier.recheck(subject, self._route, deadline)
        self._shared.telemetry.metrics.revalidation(verdict.verdict)
        log.info("revalidated", id=self.admission.decision_id, verdict=verdict.verdict, reason=verdict.reason)
        if not isinstance(verdict, Unavailable) and self._subject is subject:
            self.settle(verdict)

    async def drain(self, refusal: Unavailable, *, extra_waiting: int) -> None:
        """Close with 1012 and advice on when to come back."""
        if self._over or self._closing is not None:
            return
        retry = self._shared.denier.refusal(refusal, self.admission.decision_id, extra_waiting=extra_waiting)
        for effect in self.session.draining(retry.retry_after_ms or 0):
            await self._notify(effect)
        if self._closing is None:
            self._begin_close(refusal)
            await self._close(retry)

    # Timers and effects

    def _arm(self) -> None:
        at = self.session.wake_at
        if at != self._waking_at:
            self._disarm()
            if at is not None:
                self._shared.wakes.add(self, at)
                self._waking_at = at

    def _disarm(self) -> None:
        if self._waking_at is not None:
            self._shared.wakes.discard(self, self._waking_at)
            self._waking_at = None

    @property
    def wake_at(self) -> float | None:
        return self.session.wake_at

    def wake(self) -> None:
        """The session has something to do, or to look at again."""
        self._disarm()
        graces = self.session.graces
        effects = self.session.tick(self._shared.clock.wall(), outage=self._shared.in_outage())
        if self.session.graces > graces:
            self._shared.telemetry.metrics.expiry_grace()
        self._perform(effects)

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Close):
                if self._closing is None and not self._over:
                    self._begin_close(effect.refusal)
                    self._shared.spawn(self._close(self._refusal(effect.refusal)), "close")
            elif self._accepted:
                self._shared.spawn(self._notify(effect), "notice")
            elif effect.notice != "auth.assurance":  # the greeting says how it stands then
                self._held += (effect,)
        self._arm()

    async def _notify(self, effect: Effect) -> None:
        if isinstance(effect, Notify) and self.ours and self._accepted and not self._over:
            await self._say({"notice": effect.notice, **effect.fields})

    async def _say(self, message: dict[str, Any]) -> None:
        """One frame of the door's own. A peer that does not read does not hold us up."""
        try:
            await promptly(self._server_send({"type": "websocket.send", "text": encoded(message)}), SEND_SECONDS)
        except (TimeoutError, OSError, RuntimeError):
            log.debug("a notice could not be sent", id=self.admission.decision_id)

    async def _accept(self, message: Message) -> None:
        """A browser that offered protocols breaks off if none is taken: where the app takes none, it is the door's own."""
        if message.get("subprotocol") is None and self.scope.get("subprotocols"):
            offered = real_protocols(self.scope.get("subprotocols", ()))
            message = {**message, "subprotocol": next((name for name in offered if offers_ours((name,))), None)}
        self._accepting = True
        try:
            await self._server_send(message)
            self._accepted = True
        finally:
            self._accepting = False
            if self._closing is not None:  # while the server was at it
                self._shared.spawn(self._close(self._refusal(self._closing)), "close")
        if self._closing is not None:
            raise ClientDisconnected("the connection is closed")
        if self.ours:
            await self._greet()

    async def _greet(self) -> None:
        """How a client of ours stands, and what was held until it could be told."""
        allow = self.session.allow
        await self._say(
            {
                "notice": "auth.assurance",
                "assurance": allow.assurance,
                "degraded": allow.degraded,
                "user_id": allow.principal.user_id,
                "decision_id": self.admission.decision_id,
                "expires_at": self.session.ends_at,
            }
        )
        held, self._held = self._held, ()
        for effect in held:
            await self._notify(effect)

    async def _follow(self, question: Question) -> None:
        verdict = await self._shared.verifier.settle(question)
        log.info("late verdict", id=self.admission.decision_id, verdict=verdict.verdict, reason=verdict.reason)
        if self._reading is question.subject.reading:  # a token that came in-band meanwhile has a verdict of its own
            self.settle(verdict)

    # Closing

    def _begin_close(self, refusal: Deny | Unavailable) -> None:
        self._closing = refusal
        self._said = asyncio.Event()
        self.session.closed()

    async def _close(self, wire: Refusal) -> None:
        if not self._left:
            self._exits += (self._loop.call_later(self._shared.app_exit_seconds, self._cancel_app),)
        if self._accepting:
            return  # the accept is on its way, and the close follows it, whatever comes of it
        exposed = round(self._shared.clock.wall() - self.since, 3)
        log.info("closed", id=self.admission.decision_id, code=wire.row.code.value, exposed_seconds=exposed)
        self._interrupt()
        try:
            await self._say_close(wire)
        finally:
            if self._said is not None:
                self._said.set()

    async def _say_close(self, wire: Refusal) -> None:
        denier = self._shared.denier
        if self._accepted:
            await denier.say_and_close(self.scope, self._server_send, wire, ours=self.ours)
        else:
            await denier.deny(self.scope, self._server_send, wire)

    def _refusal(self, refusal: Deny | Unavailable) -> Refusal:
        return self._shared.denier.refusal(refusal, self.admission.decision_id)

    def _interrupt(self) -> None:
        """Wake the app's `receive`: not every server does so itself, and granian sends no close frame while one waits."""
        if self._receiving is not None:
            self._receiving.cancel()

    def _cancel_app(self) -> None:
        if not self._left and self._task is not None:
            self._task.cancel()

    def _disconnect_event(self) -> Message:
        self.gone()
        code = self._shared.denier.code_of(self._closing) if self._closing is not None else 1006
        reason = self._closing.code.value if self._closing is not None else ""
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    # In-band refresh

    async def _take(self, command: dict[str, Any]) -> None:
        """One refresh at a time, and as many as its address may make handshakes; another one is refused in place, so that a
        flood of them holds up its sender only."""
        command_id, token = command.get("id"), command.get("token")
        reply_to = command_id if isinstance(command_id, str | int) else None
        credential = checked(token if isinstance(token, str) else "", Transport.HEADER)
        if isinstance(credential, Deny):
            await self._reply(reply_to, credential)
        elif self._refreshing or not self._shared.admits(self.address):
            await self._reply(reply_to, Unavailable(Code.RATE_LIMITED, Source.ADMIT))
        else:
            self._refreshing = True
            self._shared.spawn(self._refresh(reply_to, credential.token), "refresh")

    async def _refresh(self, reply_to: str | int | None, token: str) -> None:
        try:
            answer = await self._refreshed(token)
        except Exception:
            log.exception("a refresh failed: this is a bug", id=self.admission.decision_id)
            answer = Unavailable(Code.INTERNAL, Source.INTERNAL)
        finally:
            self._refreshing = False
        await self._reply(reply_to, answer)

    async def _reply(self, reply_to: str | int | None, answer: Verdict) -> None:
        if isinstance(answer, Allow):
            reply: dict[str, Any] = {"ok": True, "expires_at": self.session.ends_at, "assurance": answer.assurance}
        else:
            refusal = self._shared.denier.refusal(answer, self.admission.decision_id, stays=True)
            error = {"code": answer.code, "message": refusal.row.situation}
            reply = {"error": {**error, "retry_after_ms": refusal.retry_after_ms}}
        await self._say({"reply_to": reply_to, **reply})

    async def _refreshed(self, token: str) -> Allow | Deny | Unavailable:
        """The new token goes through the pipeline; if it is good, and about the same person and session, it replaces the old."""
        shared = self._shared
        verifier = shared.verifier_of(token)
        if isinstance(verifier, Deny):
            return verifier
        if verifier is not shared.verifier:
            return Deny(Code.FORBIDDEN, Source.POLICY, "the new token is of another issuer")
        deadline = Deadline.after(shared.clock.monotonic(), shared.deadline_seconds)
        trace = Trace(shared.clock)
        judgement = await shared.verifier.judge(token, self._route, deadline, trace, patient=False)
        if not isinstance(judgement.verdict, Allow) or judgement.subject is None:
            return judgement.verdict
        validated_at = shared.verifier.validated_at(judgement.subject.reading) or shared.clock.wall()
        if shared.verifier.is_revoked(judgement.verdict.principal, validated_at):
            return Deny(Code.TOKEN_REVOKED, Source.REVOKED)
        before = self.session.principal
        effects = self.session.refreshed(judgement.verdict, shared.clock.wall())
        if isinstance(effects, Deny):
            return effects
        self._reading = judgement.subject.reading
        self._subject = _kept(judgement.subject, judgement.verdict)
        self._moved(before)
        self._tell_if_unproven()
        self._perform(effects)
        return judgement.verdict

    def _moved(self, before: Principal) -> None:
        if self.session.principal is not before:
            self._shared.registry.move(self, before)


def _kept(subject: Subject, allow: Allow) -> Subject | None:
    """The token itself is kept only where it may have to be asked about again."""
    return subject if allow.degraded or allow.provisional else None


def _refresh_command(text: str | None) -> dict[str, Any] | None:
    """The message, if it is the door's own: then the app does not see it."""
    if not text or len(text) > MAX_REFRESH_BYTES or _REFRESH not in text:
        return None
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("type") == _REFRESH else None
