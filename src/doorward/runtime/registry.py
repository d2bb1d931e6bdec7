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


class _Index:
    """Connections by a key that mostly is one connection's own. That one is held as it is: a set costs 200 bytes."""

    def __init__(self) -> None:
        self._found: dict[str, Connection | set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def of(self, key: str) -> Iterable[Connection]:
        found = self._found.get(key, ())
        return found if isinstance(found, set | tuple) else (found,)

    def add(self, key: str, connection: Connection) -> None:
        found = self._found.setdefault(key, connection)
        if isinstance(found, set):
            found.add(connection)
        elif found is not connection:
            self._found[key] = {found, connection}

    def discard(self, key: str, connection: Connection) -> None:
        found = self._found.get(key)
        if isinstance(found, set):
            found.discard(connection)
        if found is connection or found == set():
            del self._found[key]


class Registry:
    """Looked up by user: jti and session belong to one user, but an item may name them alone, so they have indexes too."""

    def __init__(self) -> None:
        self._all: set[Connection] = set()
        self._by = {kind: _Index() for kind in ("jti", "session", "user")}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all))

    def add(self, connection: Connection) -> None:
        self._all.add(connection)
        for kind, key in _keys(connection.principal):
            self._by[kind].add(key, connection)

    def remove(self, connection: Connection) -> None:
        self._all.discard(connection)
        for kind, key in _keys(connection.principal):
            self._by[kind].discard(key, connection)

    def move(self, connection: Connection, before: Principal) -> None:
        """Its principal is another one than `before`: a refreshed token, or a late answer."""
        for kind, key in _keys(before):
            self._by[kind].discard(key, connection)
        if connection in self._all:
            self.add(connection)

    def of_user(self, user_id: str) -> Sequence[Connection]:
        return tuple(self._by["user"].of(user_id))

    def revoke(self, items: Sequence[RevocationItem]) -> int:
        """Close every connection that one of the items is about. Returns how many."""
        known = concerned(items)
        candidates: set[Connection] = set()
        for item in items:
            for kind, key in (("jti", item.jti), ("session", item.session_id), ("user", item.user_id)):
                if key is not None:
                    candidates.update(self._by[kind].of(key))
        hit = [connection for connection in candidates if known.is_revoked(connection.principal, connection.good_at)]
        for connection in hit:
            connection.revoke()
        return len(hit)


def _keys(principal: Principal) -> Iterator[tuple[str, str]]:
    yield "user", principal.user_id
    if principal.session_id is not None:
        yield "session", principal.session_id
    if principal.jti is not None:
        yield "jti", principal.jti
