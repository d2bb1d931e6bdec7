"""What the door can tell about itself: the read side that the warden, the ops page and `/readyz` share.

Nothing here holds a token; tokens are known by fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from doorward.errors import BackendError

_KIND: Final = re.compile(r" \([A-Z]\w*[a-z]\w*\)")


class Timeline(Mapping[str, float]):
    """The milliseconds of each step, in order. They are worked out when somebody looks: most are never looked at but once.

    Args: began, ends: monotonic seconds; of a step, when it ended.
    """

    __slots__ = ("_began", "_ends")

    def __init__(self, began: float, ends: Mapping[str, float]) -> None:
        self._began = began
        self._ends = ends

    def __getitem__(self, name: str) -> float:
        return self._in_ms()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ends)

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return repr(self._in_ms())

    def items(self) -> ItemsView[str, float]:
        return self._in_ms().items()

    def _in_ms(self) -> dict[str, float]:
        found, before = {}, self._began
        for name, ended in self._ends.items():
            found[name] = to_ms(ended - before)
            before = ended
        return found


def to_ms(seconds: float) -> float:
    """Milliseconds with three decimals; `round` takes longer than most of the steps that it would be called for."""
    return int(seconds * 1e6 + 0.5) / 1000


class DecisionRecord(msgspec.Struct, frozen=True, gc=False):
    """One decision about one opening handshake, or one guarded HTTP request. One is made for each, and thousands are kept.

    `at` wall-clock seconds; `verdict` allow | deny | unavailable; `reason` a closed set (metric label); `code` the word the
    client got, `None` when allowed; `total_ms` scope entry to verdict; `overrun_ms` how far past the deadline the answer was;
    `steps` the milliseconds of each, in order.
    """

    id: str
    at: float
    path: str
    address: str
    verdict: str
    source: str
    reason: str
    code: str | None
    assurance: str | None
    degraded: bool
    provisional: bool
    user_id: str | None
    fingerprint: str | None
    detail: str
    total_ms: float
    overrun_ms: float
    steps: Mapping[str, float]
    kind: str = "websocket"
    """websocket | http"""
    issuer: str | None = None
    """The name of the issuer whose token it was; `None` where nobody's was found."""


def in_words(trouble: str) -> str:
    """What a log says of an error, as it is shown to people: without the names of its classes."""
    kind, _, words = trouble.partition(": ")
    told = (words or "it failed") if kind in _names(BackendError) else trouble
    return _KIND.sub("", told)


def _names(kind: type[BackendError]) -> Iterator[str]:
    """Of the class and those under it, a validator's own too."""
    yield kind.__name__
    for special in kind.__subclasses__():
        yield from _names(special)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """An auth service as this process sees it. Ages in seconds; `None`: never, or not there."""

    issuer: str
    """Its name in the settings."""
    tenant: str | None
    url: str
    in_outage: bool
    breaker: str
    """closed | open | half_open"""
    breaker_since_seconds: float
    health: str
    """healthy | unhealthy | unknown: of the last few probes"""
    last_probe_ms: float | None
    last_probe_passed: bool | None
    """It alone, where `health` takes several to change."""
    last_error: str | None
    last_contact_age_seconds: float | None
    keyset_age_seconds: float | None
    feed: str
    """live | stale | missing | unknown"""
    feed_age_seconds: float | None
    degrade_mode: str
    in_flight: int
    bars: int


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One open, admitted socket. `since` wall-clock seconds."""

    id: str
    """The decision that let it in."""
    user_id: str
    path: str
    address: str
    since: float
    assurance: str
    degraded: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Decisions of the last `window_seconds`, of all kinds or of one. Quantiles in milliseconds, `None` without decisions."""

    window_seconds: float
    total: int
    by_verdict: Mapping[str, int]
    by_reason: Mapping[str, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Insight(Protocol):
    """Read-only, never blocks, safe to call from any task of the loop."""

    def services(self) -> Sequence[ServiceView]:
        """Of every issuer, in the order of the settings: one at least."""
        ...

    def statistics(self, window_seconds: float = 300.0, *, kind: str | None = None) -> Statistics: ...

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        """Newest first."""
        ...

    def decision(self, decision_id: str) -> DecisionRecord | None: ...

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]: ...
