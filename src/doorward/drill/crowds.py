"""Many clients at once: silent ones that besiege a door, and a crowd that was sent away and comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from doorward.drill.clients import Dialer, http_address
from doorward.drill.evidence import Stray
from doorward.drill.results import Kind, Outcome, Phase, Sample
from doorward.drill.scenarios import CUT, Behaviour, Siege, Storm

CROWD_ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 201)) if sys.platform == "linux" else ()
"""Every address of 127/8 is there on Linux alone."""

AT_ONCE = 10
"""So many silent connections are opened together, and then there is a pause: a timer for each would take the time of all."""
UNADVISED_SECONDS = 1.0
"""Who is sent away without a word on when to come back waits so long."""


class _Silent(asyncio.Protocol):
    """Says nothing, and notes its end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.opened_at = loop.time()
        self.ended: asyncio.Future[float] = loop.create_future()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set_result(asyncio.get_running_loop().time())

    def abort(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()


async def besiege(url: str, step: Siege, *, patience_seconds: float) -> list[Stray]:
    """Open silent connections from many addresses, and watch each until it is cut.

    Args:
        patience_seconds: after the last one was opened; whoever is still open then was left open.

    Returns:
        One for each connection that could be opened.

    Cancellation: all of them are cut.
    """
    silent: list[_Silent] = []
    try:
        await _open_all(url, step, silent)
        if silent:
            await asyncio.wait([each.ended for each in silent], timeout=patience_seconds)
        now = asyncio.get_running_loop().time()
        return [_end_of(each, now) for each in silent]
    finally:
        for each in silent:
            each.abort()


async def _open_all(url: str, step: Siege, silent: list[_Silent]) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(step.clients):
        local = (CROWD_ADDRESSES[number % len(CROWD_ADDRESSES)], 0) if CROWD_ADDRESSES else None
        try:
            _, opened = await loop.create_connection(_Silent, *http_address(url), local_addr=local)
        except OSError:
            continue
        silent.append(opened)
        if number % AT_ONCE == AT_ONCE - 1:
            due += AT_ONCE / step.per_second
            await asyncio.sleep(max(due - loop.time(), 0.0))


def _end_of(silent: _Silent, now: float) -> Stray:
    ended_at = silent.ended.result() if silent.ended.done() else None
    seconds = round((ended_at or now) - silent.opened_at, 4)
    return Stray(Behaviour.SAYS_NOTHING, seconds, None if ended_at is None else CUT)


@dataclass(slots=True)
class Crowd:
    """Clients that come while nobody can be asked, and come back when each was told to, until it is in.

    `returns`: when somebody came back, monotonic; `returned`: how many are in.
    """

    door: Dialer
    tokens: Sequence[str]
    asked: list[tuple[Sample, str]] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    returned: int = 0
    repaired: bool = False
    """The fault is gone: whoever came in it and is answered now may have either answer."""
    everybody_was_answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Once at least."""
    _answered: int = 0

    async def come(self, step: Storm) -> None:
        """Until all are in.

        Cancellation: whoever is not in gives up.
        """
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for number, token in enumerate(self.tokens):
                group.create_task(self._client(token, begun + step.over_seconds * number / len(self.tokens)))

    async def _client(self, token: str, starts_at: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(starts_at - loop.time())
        for turn in count():
            sample = await self.door.ask(Phase.FAULT, Kind.OPAQUE, token)
            if self.repaired:
                sample = replace(sample, phase=Phase.REPAIR)
            self.asked.append((sample, token))
            self._answered += turn == 0
            if self._answered == len(self.tokens):
                self.everybody_was_answered.set()
            if sample.outcome is Outcome.ALLOW:
                self.returned += 1
                return
            advice = sample.retry_after_ms
            await asyncio.sleep(UNADVISED_SECONDS if advice is None else advice / 1000)
            self.returns.append(loop.time())
