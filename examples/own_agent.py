"""An agent of your own: any model that pydantic-ai knows, and a tool that knows who asks."""

from __future__ import annotations

from pydantic_ai import Agent, RunContext

from doorward.chat.agents import RunRequest

ORDERS = {"admin@doorward.local": ["a lamp, sent on Monday", "two chairs, in the workshop"]}

agent = Agent(
    deps_type=RunRequest,
    instructions="You help the customers of a small furniture shop. Be brief. Look the orders up before you speak of them.",
)


@agent.tool
def my_orders(ctx: RunContext[RunRequest]) -> list[str]:
    """The open orders of whoever asks."""
    return ORDERS.get(ctx.deps.who.principal.email or "", ["none"])
