from quart import Quart, websocket

from doorward import Doorward, Settings

site = Quart(__name__)


@site.websocket("/ws")
async def chat() -> None:
    await websocket.accept(subprotocol="doorward.v1" if "doorward.v1" in websocket.requested_subprotocols else None)
    await websocket.send(f"hello {websocket.scope['doorward'].principal.user_id}")
    while True:
        await websocket.send(await websocket.receive())


@site.get("/about")
async def about() -> dict[str, str]:
    return {"about": "nobody is asked for a token here"}


app = Doorward(site, Settings.load())
