"""Words to every socket of a user about the user's threads, whichever tab or request changed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from doorward.chat.views import ThreadView

if TYPE_CHECKING:
    from doorward.chat.store import ThreadRow


class Listener(Protocol):
    """Where notices go. Never waits."""

    def post(self, subject: str, text: bytes) -> None:
        """Say `text`, instead of what waits to be said about the same subject."""
        ...


class Notices:
    """Who listens, by user. A listener that does not read is told the newest word about each thread, once."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}

    def join(self, user_id: str, listener: Listener) -> None:
        self._listeners.setdefault(user_id, set()).add(listener)

    def leave(self, user_id: str, listener: Listener) -> None:
        """Twice is once."""
        if listeners := self._listeners.get(user_id):
            listeners.discard(listener)
            if not listeners:
                del self._listeners[user_id]

    def changed(self, row: ThreadRow) -> None:
        """The thread was made, renamed, or has a run more or less."""
        if row.user_id in self._listeners:
            notice = {"notice": "thread.changed", "thread": ThreadView.of(row)}
            self._tell(row.user_id, row.thread_id, notice)

    def deleted(self, user_id: str, thread_id: str) -> None:
        self._tell(user_id, thread_id, {"notice": "thread.deleted", "thread_id": thread_id})

    def _tell(self, user_id: str, thread_id: str, notice: dict[str, object]) -> None:
        text = msgspec.json.encode(notice)
        for listener in self._listeners.get(user_id, ()):
            listener.post(thread_id, text)
