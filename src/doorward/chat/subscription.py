"""One socket following one thread: what was missed, then what happens, without a gap or a duplicate."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from ag_ui.core import MessagesSnapshotEvent

from doorward.chat.envelope import SyntheticEnvelope, encode, event_json
from doorward.chat.eventlog import OutOfWindow

if TYPE_CHECKING:
    from doorward.chat.outbox import Outbox
    from doorward.chat.service import Chat
    from doorward.chat.threads import Thread


class Subscription:
    """Follows `thread` into `outbox`, beginning after `after_seq`.

    `snapshot` is the text to send first where the reader's position could not be resumed.
    """

    def __init__(self, chat: Chat, thread: Thread, outbox: Outbox, *, after_seq: int, snapshot: str | None) -> None:
        self._chat = chat
        self._outbox = outbox
        self.thread = thread
        self.after_seq = after_seq
        self._snapshot = snapshot

    @classmethod
    async def at(
        cls, chat: Chat, thread: Thread, outbox: Outbox, epoch: str | None, after_seq: int | None
    ) -> Subscription:
        """Go on from the reader's position, or from a snapshot if that cannot be: never from half of the truth."""
        if epoch is not None and after_seq is not None and await _can_resume(chat, thread, epoch, after_seq):
            return cls(chat, thread, outbox, after_seq=after_seq, snapshot=None)
        after_seq, text = snapshot(chat, thread)
        return cls(chat, thread, outbox, after_seq=after_seq, snapshot=text)

    @property
    def resumed(self) -> bool:
        return self._snapshot is None

    async def run(self) -> None:
        """Deliver until cancelled, or until the thread is deleted.

        Raises:
            SlowReader: the socket does not read.
            StoreError: the log cannot be read.

        Cancellation: leaves nothing behind.
        """
        while not self.thread.deleted:
            if self._snapshot is not None:
                await self._outbox.put(self._snapshot)
            try:
                await self._follow()
            except OutOfWindow:
                await self._begin_anew()

    async def _begin_anew(self) -> None:
        """The log forgets faster than this reader reads, or the thread was deleted."""
        async with self.thread.turn:
            if not self.thread.deleted:
                await self._chat.threads.refresh(self.thread)
                self.after_seq, self._snapshot = snapshot(self._chat, self.thread)

    async def _follow(self) -> None:
        log = self._chat.log
        async with aclosing(log.follow(self.thread.id, epoch=log.epoch, after_seq=self.after_seq)) as pages:
            async for page in pages:
                for envelope in page:
                    await self._outbox.put(envelope)
                    self.after_seq = envelope.seq


def snapshot(chat: Chat, thread: Thread) -> tuple[int, str]:
    """What the thread said up to its last finished run, and the position after it. An active run follows from its `RUN_STARTED`."""
    event = event_json(MessagesSnapshotEvent(messages=list(thread.messages)))
    envelope = SyntheticEnvelope(
        thread_id=thread.id,
        epoch=chat.log.epoch,
        ts=int(chat.wall() * 1000),
        event=msgspec.Raw(event),
        after_seq=thread.folded_seq,
    )
    return thread.folded_seq, encode(envelope)


async def _can_resume(chat: Chat, thread: Thread, epoch: str, after_seq: int) -> bool:
    try:
        await chat.log.read(thread.id, epoch=epoch, after_seq=after_seq, limit=1)
    except OutOfWindow:
        return False
    return True
