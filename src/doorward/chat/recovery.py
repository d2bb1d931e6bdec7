"""Runs that nobody conducts any more: their process died, or the store failed them. Each is ended as interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ag_ui.core import Event, RunErrorEvent, RunFinishedCancelledOutcome, RunFinishedEvent, RunStartedEvent
from pydantic import TypeAdapter

from doorward.chat.agents.port import AgentFault
from doorward.chat.commands import Fault
from doorward.chat.endings import fault_of, last_word
from doorward.chat.envelope import event_json
from doorward.chat.mailbox import Ending
from doorward.chat.runs import opening, question_of
from doorward.chat.sequence import RunSequence, SequenceError
from doorward.chat.store import EndedRun
from doorward.chat.transcript import Transcript
from doorward.errors import StoreError
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent

    from doorward.chat.eventlog import EventLog
    from doorward.chat.limits import ChatLimits
    from doorward.chat.notices import Notices
    from doorward.chat.store import ChatStore, StoredRun
    from doorward.chat.threads import Thread, Threads

log = get_logger(__name__)

PAGE: Final = 256
_EVENT: Final[TypeAdapter[BaseEvent]] = TypeAdapter(Event)


class Recovery:
    """Ends what was left behind. The log says how far each run had come; memory is not asked."""

    def __init__(
        self, store: ChatStore, event_log: EventLog, threads: Threads, limits: ChatLimits, notices: Notices
    ) -> None:
        self._store = store
        self._log = event_log
        self._threads = threads
        self._limits = limits
        self._notices = notices
        self._left: set[tuple[str, str]] = set()

    async def run(self) -> int:
        """End all runs that the store takes for active and nobody here conducts; returns how many.

        One that cannot be ended is logged once and left to the next time; it stops no other.

        Raises:
            StoreError: some are left.

        Cancellation: some are left.
        """
        ended, told = 0, self._left
        self._left = set()
        for stored, owner in await self._store.unfinished(self._limits.runs * 2):
            try:
                ended += await self._recover(stored, owner)
            except StoreError:  # not this run's fault, and the next one would wait for as long
                raise
            except Exception:
                name = stored.thread_id, stored.run_id
                self._left.add(name)
                if name not in told:
                    log.exception("chat.run_not_recovered", thread_id=stored.thread_id, run_id=stored.run_id)
        return ended

    async def _recover(self, stored: StoredRun, owner: str) -> bool:
        thread = await self._threads.find(stored.thread_id, owner)
        if isinstance(thread, Fault):
            return False
        async with thread.turn:
            # Its end may have been written since it was found.
            if thread.active is not None or not await self._store.is_unfinished(stored):
                return False
            await self._end(thread, stored)
            return True

    async def _end(self, thread: Thread, stored: StoredRun) -> None:
        lease = await self._log.acquire(thread.id, stored.run_id)
        left = _LeftBehind(Transcript(question_of(stored.run_id, stored.question)))
        last = await self._replay(thread, stored.run_id, left)
        ending = left.ending or Ending.INTERRUPTED
        if left.ending is None:
            started = [] if left.has_started else [opening(thread.id, stored.run_id, left.transcript.question)]
            told = last_word(thread.id, stored.run_id, ending)
            words = [*started, *left.sequence.closing(), told]
            last = await self._log.append(lease, [event_json(word) for word in words])
        said = left.transcript.messages
        row = await self._store.end_run(EndedRun(thread.id, stored.run_id, ending, last, said, left.fault))
        thread.fold(said, up_to=last, limits=self._limits)
        thread.remember(stored.run_id, at_most=self._limits.run_ids_per_thread)
        if row is not None:
            self._notices.changed(row)
        log.warning("chat.run_recovered", run_id=stored.run_id, ending=ending.value)

    async def _replay(self, thread: Thread, run_id: str, left: _LeftBehind) -> int:
        """Take in what the log has of the run, but for what cannot be read back; returns the thread's last number."""
        await self._threads.refresh(thread)
        last = thread.folded_seq
        while page := await self._log.read(thread.id, epoch=self._log.epoch, after_seq=last, limit=PAGE):
            last = page[-1].seq
            for entry in page:
                if entry.run_id != run_id:
                    continue
                try:
                    left.add(_EVENT.validate_json(bytes(entry.event)))
                except (ValueError, SequenceError) as error:
                    log.warning("chat.event_not_read_back", run_id=run_id, seq=entry.seq, error=type(error).__name__)
        return last


@dataclass(slots=True)
class _LeftBehind:
    """How far a run had come."""

    transcript: Transcript
    sequence: RunSequence = field(default_factory=RunSequence)
    has_started: bool = False
    ending: Ending | None = None
    fault: AgentFault = AgentFault.FAILED

    def add(self, event: BaseEvent) -> None:
        if isinstance(event, RunStartedEvent):
            self.has_started = True
        elif isinstance(event, RunFinishedEvent | RunErrorEvent):
            self.ending = _ending(event)
            self.fault = fault_of(event.code if isinstance(event, RunErrorEvent) else None)
        else:
            self.sequence.admit(event)
            self.transcript.add(event)


def _ending(event: RunFinishedEvent | RunErrorEvent) -> Ending:
    """How a run ended whose last word was said before the end was written down."""
    if isinstance(event, RunFinishedEvent):
        return Ending.CANCELLED if isinstance(event.outcome, RunFinishedCancelledOutcome) else Ending.FINISHED
    endings = {"timeout": Ending.TIMEOUT, "too_long": Ending.TOO_LONG, "interrupted": Ending.INTERRUPTED}
    return endings.get(event.code or "", Ending.FAILED)
