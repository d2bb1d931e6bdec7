"""Commands that wait for their one reply, in a bounded number, each for a bounded time. Knows no connection."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from doorward.client.errors import ChatError, Refused, Unanswered
from doorward.client.meaning import milliseconds
from doorward.core.answer import shown
from doorward.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_WAITING = 100

Reply = dict[str, Any]


@dataclass(eq=False, slots=True)
class Asked:
    """One command. `on_reply` is called once, in the same turn as the reply comes, before anything behind it is looked at."""

    text: str
    on_reply: Callable[[Reply | ChatError], None]
    outlives: bool = True
    timer: asyncio.TimerHandle | None = None
    was_sent: bool = False


class Commands:
    """From the moment that they are given until the reply, over a change of the connection for those that were not sent."""

    def __init__(self) -> None:
        self._waiting: dict[str, Asked] = {}
        self._unsent: deque[str] = deque()
        self._news = asyncio.Event()
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def give(
        self,
        command: Mapping[str, Any],
        *,
        within_seconds: float,
        on_reply: Callable[[Reply | ChatError], None],
        first: bool = False,
        outlives: bool = True,
        past_bound: bool = False,
    ) -> str:
        """Queue a command; returns its id.

        Args:
            first: before those that wait to be sent.
            outlives: the connection, if it was not sent on it.
            past_bound: however many wait. For few, and our own.

        Raises:
            LimitError: too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING and not past_bound:
            raise LimitError(f"{MAX_WAITING} commands wait for a reply already; wait for some of them")
        self._numbers += 1
        name = f"c{self._numbers}"
        text = msgspec.json.encode({**command, "id": name}).decode()
        asked = self._waiting[name] = Asked(text, on_reply, outlives)
        asked.timer = asyncio.get_running_loop().call_later(within_seconds, partial(self._late, name))
        if first:
            self._unsent.appendleft(name)
        else:
            self._unsent.append(name)
        self._news.set()
        return name

    async def ask(self, command: Mapping[str, Any], *, within_seconds: float, past_bound: bool = False) -> Reply:
        """Give a command and wait for its reply.

        Raises:
            Refused: the reply says no.
            Unanswered: no reply. `NOT_CONNECTED`: it was never sent; else nobody knows whether it was done.
            LimitError: as `give`.

        Cancellation: the command is taken back if it was not sent; else its reply is ignored.
        """
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Reply | ChatError) -> None:
            if answered.done():
                return
            if isinstance(reply, ChatError):
                answered.set_exception(reply)
            else:
                answered.set_result(reply)

        name = self.give(command, within_seconds=within_seconds, on_reply=on_reply, past_bound=past_bound)
        try:
            return await answered
        finally:
            self._take(name)

    async def next_unsent(self) -> str:
        """The text of the next one to send; from now on it counts as sent.

        Cancellation: none is taken.
        """
        while True:
            if self._unsent:
                asked = self._waiting[self._unsent.popleft()]
                asked.was_sent = True
                return asked.text
            self._news.clear()
            await self._news.wait()

    def replied(self, message: Mapping[str, Any]) -> None:
        """The server's reply to one of them; to one that nobody waits for any more, it is dropped."""
        asked = self._take(str(message.get("reply_to")))
        if asked is None:
            return
        fault = message.get("error")
        asked.on_reply(dict(message) if fault is None else _refusal(fault))

    def connection_lost(self) -> None:
        """Those that were sent will get no reply, and some mean nothing on another one. The rest wait for the next connection."""
        for name in [name for name, asked in self._waiting.items() if asked.was_sent or not asked.outlives]:
            self._settle(name, Unanswered("CONNECTION_LOST", "the connection broke before the reply"))

    def end(self, error: Callable[[], ChatError]) -> None:
        """There will be no other connection."""
        for name in list(self._waiting):
            self._settle(name, error())

    def _late(self, name: str) -> None:
        asked = self._waiting.get(name)
        if asked is not None and asked.was_sent:
            self._settle(name, Unanswered("NO_REPLY", "no reply in time"))
        else:
            self._settle(name, Unanswered("NOT_CONNECTED", "no connection in time"))

    def _settle(self, name: str, error: ChatError) -> None:
        if (asked := self._take(name)) is not None:
            asked.on_reply(error)

    def _take(self, name: str) -> Asked | None:
        asked = self._waiting.pop(name, None)
        if asked is None:
            return None
        if asked.timer is not None:
            asked.timer.cancel()
        if not asked.was_sent:
            self._unsent.remove(name)  # as few as wait: it is held to what `give` admits
        return asked


def _refusal(fault: object) -> Refused:
    said = fault if isinstance(fault, dict) else {}
    words = said.get("message")
    return Refused(
        shown(said.get("code") or "ERROR"),
        shown(words) if isinstance(words, str) else "the command was refused",
        retry_after_seconds=milliseconds(said.get("retry_after_ms")),
    )
