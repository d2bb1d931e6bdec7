"""Which conversation: the list of them, as people read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from doorward.cli.chat.blocks import one_line
from doorward.client import Refused
from doorward.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.client import Client, Thread

SHOWN = 9
TITLE = 60


@dataclass(frozen=True, slots=True)
class Start:
    """Which conversation the command line names, if it does."""

    thread_id: str | None = None
    is_new: bool = False
    is_last: bool = False


def line_of(thread: Thread, *, wall_now: float, number: int | None = None) -> str:
    """One row: number or id, how long ago, title."""
    name = thread.thread_id if number is None else str(number)
    busy = "  (answering)" if thread.active_run_id is not None else ""
    return f"{name}  {age(thread.updated_at, wall_now=wall_now):>14}  {title_of(thread)}{busy}"


def title_of(thread: Thread) -> str:
    return one_line(thread.title or "", TITLE) or "(nothing asked yet)"


def age(time: str, *, wall_now: float) -> str:
    """How long ago an RFC 3339 time was, in words."""
    try:
        seconds = wall_now - datetime.fromisoformat(time).astimezone(UTC).timestamp()
    except ValueError:
        return ""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def picked(answer: str, threads: Sequence[Thread]) -> Thread | None:
    """The thread of this number, or of this id."""
    text = answer.strip()
    if text.isdecimal() and 0 < int(text[:6]) <= len(threads):
        return threads[int(text[:6]) - 1]
    return next((thread for thread in threads if thread.thread_id == text), None)


async def named(client: Client, thread_id: str) -> Thread:
    """The thread of this id.

    Raises:
        UsageError: there is none.
    """
    try:
        return await client.threads.get(thread_id)
    except Refused as error:
        if error.status == 404:
            raise UsageError(f"you have no conversation {thread_id!r}; --list shows them, --new begins one") from None
        raise


async def last_used(client: Client) -> Thread:
    """The one that was used last.

    Raises:
        UsageError: there is none.
    """
    page = await client.threads.list(limit=1)
    if not page.items:
        raise UsageError("you have no conversation yet; leave --last out, and a new one begins")
    return page.items[0]
