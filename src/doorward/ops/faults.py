"""The fault panel of `doorward up`: breaks the way to the auth service on purpose, and heals it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Protocol

from doorward.errors import UsageError
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock
from doorward.testing import Fault

KEPT_SWITCHES = 100
HEALED = "none"

log = get_logger("doorward")


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to break it. `effect` says what happens on the wire, for somebody who has never seen a socket.

    `waves`: faults that take turns, each for its seconds; `fault` is the first of them.
    """

    key: str
    label: str
    effect: str
    fault: Fault = field(repr=False)
    waves: tuple[tuple[Fault, float], ...] = field(default=(), repr=False)


_JSON = {"Content-Type": "application/json"}
_COME_BACK = {**_JSON, "Retry-After": "2"}
_HALF_A_SECOND_EACH = ((Fault.RESET, 0.5), (Fault.NONE, 0.5))


def _refused_secret(delay_seconds: float) -> Fault:
    headers = {**_JSON, "WWW-Authenticate": 'Basic realm="auth"'}
    return Fault.status(401, b'{"error":"invalid_client"}', headers, delay_seconds=delay_seconds)


GROUPS: Mapping[str, Sequence[Choice]] = {
    "It is silent or slow": (
        Choice("silence", "Silence", "Calls are read, and never answered.", Fault.SILENCE),
        Choice("header_stall", "Header stall", "The answer stops after its first header.", Fault.HEADER_STALL),
        Choice("drip", "Drip", "One byte at a time, ten a second.", Fault.DRIP),
        Choice("slow_300ms", "300 ms late", "Each answer is right, and 300 ms late.", Fault.latency(0.3)),
        Choice("slow_1500ms", "1.5 s late", "Each answer is right, and 1.5 s late.", Fault.latency(1.5)),
        Choice(
            "mostly_slow", "Mostly slow", "Nine answers of ten take three seconds.", Fault.latency(3.0).for_share(0.9)
        ),
    ),
    "It cannot be reached": (
        Choice("refuse", "Refused", "Nobody listens: refused at once.", Fault.REFUSE),
        Choice("black_hole", "Black hole", "Packets vanish: no connection, no refusal.", Fault.BLACK_HOLE),
        Choice("reset", "Reset", "Each connection is cut once it is made.", Fault.RESET),
    ),
    "It refuses": (
        Choice("error_500", "Error 500", "An internal error, each time.", Fault.status(500)),
        Choice(
            "too_many",
            "429, too many",
            "One question too many: wait two seconds.",
            Fault.status(429, b"{}", _COME_BACK),
        ),
        Choice(
            "overloaded",
            "503, come back",
            "Overloaded: come back in two seconds.",
            Fault.status(503, b"{}", _COME_BACK),
        ),
        Choice(
            "secret_refused",
            "401 on our secret",
            "It no longer knows the door's own secret.",
            _refused_secret(0.0),
        ),
        Choice(
            "secret_refused_late",
            "Late 401 on our secret",
            "The same, and 0.8 s to say so.",
            _refused_secret(0.8),
        ),
    ),
    "It answers nonsense": (
        Choice("truncated", "Half an answer", "The JSON ends in the middle.", Fault.TRUNCATE),
        Choice(
            "wrong_json",
            "Wrong JSON",
            'The word "true" in place of a yes.',
            Fault.body(b'{"valid":"true"}'),
        ),
        Choice(
            "huge_body",
            "Huge answer",
            "One word of 64 million letters.",
            Fault.huge_body(64 << 20),
        ),
    ),
    "It comes and goes": (
        Choice(
            "flapping",
            "Flapping",
            "Half a second well, half a second cut.",
            Fault.RESET,
            _HALF_A_SECOND_EACH,
        ),
        Choice(
            "stale_keep_alive",
            "Stale connections",
            "A kept connection is dead when used again.",
            Fault.STALE_KEEP_ALIVE,
        ),
    ),
}
"""In the order in which they are shown."""

CHOICES = tuple(choice for choices in GROUPS.values() for choice in choices)


class Breakable(Protocol):
    """What the panel needs of a `FaultProxy`."""

    @property
    def fault(self) -> Fault: ...

    @fault.setter
    def fault(self, fault: Fault) -> None: ...


@dataclass(frozen=True, slots=True)
class Switch:
    """`key` holds from `at` on, wall-clock seconds."""

    at: float
    key: str


class FaultPanel:
    """Args: token: what must come along with each change; see `ops.access`."""

    def __init__(self, proxy: Breakable, *, token: str, clock: Clock) -> None:
        self.token = token
        self._proxy = proxy
        self._clock = clock
        self._choices = {choice.key: choice for choice in CHOICES}
        self._switches: deque[Switch] = deque(maxlen=KEPT_SWITCHES)
        self._turn: asyncio.TimerHandle | None = None

    def switch(self, key: str) -> None:
        """Break it in this way, or heal it with `none`. Works at once, on open connections too. Called in the loop.

        Raises:
            UsageError: there is no such fault.
        """
        if key != HEALED and key not in self._choices:
            raise UsageError(f"there is no such fault; known are {', '.join([HEALED, *self._choices])}")
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        choice = self._choices.get(key)
        self._proxy.fault = choice.fault if choice is not None else Fault.NONE
        if choice is not None and choice.waves:
            self._take_turns(cycle(choice.waves))
        if key != self._now:
            self._switches.append(Switch(self._clock.wall(), key))
            log.warning("fault panel", fault=key)

    def _take_turns(self, waves: Iterator[tuple[Fault, float]]) -> None:
        self._proxy.fault, seconds = next(waves)
        self._turn = asyncio.get_running_loop().call_later(seconds, self._take_turns, waves)

    def view(self) -> Mapping[str, Any]:
        """For the page: what there is to choose, what holds now, and what was switched when, oldest first."""
        choices = [
            {"key": choice.key, "group": group, "label": choice.label, "effect": choice.effect}
            for group, choices in GROUPS.items()
            for choice in choices
        ]
        return {"choices": choices, "now": self._now, "switches": tuple(self._switches)}

    @property
    def _now(self) -> str:
        return self._switches[-1].key if self._switches else HEALED
