"""The fault panel of `doorward up`: breaks the way to the auth service on purpose, and heals it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from doorward.errors import UsageError
from doorward.runtime.ports import Clock
from doorward.testing import Fault

KEPT_SWITCHES = 100
HEALED = "none"

log = structlog.get_logger("doorward")


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to break it. `effect` says what happens on the wire, for somebody who has never seen a socket."""

    key: str
    label: str
    effect: str
    fault: Fault = field(repr=False)


_REFUSED_SECRET = Fault.status(
    401,
    b'{"error":"invalid_client"}',
    {"Content-Type": "application/json", "WWW-Authenticate": 'Basic realm="auth"'},
)

CHOICES = (
    Choice("silence", "Silence", "Calls are accepted and read, and never answered.", Fault.SILENCE),
    Choice("refuse", "Refused", "Nobody listens: each connection is refused at once.", Fault.REFUSE),
    Choice("black_hole", "Black hole", "Packets vanish: a connection is neither made nor refused.", Fault.BLACK_HOLE),
    Choice("reset", "Reset", "Each connection is cut as soon as it is made.", Fault.RESET),
    Choice("header_stall", "Header stall", "The answer begins, and stops after its first header.", Fault.HEADER_STALL),
    Choice("drip", "Drip", "The answer comes one byte at a time, ten a second.", Fault.DRIP),
    Choice("error_500", "Error 500", "Each question is answered with an internal error.", Fault.status(500)),
    Choice(
        "secret_refused", "401 on our secret", "The service no longer knows the door's own secret.", _REFUSED_SECRET
    ),
    Choice("slow_300ms", "300 ms late", "Each answer is right, and 300 ms late.", Fault.latency(0.3)),
    Choice("slow_1500ms", "1.5 s late", "Each answer is right, and 1.5 s late.", Fault.latency(1.5)),
)


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

    def switch(self, key: str) -> None:
        """Break it in this way, or heal it with `none`. Works at once, on open connections too.

        Raises:
            UsageError: there is no such fault.
        """
        if key != HEALED and key not in self._choices:
            raise UsageError(f"there is no such fault; known are {', '.join([HEALED, *self._choices])}")
        self._proxy.fault = self._choices[key].fault if key != HEALED else Fault.NONE
        if key != self._now:
            self._switches.append(Switch(self._clock.wall(), key))
            log.warning("fault panel", fault=key)

    def view(self) -> Mapping[str, Any]:
        """For the page: what there is to choose, what holds now, and what was switched when, oldest first."""
        choices = [{"key": each.key, "label": each.label, "effect": each.effect} for each in CHOICES]
        return {"choices": choices, "now": self._now, "switches": tuple(self._switches)}

    @property
    def _now(self) -> str:
        return self._switches[-1].key if self._switches else HEALED
