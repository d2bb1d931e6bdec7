"""The open, admitted connections, found by the identity that a revocation names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from doorward.core.verdict import Principal
from doorward.runtime.memory import concerned
from doorward.runtime.ports import RevocationItem


class Connection(Protocol):
    """An admitted connection, as the registry sees it."""

    @property
    def principal(self) -> Principal: ...

    @property
    def good_at(self) -> float:
        """Wall-clock second at which it was last let in; stands in for `iat` where the token has none."""
        ...

    def revoke(self) -> None:
        """Close it. Returns at once; the closing is bounded."""
        ...


_Connections = dict[str, Connection | set[Connection]]
"""By a key that mostly is one connection's own. That one is held as it is: a set costs 200 bytes."""


class Registry:
    """Looked up by user: jti and session belong to one user, but an item may name them alone, so they have indexes too."""

    def __init__(self) -> None:
        self._all: set[Connection] = set()
        self._by_user: _Connections = {}
        self._by_session: _Connections = {}
        self._by_jti: _Connections = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all))

    def add(self, connection: Connection) -> None:
        self._all.add(connection)
        principal = connection.principal
        _add(self._by_user, principal.user_id, connection)
        if principal.session_id is not None:
            _add(self._by_session, principal.session_id, connection)
        if principal.jti is not None:
            _add(self._by_jti, principal.jti, connection)

    def remove(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._forget(connection, connection.principal)

    def move(self, connection: Connection, before: Principal) -> None:
        """Its principal is another one than `before`: a refreshed token, or a late answer."""
        self._forget(connection, before)
        if connection in self._all:
            self.add(connection)

    def of_user(self, user_id: str) -> Sequence[Connection]:
        return tuple(_of(self._by_user, user_id))

    def _forget(self, connection: Connection, principal: Principal) -> None:
        _discard(self._by_user, principal.user_id, connection)
        if principal.session_id is not None:
            _discard(self._by_session, principal.session_id, connection)
        if principal.jti is not None:
            _discard(self._by_jti, principal.jti, connection)

    def revoke(self, items: Sequence[RevocationItem]) -> int:
        """Close every connection that one of the items is about. Returns how many."""
        known = concerned(items)
        candidates: set[Connection] = set()
        for item in items:
            for index, key in (
                (self._by_jti, item.jti),
                (self._by_session, item.session_id),
                (self._by_user, item.user_id),
            ):
                if key is not None:
                    candidates.update(_of(index, key))
        hit = [connection for connection in candidates if known.is_revoked(connection.principal, connection.good_at)]
        for connection in hit:
            connection.revoke()
        return len(hit)


def _of(index: _Connections, key: str) -> Iterable[Connection]:
    found = index.get(key, ())
    return found if isinstance(found, set | tuple) else (found,)


def _add(index: _Connections, key: str, connection: Connection) -> None:
    found = index.setdefault(key, connection)
    if found is connection:
        return
    if isinstance(found, set):
        found.add(connection)
    else:
        index[key] = {found, connection}


def _discard(index: _Connections, key: str, connection: Connection) -> None:
    found = index.get(key)
    if isinstance(found, set):
        found.discard(connection)
        if found:
            return
    elif found is not connection:
        return
    del index[key]
