"""Stores: what is saved is there again, for the owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from doorward.client import FileStore, MemoryStore, Tokens, TokenStore, User
from doorward.errors import StoreError
from doorward.testing import eventually

TOKENS = Tokens("access", "refresh", 1_700_000_000.0, User("u1", "ada@example.com", ["chat"]))


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_what_is_saved_is_there_until_it_is_cleared(kind: str, tmp_path: Path) -> None:
    store: TokenStore = MemoryStore() if kind == "memory" else FileStore(tmp_path / "session.json")
    assert await store.load() is None
    await store.save(TOKENS)
    assert await store.load() == TOKENS
    await store.clear()
    await store.clear()
    assert await store.load() is None


async def test_the_file_is_for_its_owner_alone_and_another_program_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "session.json"
    assert await FileStore(path).load() is None
    assert not path.parent.exists(), "looking makes nothing"
    await FileStore(path).save(TOKENS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await FileStore(path).load() == TOKENS


async def test_a_file_that_others_may_read_is_not_believed_and_the_mend_is_named(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "session.json")
    await store.save(TOKENS)
    os.chmod(store.path, 0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        await store.load()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"access_token": 7}', b"\xff"])
async def test_a_file_of_somebody_elses_making_is_as_good_as_none(content: bytes, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "session.json")
    await store.save(TOKENS)
    store.path.write_bytes(content)
    assert await store.load() is None


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"session\.json"):
        await FileStore(tmp_path / "file" / "session.json").save(TOKENS)


async def test_its_thread_ends_with_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "session.json")
    await store.save(TOKENS)
    thread = store._worker._thread
    assert thread is not None
    del store
    await eventually(lambda: not thread.is_alive(), what="its thread has ended")
