"""Agents, which answer the questions, and what they get. Public: these names, `pydantic_ai.PydanticAgent` and `http.HttpAgent`."""

from doorward.chat.agents.port import Agent, AgentError, AgentFault, LiveView, RunRequest

__all__ = ["Agent", "AgentError", "AgentFault", "LiveView", "RunRequest"]
