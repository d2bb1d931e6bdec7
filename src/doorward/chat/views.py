"""What clients are shown of threads, in notices and over HTTP: the same words in both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from doorward.chat.store import ThreadRow

Time = Annotated[str, msgspec.Meta(description="RFC 3339, UTC", extra_json_schema={"format": "date-time"})]


class ThreadView(msgspec.Struct, frozen=True):
    """One conversation."""

    thread_id: str
    title: str | None
    created_at: Time
    updated_at: Time
    active_run_id: str | None

    @classmethod
    def of(cls, row: ThreadRow) -> ThreadView:
        return cls(row.thread_id, row.title, time_of(row.created_ms), time_of(row.updated_ms), row.active_run_id)


def time_of(milliseconds: int) -> str:
    """Wall-clock milliseconds as RFC 3339."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
