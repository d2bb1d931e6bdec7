"""The ports: what the runtime asks of the outside, named by role. Adapters implement them, fakes stand in for them.

Every coroutine here is called under a deadline and may be cancelled at any await; it must leave nothing behind.
All of them raise `BackendError` (and nothing else on purpose) when they could not ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from doorward.core.answer import Invalid, Valid
from doorward.core.deadline import Deadline


@runtime_checkable
class Validator(Protocol):
    """Asks whether a token is good. The public port: users may bring their own."""

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        """Ask once. No retry inside: attempts, breaker, bulkhead and single-flight are the door's.

        Args:
            token: the user's credential, as it was presented. Never log it.
            deadline: absolute, on the loop's clock; the answer is worthless after it.

        Raises:
            BackendError: could not ask. `Throttled` and `ServiceCredentialRefused` have rules of their own.

        Cancellation: may come at any await; close what you opened.
        """
        ...


class KeySetSource(Protocol):
    """Where the issuer publishes its keys (RFC 7517)."""

    async def fetch(self, *, deadline: Deadline) -> bytes:
        """The raw document. Parsing, and the rule that a bad one never replaces a good one, is the caller's."""
        ...


class HealthProbe(Protocol):
    """For the eyes and the alerts; never opens or closes the breaker."""

    async def probe(self, *, deadline: Deadline) -> None:
        """Return if the service says that it is well."""
        ...


@dataclass(frozen=True, slots=True)
class RevocationItem:
    """One revocation. Exactly one of `jti`, `session_id`, `user_id` is set; `not_before_ms` goes with `user_id`.

    `user_id` + `not_before_ms` revokes every token of the user whose `iat` <= `not_before_ms`.
    """

    jti: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    not_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """One answer of the feed. `as_of` is the service's wall clock in seconds; `more` asks to poll again at once."""

    epoch: str
    cursor: str
    as_of: float
    more: bool
    items: Sequence[RevocationItem]


class FeedMissing(Exception):
    """The service has no revocation feed (404, 405 or 501). An answer, not an outage."""


class CursorExpired(Exception):
    """410: start again from a full snapshot."""


class RevocationSource(Protocol):
    """The long-polled revocation feed."""

    async def poll(
        self, *, epoch: str | None, cursor: str | None, wait_seconds: float, deadline: Deadline
    ) -> RevocationPage:
        """The next page; `epoch=None, cursor=None` asks for a full snapshot.

        Raises:
            FeedMissing, CursorExpired: answers of the service.
            BackendError: could not ask.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredKeySet:
    """`fetched_at` in wall-clock seconds."""

    document: bytes
    fetched_at: float


class StateFiles(Protocol):
    """Small files in the data directory: 0600, atomically replaced, bound to issuer and key-set URL.

    A file of another owner, another mode or another binding is ignored with a warning; so is a damaged one.
    """

    async def load_keyset(self) -> StoredKeySet | None: ...

    async def save_keyset(self, keyset: StoredKeySet) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredBar:
    """A token that the auth service once refused, by its keyed digest. `until` in wall-clock seconds."""

    digest: bytes
    until: float
    proven: bool


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the node remembers. Times are wall-clock seconds; `feed_epoch` / `feed_cursor` are `None` without a feed."""

    key: bytes
    """32 random bytes, made once per data directory: keys the digests of bars."""
    bars: Sequence[StoredBar]
    revocations: Sequence[tuple[RevocationItem, float]]
    """Each with the wall-clock second after which it may be forgotten."""
    feed_epoch: str | None
    feed_cursor: str | None
    last_feed: float | None
    last_contact: float | None


class NodeStore(Protocol):
    """The node's durable memory (SQLite in the data directory), shared by the processes of one node.

    Raises:
        StoreError: from every method, when the store failed.
    """

    async def open(self) -> NodeState: ...

    async def add_bar(self, bar: StoredBar) -> None: ...

    async def remove_bar(self, digest: bytes) -> None: ...

    async def apply_page(self, page: RevocationPage, *, forget_at: float, last_feed: float) -> None:
        """Items, cursor and the time of the poll in one transaction. An item that is there keeps the later `forget_at`."""
        ...

    async def note_contact(self, wall: float) -> None: ...

    async def forget_expired(self, wall: float, *, revocations_before: float = 0.0) -> bool:
        """Delete some of what has run out, and of our revocations those with an earlier `forget_at` than that. Is there more?"""
        ...

    async def redeem(self, kind: str, identifier: str, until: float) -> bool:
        """Use up something that may be used once on this node: true exactly once. Remembered to wall second `until` at least."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Address:
    """One IP address of a name. `family` is `socket.AF_INET` or `AF_INET6`."""

    host: str
    family: int


class DnsClient(Protocol):
    """Asks name servers. `runtime/resolver.py` remembers, this one only asks."""

    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        """Addresses and the smallest TTL in seconds.

        Raises:
            ResolveError: no such name, no answer, or no address.
        """
        ...

    async def aclose(self) -> None: ...


class Clock(Protocol):
    """`monotonic` is the loop's own clock; `wall` never moves back within a process."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...
