"""All that can be wrong with the auth service or the way to it, by name. Plain data: what to strike, and what must follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from doorward.core.verdict import Cause
from doorward.testing import DnsFault, Fault

RETRY_AFTER_SECONDS = 2


class Reach(StrEnum):
    """Can the question be answered while the fault lasts?"""

    NEVER = "never"
    ALWAYS = "always"
    """The door gets its answer all the same, in time."""
    SOMETIMES = "sometimes"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault. `causes` are what a client may be told who could not be let in.

    `waves`: faults that take turns, each for its seconds. `cut_first`: open connections are reset first, because the fault
    strikes new ones only. A lost name matters only where new ones are made, so idle ones are reset again and again then.
    """

    name: str
    title: str
    reach: Reach
    fault: Fault = Fault.NONE
    dns: DnsFault | None = None
    causes: frozenset[Cause] = frozenset()
    waves: tuple[tuple[Fault, float], ...] = ()
    cut_first: bool = False
    tls: bool = False


def _json_status(code: int, retry_after: int | None = None) -> Fault:
    headers = {"Content-Type": "application/json"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Fault.status(code, b'{"error":"trouble"}', headers)


def _refused_secret(delay_seconds: float) -> Fault:
    headers = {"Content-Type": "application/json", "WWW-Authenticate": 'Basic realm="auth"'}
    return Fault.status(401, b'{"error":"invalid_client"}', headers, delay_seconds=delay_seconds)


def _never(name: str, title: str, fault: Fault, *causes: Cause, tls: bool = False) -> Trouble:
    return Trouble(name, title, Reach.NEVER, fault, causes=frozenset(causes), tls=tls, cut_first=tls)


def _lost_name(name: str, title: str, dns: DnsFault, *causes: Cause) -> Trouble:
    """The address is known from before, so new connections can be had all the same."""
    return Trouble(name, title, Reach.ALWAYS, dns=dns, causes=frozenset(causes), cut_first=True)


_DEADLINE, _UPSTREAM, _PROTOCOL = Cause.DEADLINE, Cause.UPSTREAM, Cause.PROTOCOL

_ALL = (
    _never("refused", "nobody listens", Fault.REFUSE, _UPSTREAM),
    _never("black-hole", "a SYN is never answered", Fault.BLACK_HOLE, _DEADLINE, _UPSTREAM),
    _never("reset", "accepted, then reset", Fault.RESET, _UPSTREAM),
    _never("silence", "accepted, then silent", Fault.SILENCE, _DEADLINE),
    _never("header-stall", "a status line, then silent", Fault.HEADER_STALL, _DEADLINE),
    _never("drip", "a byte each 100 ms", Fault.DRIP, _DEADLINE),
    _never("huge-body", "an answer of 16 MiB", Fault.huge_body(16 << 20), _PROTOCOL),
    _never("truncated", "half an answer", Fault.TRUNCATE, _UPSTREAM, _PROTOCOL),
    _never("wrong-json", "a 200 that says valid: the string", Fault.body(b'{"valid":"true"}'), _PROTOCOL),
    _never("secret-refused", "401 on our own secret", _refused_secret(0.0), Cause.CONFIG),
    _never("secret-refused-late", "401 on our own secret, 0.8 s late", _refused_secret(0.8), Cause.CONFIG),
    _never("too-many", "429 to everything", _json_status(429, RETRY_AFTER_SECONDS), Cause.THROTTLED),
    _never("error-500", "500 to everything", _json_status(500), _UPSTREAM),
    _never("overloaded-503", "503 with Retry-After", _json_status(503, RETRY_AFTER_SECONDS), Cause.THROTTLED),
    _never("tls-stall", "a ClientHello is never answered", Fault.TLS_STALL, _DEADLINE, _UPSTREAM, tls=True),
    _lost_name("dns-stall", "no name server answers", DnsFault.BLACK_HOLE, _UPSTREAM, _DEADLINE),
    _lost_name("dns-nxdomain", "the name is gone", DnsFault.NXDOMAIN, _UPSTREAM),
    Trouble(
        "stale-keep-alive",
        "kept-alive connections are dead",
        Reach.SOMETIMES,
        Fault.STALE_KEEP_ALIVE,
        causes=frozenset({_UPSTREAM}),
    ),
    Trouble("late", "every answer 0.7 s late", Reach.ALWAYS, Fault.latency(0.7)),
    Trouble(
        "flapping",
        "half a second well, half a second reset",
        Reach.SOMETIMES,
        causes=frozenset({_UPSTREAM}),
        waves=((Fault.RESET, 0.5), (Fault.NONE, 0.5)),
    ),
    Trouble(
        "mostly-slow",
        "nine answers of ten take 3 s",
        Reach.SOMETIMES,
        Fault.latency(3.0).for_share(0.9),
        causes=frozenset({_DEADLINE}),
    ),
)  # fmt: skip

TROUBLES: Mapping[str, Trouble] = {trouble.name: trouble for trouble in _ALL}
"""In the order in which they are listed."""
