import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from doorward import Doorward, Settings

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup()


class Chat(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("doorward.v1" if "doorward.v1" in self.scope["subprotocols"] else None)
        await self.send(f"hello {self.scope['doorward'].principal.user_id}")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)


def about(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"about": "nobody is asked for a token here"})


urlpatterns = [path("about", about)]
channels = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Chat.as_asgi())])},
)

app = Doorward(channels, Settings.load())
