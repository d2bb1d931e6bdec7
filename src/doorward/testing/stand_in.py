"""What every stand-in of a real service has in common: it runs while it is entered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class StandIn(ABC):
    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def start(self) -> None:
        """Listen. After `aclose` on the same port as before."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop listening, and drop every connection. Twice is once."""
