"""Limits that say yes or no and never make anybody wait: token bucket, bulkhead with two lanes, retry budget, throttle."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Address

from doorward.core.verdict import Code, Source, Unavailable


class Lane(StrEnum):
    """Proven: signature and claims hold. Unproven: opaque, or no key set yet."""

    PROVEN = "proven"
    UNPROVEN = "unproven"


class TokenBucket:
    """At most `burst` at once and `rate_per_second` on average. Monotonic seconds."""

    __slots__ = ("_at", "_tokens", "burst", "rate_per_second")

    def __init__(self, rate_per_second: float, burst: float, now: float) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate_per_second)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def is_full(self, now: float) -> bool:
        return self._tokens + max(now - self._at, 0.0) * self.rate_per_second >= self.burst


class AddressLimit:
    """A token bucket for each client address (IPv6: for each /64), with a bounded number of them."""

    def __init__(self, rate_per_second: float, burst: float, *, max_addresses: int = 10_000) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self.max_addresses = max_addresses
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        key = network_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self.rate_per_second, self.burst, now)
            if len(self._buckets) > self.max_addresses:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(now)


UNIX_PEER = "unix"
"""Stands for the address of a peer on a Unix socket, which has none; also in `trusted_proxies`."""


@lru_cache(maxsize=1_024)
def network_of(address: str) -> str:
    """The unit that one peer controls: an IPv4 address, an IPv6 /64; anything else as it stands."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))


class Waiting:
    """Clients that are let in to say who they are, and have not said it yet: in all, and of one address (IPv6: /64)."""

    def __init__(self, capacity: int, *, per_address: int) -> None:
        self.capacity = capacity
        self.per_address = per_address
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of.total()

    def enter(self, address: str) -> Unavailable | None:
        """Take a place, which is given back with `leave`; or why there is none."""
        key = network_of(address)
        if len(self) >= self.capacity:
            return Unavailable(Code.OVERLOADED, Source.ADMIT, detail="too many clients are waited for")
        if self._of[key] >= self.per_address:
            return Unavailable(
                Code.RATE_LIMITED, Source.ADMIT, detail="too many clients of this address are waited for"
            )
        self._of[key] += 1
        return None

    def leave(self, address: str) -> None:
        key = network_of(address)
        self._of[key] -= 1
        if self._of[key] <= 0:
            del self._of[key]


class Bulkhead:
    """Calls in flight, of which the unproven lane may hold a part. `abandoned` ones still clean up and count apart."""

    def __init__(self, capacity: int, *, unproven: int, abandoned: int) -> None:
        self.capacity = capacity
        self.unproven = min(unproven, capacity)
        self.max_abandoned = abandoned
        self.in_flight = dict.fromkeys(Lane, 0)
        self.abandoned = 0

    @property
    def total(self) -> int:
        return sum(self.in_flight.values())

    def enter(self, lane: Lane) -> bool:
        """Take a slot. The caller gives it back with `leave`, whatever happens."""
        full = self.total >= self.capacity or self.abandoned >= self.max_abandoned
        if full or (lane is Lane.UNPROVEN and self.in_flight[lane] >= self.unproven):
            return False
        self.in_flight[lane] += 1
        return True

    def leave(self, lane: Lane) -> None:
        self.in_flight[lane] -= 1


@dataclass(slots=True)
class Throttle:
    """A lane that the auth service asked to slow down stays quiet until then. Monotonic seconds."""

    until: float = 0.0

    def hold(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)

    def remaining(self, now: float) -> float:
        return max(self.until - now, 0.0)


class RetryBudget:
    """Second attempts may be at most `ratio` of the first ones, plus a small start-up allowance.

    Source: Finagle's RetryBudget.
    """

    def __init__(self, *, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self.ratio = ratio
        self.reserve = reserve
        self._balance = reserve

    def deposit(self) -> None:
        """A first attempt was made."""
        self._balance = min(self._balance + self.ratio, self.reserve)

    def withdraw(self) -> bool:
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
