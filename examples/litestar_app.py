from litestar import Litestar, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect

from doorward import Doorward, Settings


@websocket("/ws")
async def chat(socket: WebSocket) -> None:
    await socket.accept("doorward.v1" if "doorward.v1" in socket.scope["subprotocols"] else None)
    await socket.send_text(f"hello {socket.scope['doorward'].principal.user_id}")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@get("/about")
async def about() -> dict[str, str]:
    return {"about": "nobody is asked for a token here"}


app = Doorward(Litestar([chat, about]), Settings.load())
