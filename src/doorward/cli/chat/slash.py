"""What can be typed in a conversation besides questions."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from doorward.cli.chat.choice import SHOWN, line_of, picked, title_of
from doorward.cli.chat.entrance import Entrance
from doorward.cli.chat.keyboard import Sort
from doorward.cli.chat.waiting import Leaving, or_leave
from doorward.client import ChatError, Client, Ended, Refused, SignedOut, in_words
from doorward.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.cli.chat.conversation import Room
    from doorward.client import Thread

HELP = """\
/threads       the last conversations; go on with one
/new           begin another one
/rename TITLE  give this one another title
/delete        delete this one, with all that was said in it
/status        who you are, and how the connection is
/signout       end the session, and leave
/quit          leave; Ctrl-D does too
Ctrl-C stops an answer; a second one leaves. What is asked goes on without you, and is here when you come back."""


class Move(NamedTuple):
    """To another conversation; `None`: to a new one."""

    thread_id: str | None


class Slash:
    """Does what a line that begins with a slash says."""

    def __init__(self, client: Client, room: Room, entrance: Entrance) -> None:
        self._client = client
        self._room = room
        self._entrance = entrance

    async def do(self, line: str, thread_id: str) -> Move | None:
        """Do it; returns where to go then, if elsewhere.

        Raises:
            SignedOut, Ended: the connection has ended.
            Leaving: somebody left.

        Cancellation: it may or may not have been done.
        """
        name, _, rest = line.partition(" ")
        known = {
            "/threads": self._threads,
            "/new": self._new,
            "/rename": self._rename,
            "/delete": self._delete,
            "/status": self._status,
            "/signout": self._sign_out,
            "/help": self._help,
            "/quit": self._quit,
        }
        try:
            return await known.get(name, self._unknown)(thread_id, rest.strip())
        except (SignedOut, Ended):
            raise
        except Refused as error:
            self._room.note(f"Not done: {error}.", "red")
        except ChatError as error:
            self._room.note(f"Could not ask: {error}.", "red")
        except UsageError as error:
            self._room.note(f"{error}.", "red")
        return None

    async def pick(self) -> str | None:
        """Let somebody choose; `None`: a new one.

        Raises:
            Leaving: somebody left.
            ChatError: the list cannot be had.

        Cancellation: nothing was chosen.
        """
        page = await or_leave(self._room.leaving, self._client.threads.list(limit=SHOWN))
        if not page.items:
            return None
        self._show(page.items)
        while True:
            answer = await self._asked("Number to go on with, or Enter for a new conversation: ")
            if not answer:
                return None
            if (thread := picked(answer, page.items)) is not None:
                return thread.thread_id
            self._room.note(f"There is no number {answer[:20]!r} in the list.")

    async def _threads(self, _: str, __: str) -> Move:
        return Move(await self.pick())

    async def _new(self, _: str, __: str) -> Move:
        return Move(None)

    async def _rename(self, thread_id: str, title: str) -> None:
        if not title:
            raise UsageError("write the title behind it: /rename TITLE")
        thread = await self._client.threads.rename(thread_id, title)
        self._room.note(f"This conversation is called {title_of(thread)!r} now.", "dim")

    async def _delete(self, thread_id: str, _: str) -> Move | None:
        if (await self._asked("Delete all that was said here? [y/N] ")).lower() not in {"y", "yes"}:
            return None
        with contextlib.suppress(Refused):  # nothing was asked in it yet
            await self._client.threads.delete(thread_id)
        self._room.note("Deleted.", "dim")
        return Move(None)

    async def _status(self, thread_id: str, _: str) -> None:
        door, session = self._client.door, self._entrance.session
        user = await session.user() if session is not None else None
        who = (user.email or user.user_id) if user is not None else door.user_id if door is not None else None
        words = in_words(self._client.state, wall_now=time.time()) or "Connected."
        proof = f" Let in by decision {door.decision_id}, assurance {door.assurance}." if door is not None else ""
        self._room.note(
            f"{who or 'Somebody'} at {self._entrance.url}. {words}{proof}\nThis is conversation {thread_id}.", ""
        )

    async def _sign_out(self, _: str, __: str) -> None:
        await self._entrance.sign_out()
        raise Leaving

    async def _quit(self, _: str, __: str) -> None:
        raise Leaving

    async def _unknown(self, _: str, __: str) -> None:
        self._room.note(
            "There is no such command; /help shows them. To ask what begins with a slash, put a space before it."
        )

    async def _help(self, _: str, __: str) -> None:
        self._room.note(HELP, "")

    async def _asked(self, prompt: str) -> str:
        answer = await or_leave(self._room.leaving, self._room.keyboard.ask(prompt, Sort.CHOICE))
        if answer is None:
            raise Leaving
        return answer.strip()

    def _show(self, threads: Sequence[Thread]) -> None:
        lines = [line_of(thread, wall_now=time.time(), number=number) for number, thread in enumerate(threads, 1)]
        self._room.note("\nConversations, last used first:\n" + "\n".join(f"  {line}" for line in lines), "")
