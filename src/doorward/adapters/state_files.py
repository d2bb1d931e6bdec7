"""The last good key set on disk, so that a restart in the middle of an outage still knows the issuer's keys."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec

from doorward.adapters.jwks_http import MAX_KEYSET_BYTES
from doorward.adapters.private_files import read_private, replace_private
from doorward.adapters.worker import Worker
from doorward.errors import StoreError
from doorward.runtime.log import get_logger
from doorward.runtime.ports import StoredKeySet

FILE_SECONDS: Final = 1.0
MAX_FILE_BYTES: Final = 2 * MAX_KEYSET_BYTES

_log = get_logger("doorward.state")


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`document` in base64: the issuer's own bytes."""

    issuer: str
    keyset_url: str
    fetched_at: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    document: str


class DirectoryStateFiles:
    """`StateFiles` in the data directory. The file's name and its content both carry the issuer and the key-set URL.

    Args:
        bound_seconds: of each call; a hung disk costs no more than this.
    """

    def __init__(self, data_dir: Path, *, issuer: str, keyset_url: str, bound_seconds: float = FILE_SECONDS) -> None:
        binding = hashlib.sha256(f"{issuer}\n{keyset_url}".encode()).hexdigest()[:12]
        self.path = data_dir / f"keyset-{binding}.json"
        self._issuer = issuer
        self._keyset_url = keyset_url
        self._bound_seconds = bound_seconds
        self._worker = Worker("doorward-state")

    async def load_keyset(self) -> StoredKeySet | None:
        """The stored key set; `None`, with a warning, if the file is not ours, damaged, or cannot be read in time.

        Cancellation: leaves nothing behind.
        """
        read = partial(read_private, self.path, max_bytes=MAX_FILE_BYTES)
        try:
            return self._parsed(await self._worker.run(read, bound_seconds=self._bound_seconds))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("state_file_ignored", file=str(self.path), why=str(error))
        except (msgspec.DecodeError, ValueError):
            _log.warning("state_file_ignored", file=str(self.path), why="damaged, or of another issuer")
        return None

    async def save_keyset(self, keyset: StoredKeySet) -> None:
        """Replace the stored key set.

        Raises:
            StoreError: it could not be written in time.

        Cancellation: the file is the old or the new one, complete.
        """
        document = base64.b64encode(keyset.document).decode("ascii")
        content = msgspec.json.encode(_Content(self._issuer, self._keyset_url, keyset.fetched_at, document))
        try:
            await self._worker.run(partial(replace_private, self.path, content), bound_seconds=self._bound_seconds)
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error

    async def aclose(self) -> None:
        """Let the thread end after what it is doing."""
        self._worker.stop_nowait()

    def _parsed(self, raw: bytes) -> StoredKeySet:
        content = msgspec.json.decode(raw, type=_Content)
        if (content.issuer, content.keyset_url) != (self._issuer, self._keyset_url):
            raise ValueError("another issuer")
        return StoredKeySet(base64.b64decode(content.document, validate=True), content.fetched_at)
