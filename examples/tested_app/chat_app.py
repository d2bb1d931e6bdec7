from fastapi import FastAPI, WebSocket

from doorward import Doorward, Settings

api = FastAPI()


@api.websocket("/ws")
async def chat(ws: WebSocket) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(f"{ws.scope['doorward'].principal.user_id}: {text}")


def create_app() -> Doorward:
    routes = [{"path": "/ws", "required_scopes": ["chat"]}]
    return Doorward(
        api, Settings(auth={"url": "https://auth.example.com", "service_secret": "change-me"}, routes=routes)
    )
