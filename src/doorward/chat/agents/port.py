"""The port of the agents: who asks, what, and what was said before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ag_ui.core import BaseEvent

    from doorward.chat.transcript import Message
    from doorward.core.verdict import Assurance, Principal


class LiveView(Protocol):
    """What the door knows about the person on a socket *now*. Read it at use: all but the person may change."""

    @property
    def principal(self) -> Principal: ...

    @property
    def assurance(self) -> Assurance: ...

    @property
    def degraded(self) -> bool: ...

    @property
    def decision_id(self) -> str: ...

    @property
    def permissions(self) -> frozenset[str]:
        """What the person may do now; fewer than the principal's while degraded."""
        ...

    @property
    def expires_at(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One question to an agent. `history` is what the thread said before it, oldest first."""

    thread_id: str
    run_id: str
    message: str
    who: LiveView
    history: Sequence[Message] = ()


class Agent(Protocol):
    """Answers with AG-UI events. Adapters are named by technology."""

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """The events of the run, without `RUN_STARTED` and `RUN_FINISHED`: those are the caller's.

        An exception ends the run as `RUN_ERROR`; its text is logged and not sent.

        Cancellation: may come at any await; close what you opened. Parts that are open in the stream are closed by the caller.
        """
        ...
