from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from doorward import Doorward, Settings

api = FastAPI()


@api.websocket("/ws")
async def chat(ws: WebSocket) -> None:
    await ws.accept("doorward.v1" if "doorward.v1" in ws.scope["subprotocols"] else None)
    await ws.send_text(f"hello {ws.scope['doorward'].principal.user_id}")
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        pass


@api.get("/about")
async def about() -> dict[str, str]:
    return {"about": "nobody is asked for a token here"}


app = Doorward(api, Settings.load())
