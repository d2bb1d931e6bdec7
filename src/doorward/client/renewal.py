"""A new token on the open connection, before the old one ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from doorward.client.errors import ChatError, Refused, SignedOut
from doorward.client.meaning import action_for
from doorward.core.backoff import next_delay
from doorward.core.verdict import Action
from doorward.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from doorward.client.chance import Chance
    from doorward.client.commands import Commands
    from doorward.client.timing import Timing
    from doorward.client.tokens import Token

SHARE = 0.7
SPREAD = 0.1
"""A token is replaced when 70 to 80 % of its life are over."""
FIRST_RETRY_SECONDS = 1.0
BETWEEN_SECONDS = 2.0
"""No more often than this, even where a clock is wrong, or the door reminds us of tokens that live no longer than its reminder."""


class Renewal:
    """For one connection. `run` it beside the reader.

    Args:
        fetch_token: a token that is not the stale one.
    """

    def __init__(
        self,
        commands: Commands,
        fetch_token: Callable[[str | None], Awaitable[Token]],
        *,
        chance: Chance,
        timing: Timing,
    ) -> None:
        self._commands = commands
        self._fetch_token = fetch_token
        self._chance = chance
        self._timing = timing
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """The door says that it is time."""
        self._hurried.set()

    async def run(self, token: Token, *, expires_at: float | None, on_new: Callable[[Token], None]) -> None:
        """Replace the token again and again, until cancelled. An outage is waited out, however long.

        Args:
            expires_at: when the door will end this connection, wall-clock seconds.
            on_new: told of each token that the door has taken.

        Raises:
            SignedOut: the person has to sign in again.

        Cancellation: leaves nothing behind; a token that was fetched is the provider's to keep.
        """
        failures = 0
        wait = self._life(token.expires_at, expires_at)
        while True:
            await self._pause(wait)
            self._hurried.clear()
            try:
                fresh = await self._fetch_token(token.value)
                if fresh.value == token.value:
                    wait = None  # there is no other; the door may remind us
                    continue
                reply = await self._commands.ask(
                    {"type": "auth.refresh", "token": fresh.value}, within_seconds=self._timing.command_seconds
                )
            except SignedOut:
                raise
            except (ChatError, LimitError) as error:
                wait = self._after(error, failures)
                failures += 1
                continue
            failures, token = 0, fresh
            on_new(token)
            said = reply.get("expires_at")
            life = self._life(token.expires_at, said if isinstance(said, int | float) else None)
            wait = None if life is None else max(life - BETWEEN_SECONDS, 0.0)
            await asyncio.sleep(BETWEEN_SECONDS)

    async def _pause(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def _life(self, *ends: float | None) -> float | None:
        """How long to wait with the next one; `None`: until the door says something."""
        known = [end for end in ends if end is not None]
        if not known:
            return None
        left = max(min(known) - self._chance.wall(), 0.0)
        return left * (SHARE + SPREAD * self._chance.uniform())

    def _after(self, error: ChatError | LimitError, failures: int) -> float | None:
        """Cases: the door does not take the new token, and will say so by a close; anything else is tried again."""
        if isinstance(error, Refused) and action_for(0, error.code) is Action.SIGN_IN:
            return None
        delay = next_delay(
            failures,
            base_seconds=self._timing.backoff_base_seconds,
            cap_seconds=self._timing.backoff_cap_seconds,
            uniform=self._chance.uniform(),
        )
        asked = getattr(error, "retry_after_seconds", None)
        return max(delay, FIRST_RETRY_SECONDS if asked is None else asked)
