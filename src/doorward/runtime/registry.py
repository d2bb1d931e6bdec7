"""The open, admitted connections, found by the identity that a revocation names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
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
"""By a name that mostly is one connection's own. That one is held as it is: a set costs 200 bytes."""


_names = attrgetter("user_id", "session_id", "jti")
"""Of a principal; those that it has not are `None`."""


class Registry:
    """Looked up by user: jti and session belong to one user, but an item may name them alone.

    One index serves all three. A name of one kind may be one of another kind too: so whom it finds is then looked at.
    """

    def __init__(self) -> None:
        self._all: set[Connection] = set()
        self._named: _Connections = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all))

    def add(self, connection: Connection) -> None:
        self._all.add(connection)
        named = self._named
        for name in _names(connection.principal):
            if name is not None:
                found = named.setdefault(name, connection)
                if found is not connection:
                    self._share(name, found, connection)

    def remove(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._forget(connection, connection.principal)

    def move(self, connection: Connection, before: Principal) -> None:
        """Its principal is another one than `before`: a refreshed token, or a late answer."""
        self._forget(connection, before)
        if connection in self._all:
            self.add(connection)

    def of_user(self, user_id: str) -> Sequence[Connection]:
        return tuple(connection for connection in self._of(user_id) if connection.principal.user_id == user_id)

    def revoke(self, items: Sequence[RevocationItem]) -> int:
        """Close every connection that one of the items is about. Returns how many."""
        known = concerned(items)
        candidates: set[Connection] = set()
        for item in items:
            for name in (item.jti, item.session_id, item.user_id):
                if name is not None:
                    candidates.update(self._of(name))
        hit = [connection for connection in candidates if known.is_revoked(connection.principal, connection.good_at)]
        for connection in hit:
            connection.revoke()
        return len(hit)

    def _of(self, name: str) -> Iterable[Connection]:
        found = self._named.get(name, ())
        return found if isinstance(found, set | tuple) else (found,)

    def _share(self, name: str, found: Connection | set[Connection], connection: Connection) -> None:
        if isinstance(found, set):
            found.add(connection)
        else:
            self._named[name] = {found, connection}

    def _forget(self, connection: Connection, principal: Principal) -> None:
        named = self._named
        for name in _names(principal):
            if name is not None:
                found = named.get(name)
                if found is connection or (isinstance(found, set) and _is_last(found, connection)):
                    del named[name]


def _is_last(found: set[Connection], leaving: Connection) -> bool:
    found.discard(leaving)
    return not found
