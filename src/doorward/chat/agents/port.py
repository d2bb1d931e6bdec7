"""The port of the agents: who asks, what, and what was said before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from doorward.errors import DoorwardError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ag_ui.core import BaseEvent

    from doorward.chat.transcript import Message
    from doorward.core.verdict import Assurance, Principal


class AgentFault(StrEnum):
    """Why an agent gave no answer: the `code` of `RUN_ERROR`."""

    FAILED = "agent_failed"
    UNAVAILABLE = "agent_unavailable"
    BUSY = "agent_busy"
    MISCONFIGURED = "agent_misconfigured"
    DECLINED = "agent_declined"
    THREAD_TOO_LONG = "thread_too_long"


TOLD = {
    AgentFault.FAILED: "The agent failed. The question can be asked again.",
    AgentFault.UNAVAILABLE: "The agent could not be reached. Try again in a moment.",
    AgentFault.BUSY: "The agent has too much to do. Try again in a minute.",
    AgentFault.MISCONFIGURED: "The agent is not set up correctly. Whoever runs this service has to mend it.",
    AgentFault.DECLINED: "The agent declined to answer this.",
    AgentFault.THREAD_TOO_LONG: "This conversation is too long for the agent. Begin another one.",
}
"""What the person is told. The reason itself may name hosts and accounts, so it goes to the log alone."""

WORTH_ANOTHER_TRY = frozenset({AgentFault.FAILED, AgentFault.UNAVAILABLE, AgentFault.BUSY})
"""The same question may get its answer later."""


class AgentError(DoorwardError):
    """An agent gave no answer, and knows why. Ends the run as `RUN_ERROR`.

    Args:
        fault: what the person is told.
        reason: for the log; never a secret.
        mend: for the log: what the operator can do about it.
    """

    def __init__(self, fault: AgentFault, reason: str, *, mend: str | None = None) -> None:
        super().__init__(reason)
        self.fault = fault
        self.mend = mend


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
    """Answers with AG-UI events. Adapters are named by technology.

    One that is an async context manager too is entered when the application starts, and left when it ends.
    """

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """The events of the run, without `RUN_STARTED` and `RUN_FINISHED`: those are the caller's.

        An exception ends the run as `RUN_ERROR`; its text is logged and not sent. An `AgentError` says what the person is told.

        Cancellation: may come at any await; close what you opened. Parts that are open in the stream are closed by the caller.
        """
        ...
