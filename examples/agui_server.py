"""An agent in a program of its own, which speaks AG-UI over HTTP: here one of pydantic-ai; any framework will do."""

from __future__ import annotations

import os
import secrets

from pydantic_ai import Agent
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

TOKEN = os.environ["AGENT_TOKEN"]  # the same as chat.agent_token
agent = Agent(os.environ.get("AGENT_MODEL", "test"))


async def run(request: Request) -> Response:
    given = request.headers.get("Authorization", "")
    if not secrets.compare_digest(given.encode(), f"Bearer {TOKEN}".encode()):
        return PlainTextResponse("who are you?", 401)
    return await AGUIAdapter.dispatch_request(request, agent=agent)


app = Starlette(routes=[Route("/run", run, methods=["POST"])])
