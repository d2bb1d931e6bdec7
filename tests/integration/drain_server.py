"""A tiny application behind the real server runner, as a process of its own: `drain_server.py '{"mode": "clean", ...}'`.

It accepts and echoes, says 503 on /readyz once it is unready, and misbehaves in the drain as `mode` says.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.cli.process import run_process
from doorward.cli.server import DrainHooks, DrainPolicy, run_server
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


async def ignore_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class TinyApp:
    def __init__(self, mode: str, counters: OpeningCounters) -> None:
        self.mode = mode
        self.counters = counters
        self.is_ready = True
        self.is_draining = False
        self.sockets: set[Send] = set()
        self.stubborn: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._echo(receive, send)
        elif scope["path"] == "/counters":
            cut = {str(why): count for why, count in self.counters.cut.items()}
            seen = {"incomplete": self.counters.incomplete, "complete": self.counters.complete, "cut": cut}
            await self._answer(send, 200, json.dumps(seen).encode())
        else:
            await self._answer(send, 200 if self.is_ready else 503, b"{}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.mode == "slow start":
            say("starting")
            await asyncio.sleep(3600)
        if self.mode == "stubborn thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()
        if self.mode == "stubborn task":
            self.stubborn = asyncio.create_task(ignore_cancellation())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self.mode == "hanging end":
            await ignore_cancellation()
        say("ended")
        await send({"type": "lifespan.shutdown.complete"})

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.is_draining:
            await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"RESTARTING"})
            return
        await send({"type": "websocket.accept"})
        self.sockets.add(send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        finally:
            self.sockets.discard(send)

    async def _answer(self, send: Send, status: int, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def unready(self) -> None:
        self.is_ready = False
        say("unready")

    async def drain(self, spread_seconds: float, deadline: Deadline) -> None:
        self.is_draining = True
        say(f"drain {spread_seconds:g}")
        if self.mode == "hanging drain":
            await ignore_cancellation()
        if self.mode == "blocked loop":
            time.sleep(3600)  # noqa: ASYNC251 - the misbehaviour under test
        if self.mode == "failing drain":
            raise RuntimeError("the drain failed")
        for send in list(self.sockets):
            await asyncio.sleep(spread_seconds / len(self.sockets))
            await send({"type": "websocket.close", "code": 1012, "reason": "RESTARTING;id=1"})

    async def finish(self, deadline: Deadline) -> None:
        if self.mode == "runs":
            await asyncio.sleep(deadline.remaining(asyncio.get_running_loop().time()))
            say("interrupted")


def main() -> int:
    options = json.loads(sys.argv[1])
    counters = OpeningCounters()

    async def serve() -> int:
        if options.get("mode") == "crash":
            raise RuntimeError("no way to start")
        app = TinyApp(options.get("mode", "clean"), counters)
        return await run_server(
            app,
            name="serve",
            host="127.0.0.1",
            port=options.get("port", 0),
            opening=OpeningPolicy(**options.get("opening", {})),
            counters=counters,
            drain=DrainPolicy(**options.get("drain", {})),
            hooks=DrainHooks(app.unready, app.drain, app.finish),
        )

    try:
        return run_process(serve)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
