"""Agents made with pydantic-ai, and any model that it knows. Needs `pip install 'doorward[agents]'`."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Self

from ag_ui.core import BaseEvent, EventType, RunAgentInput, UserMessage
from pydantic_ai import DeferredToolRequests
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelServerError,
    ModelUnavailableError,
)
from pydantic_ai.ui.ag_ui import AGUIAdapter, AGUIEventStream

from doorward.chat.agents.fresh_ids import FreshIds
from doorward.chat.agents.gather import gathered
from doorward.chat.agents.history import usable
from doorward.chat.agents.port import AgentError, AgentFault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.models import Model

    from doorward.chat.agents.port import RunRequest

_DROPPED = frozenset(
    {
        EventType.RUN_STARTED,
        EventType.RUN_FINISHED,
        EventType.RAW,
        EventType.MESSAGES_SNAPSHOT,
        EventType.REASONING_ENCRYPTED_VALUE,
    }
)
"""The caller says itself when a run starts and ends, and what a thread says; sealed reasoning is the provider's alone."""

_FAULTS: tuple[tuple[type[Exception], AgentFault, str | None], ...] = (
    (
        ModelAuthenticationError,
        AgentFault.MISCONFIGURED,
        "the provider refuses the key: set the one that it gave you, e.g. OPENAI_API_KEY, and start again",
    ),
    (
        ModelNotFoundError,
        AgentFault.MISCONFIGURED,
        "the provider does not know this model, or the address is not its own: see chat.agent_model",
    ),
    (ModelQuotaExceededError, AgentFault.MISCONFIGURED, "the account at the provider is used up: see its billing page"),
    (ModelRateLimitError, AgentFault.BUSY, "the provider limits the rate: ask it for more, or choose another model"),
    (ModelContextWindowExceededError, AgentFault.THREAD_TOO_LONG, None),
    (ModelRequestRejectedError, AgentFault.FAILED, "the provider refuses the request as this model's: see its code"),
    (ModelOverloadedError, AgentFault.BUSY, None),
    (ModelUnavailableError, AgentFault.UNAVAILABLE, None),
    (ModelServerError, AgentFault.UNAVAILABLE, None),
    (ModelConnectionError, AgentFault.UNAVAILABLE, "see that the provider's address can be reached from here"),
    (ContentFilterError, AgentFault.DECLINED, None),
    (ModelAPIError, AgentFault.FAILED, None),
)
"""The most special classes first."""


class PydanticAgent:
    """Answers with an agent of pydantic-ai. Its tools find the `RunRequest` in `ctx.deps`: who asks is `ctx.deps.who`.

    Args:
        agent: any agent; it is not changed.
        model: used instead of its own.
        instructions: added to its own.
        deps: what the tools get instead of the `RunRequest`.

    While it is entered (`async with`), connections to the model are kept; `create_app` enters it with the application.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        model: Model | str | None = None,
        instructions: str | None = None,
        deps: Callable[[RunRequest], Any] = lambda request: request,
    ) -> None:
        self._agent = agent
        self._model = model
        self._instructions = instructions
        self._deps = deps

    async def __aenter__(self) -> Self:
        """Open what the agent's tool servers and its model need.

        Cancellation: what is open already is closed.
        """
        with nullcontext() if self._model is None else self._agent.override(model=self._model):
            await self._agent.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        await self._agent.__aexit__(None, None, None)

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """The events of one run.

        Raises:
            AgentError: the model could not be asked.

        Cancellation: the request to the model is cut.
        """
        return gathered(self._events(request))

    async def _events(self, request: RunRequest) -> AsyncGenerator[BaseEvent, None]:
        ids = FreshIds(request.history)
        adapter = _Adapter(agent=self._agent, run_input=_input(request))
        stream = adapter.run_stream(deps=self._deps(request), model=self._model, instructions=self._instructions)
        async with aclosing(stream) as events:  # type: ignore[type-var]
            async for event in events:
                if event.type not in _DROPPED:
                    ids.rename(event)
                    yield event


class _Stream(AGUIEventStream[Any, Any]):
    """The stream of one run. An error is raised, as its text is not for the person who asked."""

    async def on_error(self, error: Exception) -> AsyncIterator[BaseEvent]:
        raise _explained(error) from error
        yield

    async def after_stream(self) -> AsyncIterator[BaseEvent]:
        output = self._result.output if self._result is not None else None
        if isinstance(output, DeferredToolRequests):
            raise AgentError(
                AgentFault.FAILED,
                "the agent waits for an approval, or for a tool of the front end, and this chat gives neither",
                mend="let its tools run without approval",
            )
        return
        yield


class _Adapter(AGUIAdapter[Any, Any]):
    def build_event_stream(self) -> AGUIEventStream[Any, Any]:
        return _Stream(self.run_input)


def _input(request: RunRequest) -> RunAgentInput:
    question = UserMessage(id=f"{request.run_id}:question", content=request.message)
    return RunAgentInput(
        thread_id=request.thread_id,
        run_id=request.run_id,
        state={},
        messages=[*usable(request.history), question],
        tools=[],
        context=[],
        forwarded_props={},
    )


def _explained(error: Exception) -> Exception:
    """What the operator can mend. A bug of the agent, or of a tool, stays the exception that it is."""
    for kind, fault, mend in _FAULTS:
        if isinstance(error, kind):
            return AgentError(fault, _reason(error), mend=mend)
    return error


def _reason(error: Exception) -> str:
    """What is known of it, without the provider's text: that may quote the key or the conversation."""
    parts = [type(error).__name__.lstrip("_")]
    if isinstance(error, ModelAPIError):
        parts += [f"model {error.model_name}", f"code {error.provider_error_code}" if error.provider_error_code else ""]
    if isinstance(error, ModelHTTPError):
        parts.append(f"status {error.status_code}")
    if isinstance(error, ModelConnectionError) and error.phase:
        parts.append(f"phase {error.phase}")
    return ", ".join(part for part in parts if part)
