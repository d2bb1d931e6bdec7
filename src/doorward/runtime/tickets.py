"""Tickets: given out for a token that passed the pipeline, redeemed once on this node."""

from __future__ import annotations

import secrets
from typing import Final

from doorward.core.deadline import Deadline
from doorward.core.ticket import ID_BYTES, Ticket, TicketUse, opened, refusal, sealed
from doorward.core.verdict import Cause, Code, Deny, Source, Unavailable
from doorward.errors import BackendError
from doorward.runtime.bounded import Reaper
from doorward.runtime.memory import NodeMemory
from doorward.runtime.once import Once
from doorward.runtime.ports import Clock

KIND: Final = "ticket"
KEEP_USED_SECONDS: Final = 900.0
"""A used ticket is remembered so much longer than it lives, for a host whose clock is set back."""


class Tickets:
    """All processes of a node share the key and the record of what was used: both are in its store."""

    def __init__(self, *, seconds: float, memory: NodeMemory, clock: Clock, reaper: Reaper) -> None:
        self._seconds = seconds
        self._memory = memory
        self._clock = clock
        self._once = Once(KIND, memory=memory, clock=clock, reaper=reaper)

    def give(self, token: str, *, path: str, origin: str | None, until: float | None) -> tuple[str, float]:
        """A ticket and the seconds that it lives.

        Args:
            until: wall-clock second at which the token, or the admission that it got, ends.
        """
        now = self._clock.wall()
        end = now + self._seconds if until is None else min(now + self._seconds, until)
        ticket = Ticket(token, path, origin, now, end)
        return sealed(ticket, self._memory.key, secrets.token_bytes(ID_BYTES)), max(end - now, 0.0)

    async def redeem(self, text: str, use: TicketUse, waiting: Deadline) -> str | Deny | Unavailable:
        """The token in it, once. Waits for the node's store only, and not past `waiting`.

        Cancellation: the ticket may be used up or not.
        """
        found = opened(text, self._memory.key)
        if found is None:
            return Deny(Code.TOKEN_INVALID, Source.TICKET, "not a ticket of this node")
        identifier, ticket = found
        denied = refusal(ticket, use, self._clock.wall())
        if denied is not None:
            return denied
        try:
            is_first = await self._once.use_up(identifier.hex(), ticket.until + KEEP_USED_SECONDS, waiting)
        except BackendError as error:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.TICKET, Cause.STORE, f"was it used before? {error}")
        if not is_first:
            return Deny(Code.TOKEN_REJECTED, Source.TICKET, "a ticket counts once: this one was used")
        return ticket.token
