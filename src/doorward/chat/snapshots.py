"""What threads said up to their last finished run, encoded: tabs that begin at the same place share one text."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec
from ag_ui.core import MessagesSnapshotEvent

from doorward.chat.envelope import SyntheticEnvelope, encode, event_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.chat.eventlog import EventLog
    from doorward.chat.threads import Thread

KEPT_BYTES: Final = 8_388_608
"""Of all texts that are kept for the next one who wants them."""

KEPT: Final = 256


class Snapshots:
    """Makes snapshots, and keeps the newest ones.

    Args:
        wall: wall-clock seconds.
    """

    def __init__(self, log: EventLog, *, wall: Callable[[], float]) -> None:
        self._log = log
        self._wall = wall
        self._kept: OrderedDict[Thread, tuple[int, bytes]] = OrderedDict()
        self.bytes = 0

    def of(self, thread: Thread) -> bytes:
        """The envelope of a `MESSAGES_SNAPSHOT`. An active run follows from its `RUN_STARTED`."""
        at, text = self._kept.get(thread, (None, b""))
        if at != thread.folded_seq:
            event = event_json(MessagesSnapshotEvent(messages=list(thread.messages)))
            text = self.synthetic(thread, event, after_seq=thread.folded_seq)
            self._keep(thread, text)
        return text

    def synthetic(self, thread: Thread, event: bytes, *, after_seq: int | None, run_id: str | None = None) -> bytes:
        """An envelope that is made for one subscriber."""
        envelope = SyntheticEnvelope(
            thread_id=thread.id,
            epoch=self._log.epoch,
            ts=int(self._wall() * 1000),
            event=msgspec.Raw(event),
            after_seq=after_seq,
            run_id=run_id,
        )
        return encode(envelope)

    def _keep(self, thread: Thread, text: bytes) -> None:
        self.bytes += len(text) - len(self._kept.pop(thread, (0, b""))[1])
        self._kept[thread] = thread.folded_seq, text
        while self.bytes > KEPT_BYTES or len(self._kept) > KEPT:
            _, (_, dropped) = self._kept.popitem(last=False)
            self.bytes -= len(dropped)
