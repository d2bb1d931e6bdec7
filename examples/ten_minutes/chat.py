from fastapi import FastAPI, WebSocket

from doorward import Doorward, Settings

api = FastAPI()


@api.websocket("/ws")
async def chat(ws: WebSocket) -> None:
    who = ws.scope["doorward"]
    await ws.accept()
    await ws.send_text(f"hello {who.principal.user_id}, {who.assurance}")
    await ws.close()


app = Doorward(api, Settings.load())
