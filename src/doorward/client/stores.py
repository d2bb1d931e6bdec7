"""Where a session's tokens are kept."""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from doorward.adapters.private_files import read_private, replace_private
from doorward.adapters.worker import Worker
from doorward.client.tokens import Tokens
from doorward.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    T = TypeVar("T")

MAX_FILE_BYTES = 64 * 1024
FILE_SECONDS = 2.0


class TokenStore(Protocol):
    """Keeps the tokens of one session. Several programs may share one: each looks before it refreshes.

    Calls may overlap: what began later takes effect later.
    """

    async def load(self) -> Tokens | None:
        """What is kept; `None`: nobody is signed in.

        Raises:
            StoreError: it cannot be told.
        """
        ...

    async def save(self, tokens: Tokens) -> None:
        """Keep these instead.

        Raises:
            StoreError: they are not kept.
        """
        ...

    async def clear(self) -> None:
        """Keep nothing.

        Raises:
            StoreError: they are still there.
        """
        ...


class MemoryStore:
    """Keeps them for the life of this object."""

    def __init__(self) -> None:
        self._tokens: Tokens | None = None

    async def load(self) -> Tokens | None:
        return self._tokens

    async def save(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def clear(self) -> None:
        self._tokens = None


class FileStore:
    """Keeps them in a file that only its owner may read (0600); one with another owner or mode is not believed.

    Cancellation: a write that has begun is completed, on a thread of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._worker = Worker("doorward-session-file")
        weakref.finalize(self, self._worker.stop_nowait)

    async def load(self) -> Tokens | None:
        content = await self._run(self._read)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=Tokens)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # not of our making: as good as none, and the next sign-in replaces it

    async def save(self, tokens: Tokens) -> None:
        await self._run(partial(replace_private, self.path, msgspec.json.encode(tokens)))

    async def clear(self) -> None:
        await self._run(partial(self.path.unlink, missing_ok=True))

    def _read(self) -> bytes | None:
        with suppress(FileNotFoundError):
            return read_private(self.path, max_bytes=MAX_FILE_BYTES)
        return None

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await self._worker.run(call, bound_seconds=FILE_SECONDS)
        except OSError as error:  # TimeoutError and PermissionError are among them; the latter names its mend
            raise StoreError(f"the session file {self.path}: {error}") from error
