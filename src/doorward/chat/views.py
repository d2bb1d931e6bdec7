"""What clients ask and are shown of threads, in notices and over HTTP: the same words in both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from doorward.chat.commands import MAX_ID_LENGTH, NAME_CHARACTERS, Name
from doorward.chat.endings import error_of, fault_of
from doorward.chat.excerpt import Excerpt
from doorward.chat.mailbox import Ending

if TYPE_CHECKING:
    from doorward.chat.store import RunRow, StoredMessage, ThreadRow

MAX_TITLE_CHARACTERS = 200
MAX_CURSOR_CHARACTERS = 200
MAX_NUMBER_DIGITS = 16
MAX_TEXTS = 100

Time = Annotated[str, msgspec.Meta(description="RFC 3339, UTC", extra_json_schema={"format": "date-time"})]
Title = Annotated[
    str, msgspec.Meta(min_length=1, max_length=MAX_TITLE_CHARACTERS, extra_json_schema={"pattern": r"\S"})
]
Limit = Annotated[int, msgspec.Meta(ge=1, le=100, description="how many there are on a page, at most")]
_NUMBER = f"[0-9]{{1,{MAX_NUMBER_DIGITS}}}"
_NAME = f"{NAME_CHARACTERS}{{1,{MAX_ID_LENGTH}}}"
Cursor = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_CURSOR_CHARACTERS,
        description="`next_cursor` of the page before this one",
        extra_json_schema={"pattern": f"^{_NUMBER}$"},
    ),
]
ThreadCursor = Annotated[Cursor, msgspec.Meta(extra_json_schema={"pattern": rf"^{_NUMBER}\.{_NAME}$"})]
Next = Annotated[str | None, msgspec.Meta(description="`cursor` of the next page; null: this is the last one")]


class ThreadView(msgspec.Struct, frozen=True):
    """One conversation. `title` is null until the first question."""

    thread_id: str
    title: str | None
    created_at: Time
    updated_at: Time
    active_run_id: str | None

    @classmethod
    def of(cls, row: ThreadRow) -> ThreadView:
        return cls(row.thread_id, row.title, time_of(row.created_ms), time_of(row.updated_ms), row.active_run_id)


class ThreadFound(ThreadView, frozen=True):
    """One conversation of a list. `excerpt` is there where words were searched for, and said in it: the newest place."""

    excerpt: Excerpt | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, row: ThreadRow) -> ThreadFound:
        return cls(**msgspec.structs.asdict(ThreadView.of(row)), excerpt=row.excerpt or msgspec.UNSET)


class ThreadPage(msgspec.Struct, frozen=True):
    """Threads, last used first."""

    threads: list[ThreadFound]
    next_cursor: Next


class ThreadCreate(msgspec.Struct, frozen=True):
    """A new conversation; without a `thread_id` the server makes one up."""

    thread_id: Name | None = None
    title: Title | None = None


class ThreadRename(msgspec.Struct, frozen=True):
    """Another title."""

    title: Title


class Page(msgspec.Struct, frozen=True):
    """Which page of a list."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Search(Page, frozen=True):
    """Which page, of what."""

    cursor: ThreadCursor | None = None
    q: Annotated[
        str, msgspec.Meta(max_length=200, description="only threads with these words in the title or in a message")
    ] = ""


class MessageView(msgspec.Struct, frozen=True):
    """One message of a thread. `message` is AG-UI's."""

    position: int
    run_id: str
    created_at: Time
    message: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]

    @classmethod
    def of(cls, stored: StoredMessage) -> MessageView:
        return cls(stored.position, stored.run_id, time_of(stored.created_ms), msgspec.Raw(stored.message.encode()))


class MessagePage(msgspec.Struct, frozen=True):
    """Messages, oldest first; `next_cursor` leads to older ones."""

    messages: list[MessageView]
    next_cursor: Next


class RunFailure(msgspec.Struct, frozen=True):
    """Why a run gave no answer, as its `RUN_ERROR` said it. `retryable`: the same question may well get one, as another run."""

    code: str
    message: str
    retryable: bool


class RunView(msgspec.Struct, frozen=True):
    """One run. `ending` is null while it goes on, `error` where there was none."""

    run_id: str
    started_at: Time
    ended_at: Time | None
    ending: Ending | None
    error: RunFailure | None

    @classmethod
    def of(cls, row: RunRow) -> RunView:
        ended_at = None if row.ended_ms is None else time_of(row.ended_ms)
        ending = None if row.ending is None else Ending(row.ending)
        error = None if ending is None else error_of(ending, fault_of(row.fault))
        return cls(row.run_id, time_of(row.started_ms), ended_at, ending, RunFailure(*error) if error else None)


class RunPage(msgspec.Struct, frozen=True):
    """Runs, newest first."""

    runs: list[RunView]
    next_cursor: Next


class Markdown(msgspec.Struct, frozen=True):
    """Texts to render. `growing`: they are still being written, and it is to be said what of them is settled."""

    texts: Annotated[list[str], msgspec.Meta(max_length=MAX_TEXTS)]
    growing: bool = False


class Settled(msgspec.Struct, frozen=True):
    """How much of a growing text will stay as it is: its first lines, which are the first top-level elements of its HTML."""

    lines: int
    elements: int


class Rendered(msgspec.Struct, frozen=True):
    """HTML of each text, in their order; of growing ones also what is settled."""

    html: list[str]
    settled: list[Settled] | None = None


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    retry_after_ms: int | None = None


def time_of(milliseconds: int) -> str:
    """Wall-clock milliseconds as RFC 3339."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def schemas(*kinds: type[msgspec.Struct]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON Schemas (2020-12) of the structs as references, and what they refer to. Patterns end as ECMA-262 ends them."""
    refs, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return list(refs), _ecma(components)


def _ecma(schema: Any) -> Any:
    match schema:
        case dict():
            return {key: _pattern(value) if key == "pattern" else _ecma(value) for key, value in schema.items()}
        case list():
            return [_ecma(each) for each in schema]
        case _:
            return schema


def _pattern(value: Any) -> Any:
    return value.replace(r"\Z", "$") if isinstance(value, str) else _ecma(value)
