"""The issuer's key set: from disk, in the background, and once more for a key nobody knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from structlog.testing import capture_logs
from tests.runtime_kit import ISSUER, FakeFiles, FakeKeys, virtual

from doorward.core.deadline import Deadline
from doorward.errors import ConnectError, StoreError
from doorward.runtime.bounded import Reaper
from doorward.runtime.keyset_refresher import FETCH_SECONDS, REFRESH_SECONDS, KeysetRefresher
from doorward.runtime.ports import StoredKeySet
from doorward.testing import TokenMint, VirtualClock

CLOCK = VirtualClock()


class Kept:
    def __init__(self, *, stored: StoredKeySet | None = None) -> None:
        self.mint = TokenMint(ISSUER, wall=CLOCK.wall)
        self.source = FakeKeys(self.mint)
        self.files = FakeFiles(stored)
        self.reaper = Reaper()
        self.keys = KeysetRefresher(
            "auth", self.source, self.files, clock=CLOCK, reaper=self.reaper, uniform=lambda: 0.5
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keys.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.keys.aclose(seconds=1.0)


def soon(seconds: float = 2.0) -> Deadline:
    return Deadline.after(CLOCK.monotonic(), seconds)


def document(mint: TokenMint) -> bytes:
    return json.dumps(mint.key_set()).encode()


@virtual
async def test_a_restart_takes_the_stored_set_with_its_age() -> None:
    mint = TokenMint(ISSUER, wall=CLOCK.wall)
    kept = Kept(stored=StoredKeySet(document(mint), CLOCK.wall() - 3_600))
    await kept.keys.load()
    assert kept.keys.age_seconds() == pytest.approx(3_600)
    assert kept.keys.loaded.is_set()
    assert not kept.keys.is_definitive()
    assert kept.source.fetches == 0


@pytest.mark.parametrize("stored", [None, StoredKeySet(b'{"keys": []}', 0.0), StoredKeySet(b"junk", 0.0)])
def test_a_stored_set_that_is_none_is_passed_over(stored: StoredKeySet | None) -> None:
    @virtual
    async def main() -> None:
        kept = Kept(stored=stored)
        await kept.keys.load()
        assert kept.keys.keyset is None
        assert kept.keys.age_seconds() is None
        assert not kept.keys.is_definitive()

    main()


@virtual
async def test_a_stored_set_from_the_future_is_passed_over() -> None:
    """Its age would be no age at all: the clock was set back, or the file is not ours."""
    mint = TokenMint(ISSUER, wall=CLOCK.wall)
    kept = Kept(stored=StoredKeySet(document(mint), CLOCK.wall() + 60))
    await kept.keys.load()
    assert kept.keys.keyset is None


@virtual
async def test_a_store_that_fails_is_no_reason_to_stop() -> None:
    kept = Kept()
    kept.files.error = StoreError("disk full")
    with capture_logs() as logs:
        await kept.keys.load()
        assert await kept.keys.look_again(soon())
    assert [log["event"] for log in logs] == [
        "the stored key set could not be read",
        "the key set could not be stored",
    ]
    assert kept.keys.keyset is not None


@virtual
async def test_a_fetched_set_is_kept_in_memory_and_on_disk() -> None:
    kept = Kept()
    assert await kept.keys.look_again(soon())
    assert kept.keys.is_definitive()
    assert kept.files.stored is not None
    assert kept.files.stored.document == document(kept.mint)


@pytest.mark.parametrize("bad", [b"", b"junk", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', b"["])
def test_a_bad_set_never_replaces_a_good_one(bad: bytes) -> None:
    @virtual
    async def main() -> None:
        kept = Kept()
        await kept.keys.look_again(soon())
        good = kept.keys.keyset
        await asyncio.sleep(31.0)
        kept.source.document = bad
        assert not await kept.keys.look_again(soon())
        assert kept.keys.keyset is good
        assert kept.keys.last_error is not None
        assert kept.files.stored is not None
        assert kept.files.stored.document == document(kept.mint)

    main()


@virtual
async def test_the_same_keys_again_only_grow_younger() -> None:
    """Proofs that were made against the set still hold."""
    kept = Kept()
    await kept.keys.look_again(soon())
    before = kept.keys.keyset
    await asyncio.sleep(60.0)
    await kept.keys.look_again(soon())
    assert kept.keys.keyset is before
    assert kept.keys.age_seconds() == pytest.approx(0.0)


@virtual
async def test_a_rotation_brings_another_set() -> None:
    kept = Kept()
    await kept.keys.look_again(soon())
    before = kept.keys.keyset
    await asyncio.sleep(31.0)
    kept.mint.rotate()
    assert await kept.keys.look_again(soon())
    assert kept.keys.keyset is not before


@virtual
async def test_everybody_who_looks_again_joins_one_refresh() -> None:
    kept = Kept()
    kept.source.seconds = 0.5
    found = await asyncio.gather(*(kept.keys.look_again(soon()) for _ in range(100)))
    assert all(found)
    assert kept.source.fetches == 1


@virtual
async def test_a_flood_of_unknown_keys_starts_one_refresh_in_thirty_seconds() -> None:
    kept = Kept()
    kept.source.error = ConnectError("refused")
    for _ in range(600):
        await kept.keys.look_again(soon())
        await asyncio.sleep(0.1)
    assert kept.source.fetches == 2


@virtual
async def test_looking_again_ends_at_the_callers_deadline_and_the_refresh_goes_on() -> None:
    kept = Kept()
    kept.source.seconds = 3.0
    began = CLOCK.monotonic()
    assert not await kept.keys.look_again(soon(1.0))
    assert CLOCK.monotonic() - began == pytest.approx(1.0)
    await asyncio.sleep(2.1)
    assert kept.keys.keyset is not None


@virtual
async def test_a_fetch_that_hangs_ends_by_itself() -> None:
    kept = Kept()
    kept.source.seconds = 3_600.0
    assert not await kept.keys.look_again(soon(FETCH_SECONDS + 1.0))
    assert kept.keys.last_error == "DeadlinePassed: no answer before the deadline"
    await asyncio.sleep(0)
    assert len(kept.reaper) == 0


@virtual
async def test_closing_in_the_middle_of_a_refresh_cancels_nobody_who_waits() -> None:
    kept = Kept()
    kept.source.seconds = 3.0
    waiting = asyncio.create_task(kept.keys.look_again(soon(5.0)))
    await asyncio.sleep(1.0)
    await kept.keys.aclose(seconds=1.0)
    assert await waiting is False


@virtual
async def test_in_the_background_every_five_minutes() -> None:
    kept = Kept()
    async with kept.running():
        await asyncio.sleep(REFRESH_SECONDS * 4 - 10)
        assert kept.source.fetches == 4


@virtual
async def test_in_the_background_sooner_while_it_fails_and_never_a_storm() -> None:
    kept = Kept()
    kept.source.error = ConnectError("refused")
    with capture_logs() as logs:
        async with kept.running():
            await asyncio.sleep(300.0)
            assert 15 <= kept.source.fetches <= 40
            kept.source.error = None
            await asyncio.sleep(31.0)
            assert kept.keys.keyset is not None
            assert kept.keys.last_error is None
    assert len(logs) == 1


@virtual
async def test_a_look_that_failed_is_made_good_in_seconds() -> None:
    kept = Kept()
    async with kept.running():
        await asyncio.sleep(1.0)
        assert kept.source.fetches == 1
        kept.source.error = ConnectError("refused")
        assert not await kept.keys.look_again(soon())
        kept.source.error = None
        await asyncio.sleep(5.0)
        assert kept.source.fetches == 3
        assert kept.keys.last_error is None
