"""argon2id on threads of its own: hashing never runs on the event loop and never queues without a bound."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from doorward.errors import LimitError, StoreError

T = TypeVar("T")

MAX_PASSWORD_BYTES = 1_024
MIN_PASSWORD_CHARACTERS = 8
WAIT_SECONDS = 5.0

_HASHER = PasswordHasher(time_cost=2, memory_cost=46 * 1024, parallelism=1)
"""At least the first choice of the OWASP Password Storage Cheat Sheet; one lane, so that a worker is one core."""


class HashQueueFull(LimitError):
    """More passwords are being hashed than this machine can do in time."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`rehash`: the password is right, and its hash was made with older parameters."""

    matches: bool
    rehash: bool = False


class PasswordPool:
    """At most `workers` hashes at once and `queue` waiting; one more is refused at once."""

    def __init__(self, workers: int, queue: int) -> None:
        count = min(workers, os.cpu_count() or 1)
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="authd-argon2")
        self._places = threading.BoundedSemaphore(count + queue)
        self._dummy = ""

    async def open(self) -> None:
        """Make the hash that a password is compared with where there is no such user."""
        self._dummy = await self.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The encoded hash.

        Raises:
            HashQueueFull: too many are waiting, or it took longer than `WAIT_SECONDS`.

        Cancellation: a hash that runs already goes on to its end and is dropped.
        """
        return await self._run(lambda: _HASHER.hash(password))

    async def verify(self, encoded: str | None, password: str) -> Checked:
        """Compare. Without a hash it takes as long and says no.

        Raises:
            HashQueueFull: as `hash`.
            StoreError: what is stored is no argon2 hash.

        Cancellation: as `hash`.
        """
        matches = await self._run(lambda: _matches(encoded or self._dummy, password))
        if encoded is None or not matches:
            return Checked(matches=False)
        return Checked(matches=True, rehash=_HASHER.check_needs_rehash(encoded))

    def close_nowait(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise HashQueueFull("too many sign-ins at once")
        job = self._executor.submit(call)
        job.add_done_callback(lambda _: self._places.release())
        waiter = asyncio.wrap_future(job)
        try:
            await asyncio.wait({waiter}, timeout=WAIT_SECONDS)
            if not waiter.done():
                raise HashQueueFull("sign-ins take too long")
            return waiter.result()
        finally:
            waiter.cancel()


def _matches(encoded: str, password: str) -> bool:
    try:
        return _HASHER.verify(encoded, password)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError) as error:
        raise StoreError("the stored password hash cannot be read") from error
