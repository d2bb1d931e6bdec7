"""A validator of your own: asks an OpenID Connect userinfo endpoint whether a token is good."""

from __future__ import annotations

import asyncio

import aiohttp
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from doorward import BackendError, Deadline, Doorward, Invalid, Settings, Valid


class UserInfo:
    def __init__(self, url: str) -> None:
        self._url = url

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        left = deadline.remaining(asyncio.get_running_loop().time())
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=left)) as session,
                session.get(self._url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False) as answer,
            ):
                if answer.status == 401:
                    return Invalid("userinfo says no")
                if answer.status != 200:
                    raise BackendError(f"userinfo answered {answer.status}")
                claims = await answer.json()
                return Valid(user_id=claims["sub"], email=claims.get("email"))
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(f"userinfo could not be asked: {type(error).__name__}") from error


async def whoami(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(ws.scope["doorward"].principal.user_id)
    await ws.close()


settings = Settings.load()
validator = UserInfo(f"{settings.auth.base_url}/userinfo")
app = Doorward(Starlette(routes=[WebSocketRoute("/ws", whoami)]), settings, validator=validator)
