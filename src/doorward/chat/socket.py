"""`/ws`: one socket of one tab. Commands in, replies and envelopes out; the door around it has let the person in."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Literal

from doorward.chat import commands
from doorward.chat.commands import Done, ErrorCode, Fault, Malformed
from doorward.chat.limits import MAX_MESSAGE_BYTES
from doorward.chat.mailbox import Ending
from doorward.chat.outbox import Outbox, Slow, SlowReader
from doorward.chat.subscription import Subscription
from doorward.core.verdict import Cause, Code, Deny, Source, Unavailable, close_code, close_reason, row_of
from doorward.errors import StoreError
from doorward.runtime.bounded import promptly
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive, Scope, Send

    from doorward.chat.agents.port import LiveView
    from doorward.chat.runs import Run
    from doorward.chat.service import Chat
    from doorward.chat.threads import Thread

log = get_logger(__name__)

SUBPROTOCOL = "doorward.v1"

TOO_BIG = Deny(Code.MESSAGE_TOO_BIG, Source.POLICY)
SLOW = Unavailable(Code.OVERLOADED, Source.POLICY)
STORE = Unavailable(Code.SERVICE_UNAVAILABLE, Source.INTERNAL, Cause.STORE)
BUG = Unavailable(Code.INTERNAL, Source.INTERNAL)

REVOKING = (Code.TOKEN_REVOKED.value, Code.TOKEN_REJECTED.value)
"""A socket that was closed with one of these should never have been: what was started on it is cancelled."""

UNAUTHORIZED = (3000, 4401)
"""Closed for the credential's sake; where no reason is given, it is taken for the worst one."""


class ChatEndpoint:
    """The ASGI application behind `/ws`."""

    def __init__(self, chat: Chat, *, close_codes: Literal["iana", "http"]) -> None:
        self._chat = chat
        self._style: Literal["iana", "http"] = close_codes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("doorward") is None:
            log.error("chat.no_door", mend="wrap the application in Doorward; /ws serves nobody without it")
            await send({"type": "websocket.close", "code": close_code(row_of(BUG), style=self._style), "reason": ""})
            return
        await receive()  # the connect
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
        await send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        await ChatSocket(self._chat, scope, receive, send, style=self._style).serve()


class ChatSocket:
    """Serves one accepted socket until it is gone. The first reason to close holds.

    The caller's own task reads and answers; one of the socket's writes, and one follows each thread.
    """

    __slots__ = (
        "_agreed", "_chat", "_followed", "_is_over", "_outbox", "_reading", "_receive", "_refusal", "_scope", "_send",
        "_started", "_style", "_tasks", "_view",
    )  # fmt: skip

    def __init__(
        self, chat: Chat, scope: Scope, receive: Receive, send: Send, *, style: Literal["iana", "http"]
    ) -> None:
        self._chat = chat
        self._scope = scope
        self._receive = receive
        self._send = send
        self._view: LiveView = scope["doorward"]
        self._style: Literal["iana", "http"] = style
        self._outbox = Outbox(chat.limits, chat.unsent, delivered=chat.delivered, evicted=self._too_slow)
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: dict[str, tuple[Thread, asyncio.Task[None] | None]] = {}
        self._agreed: Subscription | None = None
        self._started: tuple[Run, ...] = ()
        self._reading = asyncio.timeout(None)
        """It has no time of its own: `_finish` ends it."""
        self._is_over = False
        self._refusal: Deny | Unavailable | None = None

    async def serve(self) -> None:
        """Read, answer and deliver until either side closes.

        Cancellation: the socket's own tasks are cancelled with it; runs go on.
        """
        self._chat.telemetry.socket_opened()
        if SUBPROTOCOL in self._scope.get("subprotocols", ()):
            self._chat.notices.join(self._user_id, self._outbox)
        self._spawn(self._write())
        try:
            async with self._reading:
                await self._guarded(self._read())
        except TimeoutError:
            pass  # what has ended it is in `_refusal`
        finally:
            self._is_over = True
            await self._clean_up()
        if self._refusal is not None:
            await self._close(self._refusal)

    async def _clean_up(self) -> None:
        self._chat.telemetry.socket_gone()
        self._chat.notices.leave(self._user_id, self._outbox)
        for thread_id in list(self._followed):
            self._unfollow(thread_id)
        for task in self._tasks:
            task.cancel()
        self._outbox.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._chat.limits.close_seconds)

    async def _close(self, refusal: Deny | Unavailable) -> None:
        row = row_of(refusal)
        retry_after_ms = int(random.uniform(*row.retry_seconds) * 1000) if row.retry_seconds else None  # noqa: S311 - spreads a crowd
        reason = close_reason(row.code, self._view.decision_id, retry_after_ms)
        self._chat.telemetry.socket_closed(row.code.value)
        try:
            async with asyncio.timeout(self._chat.limits.close_seconds):
                await self._send(
                    {"type": "websocket.close", "code": close_code(row, style=self._style), "reason": reason}
                )
        except TimeoutError:
            self._abort()
        except (RuntimeError, OSError):
            return

    def _abort(self) -> None:
        """A peer that reads nothing does not get a close frame either: cut the connection where the server lets us."""
        abort = self._scope.get("extensions", {}).get("doorward", {}).get("abort")
        if abort is not None:
            abort()

    def _spawn(self, work: Coroutine[Any, Any, Deny | None], *, may_end: bool = False) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work, may_end=may_end))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, Deny | None], *, may_end: bool = False) -> None:
        """Whatever ends a part of the socket's work ends the socket, with the matching code; being cancelled does not.

        Args:
            may_end: its normal end is none of the socket's.
        """
        refusal: Deny | Unavailable | None = None
        try:
            refusal = await work
            if may_end:
                return
        except StoreError as error:
            log.error("chat.log_not_read", decision_id=self._view.decision_id, error=str(error))
            refusal = STORE
        except SlowReader as slow:
            self._too_slow(slow.why)
        except TimeoutError:
            self._too_slow(Slow.STALLED)
        except OSError:
            refusal = None
        except Exception:
            log.exception("chat.socket_failed", decision_id=self._view.decision_id)
            refusal = BUG
        self._finish(refusal)

    def _too_slow(self, why: Slow) -> None:
        if not self._is_over:
            self._chat.telemetry.slow_reader(why)
            self._finish(SLOW)

    def _finish(self, refusal: Deny | Unavailable | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._refusal = refusal
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> Deny | None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._disconnected(message.get("code"), message.get("reason") or "")
                return None
            content = message.get("text") or message.get("bytes") or b""
            if _size(content) > MAX_MESSAGE_BYTES:
                return TOO_BIG
            del message
            await self._answer(content)
            del content  # a socket is at rest for most of its time, and holds nothing of what was said then

    async def _write(self) -> None:
        while True:
            text = await self._outbox.take()
            message = {"type": "websocket.send", "text": text.decode()}
            await promptly(self._send(message), self._chat.limits.stall_seconds)
            del text, message

    def _disconnected(self, code: int | None, reason: str) -> None:
        if reason.startswith(REVOKING) or (code in UNAUTHORIZED and not reason):
            for run in self._started:
                if run.active:
                    run.stop(Ending.CANCELLED)

    async def _answer(self, content: str | bytes) -> None:
        """Exactly one reply; what a new subscription delivers comes after it."""
        command = commands.parse(content)
        if isinstance(command, Malformed):
            await self._outbox.put(commands.reply(command.id, command.fault))
            return
        try:
            outcome = await self._execute(command)
        except StoreError as error:
            log.error("chat.command_not_stored", decision_id=self._view.decision_id, error=str(error))
            outcome = Fault(ErrorCode.UNAVAILABLE, "the chat's storage does not answer now; try again in a few seconds")
        except Exception:
            log.exception("chat.command_failed", decision_id=self._view.decision_id)
            outcome = Fault(ErrorCode.INTERNAL, "this failed on our side; try again")
        await self._outbox.put(commands.reply(command.id, outcome))
        if (agreed := self._agreed) is not None:
            self._agreed = None
            self._followed[agreed.thread.id] = (agreed.thread, self._spawn(agreed.run(), may_end=True))

    async def _execute(self, command: commands.Command) -> Done | Fault:
        match command:
            case commands.RunStart():
                return await self._start(command)
            case commands.RunCancel():
                return await self._cancel(command)
            case commands.ThreadSubscribe():
                return await self._subscribe(command)
            case commands.ThreadUnsubscribe():
                return await self._unsubscribe(command)
            case commands.Ping():
                return Done()

    async def _start(self, command: commands.RunStart) -> Done | Fault:
        thread = await self._used(command)
        if isinstance(thread, Fault):
            return thread
        outcome, run = await self._chat.runs.start(thread, command, self._view)
        if run is not None:
            self._started = (*(known for known in self._started if known.active), run)
        return outcome

    async def _cancel(self, command: commands.RunCancel) -> Done | Fault:
        thread = await self._chat.threads.find(command.thread_id, self._user_id)
        return thread if isinstance(thread, Fault) else self._chat.runs.cancel(thread, command.run_id)

    async def _subscribe(self, command: commands.ThreadSubscribe) -> Done | Fault:
        limit = self._chat.limits.subscriptions_per_socket
        if command.thread_id not in self._followed and len(self._followed) >= limit:
            return Fault(ErrorCode.TOO_MANY_SUBSCRIPTIONS, f"at most {limit} threads on one socket")
        thread = await self._used(command)
        if isinstance(thread, Fault):
            return thread
        self._unfollow(thread.id)
        thread.followers += 1
        self._followed[thread.id] = (thread, None)
        agreed = self._agreed = await Subscription.at(self._chat, thread, self._outbox, command)
        position = {"epoch": self._chat.log.epoch, "after_seq": agreed.after_seq, "resumed": agreed.resumed}
        return Done({"thread_id": thread.id, **position, "active_run_id": thread.active.id if thread.active else None})

    async def _unsubscribe(self, command: commands.ThreadUnsubscribe) -> Done | Fault:
        thread = await self._chat.threads.find(command.thread_id, self._user_id)
        if isinstance(thread, Fault):
            return thread
        self._unfollow(thread.id)
        return Done({"thread_id": thread.id})

    async def _used(self, command: commands.RunStart | commands.ThreadSubscribe) -> Thread | Fault:
        threads = self._chat.threads
        take = threads.open if command.create else threads.find
        return await take(command.thread_id, self._user_id)

    def _unfollow(self, thread_id: str) -> None:
        if thread_id not in self._followed:
            return
        thread, task = self._followed.pop(thread_id)
        thread.followers -= 1
        if task is not None:
            task.cancel()
        self._outbox.discard(thread_id)

    @property
    def _user_id(self) -> str:
        return self._view.principal.user_id


def _size(content: str | bytes) -> int:
    return len(content.encode()) if isinstance(content, str) else len(content)
