"""Keeps the issuer's key set: loaded from disk, refreshed in the background, and once more for a key nobody knows yet.

An empty or malformed set never replaces a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from doorward.core.backoff import jittered, next_delay
from doorward.core.deadline import Deadline
from doorward.core.keyset import BadKeySet, KeySet, Refetch, parse_keyset
from doorward.errors import BackendError, StoreError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock, KeySetSource, StateFiles, StoredKeySet
from doorward.runtime.singleflight import SingleFlight, landed

REFRESH_SECONDS = 300.0
FETCH_SECONDS = 5.0
RETRY_BASE_SECONDS = 1.0
RETRY_CAP_SECONDS = 30.0

log = get_logger("doorward")


class KeysetRefresher:
    """`keyset` is the last good one, or `None` until there was any.

    Args:
        issuer: the name of the one whose keys these are.
    """

    def __init__(
        self,
        issuer: str,
        source: KeySetSource,
        files: StateFiles,
        *,
        clock: Clock,
        reaper: Reaper,
        uniform: Callable[[], float],
    ) -> None:
        self.keyset: KeySet | None = None
        self.loaded = asyncio.Event()
        self.last_error: str | None = None
        self._issuer = issuer
        self._source = source
        self._files = files
        self._clock = clock
        self._reaper = reaper
        self._uniform = uniform
        self._flights: SingleFlight[bool] = SingleFlight()
        self._refetch = Refetch()
        self._look_failed = asyncio.Event()

    async def load(self) -> None:
        """Take the key set of an earlier run from disk, if there is a good one."""
        try:
            stored = await self._files.load_keyset()
        except StoreError as error:
            log.warning("the stored key set could not be read", issuer=self._issuer, error=str(error))
            return
        if stored is None:
            return
        if stored.fetched_at > self._clock.wall():
            log.warning("the stored key set is dated in the future; it is not used", issuer=self._issuer)
            return
        self._take(stored.document, stored.fetched_at)

    def age_seconds(self) -> float | None:
        return self.keyset.age(self._clock.wall()) if self.keyset is not None else None

    def is_definitive(self) -> bool:
        """Is a key that is missing from the set known not to exist?"""
        return self.keyset is not None and self._refetch.is_definitive(self.keyset, self._clock.wall())

    async def look_again(self, deadline: Deadline) -> bool:
        """A token names a key that is not in the set: join the one shared refresh. True if it brought a set in time.

        Cancellation: the refresh goes on for the others.
        """
        flight = self._flights.get(0)
        if flight is None:
            now = self._clock.monotonic()
            if not self._refetch.may_start(now):
                return False
            self._refetch.started(now)
            flight = self._flights.start(0, self._fetch())
        return await landed(flight, deadline.remaining(self._clock.monotonic())) and _brought(flight)

    async def run(self) -> None:
        """Refresh for ever: every five minutes, sooner while it fails."""
        attempt = 0
        while True:
            flight = self._flights.get(0) or self._flights.start(0, self._fetch())
            succeeded = await landed(flight, FETCH_SECONDS * 2) and _brought(flight)
            attempt = 0 if succeeded else attempt + 1
            await self._pause(attempt)

    async def aclose(self, *, seconds: float) -> None:
        await self._flights.aclose(seconds=seconds)

    async def _pause(self, attempt: int) -> None:
        """Until the next turn; much sooner if a look for an unknown key fails meanwhile."""
        self._look_failed.clear()
        try:
            async with asyncio.timeout(self._next_seconds(attempt)):
                await self._look_failed.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._next_seconds(1))

    def _next_seconds(self, attempt: int) -> float:
        if attempt == 0:
            return jittered(REFRESH_SECONDS, spread=0.1, uniform=self._uniform())
        return RETRY_BASE_SECONDS / 2 + next_delay(
            attempt, base_seconds=RETRY_BASE_SECONDS, cap_seconds=RETRY_CAP_SECONDS, uniform=self._uniform()
        )

    async def _fetch(self) -> bool:
        """One try. Every outcome is a value; a good set is kept in memory and on disk."""
        deadline = Deadline.after(self._clock.monotonic(), FETCH_SECONDS)
        fetched_at = self._clock.wall()
        try:
            document = await bounded(
                self._source.fetch(deadline=deadline), deadline, clock=self._clock, reaper=self._reaper
            )
        except BackendError as error:
            self._failed(f"{type(error).__name__}: {error}")
            return False
        if not self._take(document, fetched_at):
            return False
        try:
            await self._files.save_keyset(StoredKeySet(document, fetched_at))
        except StoreError as error:
            log.warning("the key set could not be stored", issuer=self._issuer, error=str(error))
        return True

    def _take(self, document: bytes, fetched_at: float) -> bool:
        try:
            keyset = parse_keyset(document, fetched_at)
        except BadKeySet as error:
            self._failed(str(error))
            return False
        if self.keyset is not None and self.keyset.document == document:
            self.keyset.fetched_at = fetched_at  # the same keys: proofs made against them still hold
        else:
            self.keyset = keyset
        self.last_error = None
        self.loaded.set()
        return True

    def _failed(self, error: str) -> None:
        if self.last_error is None:
            kept = self.keyset is not None
            log.warning("the key set could not be refreshed", issuer=self._issuer, error=error, kept=kept)
        self.last_error = error
        self._look_failed.set()


def _brought(flight: asyncio.Task[bool]) -> bool:
    """Did it bring a set? A flight that is cut short, when the door closes, cancels nobody who waited for it."""
    return not flight.cancelled() and flight.result()
