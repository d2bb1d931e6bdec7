"""One connection after another, until it is told to end, nobody is signed in, or trying again would change nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from doorward.client.errors import ChatError, Ended, SignedOut, Unanswered
from doorward.client.line import Dial, Line, LineClosed, NotOpened
from doorward.client.meaning import NO_STATUS, Reason, of_close
from doorward.client.persistence import Again, GiveUp, Persistence
from doorward.client.renewal import Renewal
from doorward.client.states import DoorView, State, StateName
from doorward.client.tokens import Token
from doorward.client.wire import read_envelope, read_message
from doorward.core.deadline import Deadline
from doorward.core.verdict import Action
from doorward.errors import DeadlinePassed
from doorward.runtime.bounded import Reaper, bounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.client.chance import Chance
    from doorward.client.commands import Commands
    from doorward.client.following import Following
    from doorward.client.timing import Timing
    from doorward.client.tokens import TokenProvider

CLOSED = Reason("CLOSED", Action.STOP)


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told. What they raise is a bug of theirs, and ends the connection as one."""

    on_state: Callable[[State], None]
    on_notice: Callable[[dict[str, Any]], None]


class Connection:
    """`run` it in a task of its own; cancelling that closes the socket. The state is always the newest there is."""

    def __init__(
        self,
        dial: Dial,
        tokens: TokenProvider,
        commands: Commands,
        following: Following,
        *,
        timing: Timing,
        chance: Chance,
        ears: Ears,
    ) -> None:
        self._dial = dial
        self._tokens = tokens
        self._commands = commands
        self._following = following
        self._timing = timing
        self._chance = chance
        self._ears = ears
        self._persistence = Persistence(timing)
        self._reaper = Reaper()
        self._renewal: Renewal | None = None
        self._token: Token | None = None
        self._refused: str | None = None
        self._refusal: Reason | None = None
        self._gave_up: Reason | None = None
        self._heard_at = 0.0
        self._least_until = 0.0
        self._insisted = asyncio.Event()
        self._changed = asyncio.Event()
        self.state = State(StateName.CONNECTING)

    # What the client asks of it

    async def until_in(self) -> State:
        """Wait until the door has let us in.

        Raises:
            SignedOut, Ended: it never will.

        Cancellation: leaves nothing behind. The bound is the caller's.
        """
        while not self.state.is_in:
            if self.state.is_over:
                raise self.ending()
            await self._changed.wait()
        return self.state

    async def fresh_token(self, stale: str | None) -> Token:
        """A token of the provider's, within the bound.

        Raises:
            SignedOut: the person has to sign in again.
            Unanswered: nobody could be asked.

        Cancellation: the provider's work is cancelled.
        """
        deadline = Deadline.after(self._chance.monotonic(), self._timing.token_seconds)
        try:
            token = await bounded(self._tokens.token(stale=stale), deadline, clock=self._chance, reaper=self._reaper)
        except (SignedOut, Unanswered):
            raise
        except DeadlinePassed:
            raise Unanswered("TIMEOUT", "no token came in time") from None
        except Exception as error:  # a provider may be anybody's; what it does not call signed out is not
            raise Unanswered("UNREACHABLE", f"no token could be had ({type(error).__name__})") from error
        if not isinstance(token, Token):
            raise Unanswered("BAD_ANSWER", f"the token provider brought no Token, but {type(token).__name__}")
        return token

    async def aclose(self) -> None:
        """Give what was given up a last chance to end. `run` has ended by now, or was never begun."""
        if not self.state.is_over:
            self._end(State(StateName.STOPPED, reason=CLOSED))
        await self._reaper.aclose(seconds=self._timing.close_seconds)

    def retry_now(self) -> None:
        """Try again now, or as soon as the server allows it."""
        self._insisted.set()

    def ending(self) -> ChatError:
        """Why there will be no other connection."""
        reason = self.state.reason or CLOSED
        if self.state.name is StateName.SIGNED_OUT:
            return SignedOut(code=reason.code)
        return Ended(reason.code, reason.detail or "the connection has ended")

    async def run(self) -> None:
        """Keep a connection up until that is over.

        Cancellation: the socket is closed politely, within `close_seconds`; everybody who waits for a reply or an envelope is told.
        """
        bug = Reason(
            "INTERNAL", Action.STOP, detail="the client failed; this is a bug in it, or in what it was given to call"
        )
        final = State(StateName.STOPPED, reason=bug)
        try:
            final = await self._until_over()
        except asyncio.CancelledError:
            final = State(StateName.STOPPED, reason=CLOSED)
            raise
        finally:
            self._end(final)

    # One attempt after another

    async def _until_over(self) -> State:
        while True:
            self._become(State(StateName.CONNECTING, self._persistence.failures + 1, reason=self.state.reason))
            lasted: float | None = None
            try:
                token = self._token = await self._credential()
                lasted, reason = await self._one_connection(token)
            except SignedOut as error:
                return State(StateName.SIGNED_OUT, reason=self._refusal or Reason(error.code, Action.SIGN_IN))
            except Unanswered as error:
                wait = error.retry_after_seconds
                reason = Reason(
                    "TOKEN_UNAVAILABLE", Action.RETRY, error.code, retry_after_seconds=wait, detail=str(error)
                )
            if reason.action is Action.SIGN_IN:
                self._refused, self._refusal = self._token.value if self._token else None, reason
            decision = self._persistence.lost(reason, lasted_seconds=lasted, uniform=self._chance.uniform())
            if isinstance(decision, GiveUp):
                return State(StateName.STOPPED, reason=reason)
            await self._wait(decision, reason)

    async def _credential(self) -> Token:
        """A token that was not refused. A provider that has no other has signed out."""
        token = await self.fresh_token(self._refused)
        if self._refused is not None and token.value == self._refused:
            raise SignedOut("the token was refused, and there is no other")
        return token

    async def _wait(self, decision: Again, reason: Reason) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._insisted.clear()
        if decision.wait_seconds > 0:
            retry_at = self._chance.wall() + decision.wait_seconds
            self._become(State(StateName.WAITING, self._persistence.failures + 1, reason, retry_at))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(began + decision.wait_seconds):
                await self._insisted.wait()
        await asyncio.sleep(began + decision.least_seconds - loop.time())

    async def _one_connection(self, token: Token) -> tuple[float | None, Reason]:
        """Open a line and serve it to its end: how long we were let in (`None`: never), and why it is away."""
        loop = asyncio.get_running_loop()
        deadline = Deadline.after(loop.time(), self._timing.connect_seconds)
        try:
            line = await self._dial(token.value, deadline=deadline)
        except NotOpened as failed:
            return None, failed.reason
        try:
            reason = await self._until_admitted(line, deadline)
            if reason is not None:
                return None, reason
            began = loop.time()
            reason = await self._serve(line)
            return loop.time() - began, reason
        finally:
            await line.aclose()

    # On an open line

    async def _until_admitted(self, line: Line, deadline: Deadline) -> Reason | None:
        """Wait for the door's word. `None`: we are in."""
        self._gave_up = None
        try:
            async with asyncio.timeout_at(deadline.at):
                return await self._read(line, until_admitted=True)
        except TimeoutError:
            return Reason("CONNECT_TIMEOUT", Action.RETRY, detail="the door did not say in time whether we may come in")

    async def _serve(self, line: Line) -> Reason:
        """Read until the line is gone; what else there is to do ends with it."""
        self._refused = self._refusal = None
        renewal = self._renewal = Renewal(self._commands, self.fresh_token, chance=self._chance, timing=self._timing)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._write(line), name="chat-write"),
                group.create_task(self._keep_alive(line), name="chat-ping"),
                group.create_task(self._keep_fresh(line, renewal), name="chat-renew"),
            ]
            self._following.connected()
            try:
                reason = await self._read(line)
            finally:
                self._following.connection_lost()
                self._commands.connection_lost()
                for task in beside:
                    task.cancel()
        assert reason is not None  # noqa: S101 - only the wait for the door ends without one
        return reason

    async def _read(self, line: Line, *, until_admitted: bool = False) -> Reason | None:
        frame: dict[str, Any] | None = None
        while not (until_admitted and self.state.is_in):
            try:
                message = read_message(await line.receive())
            except LineClosed as closed:
                return self._gave_up or of_close(closed.code, closed.reason, frame)
            self._heard_at = asyncio.get_running_loop().time()
            if message is not None and message.get("type") == "auth.error":
                frame = message
            elif message is not None:
                self._receive(message)
        return None

    def _receive(self, message: dict[str, Any]) -> None:
        if isinstance(message.get("notice"), str):
            self._notice(message)
        elif "reply_to" in message:
            self._commands.replied(message)
        elif (envelope := read_envelope(message)) is not None:
            self._following.receive(envelope)

    def _notice(self, message: dict[str, Any]) -> None:
        match message["notice"]:
            case "auth.assurance":
                self._assured(message)
            case "auth.grace":
                view = replace(self.state.door or DoorView(), degraded=True, grace_until=_number(message.get("until")))
                self._become(State(StateName.DEGRADED, door=view))
            case "auth.expiring" if self._renewal is not None:
                self._renewal.hurry()
            case "thread.deleted":
                self._following.deleted(str(message.get("thread_id")))
        self._ears.on_notice(message)

    def _assured(self, message: dict[str, Any]) -> None:
        before = self.state.door or DoorView()
        view = DoorView(
            user_id=message.get("user_id") or before.user_id,
            decision_id=message.get("decision_id") or before.decision_id,
            assurance=message.get("assurance"),
            degraded=message.get("degraded") is True,
            expires_at=_number(message.get("expires_at")) or before.expires_at,
        )
        self._become(State(StateName.DEGRADED if view.degraded else StateName.OPEN, door=view))

    async def _write(self, line: Line) -> None:
        with suppress(LineClosed):  # the reader hears of it too
            while True:
                await line.send(await self._commands.next_unsent())

    async def _keep_alive(self, line: Line) -> None:
        """A line that is dead says nothing; so ask."""
        loop, timing = asyncio.get_running_loop(), self._timing
        while True:
            quiet_until = self._heard_at + timing.ping_every_seconds
            if loop.time() < quiet_until:
                await asyncio.sleep(quiet_until - loop.time())
                continue
            asked_at = loop.time()
            with suppress(ChatError):
                # Past the bound: a ping that is not sent looks like a dead line.
                await self._commands.ask({"type": "ping"}, within_seconds=timing.pong_seconds, past_bound=True)
            if self._heard_at < asked_at:
                self._give_up(
                    line, Reason("CONNECTION_LOST", Action.RETRY, close_code=NO_STATUS, detail="the server is silent")
                )
                return

    async def _keep_fresh(self, line: Line, renewal: Renewal) -> None:
        """Present a new token before the old one ends. An outage is no reason to leave."""
        assert self._token is not None  # noqa: S101 - it opened this line
        ends_at = self.state.door.expires_at if self.state.door is not None else None
        try:
            await renewal.run(self._token, expires_at=ends_at, on_new=self._present_now)
        except SignedOut:
            self._give_up(line, Reason("SIGNED_OUT", Action.SIGN_IN))

    def _present_now(self, token: Token) -> None:
        self._token = token

    def _give_up(self, line: Line, reason: Reason) -> None:
        self._gave_up = reason
        line.abort()

    def _end(self, final: State) -> None:
        self.state = final
        self._commands.end(self.ending)
        self._following.end(self.ending)
        self._become(final)

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        self._ears.on_state(state)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
