"""Runs: one agent answering one question. They belong to threads, not to sockets, and each ends in bounded time.

The agent works in a task of its own and puts its events into a mailbox; one conductor task a run takes them out, checks
their order and appends them to the log. Stopping a run ends the mailbox, so neither a hanging agent nor one that ignores
its cancellation holds up the conductor.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ag_ui.core import RunAgentInput, RunStartedEvent, UserMessage
from pydantic_core import from_json

from doorward.chat.agents.port import AgentError, AgentFault, RunRequest
from doorward.chat.commands import Done, ErrorCode, Fault
from doorward.chat.endings import last_word
from doorward.chat.envelope import event_json
from doorward.chat.eventlog import LeaseLost
from doorward.chat.mailbox import Ending, Mailbox
from doorward.chat.sequence import RunSequence, SequenceError
from doorward.chat.store import EndedRun, Refused, StoredRun
from doorward.chat.threads import NOT_FOUND
from doorward.chat.transcript import Transcript
from doorward.errors import StoreError
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import BaseEvent

    from doorward.chat.agents.port import Agent, LiveView
    from doorward.chat.commands import RunStart
    from doorward.chat.eventlog import EventLog, Lease
    from doorward.chat.limits import ChatLimits
    from doorward.chat.notices import Notices
    from doorward.chat.store import ChatStore
    from doorward.chat.telemetry import ChatTelemetry
    from doorward.chat.threads import Thread
    from doorward.chat.tidying import Tidying
    from doorward.core.deadline import Deadline

log = get_logger(__name__)

SHOWN_CHARACTERS = 300
RUN_ACTIVE = Fault(ErrorCode.RUN_ACTIVE, "this thread has an active run; wait for it or cancel it")


class Run:
    """One run from its start to its end."""

    def __init__(self, thread: Thread, request: RunRequest, *, mailbox_events: int) -> None:
        self.id = request.run_id
        self.thread = thread
        self.request = request
        self.mailbox = Mailbox(mailbox_events)
        self.sequence = RunSequence()
        self.question = question_of(self.id, request.message)
        self.transcript = Transcript(self.question)
        self.fault = AgentFault.FAILED
        """What is told if the run fails."""
        self.lease: Lease | None = None
        self.ended = asyncio.Event()
        self.events = 0
        self.bytes = 0

    @property
    def active(self) -> bool:
        return self.thread.active is self

    def stop(self, ending: Ending) -> None:
        """End it now. Whoever is first says how."""
        self.mailbox.stop(ending)

    def opening(self) -> RunStartedEvent:
        return opening(self.thread.id, self.id, self.question)

    def last_word(self, ending: Ending) -> BaseEvent:
        """The one event that ends the run."""
        return last_word(self.thread.id, self.id, ending, self.fault)


def question_of(run_id: str, text: str) -> UserMessage:
    """The question of a run, as a message of its thread."""
    return UserMessage(id=f"{run_id}:question", content=text)


def opening(thread_id: str, run_id: str, question: UserMessage) -> RunStartedEvent:
    """`RUN_STARTED`; its input carries the question, so that other tabs see it."""
    asked = RunAgentInput(
        thread_id=thread_id, run_id=run_id, state={}, messages=[question], tools=[], context=[], forwarded_props={}
    )
    return RunStartedEvent(thread_id=thread_id, run_id=run_id, input=asked)


def _encoded(event: BaseEvent) -> bytes:
    """An agent's event as it is stored. What could not be read back is not stored: too deep a nesting, for instance.

    Raises:
        AgentError: it cannot be.
    """
    try:
        encoded = event_json(event)
        from_json(encoded)
    except Exception as error:
        reason = f"the agent sent an event that cannot be written down: {error}"[:SHOWN_CHARACTERS]
        raise AgentError(AgentFault.FAILED, reason) from error
    return encoded


class Runs:
    """Supervises the runs of this process."""

    def __init__(
        self,
        store: ChatStore,
        event_log: EventLog,
        agent: Agent,
        limits: ChatLimits,
        telemetry: ChatTelemetry,
        notices: Notices,
        tidying: Tidying,
    ) -> None:
        self._store = store
        self._log = event_log
        self._agent = agent
        self._limits = limits
        self._telemetry = telemetry
        self._notices = notices
        self._tidying = tidying
        self._active: dict[asyncio.Task[None], Run] = {}
        self._starting: set[asyncio.Task[tuple[Done | Fault, Run | None]]] = set()
        self._per_user: Counter[str] = Counter()
        self._abandoned: set[asyncio.Task[None]] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._active)

    async def start(self, thread: Thread, command: RunStart, who: LiveView) -> tuple[Done | Fault, Run | None]:
        """Begin a run, unless the thread has had this one. Returns the reply, and the run if one was begun.

        Raises:
            StoreError: nobody knows whether it was written down; ask again with the same `run_id`.

        Cancellation: the run begins all the same.
        """
        task = asyncio.create_task(self._start(thread, command, who), name="chat-start")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    async def _start(self, thread: Thread, command: RunStart, who: LiveView) -> tuple[Done | Fault, Run | None]:
        async with thread.turn:
            if thread.deleted:
                return NOT_FOUND, None
            if command.run_id in thread.run_ids:
                return Done({"run_id": command.run_id, "duplicate": True}), None
            if fault := self._refusal(thread):
                return fault, None
            run = self._reserve(thread, command, who)
            try:
                begun = await self._store.begin_run(StoredRun(thread.id, run.id, command.message))
            except BaseException:
                self._release(run)
                raise
            if isinstance(begun, Refused):
                self._release(run)
                return self._refused(begun, run), None
            self._notices.changed(begun)
            self._conduct_in_background(run)
            return Done({"run_id": run.id, "duplicate": False}), run

    def _refused(self, why: Refused, run: Run) -> Done | Fault:
        match why:
            case Refused.DUPLICATE:
                return Done({"run_id": run.id, "duplicate": True})
            case Refused.ACTIVE:
                return RUN_ACTIVE
            case Refused.GONE:
                run.thread.deleted = True
                return NOT_FOUND

    def _reserve(self, thread: Thread, command: RunStart, who: LiveView) -> Run:
        """Take the thread and a place among the user's runs before anything is waited for."""
        request = RunRequest(
            thread_id=thread.id, run_id=command.run_id, message=command.message, who=who, history=tuple(thread.messages)
        )
        run = thread.active = Run(thread, request, mailbox_events=self._limits.mailbox_events)
        self._per_user[thread.owner] += 1
        return run

    def _release(self, run: Run) -> None:
        if run.active:
            run.thread.active = None
        run.ended.set()
        self._per_user[run.thread.owner] -= 1
        if not self._per_user[run.thread.owner]:
            del self._per_user[run.thread.owner]

    def _conduct_in_background(self, run: Run) -> None:
        run.thread.remember(run.id, at_most=self._limits.run_ids_per_thread)
        self._telemetry.run_started()
        task = asyncio.create_task(self._conduct(run), name="chat-run")
        self._active[task] = run
        task.add_done_callback(self._ended)

    def cancel(self, thread: Thread, run_id: str) -> Done | Fault:
        """Ask a run to stop. That it has ended already is no fault."""
        if run_id not in thread.run_ids:
            return Fault(ErrorCode.NOT_FOUND, "there is no such run")
        active = thread.active
        if active is None or active.id != run_id:
            return Done({"run_id": run_id, "cancelled": False})
        active.stop(Ending.CANCELLED)
        return Done({"run_id": run_id, "cancelled": True})

    async def drain(self, deadline: Deadline) -> None:
        """Begin no more, let the active ones go on until `deadline`, then end them as interrupted.

        Cancellation: the runs that are left go on, and no new one begins.
        """
        self._draining = True
        if self._starting:
            await asyncio.wait(self._starting, timeout=self._limits.reap_seconds)
        now = asyncio.get_running_loop().time()
        if self._active:
            await asyncio.wait(self._active, timeout=deadline.remaining(now))
        for run in self._active.values():
            run.stop(Ending.INTERRUPTED)
        if self._active:
            await asyncio.wait(self._active, timeout=self._limits.reap_seconds)
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=self._limits.reap_seconds)

    def _refusal(self, thread: Thread) -> Fault | None:
        if self._draining:
            return Fault(ErrorCode.RESTARTING, "the server is restarting; try again in a few seconds")
        if thread.active is not None:
            return RUN_ACTIVE
        if self._per_user[thread.owner] >= self._limits.runs_per_user:
            return Fault(ErrorCode.TOO_MANY_RUNS, f"at most {self._limits.runs_per_user} runs at once")
        if len(self._active) >= self._limits.runs or len(self._abandoned) >= self._limits.abandoned_agents:
            return Fault(ErrorCode.OVERLOADED, "too many runs are active; try again in a few seconds")
        return None

    async def _conduct(self, run: Run) -> None:
        """A run that cannot be stored any more is left to `Recovery`, which knows what was stored of it."""
        try:
            run.lease = await self._log.acquire(run.thread.id, run.id)
            await self._listen(run)
            await self._finish(run)
        except LeaseLost:
            log.warning("chat.run_lost_its_thread", run_id=run.id)
        except StoreError as error:
            log.error("chat.run_not_stored", run_id=run.id, error=str(error), mend="it is ended as interrupted soon")
        finally:
            self._telemetry.run_ended(run.mailbox.ending or Ending.INTERRUPTED)

    async def _listen(self, run: Run) -> None:
        alarm = asyncio.get_running_loop().call_later(self._limits.run_seconds, run.stop, Ending.TIMEOUT)
        producer: asyncio.Task[None] | None = None
        try:
            await self._append(run, [event_json(run.opening())])
            producer = asyncio.create_task(self._produce(run), name="chat-agent")
            while events := await run.mailbox.take():
                await self._take(run, events)
        finally:
            alarm.cancel()
            if producer is not None:
                self._abandon(producer)
            run.mailbox.end(Ending.INTERRUPTED)

    async def _produce(self, run: Run) -> None:
        """The agent's side: whatever it does, the mailbox ends."""
        ending = Ending.FAILED
        try:
            async with AsyncExitStack() as stack:
                events = self._agent.run(run.request)
                if hasattr(events, "aclose"):
                    stack.push_async_callback(events.aclose)
                async for event in events:
                    if not await run.mailbox.put(event):
                        return
            ending = Ending.FINISHED
        except AgentError as error:
            run.fault = error.fault
            log.error("chat.agent_failed", run_id=run.id, fault=error.fault.value, error=str(error), mend=error.mend)
        except Exception:
            log.exception("chat.agent_failed", run_id=run.id)
        finally:
            run.mailbox.end(ending)

    async def _take(self, run: Run, events: Sequence[BaseEvent]) -> None:
        admitted: list[bytes] = []
        for event in events:
            try:
                encoded = _encoded(event)
                run.sequence.admit(event)
            except AgentError as error:
                run.fault = error.fault
                log.error(
                    "chat.agent_failed", run_id=run.id, fault=error.fault.value, error=str(error), mend=error.mend
                )
                run.stop(Ending.FAILED)
                break
            except SequenceError as error:
                log.warning("chat.agent_out_of_order", run_id=run.id, error=str(error))
                run.stop(Ending.FAILED)
                break
            run.transcript.add(event)
            admitted.append(encoded)
        if admitted:
            await self._append(run, admitted)
        if run.events > self._limits.events_per_run or run.bytes > self._limits.bytes_per_run:
            run.stop(Ending.TOO_LONG)

    async def _append(self, run: Run, events: Sequence[bytes]) -> int:
        run.events += len(events)
        run.bytes += sum(len(event) for event in events)
        assert run.lease is not None  # noqa: S101 - it is conducted under one
        return await self._log.append(run.lease, events)

    async def _finish(self, run: Run) -> None:
        """Say the last word and write the run into the history; who wants the thread meanwhile waits for both."""
        ending = run.mailbox.ending or Ending.INTERRUPTED
        said = run.transcript.messages
        async with run.thread.turn:
            words = [*run.sequence.closing(), run.last_word(ending)]
            last = await self._append(run, [event_json(word) for word in words])
            row = await self._store.end_run(EndedRun(run.thread.id, run.id, ending, last, said, run.fault))
            run.thread.fold(said, up_to=last, limits=self._limits)
            run.thread.active = None
            if row is not None:
                self._notices.changed(row)
            await self._tidying.grown(run.thread)

    def _abandon(self, producer: asyncio.Task[None]) -> None:
        """Cancel it and do not wait: it may ignore us."""
        if not producer.done():
            producer.cancel()
            self._abandoned.add(producer)
            producer.add_done_callback(self._abandoned.discard)

    def _ended(self, task: asyncio.Task[None]) -> None:
        run = self._active.pop(task)
        self._release(run)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("chat.run_lost", run_id=run.id, exc_info=error)
