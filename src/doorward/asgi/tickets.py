"""`POST /doorward/ticket?path=/ws`: what the client says, and what it is told."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

import msgspec

from doorward.asgi.denial import PROBLEM_TYPE, readable_by
from doorward.asgi.types import Scope, Send
from doorward.core.routes import path_in_app

MAX_PATH_CHARACTERS: Final = 512


def target_of(scope: Scope) -> str | None:
    """The path in the app that the ticket is to open; `None` if this is no such request."""
    try:
        paths = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=8).get("path", [])
    except ValueError:
        return None
    well = len(paths) == 1 and paths[0].startswith("/") and len(paths[0]) <= MAX_PATH_CHARACTERS
    return path_in_app(paths[0], scope.get("root_path", "")) if well and scope["method"] == "POST" else None


async def answer(scope: Scope, send: Send, ticket: str, seconds: float) -> None:
    """201 with the ticket."""
    body = msgspec.json.encode({"ticket": ticket, "expires_in_ms": int(seconds * 1000)})
    await _respond(send, 201, body, (b"content-type", b"application/json"), *readable_by(scope))


async def refuse(scope: Scope, send: Send) -> None:
    """What was asked is no request for a ticket. Nobody was asked who it is."""
    status, code = (400, "BAD_REQUEST") if scope["method"] == "POST" else (405, "METHOD_NOT_ALLOWED")
    problem = {
        "type": PROBLEM_TYPE + code.lower().replace("_", "-"),
        "title": "ask with POST and one `path`, the path that the ticket is to open, in the query string",
        "status": status,
        "code": code,
    }
    body = msgspec.json.encode(problem)
    await _respond(send, status, body, (b"content-type", b"application/problem+json"), (b"allow", b"POST"))


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    more = ((b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
