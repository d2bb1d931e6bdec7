from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from doorward import Doorward, Settings


async def chat(ws: WebSocket) -> None:
    await ws.accept("doorward.v1" if "doorward.v1" in ws.scope["subprotocols"] else None)
    await ws.send_text(f"hello {ws.scope['doorward'].principal.user_id}")
    await ws.close()


app = Doorward(Starlette(routes=[WebSocketRoute("/ws", chat)]), Settings.load())
