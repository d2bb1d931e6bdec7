"""What has to be done now and then: end runs that were left behind, and tidy the logs of threads that rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from doorward.errors import StoreError
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from doorward.chat.limits import ChatLimits
    from doorward.chat.recovery import Recovery
    from doorward.chat.tidying import Tidying

log = get_logger(__name__)


class Housekeeping:
    """Rounds of bounded work. A round that fails is logged, and the next one does what it left."""

    def __init__(self, recovery: Recovery, tidying: Tidying, limits: ChatLimits) -> None:
        self._recovery = recovery
        self._tidying = tidying
        self._limits = limits

    async def run(self) -> None:
        """Rounds until cancelled.

        Cancellation: a round may be half done; the next process does the rest.
        """
        while True:
            await asyncio.sleep(self._limits.housekeeping_seconds)
            try:
                await self._recovery.run()
                await self._tidying.resting()
            except StoreError as error:
                log.warning("chat.housekeeping_failed", error=str(error))
            except Exception:
                log.exception("chat.housekeeping_failed")
