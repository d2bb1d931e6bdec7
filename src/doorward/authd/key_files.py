"""Signing keys on disk: one file each, mode 0600, in a directory of mode 0700, written by atomic replace."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from doorward.adapters.worker import Worker
from doorward.authd.keys import BadKeyFile, SigningKey, decode, encode, generate, retired
from doorward.authd.store import prepare_directory
from doorward.errors import ConfigError, StoreError

T = TypeVar("T")

FILE_SECONDS = 5.0
SUFFIX = ".key.json"


class KeyFiles:
    """All I/O runs on the worker's thread, each call within `FILE_SECONDS`."""

    def __init__(self, directory: Path, worker: Worker) -> None:
        self._directory = directory
        self._worker = worker

    async def load(self, *, wall_now: float, make_first: bool = False) -> tuple[SigningKey, ...]:
        """Every key there is; retired ones are deleted.

        Args:
            make_first: make a key that signs at once if there is none.

        Raises:
            ConfigError: a file is damaged, or others than the owner may read it; the text names it and the mend.
            StoreError: the disk failed or did not answer.

        Cancellation: the thread finishes what it began.
        """

        def work() -> tuple[SigningKey, ...]:
            prepare_directory(self._directory)
            keys = _read_all(self._directory)
            if not keys and make_first:
                keys = [_add(self._directory, wall_now)]
            return tuple(_without_retired(self._directory, keys, wall_now))

        return await self._run(work)

    async def add(self, *, signs_from: float) -> SigningKey:
        """Make a key and write it.

        Raises:
            StoreError: as `load`.

        Cancellation: as `load`.
        """

        def work() -> SigningKey:
            prepare_directory(self._directory)
            return _add(self._directory, signs_from)

        return await self._run(work)

    async def stamp(self) -> object:
        """Changes whenever a file came or went.

        Raises:
            StoreError: as `load`.

        Cancellation: as `load`.
        """
        return await self._run(lambda: tuple(sorted(path.name for path in self._directory.glob(f"*{SUFFIX}"))))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._worker.run(work, bound_seconds=FILE_SECONDS)
        except (OSError, TimeoutError) as error:
            raise StoreError(f"the signing keys in {self._directory} cannot be reached: {error}") from error


def _read_all(directory: Path) -> list[SigningKey]:
    return [_read(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]


def _read(path: Path) -> SigningKey:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{path}: a signing key must be readable by its owner alone; run: chmod 600 {path}")
        content = file.read(65_536)
    try:
        return decode(content)
    except BadKeyFile as error:
        raise ConfigError(f"{path}: {error}; restore it from a backup, or move it away") from error


def _add(directory: Path, signs_from: float) -> SigningKey:
    key = generate(signs_from)
    draft = directory / f".{key.kid}.tmp"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode(key))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / f"{key.kid}{SUFFIX}")
    _sync(directory)
    return key


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_retired(directory: Path, keys: Sequence[SigningKey], wall_now: float) -> list[SigningKey]:
    gone = {key.kid for key in retired(keys, wall_now)}
    for kid in gone:
        (directory / f"{kid}{SUFFIX}").unlink(missing_ok=True)
    return [key for key in keys if key.kid not in gone]
