"""One socket following one thread: what was missed, then what happens, without a gap or a duplicate."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from ag_ui.core import MessagesSnapshotEvent

from doorward.chat.envelope import SyntheticEnvelope, encode, event_json
from doorward.chat.eventlog import OutOfWindow
from doorward.chat.prelude import prelude, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.commands import ThreadSubscribe
    from doorward.chat.outbox import Outbox
    from doorward.chat.service import Chat
    from doorward.chat.threads import Thread


class Subscription:
    """Follows `thread` into `outbox` as `command` asks. Make it with `at`.

    `resumed`: it goes on from the reader's position; else a snapshot comes first.
    """

    def __init__(self, chat: Chat, thread: Thread, outbox: Outbox, command: ThreadSubscribe) -> None:
        self._chat = chat
        self._outbox = outbox
        self._command = command
        self.thread = thread
        self.after_seq = command.after_seq or 0
        self.resumed = False
        self._first: Sequence[str] = ()

    @classmethod
    async def at(cls, chat: Chat, thread: Thread, outbox: Outbox, command: ThreadSubscribe) -> Subscription:
        """Go on from the reader's position, or from a snapshot if that cannot be: never from half of the truth.

        Raises:
            StoreError: the log could not be asked.
        """
        subscription = cls(chat, thread, outbox, command)
        try:
            await subscription._resume()
        except OutOfWindow:
            subscription._begin_with_snapshot()
        return subscription

    async def run(self) -> None:
        """Deliver until cancelled, or until the thread is deleted.

        Raises:
            SlowReader: the socket does not read.
            StoreError: the log cannot be read.

        Cancellation: leaves nothing behind.
        """
        while not self.thread.deleted:
            for text in self._first:
                await self._outbox.put(text)
            try:
                await self._follow()
            except OutOfWindow:
                await self._begin_anew()

    async def _resume(self) -> None:
        log, epoch, after_seq = self._chat.log, self._command.epoch, self._command.after_seq
        if epoch is None or after_seq is None:
            raise OutOfWindow("no position is given")
        if self._command.prelude:
            run = await log.run_at(self.thread.id, epoch=epoch, after_seq=after_seq)
            self._first = [self._synthetic(event, run[0].run_id) for event in prelude(run)]
        else:
            await log.read(self.thread.id, epoch=epoch, after_seq=after_seq, limit=1)
        self.resumed = True

    def _begin_with_snapshot(self) -> None:
        """What the thread said up to its last finished run. An active run follows from its `RUN_STARTED`."""
        self.after_seq = self.thread.folded_seq
        snapshot = event_json(MessagesSnapshotEvent(messages=list(self.thread.messages)))
        events = wrapped(snapshot, self.thread.id, self.after_seq) if self._command.prelude else [snapshot]
        self._first = [self._synthetic(event) for event in events]

    async def _begin_anew(self) -> None:
        """The log forgets faster than this reader reads, or the thread was deleted."""
        async with self.thread.turn:
            if not self.thread.deleted:
                await self._chat.threads.refresh(self.thread)
                self._begin_with_snapshot()

    async def _follow(self) -> None:
        log = self._chat.log
        async with aclosing(log.follow(self.thread.id, epoch=log.epoch, after_seq=self.after_seq)) as pages:
            async for page in pages:
                for envelope in page:
                    await self._outbox.put(envelope)
                    self.after_seq = envelope.seq

    def _synthetic(self, event: bytes, run_id: str | None = None) -> str:
        return encode(
            SyntheticEnvelope(
                thread_id=self.thread.id,
                epoch=self._chat.log.epoch,
                ts=int(self._chat.wall() * 1000),
                event=msgspec.Raw(event),
                after_seq=self.after_seq,
                run_id=run_id,
            )
        )
