"""The chat with somebody at the keyboard: conversations are picked, questions typed, answers read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from doorward.cli.chat.choice import last_used, named
from doorward.cli.chat.conversation import Conversation, Room
from doorward.cli.chat.entrance import Entrance, explained
from doorward.cli.chat.keyboard import Keyboard
from doorward.cli.chat.screen import Screen
from doorward.cli.chat.slash import Slash
from doorward.cli.chat.waiting import Leaving, or_leave
from doorward.cli.chat.weather import Weather
from doorward.client import Client, Ended, SignedOut, State, Timing
from doorward.client.client import new_id

if TYPE_CHECKING:
    from rich.console import Console

    from doorward.cli.chat.choice import Start
    from doorward.cli.chat.entrance import Wanted
    from doorward.config import Settings

PROMPT = "> "
NEWS_SECONDS = 0.5
TIMING = Timing(backoff_cap_seconds=10.0)
"""Somebody sits there and waits."""


class Talk:
    """`doorward chat` in a terminal."""

    def __init__(self, wanted: Wanted, start: Start, settings: Settings, console: Console) -> None:
        self._wanted = wanted
        self._start = start
        self._settings = settings
        self._screen = Screen(console)

    async def run(self) -> int:
        """Until somebody leaves. Returns the exit code.

        Raises:
            Refused, Unanswered, Ended, UsageError, StoreError: it cannot begin, or go on.

        Cancellation: the connection is closed; what was asked goes on.
        """
        with Keyboard() as keyboard:
            room = Room(self._screen, Weather(time.monotonic()), keyboard)
            keyboard.on_interrupt = room.leaving.set
            entrance = Entrance(
                self._wanted, self._settings, keyboard=keyboard, tell=lambda words: room.note(words, "dim")
            )
            try:
                await or_leave(room.leaving, entrance.enter())
                while True:
                    try:
                        await self._with_client(room, entrance)
                    except SignedOut as error:
                        enter = "Press Enter to sign in again" if keyboard.is_open else "Sign in again"
                        room.note(f"{str(error).capitalize()}. {enter}, or Ctrl-C to leave.")
                        keyboard.on_interrupt = room.leaving.set
                        await or_leave(room.leaving, entrance.again(error))
                    else:
                        return 0
            except Leaving:
                return 0
            finally:
                await entrance.aclose()

    async def _with_client(self, room: Room, entrance: Entrance) -> None:
        room.weather = Weather(time.monotonic())

        def on_state(state: State) -> None:
            if state.is_in:
                room.screen.forget_banner()
            if words := room.weather.changed(state, time.monotonic()):
                room.note(words, "dim")

        async with Client(entrance.url, entrance.tokens, on_state=on_state, tls=entrance.tls, timing=TIMING) as client:
            await self._until_in(room, client)
            visit = Visit(client, room, entrance)
            telling = asyncio.create_task(visit.tell_news(), name="chat-news")
            try:
                await visit.stay(await visit.first(self._start))
            except Ended as error:
                raise explained(error, client.state) from error
            finally:
                telling.cancel()

    async def _until_in(self, room: Room, client: Client) -> None:
        """Wait for the connection, however long: there is somebody who can leave."""
        entering = asyncio.create_task(client.ready(within_seconds=86_400.0), name="chat-enter")
        try:
            while not entering.done():
                if room.leaving.is_set():
                    raise Leaving
                self._screen.draw("", "connecting", room.weather.banner(time.monotonic(), wall_now=time.time()))
                await asyncio.wait({entering}, timeout=0.1)
            entering.result()
        except Ended as error:
            raise explained(error, client.state) from error
        finally:
            self._screen.rest()
            entering.cancel()


class Visit:
    """One client's time at the terminal: one conversation after another."""

    def __init__(self, client: Client, room: Room, entrance: Entrance) -> None:
        self._client = client
        self._room = room
        self._slash = Slash(client, room, entrance)

    async def first(self, start: Start) -> str | None:
        """The conversation to begin with; `None`: a new one.

        Raises:
            UsageError: there is no such one.
            Leaving: somebody left.
        """
        if start.thread_id is not None:
            return (await named(self._client, start.thread_id)).thread_id
        if start.is_last:
            return (await last_used(self._client)).thread_id
        return None if start.is_new else await self._slash.pick()

    async def stay(self, thread_id: str | None) -> None:
        """Until somebody leaves.

        Raises:
            SignedOut, Ended: the connection has ended.
            Leaving: somebody left.
        """
        while True:
            is_new = thread_id is None
            opened = thread_id or new_id("t-")
            if is_new:
                self._room.note("A new conversation. /help says what else there is.", "dim")
            try:
                thread_id = await self._in(opened, is_new=is_new)
            except Ended as error:
                if error.code != "DELETED":
                    raise
                self._room.note("This conversation was deleted.")
                thread_id = None

    async def tell_news(self) -> None:
        """While somebody types, nothing can be drawn: say once that the connection is away."""
        while True:
            await asyncio.sleep(NEWS_SECONDS)
            if self._room.keyboard.is_open and (words := self._room.weather.news(time.monotonic())):
                self._room.note(words)

    async def _in(self, thread_id: str, *, is_new: bool) -> str | None:
        """One conversation; returns the next one."""
        room = self._room
        async with Conversation(self._client, room, thread_id, is_new=is_new) as conversation:
            room.keyboard.on_interrupt = lambda: None if conversation.interrupt() else room.leaving.set()
            while not room.leaving.is_set():
                conversation.check()
                if conversation.is_busy:
                    await conversation.until_idle()
                    continue
                line = await self._next_line(conversation)
                if line.startswith("/"):
                    move = await self._slash.do(line, thread_id)
                    if move is not None and move.thread_id != thread_id:
                        return move.thread_id
                elif line.strip():
                    await conversation.ask(line.strip())
        raise Leaving

    async def _next_line(self, conversation: Conversation) -> str:
        """What is typed. A conversation that ends meanwhile is told at once."""
        room = self._room

        async def typed() -> str:
            asking = asyncio.create_task(room.keyboard.ask(PROMPT))
            try:
                while not asking.done():
                    conversation.check()
                    await asyncio.wait({asking}, timeout=0.2)
                line = asking.result()
            finally:
                asking.cancel()
            if line is None:
                raise Leaving
            return line.rstrip()

        return await or_leave(room.leaving, typed())
