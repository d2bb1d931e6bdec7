"""How a run ended, in a code and in words: what `RUN_ERROR` says, and what `/api` says of it afterwards. Pure."""

from __future__ import annotations

from typing import Final

from doorward.chat.agents.port import TOLD, AgentFault
from doorward.chat.mailbox import Ending

ERRORS: Final = {
    Ending.TIMEOUT: ("timeout", "The agent did not finish in time."),
    Ending.TOO_LONG: ("too_long", "The answer became too long."),
    Ending.INTERRUPTED: ("interrupted", "The server is restarting. The question can be asked again."),
}


def error_of(ending: Ending, fault: AgentFault = AgentFault.FAILED) -> tuple[str, str] | None:
    """Code and words of a run that gave no answer; `None` where it was not an error. `fault` counts where the agent failed."""
    return (fault.value, TOLD[fault]) if ending is Ending.FAILED else ERRORS.get(ending)


def fault_of(code: str | None) -> AgentFault:
    """The fault that goes by this code; of an unknown one only that the agent failed is known."""
    return AgentFault(code) if code in set(AgentFault) else AgentFault.FAILED
