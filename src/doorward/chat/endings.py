"""How a run ended, in a code and in words: what its last event says, and what `/api` says of it afterwards. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ag_ui.core import RunErrorEvent, RunFinishedCancelledOutcome, RunFinishedEvent

from doorward.chat.agents.port import TOLD, WORTH_ANOTHER_TRY, AgentFault
from doorward.chat.mailbox import Ending

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent

RETRYABLE: Final = "retryable"
"""In the `metadata` of `RUN_ERROR`."""


class Failure(NamedTuple):
    """Why a run gave no answer. `retryable`: the same question, as another run, may well get one."""

    code: str
    message: str
    retryable: bool


ERRORS: Final = {
    Ending.TIMEOUT: Failure("timeout", "The agent did not finish in time.", retryable=True),
    Ending.TOO_LONG: Failure("too_long", "The answer became too long.", retryable=False),
    Ending.INTERRUPTED: Failure(
        "interrupted", "The server is restarting. The question can be asked again.", retryable=True
    ),
}


def error_of(ending: Ending, fault: AgentFault = AgentFault.FAILED) -> Failure | None:
    """Of a run that gave no answer; `None` where it was not an error. `fault` counts where the agent failed."""
    if ending is Ending.FAILED:
        return Failure(fault.value, TOLD[fault], retryable=fault in WORTH_ANOTHER_TRY)
    return ERRORS.get(ending)


def fault_of(code: str | None) -> AgentFault:
    """The fault that goes by this code; of an unknown one only that the agent failed is known."""
    return AgentFault(code) if code in set(AgentFault) else AgentFault.FAILED


def last_word(thread_id: str, run_id: str, ending: Ending, fault: AgentFault = AgentFault.FAILED) -> BaseEvent:
    """The one event that ends a run."""
    if error := error_of(ending, fault):
        return RunErrorEvent(message=error.message, code=error.code, metadata={RETRYABLE: error.retryable})
    outcome = RunFinishedCancelledOutcome() if ending is Ending.CANCELLED else None
    return RunFinishedEvent(thread_id=thread_id, run_id=run_id, outcome=outcome)
