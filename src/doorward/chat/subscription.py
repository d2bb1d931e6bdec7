"""One socket following one thread: what was missed, then what happens, without a gap or a duplicate."""

from __future__ import annotations

from contextlib import aclosing
from enum import StrEnum
from typing import TYPE_CHECKING

from doorward.chat.eventlog import OutOfWindow
from doorward.chat.prelude import prelude, wrapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.commands import ThreadSubscribe
    from doorward.chat.outbox import Outbox
    from doorward.chat.service import Chat
    from doorward.chat.threads import Thread


class Start(StrEnum):
    """Where a reader goes on. A metric label, so a closed set."""

    RESUMED = "resumed"
    """From its own position; all others begin with a snapshot."""
    NEW = "new"
    """It gave no position."""
    EPOCH = "epoch"
    """Its position is one of another epoch."""
    WINDOW = "window"
    """Its position is not retained, inside a joined range, or past the head."""
    BEHIND = "behind"
    """It is slower than the log forgets."""


class Subscription:
    """Follows `thread` into `outbox` as `command` asks. Make it with `at`."""

    __slots__ = ("_chat", "_first", "_outbox", "_prelude", "_since_ms", "after_seq", "start", "thread")

    def __init__(self, chat: Chat, thread: Thread, outbox: Outbox, command: ThreadSubscribe) -> None:
        self._chat = chat
        self._outbox = outbox
        self._prelude = command.prelude
        self._since_ms = int(chat.wall() * 1000)
        self._first: Sequence[bytes] = ()
        self.thread = thread
        self.after_seq = command.after_seq or 0
        self.start = Start.RESUMED

    @classmethod
    async def at(cls, chat: Chat, thread: Thread, outbox: Outbox, command: ThreadSubscribe) -> Subscription:
        """Go on from the reader's position, or from a snapshot if that cannot be: never from half of the truth.

        Raises:
            StoreError: the log could not be asked.
        """
        subscription = cls(chat, thread, outbox, command)
        if command.epoch is None or command.after_seq is None:
            subscription._begin_with_snapshot(Start.NEW)
        elif command.epoch != chat.log.epoch:
            subscription._begin_with_snapshot(Start.EPOCH)
        else:
            await subscription._resume(command.epoch, command.after_seq)
        chat.telemetry.subscribed(subscription.start)
        return subscription

    @property
    def resumed(self) -> bool:
        """It goes on from the reader's position; else a snapshot comes first."""
        return self.start is Start.RESUMED

    async def run(self) -> None:
        """Deliver until cancelled, or until the thread is deleted.

        Raises:
            SlowReader: the socket does not read.
            StoreError: the log cannot be read.

        Cancellation: leaves nothing behind.
        """
        while not self.thread.deleted:
            first, self._first = self._first, ()
            for text in first:
                await self._outbox.put(text)
                del text
            del first
            try:
                await self._follow()
            except OutOfWindow:
                await self._begin_anew()

    async def _resume(self, epoch: str, after_seq: int) -> None:
        log = self._chat.log
        try:
            if self._prelude:
                run = await log.run_at(self.thread.id, epoch=epoch, after_seq=after_seq)
                self._first = [self._synthetic(event, after_seq, run[0].run_id) for event in prelude(run)]
            else:
                await log.read(self.thread.id, epoch=epoch, after_seq=after_seq, limit=1)
        except OutOfWindow:
            self._begin_with_snapshot(Start.WINDOW)

    def _begin_with_snapshot(self, start: Start) -> None:
        """What the thread said up to its last finished run. An active run follows from its `RUN_STARTED`."""
        self.start = start
        self.after_seq = self.thread.folded_seq
        snapshot = self._chat.snapshots.of(self.thread)
        if self._prelude:
            begun, ended = wrapping(self.thread.id, self.after_seq)
            self._first = [self._synthetic(begun, None), snapshot, self._synthetic(ended, self.after_seq)]
        else:
            self._first = [snapshot]

    async def _begin_anew(self) -> None:
        """The log forgets faster than this reader reads, or the thread was deleted."""
        async with self.thread.turn:
            if not self.thread.deleted:
                await self._chat.threads.refresh(self.thread)
                self._begin_with_snapshot(Start.BEHIND)
                self._chat.telemetry.subscribed(self.start)

    async def _follow(self) -> None:
        """A page is fetched when there is room for it, and not before: what is not sent yet waits in the log."""
        log = self._chat.log
        async with aclosing(log.follow(self.thread.id, epoch=log.epoch, after_seq=self.after_seq)) as pages:
            async for page in pages:
                for envelope in page:
                    self._outbox.push(envelope, live=envelope.ts >= self._since_ms)
                self.after_seq = page[-1].seq
                del page, envelope  # nobody holds what is sent while nothing happens
                await self._outbox.room()

    def _synthetic(self, event: bytes, after_seq: int | None, run_id: str | None = None) -> bytes:
        return self._chat.snapshots.synthetic(self.thread, event, after_seq=after_seq, run_id=run_id)
