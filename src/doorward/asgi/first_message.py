"""The token as the first message, for clients that can bring it in no other way: let in, and heard before the app is called."""

from __future__ import annotations

import asyncio

from doorward.asgi.session import AdmittedConnection
from doorward.asgi.types import Message, Receive, Scope, Send
from doorward.core.credential import Credential, Transport, from_message, offers_ours, real_protocols
from doorward.core.verdict import Code, Deny, Source
from doorward.runtime.authenticator import Handshake


def is_awaited(refusal: Deny, handshake: Handshake, scope: Scope) -> bool:
    """Did the client bring no credential, on a route where it may send one?"""
    lacks = refusal.code is Code.AUTH_REQUIRED
    return lacks and scope["type"] == "websocket" and Transport.FIRST_MESSAGE in handshake.route.transports


async def received(
    scope: Scope, receive: Receive, send: Send, *, seconds: float, listening: set[asyncio.Timeout]
) -> Credential | Deny | None:
    """Accept, and wait for the token. `None`: the client has left.

    Args:
        listening: the time-outs of all who wait so; `stop` ends them.

    Cancellation: the socket stays accepted, and is closed by the server.
    """
    try:
        async with asyncio.timeout(seconds) as waiting:
            listening.add(waiting)
            try:
                await send({"type": "websocket.accept", "subprotocol": _protocol(scope)})
                event = await receive()
            finally:
                listening.discard(waiting)
    except TimeoutError:
        return Deny(Code.AUTH_TIMEOUT, Source.CREDENTIAL, f"no token within {seconds:g} s")
    except OSError:
        return None
    return None if event["type"] == "websocket.disconnect" else from_message(event.get("text"))


def stop(listening: set[asyncio.Timeout]) -> None:
    """Wait for none of them any more."""
    now = asyncio.get_running_loop().time()
    for waiting in listening:
        if not waiting.expired():
            waiting.reschedule(now)


def _protocol(scope: Scope) -> str | None:
    """One of ours if it is offered, else the first: the app is not there yet to choose."""
    offered = real_protocols(scope.get("subprotocols", ()))
    return next((name for name in offered if offers_ours((name,))), offered[0] if offered else None)


class AcceptedConnection(AdmittedConnection, eq=False):
    """One that the door accepted before it knew who it was. The app accepts once more, which the peer does not see."""

    def __post_init__(self) -> None:
        extensions = dict(self.scope.get("extensions", {}))
        extensions.pop("websocket.http.response", None)
        self.scope = {**self.scope, "extensions": extensions}
        self._accepted = True

    async def _accept(self, message: Message) -> None:  # noqa: ARG002 - the subprotocol is chosen already
        if self.ours:
            await self._greet()
