"""The key set on disk: what comes back, and every reason why it does not."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from doorward.adapters.state_files import MAX_FILE_BYTES, DirectoryStateFiles
from doorward.errors import StoreError
from doorward.runtime.ports import StateFiles, StoredKeySet

KEYSET = StoredKeySet(b'{"keys": []}\xff', 1_700_000_000.25)


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[DirectoryStateFiles]:
    files = make(tmp_path / "state")
    yield files
    await files.aclose()


def make(
    folder: Path, issuer: str = "https://auth.test", keyset_url: str = "https://auth.test/k"
) -> DirectoryStateFiles:
    return DirectoryStateFiles(folder, issuer=issuer, keyset_url=keyset_url)


async def test_nothing_there_is_no_warning(files: StateFiles) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await files.load_keyset() is None
    assert logs == []


async def test_what_was_saved_comes_back_byte_for_byte(files: DirectoryStateFiles) -> None:
    await files.save_keyset(KEYSET)
    assert await files.load_keyset() == KEYSET
    later = StoredKeySet(b"{}", 1_700_000_001.0)
    await files.save_keyset(later)
    assert await make(files.path.parent).load_keyset() == later


async def test_file_and_directory_are_private_and_nothing_else_is_left(files: DirectoryStateFiles) -> None:
    old = os.umask(0)
    try:
        await files.save_keyset(KEYSET)
    finally:
        os.umask(old)
    assert stat.S_IMODE(files.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.path.parent.stat().st_mode) == 0o700
    assert list(files.path.parent.iterdir()) == [files.path]


async def test_another_issuer_or_url_does_not_see_it(files: DirectoryStateFiles) -> None:
    await files.save_keyset(KEYSET)
    folder = files.path.parent
    assert await make(folder, issuer="https://other.test").load_keyset() is None
    assert await make(folder, keyset_url="https://other.test/k").load_keyset() is None
    assert await make(folder).load_keyset() == KEYSET


def world_readable(path: Path) -> None:
    path.chmod(0o644)


def group_writable_directory(path: Path) -> None:
    path.parent.chmod(0o770)


def a_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def too_long(path: Path) -> None:
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))


def nested_deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def of_another_issuer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "issuer": "https://evil.test"}))


def not_base64(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "document": "%%%"}))


@pytest.mark.parametrize(
    "spoil",
    [
        world_readable,
        group_writable_directory,
        a_link,
        a_pipe,
        a_directory,
        cut_short,
        too_long,
        nested_deep,
        of_another_issuer,
        not_base64,
    ],
)
async def test_a_file_that_cannot_be_trusted_is_ignored_with_a_warning(
    files: DirectoryStateFiles, spoil: Callable[[Path], None]
) -> None:
    await files.save_keyset(KEYSET)
    spoil(files.path)
    with structlog.testing.capture_logs() as logs:
        assert await files.load_keyset() is None
    assert [entry["event"] for entry in logs] == ["state_file_ignored"]
    assert str(files.path) in logs[0]["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_owner_is_ignored(files: DirectoryStateFiles) -> None:
    await files.save_keyset(KEYSET)
    os.chown(files.path, 12345, 12345)
    with structlog.testing.capture_logs() as logs:
        assert await files.load_keyset() is None
    assert "uid 12345" in logs[0]["why"]


async def test_a_saved_one_replaces_one_that_was_ignored(files: DirectoryStateFiles) -> None:
    await files.save_keyset(KEYSET)
    world_readable(files.path)
    await files.save_keyset(KEYSET)
    assert await files.load_keyset() == KEYSET


async def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = make(tmp_path / "file" / "state")
    with pytest.raises(StoreError):
        await files.save_keyset(KEYSET)
    with structlog.testing.capture_logs() as logs:
        assert await files.load_keyset() is None
    assert len(logs) == 1
    await files.aclose()


async def test_a_save_that_fails_leaves_no_part_of_a_file(files: DirectoryStateFiles) -> None:
    files.path.mkdir(parents=True)
    with pytest.raises(StoreError):
        await files.save_keyset(KEYSET)
    assert list(files.path.parent.iterdir()) == [files.path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_a_directory_of_another_owner_is_not_believed(files: DirectoryStateFiles) -> None:
    await files.save_keyset(KEYSET)
    os.chown(files.path.parent, 12345, 12345)
    with structlog.testing.capture_logs() as logs:
        assert await files.load_keyset() is None
    assert "uid 12345" in logs[0]["why"]
