"""The server's side of `/ops`: one address to look, one to break things."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from doorward.chat.problem import problem
from doorward.core.limits import TokenBucket
from doorward.errors import UsageError
from doorward.ops.access import Access, Viewer
from doorward.ops.feed import OpsFeed

if TYPE_CHECKING:
    from starlette.requests import Request

    from doorward.asgi.door import Door
    from doorward.ops.faults import FaultPanel

LOOKS_PER_SECOND = 50.0
LOOKS_AT_ONCE = 100
"""Of all viewers together; who comes too often waits for a second."""

MAX_BODY_BYTES = 1_024
BODY_SECONDS = 2.0
MAX_ID_LENGTH = 64

_NO_STORE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fault: str


def ops_routes(door: Door, *, key: bytes | None, panel: FaultPanel | None = None) -> tuple[Route, ...]:
    """`GET /ops/api/state`, and with a panel `POST /ops/api/fault`.

    Args:
        key: of the ops tokens; `None`: there are none.
        panel: only in `doorward up`. With it this host may look without a token.
    """
    page = _Page(door, key, panel)
    look = Route("/ops/api/state", page.look, methods=["GET"])
    if panel is None:
        return (look,)
    return look, Route("/ops/api/fault", page.change, methods=["POST"])


class _Page:
    def __init__(self, door: Door, key: bytes | None, panel: FaultPanel | None) -> None:
        self._clock = door.clock
        self._panel = panel
        self._access = Access(door, key=key, change_token=panel.token if panel is not None else None)
        self._looks = TokenBucket(LOOKS_PER_SECOND, LOOKS_AT_ONCE, door.clock.monotonic())
        self._feed = OpsFeed(
            door.insight,
            clock=door.clock,
            deadline_seconds=door.settings.deadline_seconds,
            faults=panel.view if panel is not None else None,
        )

    async def look(self, request: Request) -> Response:
        viewer = await self._access.viewer(request)
        if isinstance(viewer, Response):
            return viewer
        if not self._looks.take(self._clock.monotonic()):
            return problem(429, "RATE_LIMITED", "Too many are looking; look again.", retry_after_seconds=1.0)
        return self._seen(request, viewer)

    async def change(self, request: Request) -> Response:
        """Break or heal; the answer is what `look` gives."""
        viewer = await self._access.viewer(request)
        if isinstance(viewer, Response):
            return viewer
        if not self._access.may_change(viewer, request):
            return problem(403, "FORBIDDEN", "A change needs the token that `doorward up` printed.")
        wanted = await _wanted(request)
        if isinstance(wanted, Response):
            return wanted
        try:
            self._switch(wanted.fault)
        except UsageError as error:
            return problem(422, "UNKNOWN_FAULT", str(error))
        return self._seen(request, viewer)

    def _switch(self, fault: str) -> None:
        if self._panel is not None:
            self._panel.switch(fault)
            self._feed.forget()

    def _seen(self, request: Request, viewer: Viewer) -> Response:
        who: dict[str, Any] = {
            "how": viewer.how,
            "name": viewer.name,
            "until": viewer.until,
            "may_change": self._access.may_change(viewer, request),
        }
        after = request.query_params.get("after", "")[:MAX_ID_LENGTH]
        return Response(self._feed.state(after or None, who), media_type="application/json", headers=_NO_STORE)


async def _wanted(request: Request) -> _Change | Response:
    """The body of a change: small, JSON and soon."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return problem(415, "BAD_REQUEST", "The body must be application/json.")
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return problem(413, "MESSAGE_TOO_BIG", f"The body is larger than {MAX_BODY_BYTES} bytes.")
        return msgspec.json.decode(body, type=_Change)
    except (TimeoutError, ClientDisconnect):
        return problem(408, "BAD_REQUEST", "The body did not come.")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return problem(400, "BAD_REQUEST", 'The body must be {"fault": "<one of the choices>"}.')
