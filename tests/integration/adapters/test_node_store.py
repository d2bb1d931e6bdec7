"""The node's store on real SQLite files: restart, several processes, hung disks, files that cannot be trusted."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from doorward.adapters import node_store
from doorward.adapters.node_store import SqliteNodeStore
from doorward.errors import StoreError
from doorward.runtime.ports import NodeState, NodeStore, RevocationItem, RevocationPage, StoredBar
from doorward.testing import eventually

BAR = StoredBar(b"d" * 32, 2_000.0, proven=True)


def make(folder: Path, issuer: str = "https://auth.test", *, bound_seconds: float = 5.0) -> SqliteNodeStore:
    """A generous bound: a slow disk under test is not what is tested, but for those that say otherwise."""
    return SqliteNodeStore(folder, issuer=issuer, keyset_url=f"{issuer}/k", bound_seconds=bound_seconds)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteNodeStore]:
    store = make(tmp_path / "node")
    await store.open()
    yield store
    await store.aclose()


async def reopened(store: SqliteNodeStore) -> NodeState:
    """What a new process would find."""
    other = make(store.path.parent)
    try:
        return await other.open()
    finally:
        await other.aclose()


def page(*items: RevocationItem, cursor: str = "1") -> RevocationPage:
    return RevocationPage("epoch", cursor, 1_000.0, False, items)


async def test_a_new_store_knows_nothing_but_its_key(store: SqliteNodeStore) -> None:
    state = await reopened(store)
    assert (list(state.bars), list(state.revocations)) == ([], [])
    assert (state.feed_epoch, state.feed_cursor, state.last_feed, state.last_contact) == (None, None, None, None)
    assert len(state.key) == 32
    assert (await reopened(store)).key == state.key


async def test_two_directories_have_two_keys(store: SqliteNodeStore, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    assert (await other.open()).key != (await reopened(store)).key
    await other.aclose()


async def test_bars_survive_and_the_stricter_one_wins(store: SqliteNodeStore) -> None:
    await store.add_bar(BAR)
    await store.add_bar(StoredBar(BAR.digest, 1_500.0, proven=False))
    assert (await reopened(store)).bars == [BAR]
    await store.add_bar(StoredBar(BAR.digest, 3_000.0, proven=False))
    assert (await reopened(store)).bars == [StoredBar(BAR.digest, 3_000.0, proven=True)]
    await store.remove_bar(BAR.digest)
    await store.remove_bar(b"never there")
    assert (await reopened(store)).bars == []


async def test_pages_add_and_what_comes_again_is_kept_longer(store: SqliteNodeStore) -> None:
    jti, session = RevocationItem(jti="j"), RevocationItem(session_id="j")
    user = RevocationItem(user_id="u", not_before_ms=50)
    await store.apply_page(page(jti, session), forget_at=10.0, last_feed=1.0)
    await store.apply_page(page(user, cursor="2"), forget_at=20.0, last_feed=2.0)
    state = await reopened(store)
    assert sorted(state.revocations, key=repr) == sorted([(jti, 10.0), (session, 10.0), (user, 20.0)], key=repr)
    assert (state.feed_epoch, state.feed_cursor, state.last_feed) == ("epoch", "2", 2.0)
    await store.apply_page(page(user, cursor="3"), forget_at=30.0, last_feed=3.0)
    kept = (await reopened(store)).revocations
    assert sorted(kept, key=repr) == sorted([(jti, 10.0), (session, 10.0), (user, 30.0)], key=repr)


async def test_a_users_latest_not_before_wins(store: SqliteNodeStore) -> None:
    for moment in (50, 70, 60):
        item = RevocationItem(user_id="u", not_before_ms=moment)
        await store.apply_page(page(item), forget_at=float(moment), last_feed=1.0)
    assert (await reopened(store)).revocations == [(RevocationItem(user_id="u", not_before_ms=70), 70.0)]


async def test_last_contact(store: SqliteNodeStore) -> None:
    await store.note_contact(123.5)
    assert (await reopened(store)).last_contact == 123.5


async def test_what_has_run_out_is_forgotten_in_batches(
    store: SqliteNodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for until in (1.0, 2.0, 3.0):
        await store.add_bar(StoredBar(secrets.token_bytes(32), until, proven=False))
        assert await store.redeem("ticket", f"t{until}", until)
    await store.apply_page(page(RevocationItem(jti="j")), forget_at=2.0, last_feed=1.0)
    await store.forget_expired(2.5)
    state = await reopened(store)
    assert [bar.until for bar in state.bars] == [3.0]
    assert state.revocations == []
    assert await store.redeem("ticket", "t1.0", 9.0)
    assert not await store.redeem("ticket", "t3.0", 9.0)


async def test_our_revocations_may_be_forgotten_before_they_run_out(store: SqliteNodeStore) -> None:
    other = make(store.path.parent, "https://other.test")
    await other.open()
    await other.apply_page(page(RevocationItem(jti="theirs")), forget_at=20.0, last_feed=1.0)
    for name, forget_at in (("old", 20.0), ("new", 30.0)):
        await store.apply_page(page(RevocationItem(jti=name)), forget_at=forget_at, last_feed=1.0)
    await store.forget_expired(1.0, revocations_before=30.0)
    assert [item.jti for item, _ in (await reopened(store)).revocations] == ["new"]
    assert [item.jti for item, _ in (await other.open()).revocations] == ["theirs"]
    await other.aclose()


async def test_more_than_a_batch_is_forgotten_call_by_call(
    store: SqliteNodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_store, "FORGET_BATCH", 2)
    for name in ("a", "b", "c"):
        assert await store.redeem("ticket", name, 1.0)
    assert await store.forget_expired(2.0)
    assert not await store.forget_expired(2.0)
    assert all([await store.redeem("ticket", name, 9.0) for name in ("a", "b", "c")])


async def test_another_issuer_in_the_same_file_sees_nothing_of_it(store: SqliteNodeStore) -> None:
    await store.add_bar(BAR)
    await store.note_contact(5.0)
    other = make(store.path.parent, "https://other.test")
    state = await other.open()
    assert (state.bars, state.last_contact) == ([], None)
    await other.apply_page(page(), forget_at=1.0, last_feed=1.0)
    await other.aclose()
    assert (await reopened(store)).bars == [BAR]


async def test_redeemed_exactly_once_whoever_asks(store: SqliteNodeStore) -> None:
    others = [make(store.path.parent) for _ in range(4)]
    for other in others:
        await other.open()
    results = await asyncio.gather(*(one.redeem("ticket", f"t{n}", 9.0) for n in range(20) for one in (store, *others)))
    assert sum(results) == 20
    assert await store.redeem("jti", "t1", 9.0)
    for other in others:
        await other.aclose()


async def test_many_first_openings_at_once(tmp_path: Path) -> None:
    stores = [make(tmp_path / "new") for _ in range(8)]
    states = await asyncio.gather(*(store.open() for store in stores))
    assert len({state.key for state in states}) == 1
    for store in stores:
        await store.aclose()


async def test_a_new_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself does not wait here: the switch to the write-ahead log is refused at once."""
    store = make(tmp_path / "node")
    store.path.parent.mkdir(mode=0o700)
    other = sqlite3.connect(store.path, isolation_level=None)
    store.path.chmod(0o600)
    other.execute("BEGIN IMMEDIATE")
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0.2)
    assert not opening.done()
    other.execute("ROLLBACK")
    other.close()
    await opening
    await store.aclose()


async def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = make(tmp_path / "node")
        await store.open()
        await store.add_bar(BAR)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3  # the log and its index are private too
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    await store.aclose()


async def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, signal
from pathlib import Path
from doorward.adapters.node_store import SqliteNodeStore
from doorward.runtime.ports import StoredBar
async def main():
    store = SqliteNodeStore(Path({str(tmp_path / "node")!r}), issuer="https://auth.test", keyset_url="https://auth.test/k")
    await store.open()
    await store.add_bar(StoredBar(b"d" * 32, 2000.0, proven=True))
    await store.add_bar(StoredBar(b"e" * 32, 2000.0, proven=False))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == -signal.SIGKILL, errors.decode()
    store = make(tmp_path / "node")
    assert {bar.digest for bar in (await store.open()).bars} == {b"d" * 32, b"e" * 32}
    await store.aclose()


class TestBounds:
    async def test_a_locked_file_costs_the_bound_and_then_works_again(self, tmp_path: Path) -> None:
        store = make(tmp_path / "node", bound_seconds=0.25)
        await store.open()
        blocker = sqlite3.connect(store.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        started = asyncio.get_running_loop().time()
        with pytest.raises(StoreError):
            await store.add_bar(BAR)
        assert asyncio.get_running_loop().time() - started < 1
        blocker.execute("ROLLBACK")
        blocker.close()
        await store.add_bar(BAR)
        assert (await reopened(store)).bars == [BAR]
        await store.aclose()

    async def test_the_loop_is_never_blocked(self, tmp_path: Path) -> None:
        store = make(tmp_path / "node", bound_seconds=0.25)
        await store.open()
        hung = threading.Event()
        with pytest.raises(StoreError, match="no answer"):
            await store._run(hung.wait)
        with pytest.raises(StoreError, match="no answer"):
            await store.redeem("ticket", "t", 9.0)
        hung.set()
        await eventually(store._worker._calls.empty)
        assert not await store.redeem("ticket", "t", 9.0), "what was given up may have happened; it is never done twice"
        await store.aclose()

    async def test_a_cancelled_call_leaves_no_transaction_open(self, store: SqliteNodeStore) -> None:
        for _ in range(20):
            call = asyncio.create_task(store.apply_page(page(RevocationItem(jti="j")), forget_at=1.0, last_feed=1.0))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
        await store.add_bar(BAR)
        assert (await reopened(store)).bars == [BAR]

    async def test_a_page_that_fails_half_way_changes_nothing(self, store: SqliteNodeStore) -> None:
        await store.apply_page(page(RevocationItem(jti="kept")), forget_at=1.0, last_feed=1.0)
        bad = RevocationItem(user_id="u", not_before_ms=2**70)  # more than SQLite's integers hold
        with pytest.raises(StoreError):
            await store.apply_page(page(bad, cursor="9"), forget_at=1.0, last_feed=9.0)
        state = await reopened(store)
        assert [item.jti for item, _ in state.revocations] == ["kept"]
        assert state.feed_cursor == "1"
        await store.note_contact(1.0)


def world_readable(path: Path) -> None:
    path.chmod(0o644)


def open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


def a_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def not_a_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def of_a_newer_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (world_readable, "chmod 600"),
        (open_directory, "chmod 700"),
        (a_link, "move it away"),
        (not_a_database, "move it away"),
        (of_a_newer_version, "newer Doorward"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_with_the_mend(
    tmp_path: Path, spoil: Callable[[Path], None], mend: str
) -> None:
    first = make(tmp_path / "node")
    await first.open()
    await first.aclose()
    spoil(first.path)
    store = make(tmp_path / "node")
    with pytest.raises(StoreError, match=mend):
        await store.open()
    await store.aclose()


async def test_a_closed_store_says_so(store: SqliteNodeStore) -> None:
    port: NodeStore = store
    await port.aclose()
    with pytest.raises(StoreError, match="closed"):
        await port.note_contact(1.0)
    await port.aclose()


async def test_a_store_that_was_not_opened_says_so(tmp_path: Path) -> None:
    store = make(tmp_path)
    with pytest.raises(StoreError, match="not open"):
        await store.note_contact(1.0)
    await store.aclose()
