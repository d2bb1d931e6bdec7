"""Signing keys on disk."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from doorward.adapters.worker import Worker
from doorward.authd.key_files import KeyFiles
from doorward.authd.keys import GRACE_SECONDS, MAX_TOKEN_SECONDS
from doorward.errors import ConfigError, StoreError

NOW = 1_750_000_000.0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "authd" / "keys"


@pytest.fixture
def files(directory: Path) -> Iterator[KeyFiles]:
    worker = Worker("test-keys")
    yield KeyFiles(directory, worker)
    worker.stop_nowait()


async def test_the_first_key_is_made_once_and_private(files: KeyFiles, directory: Path) -> None:
    first = await files.load(wall_now=NOW, make_first=True)
    assert [key.signs_from for key in first] == [NOW]
    assert [key.kid for key in await files.load(wall_now=NOW + 5, make_first=True)] == [first[0].kid]
    assert [mode(path) for path in listed(directory)] == [0o600]
    assert mode(directory) == 0o700


async def test_none_is_made_unasked(files: KeyFiles) -> None:
    assert await files.load(wall_now=NOW) == ()


async def test_the_stamp_changes_with_the_files(files: KeyFiles) -> None:
    before = await files.stamp()
    await files.add(signs_from=NOW)
    after = await files.stamp()
    assert before != after == await files.stamp()


async def test_retired_keys_are_deleted(files: KeyFiles, directory: Path) -> None:
    old, new = await files.add(signs_from=NOW), await files.add(signs_from=NOW + 600)
    end = NOW + 600 + MAX_TOKEN_SECONDS + GRACE_SECONDS
    assert {key.kid for key in await files.load(wall_now=end - 1)} == {old.kid, new.kid}
    assert [key.kid for key in await files.load(wall_now=end)] == [new.kid]
    assert len(listed(directory)) == 1


async def test_a_key_that_others_may_read_stops_the_start(files: KeyFiles, directory: Path) -> None:
    await files.load(wall_now=NOW, make_first=True)
    path = listed(directory)[0]
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        await files.load(wall_now=NOW)


async def test_a_damaged_key_stops_the_start_and_is_not_shown(files: KeyFiles, directory: Path) -> None:
    await files.load(wall_now=NOW, make_first=True)
    path = listed(directory)[0]
    path.write_text('{"jwk": "s3cret"')
    with pytest.raises(ConfigError, match=r"key\.json") as caught:
        await files.load(wall_now=NOW)
    assert "s3cret" not in str(caught.value)


async def test_a_disk_that_fails_is_a_store_error(files: KeyFiles, directory: Path) -> None:
    directory.parent.write_text("a file in the way")
    with pytest.raises(StoreError):
        await files.add(signs_from=NOW)


async def test_two_at_once_agree_in_the_end(directory: Path) -> None:
    workers = [Worker("test-keys"), Worker("test-keys")]
    await asyncio.gather(*(KeyFiles(directory, worker).load(wall_now=NOW, make_first=True) for worker in workers))
    loaded = [await KeyFiles(directory, worker).load(wall_now=NOW) for worker in workers]
    assert [key.kid for key in loaded[0]] == [key.kid for key in loaded[1]]
    for worker in workers:
        worker.stop_nowait()
