"""What the node must remember over a restart, in SQLite: bars, revocations, the feed's cursor, last contact, what was redeemed.

Each call is one function on the store's own thread. So a caller that is cancelled between two statements cannot leave a
transaction open, and a disk that hangs costs the caller its bound and nothing more.

`synchronous=NORMAL` in WAL mode: what was committed survives the end of the process, by whatever signal; a power cut may take the
last commits. For most of it that is right: a lost page of the feed takes its cursor with it and is fetched again. A *proven* bar
is an exception: without it a token with a good signature, once refused, could be let in by the next outage. So is what was
redeemed: it must never be good again. Both are rare, and committed with FULL. (An unproven token can never be let in on local
proof, and strangers can make any number of them.)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from doorward.adapters.private_files import distrust_dir, distrust_file, make_private_dir
from doorward.adapters.worker import Worker
from doorward.errors import StoreError
from doorward.runtime.ports import NodeState, RevocationItem, RevocationPage, StoredBar

T = TypeVar("T")

CALL_SECONDS: Final = 0.25
OPEN_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.01
FILE_NAME: Final = "node.sqlite3"
SCHEMA_VERSION: Final = 1
FORGET_BATCH: Final = 1_000
"""Rows that one call may delete per table: it stays within its bound, the next call takes the rest."""

_SCHEMA: Final = """
CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL CHECK (length(key) = 32));
CREATE TABLE origin (
    id INTEGER PRIMARY KEY, issuer TEXT NOT NULL, keyset_url TEXT NOT NULL,
    feed_epoch TEXT, feed_cursor TEXT, last_feed REAL, last_contact REAL,
    UNIQUE (issuer, keyset_url)
);
CREATE TABLE bar (
    origin_id INTEGER NOT NULL REFERENCES origin, digest BLOB NOT NULL, until REAL NOT NULL, proven INTEGER NOT NULL,
    PRIMARY KEY (origin_id, digest)
) WITHOUT ROWID;
CREATE INDEX bar_until ON bar (until);
CREATE TABLE revocation (
    origin_id INTEGER NOT NULL REFERENCES origin, kind TEXT NOT NULL CHECK (kind IN ('jti', 'session', 'user')),
    name TEXT NOT NULL, not_before_ms INTEGER, forget_at REAL NOT NULL,
    PRIMARY KEY (origin_id, kind, name)
) WITHOUT ROWID;
CREATE INDEX revocation_forget_at ON revocation (forget_at);
CREATE TABLE redeemed (kind TEXT NOT NULL, id TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX redeemed_until ON redeemed (until);
"""

_ADD_BAR: Final = """
INSERT INTO bar (origin_id, digest, until, proven) VALUES (?, ?, ?, ?)
ON CONFLICT (origin_id, digest) DO UPDATE SET until = max(until, excluded.until), proven = max(proven, excluded.proven)
"""
_ADD_REVOCATION: Final = """
INSERT INTO revocation (origin_id, kind, name, not_before_ms, forget_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (origin_id, kind, name) DO UPDATE SET
    not_before_ms = max(not_before_ms, excluded.not_before_ms), forget_at = max(forget_at, excluded.forget_at)
"""
_NOTE_FEED: Final = "UPDATE origin SET feed_epoch = ?, feed_cursor = ?, last_feed = ? WHERE id = ?"


class SqliteNodeStore:
    """A `NodeStore`: one file in the data directory, shared by the processes of a node and by several issuers.

    Args:
        issuer, keyset_url: whose tokens this is about; rows of another pair are never seen.
        bound_seconds: of each call; the opening has `OPEN_SECONDS`.
    """

    def __init__(self, data_dir: Path, *, issuer: str, keyset_url: str, bound_seconds: float = CALL_SECONDS) -> None:
        self.path = data_dir / FILE_NAME
        self._binding = (issuer, keyset_url)
        self._bound_seconds = bound_seconds
        self._worker = Worker("doorward-store")
        self._connection: sqlite3.Connection | None = None
        self._origin_id = 0

    async def open(self) -> NodeState:
        """Open the file, making it if it is not there, and read what is known.

        Raises:
            StoreError: the file is not ours, damaged, or of a newer version; the text says the mend.

        Cancellation: the thread finishes by itself; `aclose` closes what it opened.
        """
        return await self._run(self._open, OPEN_SECONDS)

    async def add_bar(self, bar: StoredBar) -> None:
        """Remember a refused token. A later `until`, and "proven", win over what is there."""
        await self._run(partial(self._add_bar, bar))

    async def remove_bar(self, digest: bytes) -> None:
        """Lift a bar, if there is one."""
        statement = "DELETE FROM bar WHERE origin_id = ? AND digest = ?"
        await self._run(lambda: self._execute(statement, self._origin_id, digest))

    async def apply_page(self, page: RevocationPage, *, forget_at: float, last_feed: float) -> None:
        """Items, cursor and the time of the poll in one transaction. An item that is there keeps the later `forget_at`.

        Nothing is deleted, by a snapshot neither: while it comes in, another process, or this one after a restart, relies on the
        rows.
        """
        await self._run(partial(self._apply_page, page, forget_at=forget_at, last_feed=last_feed))

    async def note_contact(self, wall: float) -> None:
        """The last live answer of the auth service, in wall-clock seconds."""
        statement = "UPDATE origin SET last_contact = ? WHERE id = ?"
        await self._run(lambda: self._execute(statement, wall, self._origin_id))

    async def forget_expired(self, wall: float, *, revocations_before: float = 0.0) -> bool:
        """Delete what has run out, and of our revocations those with an earlier `forget_at` than that.

        Returns:
            Is there more? At most `FORGET_BATCH` rows of each kind go at a time.
        """
        return await self._run(partial(self._forget_expired, wall, revocations_before))

    async def redeem(self, kind: str, identifier: str, until: float) -> bool:
        """Use up something that may be used once on this node, for instance a ticket.

        Args:
            kind: what it is; each kind has its own name space.
            until: wall-clock second after which it would be refused anyway, so that it may be forgotten.

        Returns:
            True exactly once per kind and identifier.

        Raises:
            StoreError: nobody knows whether it was used; refuse as `Unavailable`.

        Cancellation: it may be used up or not.
        """
        return await self._run(partial(self._redeem, kind, identifier, until))

    async def aclose(self) -> None:
        """Close the file. Bounded; what hangs is left to the thread."""
        with contextlib.suppress(StoreError):
            await self._run(self._close)
        self._worker.stop_nowait()

    async def _run(self, call: Callable[[], T], bound_seconds: float | None = None) -> T:
        try:
            return await self._worker.run(call, bound_seconds=bound_seconds or self._bound_seconds)
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:  # the last two: a value SQLite cannot hold
            raise StoreError(f"{self.path}: {error}{_mend(error)}") from error

    # What follows runs on the store's thread.

    def _open(self) -> NodeState:
        self._close()
        self._check_files()
        connection = sqlite3.connect(self.path, timeout=OPEN_SECONDS * 0.8, isolation_level=None)
        try:
            _prepare(connection)
            self._connection = connection
            with self._transaction():
                self._migrate()
                self._origin_id = self._origin()
            connection.execute(f"PRAGMA busy_timeout = {int(self._bound_seconds * 800)}")
            return self._load()
        except BaseException:
            self._connection = None
            connection.close()
            raise

    def _check_files(self) -> None:
        try:
            make_private_dir(self.path.parent)
        except OSError as error:
            raise StoreError(
                f"data_dir: {self.path.parent} cannot be made: {error.strerror}; set DOORWARD_DATA_DIR to one that can"
            ) from error
        reason = distrust_dir(self.path.parent)
        if reason:
            raise StoreError(reason)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{self.path}{suffix}")
            with contextlib.suppress(FileNotFoundError):
                reason = distrust_file(path.lstat(), path)
                if reason:
                    raise StoreError(reason)

    def _migrate(self) -> None:
        version = self._one("PRAGMA user_version")[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} has schema version {version}, made by a newer Doorward: run that one")
        if version < SCHEMA_VERSION:
            for statement in _SCHEMA.split(";"):
                self._execute(statement)
            self._execute("INSERT INTO secret (id, key) VALUES (1, ?)", secrets.token_bytes(32))
            self._execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _origin(self) -> int:
        self._execute("INSERT INTO origin (issuer, keyset_url) VALUES (?, ?) ON CONFLICT DO NOTHING", *self._binding)
        return int(self._one("SELECT id FROM origin WHERE issuer = ? AND keyset_url = ?", *self._binding)[0])

    def _load(self) -> NodeState:
        bars = self._execute("SELECT digest, until, proven FROM bar WHERE origin_id = ?", self._origin_id)
        revocations = self._execute(
            "SELECT kind, name, not_before_ms, forget_at FROM revocation WHERE origin_id = ?", self._origin_id
        )
        epoch, cursor, last_feed, last_contact = self._one(
            "SELECT feed_epoch, feed_cursor, last_feed, last_contact FROM origin WHERE id = ?", self._origin_id
        )
        return NodeState(
            key=self._one("SELECT key FROM secret")[0],
            bars=[StoredBar(digest, until, bool(proven)) for digest, until, proven in bars],
            revocations=[(_item(kind, name, not_before), at) for kind, name, not_before, at in revocations],
            feed_epoch=epoch,
            feed_cursor=cursor,
            last_feed=last_feed,
            last_contact=last_contact,
        )

    def _add_bar(self, bar: StoredBar) -> None:
        with self._durable() if bar.proven else contextlib.nullcontext():
            self._execute(_ADD_BAR, self._origin_id, bar.digest, bar.until, bar.proven)

    def _apply_page(self, page: RevocationPage, *, forget_at: float, last_feed: float) -> None:
        rows = [(self._origin_id, *_row(item), forget_at) for item in page.items]
        with self._transaction() as connection:
            connection.executemany(_ADD_REVOCATION, rows)
            self._execute(_NOTE_FEED, page.epoch, page.cursor, last_feed, self._origin_id)

    def _forget_expired(self, wall: float, revocations_before: float) -> bool:
        most = 0
        for table, keys, old, values in (
            ("bar", "origin_id, digest", "until < ?", (wall,)),
            ("revocation", "origin_id, kind, name", "forget_at < ?", (wall,)),
            (
                "revocation",
                "origin_id, kind, name",
                "forget_at < ? AND origin_id = ?",
                (revocations_before, self._origin_id),
            ),
            ("redeemed", "kind, id", "until < ?", (wall,)),
        ):
            found = f"SELECT {keys} FROM {table} WHERE {old} LIMIT {FORGET_BATCH}"  # noqa: S608 - names from above
            gone = self._execute(f"DELETE FROM {table} WHERE ({keys}) IN ({found})", *values)  # noqa: S608 - names from above
            most = max(most, gone.rowcount)
        return most == FORGET_BATCH

    def _redeem(self, kind: str, identifier: str, until: float) -> bool:
        statement = "INSERT INTO redeemed (kind, id, until) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self._durable():
            return self._execute(statement, kind, identifier, until).rowcount == 1

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._opened().execute(statement, values)

    def _one(self, statement: str, *values: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._execute(statement, *values).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("a row that must be there is missing")
        return row

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the store is not open")
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite ends it by itself on some failures
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _durable(self) -> Iterator[None]:
        self._execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._execute("PRAGMA synchronous = NORMAL")


def _prepare(connection: sqlite3.Connection) -> None:
    if _switched_to_wal(connection) != "wal":
        raise sqlite3.OperationalError("this file system cannot hold a write-ahead log; put data_dir on a local disk")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA trusted_schema = OFF")


def _switched_to_wal(connection: sqlite3.Connection) -> str:
    """The journal's mode then. SQLite does not wait for its lock here, and processes of a node start at the same moment."""
    ends_at = time.monotonic() + OPEN_SECONDS * 0.8
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends_at:
                raise
        time.sleep(RETRY_SECONDS)


def _row(item: RevocationItem) -> tuple[str, str, int | None]:
    if item.jti is not None:
        return "jti", item.jti, None
    if item.session_id is not None:
        return "session", item.session_id, None
    return "user", item.user_id or "", item.not_before_ms


def _item(kind: str, name: str, not_before_ms: int | None) -> RevocationItem:
    cases = {
        "jti": RevocationItem(jti=name),
        "session": RevocationItem(session_id=name),
        "user": RevocationItem(user_id=name, not_before_ms=not_before_ms),
    }
    return cases[kind]


def _mend(error: Exception) -> str:
    """What to do about a file that can never work; nothing where another try may."""
    passing = isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError)
    damaged = isinstance(error, sqlite3.DatabaseError) and not passing
    return "; the file cannot be used: restore it, or move it away (its bars are then lost)" if damaged else ""
