"""Threads, their runs and their messages, in the chat's database. Every question about a thread names who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, TypeAdapter
from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from doorward.chat.agents.port import AgentFault
from doorward.chat.excerpt import Excerpt, excerpt_of
from doorward.chat.mailbox import Ending
from doorward.chat.schema import messages, runs, threads
from doorward.chat.transcript import Message

if TYPE_CHECKING:
    from doorward.chat.database import ChatDatabase

TITLE_CHARACTERS: Final = 80
STORED_MESSAGES: Final = 5_000
"""Messages of a thread that are kept for its history; the oldest go."""

_MESSAGE: Final[TypeAdapter[Message]] = TypeAdapter(Annotated[Message, Field(discriminator="role")])


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """One conversation as it is listed. Times in wall-clock milliseconds."""

    thread_id: str
    user_id: str
    title: str | None
    created_ms: int
    updated_ms: int
    folded_seq: int
    active_run_id: str | None = None
    tidied_seq: int = 0
    excerpt: Excerpt | None = None
    """Of one that was searched for, where its newest message with these words says them."""


@dataclass(frozen=True, slots=True)
class StoredThread:
    """What a thread is taken up from: the newest messages and runs."""

    row: ThreadRow
    messages: Sequence[Message] = ()
    run_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that begins, or that has not ended as far as the store knows."""

    thread_id: str
    run_id: str
    question: str


class Refused(Enum):
    """Why a run did not begin."""

    DUPLICATE = auto()
    ACTIVE = auto()
    GONE = auto()


class Full(Enum):
    """Why a thread was not made."""

    TOO_MANY = auto()


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How a run ended, and what it said. `last_seq` is the number of its last event."""

    thread_id: str
    run_id: str
    ending: Ending
    last_seq: int
    messages: Sequence[Message] = field(default=())
    fault: AgentFault = AgentFault.FAILED
    """Counts where the agent failed."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a thread's history."""

    position: int
    run_id: str
    created_ms: int
    message: str
    """AG-UI JSON."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as it is listed. `number` counts the runs of its thread."""

    run_id: str
    number: int
    started_ms: int
    ended_ms: int | None
    ending: str | None
    fault: str | None
    """Why the agent gave no answer, where that is known."""


class ChatStore:
    """What SQL says about threads. Every call may raise `StoreError`; one that is cancelled may have been done.

    Args:
        wall: wall-clock seconds.
        recent_messages: what `thread` takes up.
        recent_runs: what `thread` takes up, and how many run names of a thread are kept.
        threads_per_user: more are refused.
    """

    def __init__(
        self,
        database: ChatDatabase,
        *,
        wall: Callable[[], float],
        recent_messages: int,
        recent_runs: int,
        threads_per_user: int,
    ) -> None:
        self._database = database
        self._wall = wall
        self._recent_messages = recent_messages
        self._recent_runs = recent_runs
        self._threads_per_user = threads_per_user

    async def thread(self, thread_id: str, user_id: str) -> StoredThread | None:
        """The user's own thread; `None` where there is none, or it is somebody else's."""
        return await self._database.read(partial(self._thread, thread_id, user_id))

    async def create(
        self, thread_id: str, user_id: str, title: str | None = None
    ) -> tuple[StoredThread, bool] | Full | None:
        """The user's own thread, and whether it was made now; `None` where the name is somebody else's."""
        return await self._database.run(partial(self._create, thread_id, user_id, title))

    async def row(self, thread_id: str, user_id: str) -> ThreadRow | None:
        """The user's own thread as it is listed."""
        return await self._database.read(partial(_own_row, thread_id, user_id))

    async def page(
        self, user_id: str, *, limit: int, before: tuple[int, str] | None = None, words: str = ""
    ) -> Sequence[ThreadRow]:
        """The user's threads, last used first, from after the one at `before` (its `updated_ms` and name) on.

        Args:
            words: only threads with this text in their title or a message, in whatever case.
        """
        look = self._database.search if words else self._database.read
        return await look(partial(_page, user_id, limit, before, words.casefold()))

    async def rename(self, thread_id: str, user_id: str, title: str) -> ThreadRow | None:
        """Give it a title; `None` where there is no such thread."""
        return await self._database.run(partial(_rename, thread_id, user_id, title))

    async def delete(self, thread_id: str, user_id: str) -> bool:
        """Delete it with its runs and messages; False where there is none. Its events are the log's."""
        statement = delete(threads).where(threads.c.thread_id == thread_id, threads.c.user_id == user_id)
        return await self._database.run(lambda found: found.execute(statement).rowcount == 1)

    async def history(
        self, thread_id: str, user_id: str, *, limit: int, before: int | None = None
    ) -> Sequence[StoredMessage] | None:
        """The newest messages before position `before`, oldest first; `None` where there is no such thread."""
        return await self._database.read(partial(_history, thread_id, user_id, limit, before))

    async def runs(
        self, thread_id: str, user_id: str, *, limit: int, before: int | None = None
    ) -> Sequence[RunRow] | None:
        """The newest runs before number `before`, newest first; `None` where there is no such thread."""
        return await self._database.read(partial(_runs, thread_id, user_id, limit, before))

    async def begin_run(self, run: StoredRun) -> ThreadRow | Refused:
        """Write down that a run begins; returns the thread as it is then."""
        return await self._database.run(partial(self._begin_run, run))

    async def end_run(self, run: EndedRun) -> ThreadRow | None:
        """What it said becomes history, and the thread may have another one. Twice is once.

        Returns:
            The thread as it is then; `None` if it is gone.
        """
        return await self._database.run(partial(self._end_run, run))

    async def unfinished(self, limit: int) -> Sequence[tuple[StoredRun, str]]:
        """Runs that have not ended, each with the owner of its thread."""
        return await self._database.read(partial(_unfinished, limit))

    async def is_unfinished(self, run: StoredRun) -> bool:
        return await self._database.read(partial(_is_unfinished, run))

    async def untidy(
        self, *, idle_before_ms: int, tidied_before_ms: int, grown_by: int, limit: int
    ) -> Sequence[tuple[str, int]]:
        """Threads whose log wants tidying, and up to where it is history.

        Idle ones with a new run, those that have had `grown_by` events since, and those not seen for long.
        """
        return await self._database.read(partial(_untidy, idle_before_ms, tidied_before_ms, grown_by, limit))

    async def tidied(self, thread_id: str, up_to: int) -> None:
        """Note that a thread's log was tidied."""
        await self._database.run(partial(_note_tidied, thread_id, up_to, self._now()))

    # What follows runs on the database's threads.

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _thread(self, thread_id: str, user_id: str, connection: Connection) -> StoredThread | None:
        row = _own_row(thread_id, user_id, connection)
        if row is None:
            return None
        newest = (
            select(messages.c.message)
            .where(messages.c.thread_id == thread_id)
            .order_by(messages.c.position.desc())
            .limit(self._recent_messages)
        )
        recent = (
            select(runs.c.run_id)
            .where(runs.c.thread_id == thread_id)
            .order_by(runs.c.number.desc())
            .limit(self._recent_runs)
        )
        return StoredThread(
            row,
            messages=[_MESSAGE.validate_json(text) for text in reversed(connection.scalars(newest).all())],
            run_ids=list(reversed(connection.scalars(recent).all())),
        )

    def _create(
        self, thread_id: str, user_id: str, title: str | None, connection: Connection
    ) -> tuple[StoredThread, bool] | Full | None:
        if _row(connection, thread_id) is not None:
            known = self._thread(thread_id, user_id, connection)
            return None if known is None else (known, False)
        if _count(connection, user_id) >= self._threads_per_user:
            return Full.TOO_MANY
        now = self._now()
        values = {"created_ms": now, "updated_ms": now, "folded_seq": 0, "tidied_seq": 0, "tidied_ms": now}
        connection.execute(
            insert(threads).values(
                thread_id=thread_id, user_id=user_id, title=title, title_words=(title or "").casefold(), **values
            )
        )
        return StoredThread(ThreadRow(thread_id, user_id, title, now, now, 0)), True

    def _begin_run(self, run: StoredRun, connection: Connection) -> ThreadRow | Refused:
        row = _row(connection, run.thread_id)
        if row is None:
            return Refused.GONE
        same = select(runs.c.run_id).where(runs.c.thread_id == run.thread_id, runs.c.run_id == run.run_id)
        if connection.execute(same).first() is not None:
            return Refused.DUPLICATE
        if row.active_run_id is not None:
            return Refused.ACTIVE
        self._insert_run(run, connection)
        now = self._now()
        title = row.title if row.title is not None else title_of(run.question)
        connection.execute(
            update(threads)
            .where(threads.c.thread_id == run.thread_id)
            .values(updated_ms=now, title=title, title_words=title.casefold())
        )
        return replace(row, title=title, updated_ms=now, active_run_id=run.run_id)

    def _insert_run(self, run: StoredRun, connection: Connection) -> None:
        number = select(func.coalesce(func.max(runs.c.number), 0) + 1).where(runs.c.thread_id == run.thread_id)
        connection.execute(
            insert(runs).values(
                thread_id=run.thread_id,
                run_id=run.run_id,
                number=connection.scalar(number),
                question=run.question,
                started_ms=self._now(),
            )
        )

    def _end_run(self, run: EndedRun, connection: Connection) -> ThreadRow | None:
        now = self._now()
        ended = connection.execute(
            update(runs)
            .where(runs.c.thread_id == run.thread_id, runs.c.run_id == run.run_id, runs.c.ended_ms.is_(None))
            .values(
                ended_ms=now, ending=run.ending.value, fault=run.fault.value if run.ending is Ending.FAILED else None
            )
        )
        if ended.rowcount == 1:
            self._fold(run, now, connection)
        return _row(connection, run.thread_id)

    def _fold(self, run: EndedRun, now: int, connection: Connection) -> None:
        first = 1 + (
            connection.scalar(select(func.max(messages.c.position)).where(messages.c.thread_id == run.thread_id)) or 0
        )
        rows = [
            {
                "thread_id": run.thread_id,
                "position": first + index,
                "run_id": run.run_id,
                "message": message.model_dump_json(by_alias=True),
                "words": said_in(message).casefold(),
                "created_ms": now,
            }
            for index, message in enumerate(run.messages)
        ]
        if rows:
            connection.execute(insert(messages), rows)
        connection.execute(
            update(threads).where(threads.c.thread_id == run.thread_id).values(folded_seq=run.last_seq, updated_ms=now)
        )
        self._prune(run.thread_id, first + len(rows) - 1, connection)

    def _prune(self, thread_id: str, last_position: int, connection: Connection) -> None:
        connection.execute(
            delete(messages).where(
                messages.c.thread_id == thread_id, messages.c.position <= last_position - STORED_MESSAGES
            )
        )
        newest = select(func.max(runs.c.number)).where(runs.c.thread_id == thread_id).scalar_subquery()
        connection.execute(
            delete(runs).where(
                runs.c.thread_id == thread_id,
                runs.c.ended_ms.is_not(None),
                runs.c.number <= newest - self._recent_runs,
            )
        )


def title_of(question: str) -> str:
    """The first words of a question, on one line."""
    words = " ".join(question.split())
    return words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rstrip() + "…"


def said_in(message: Message) -> str:
    """What of a message is searched: what people and agents said, not what tools did."""
    said = message.content if message.role in {"user", "assistant"} else None
    return said if isinstance(said, str) else ""


_active = runs.alias("active")
_THREADS = select(
    threads.c.thread_id,
    threads.c.user_id,
    threads.c.title,
    threads.c.created_ms,
    threads.c.updated_ms,
    threads.c.folded_seq,
    _active.c.run_id,
    threads.c.tidied_seq,
).join_from(
    threads, _active, and_(_active.c.thread_id == threads.c.thread_id, _active.c.ended_ms.is_(None)), isouter=True
)


def _row(connection: Connection, thread_id: str) -> ThreadRow | None:
    found = connection.execute(_THREADS.where(threads.c.thread_id == thread_id)).first()
    return None if found is None else ThreadRow(*found)


def _own_row(thread_id: str, user_id: str, connection: Connection) -> ThreadRow | None:
    row = _row(connection, thread_id)
    return row if row is not None and row.user_id == user_id else None


def _count(connection: Connection, user_id: str) -> int:
    return connection.scalar(select(func.count()).select_from(threads).where(threads.c.user_id == user_id)) or 0


def _page(
    user_id: str, limit: int, before: tuple[int, str] | None, words: str, connection: Connection
) -> Sequence[ThreadRow]:
    statement = _THREADS.where(threads.c.user_id == user_id)
    if before is not None:
        updated_ms, thread_id = before
        same = and_(threads.c.updated_ms == updated_ms, threads.c.thread_id < thread_id)
        statement = statement.where(or_(threads.c.updated_ms < updated_ms, same))
    statement = statement.order_by(threads.c.updated_ms.desc(), threads.c.thread_id.desc()).limit(limit)
    if not words:
        return [ThreadRow(*found) for found in connection.execute(statement)]
    said = and_(messages.c.thread_id == threads.c.thread_id, func.instr(messages.c.words, words) > 0)
    newest = select(messages.c.message).where(said).order_by(messages.c.position.desc()).limit(1).scalar_subquery()
    statement = statement.where(or_(func.instr(threads.c.title_words, words) > 0, exists().where(said)))
    found = connection.execute(statement.add_columns(newest))
    return [replace(ThreadRow(*row), excerpt=_excerpt(message, words)) for *row, message in found]


def _excerpt(message: str | None, words: str) -> Excerpt | None:
    return None if message is None else excerpt_of(said_in(_MESSAGE.validate_json(message)), words)


def _rename(thread_id: str, user_id: str, title: str, connection: Connection) -> ThreadRow | None:
    own = (threads.c.thread_id == thread_id, threads.c.user_id == user_id)
    connection.execute(update(threads).where(*own).values(title=title, title_words=title.casefold()))
    return _own_row(thread_id, user_id, connection)


def _history(
    thread_id: str, user_id: str, limit: int, before: int | None, connection: Connection
) -> Sequence[StoredMessage] | None:
    if _own_row(thread_id, user_id, connection) is None:
        return None
    statement = select(messages.c.position, messages.c.run_id, messages.c.created_ms, messages.c.message).where(
        messages.c.thread_id == thread_id
    )
    if before is not None:
        statement = statement.where(messages.c.position < before)
    found = connection.execute(statement.order_by(messages.c.position.desc()).limit(limit)).all()
    return [StoredMessage(*one) for one in reversed(found)]


def _runs(
    thread_id: str, user_id: str, limit: int, before: int | None, connection: Connection
) -> Sequence[RunRow] | None:
    if _own_row(thread_id, user_id, connection) is None:
        return None
    columns = (runs.c.run_id, runs.c.number, runs.c.started_ms, runs.c.ended_ms, runs.c.ending, runs.c.fault)
    statement = select(*columns).where(runs.c.thread_id == thread_id)
    if before is not None:
        statement = statement.where(runs.c.number < before)
    return [RunRow(*found) for found in connection.execute(statement.order_by(runs.c.number.desc()).limit(limit))]


def _unfinished(limit: int, connection: Connection) -> Sequence[tuple[StoredRun, str]]:
    statement = (
        select(runs.c.thread_id, runs.c.run_id, runs.c.question, threads.c.user_id)
        .join(threads, threads.c.thread_id == runs.c.thread_id)
        .where(runs.c.ended_ms.is_(None))
        .limit(limit)
    )
    return [(StoredRun(*found[:3]), found[3]) for found in connection.execute(statement)]


def _is_unfinished(run: StoredRun, connection: Connection) -> bool:
    statement = select(runs.c.run_id).where(
        runs.c.thread_id == run.thread_id, runs.c.run_id == run.run_id, runs.c.ended_ms.is_(None)
    )
    return connection.execute(statement).first() is not None


def _untidy(
    idle_before_ms: int, tidied_before_ms: int, grown_by: int, limit: int, connection: Connection
) -> Sequence[tuple[str, int]]:
    new_history = and_(threads.c.folded_seq > threads.c.tidied_seq, threads.c.updated_ms < idle_before_ms)
    grown = threads.c.folded_seq - threads.c.tidied_seq >= grown_by
    statement = select(threads.c.thread_id, threads.c.folded_seq).where(
        or_(new_history, grown, threads.c.tidied_ms < tidied_before_ms)
    )
    return [(found[0], found[1]) for found in connection.execute(statement.order_by(threads.c.tidied_ms).limit(limit))]


def _note_tidied(thread_id: str, up_to: int, now: int, connection: Connection) -> None:
    connection.execute(update(threads).where(threads.c.thread_id == thread_id).values(tidied_seq=up_to, tidied_ms=now))
