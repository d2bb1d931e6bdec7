"""An agent on strings: it speaks AG-UI over HTTP, and says what a test makes it say, when the test wants it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from doorward.testing.waiting import eventually

LONGEST_SECONDS = 60.0


@dataclass
class Run:
    """One question, and the strings of its answer."""

    run_id: str
    question: str
    thread_id: str
    events: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    gone: threading.Event = field(default_factory=threading.Event)

    def emit(self, kind: str, **fields: Any) -> None:
        self.events.put({"type": kind, **fields})

    def say(self, text: str) -> None:
        """More of the one answer."""
        self.emit("TEXT_MESSAGE_CONTENT", messageId=f"{self.run_id}-m", delta=text)

    def begin(self, text: str = "") -> None:
        self.emit("TEXT_MESSAGE_START", messageId=f"{self.run_id}-m", role="assistant")
        if text:
            self.say(text)

    def end(self) -> None:
        self.emit("TEXT_MESSAGE_END", messageId=f"{self.run_id}-m")
        self.finish()

    def finish(self) -> None:
        self.emit("RUN_FINISHED", threadId=self.thread_id, runId=self.run_id)
        self.events.put(None)

    def fail(self) -> None:
        self.emit("RUN_ERROR", message="the model fell over", code="broken")
        self.events.put(None)

    def think(self, text: str) -> None:
        """A thought, from its beginning to its end."""
        self.emit("REASONING_START", messageId="p")
        self.emit("REASONING_MESSAGE_START", messageId="p", role="reasoning")
        self.emit("REASONING_MESSAGE_CONTENT", messageId="p", delta=text)
        self.emit("REASONING_MESSAGE_END", messageId="p")
        self.emit("REASONING_END", messageId="p")

    def cut(self) -> bool:
        """Whether somebody hung up; found out by saying one more thing."""
        self.events.put({"type": "CUSTOM", "name": "still there?", "value": None})
        return self.gone.is_set()

    def answer(self, text: str) -> None:
        self.begin(text)
        self.end()


class Puppet:
    """Where the agent listens, and the runs that it was asked for."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.taken = 0
        self.url = ""
        self.auto: Callable[[Run], None] | None = None

    async def asked(self) -> Run:
        """The next run that the test has not seen yet."""
        await eventually(lambda: len(self.runs) > self.taken, within_seconds=10, what="the agent's being asked")
        self.taken += 1
        return self.runs[self.taken - 1]

    @contextmanager
    def by_itself(self, act: Callable[[Run], None]) -> Iterator[None]:
        """Each question in here is dealt with by `act`, and none of them is left for the test to see."""
        self.auto = act
        try:
            yield
        finally:
            self.auto = None
            self.taken = len(self.runs)

    def let_go(self) -> None:
        """End every answer that is still under way."""
        for run in self.runs:
            run.events.put(None)


@contextmanager
def puppet_agent() -> Iterator[Puppet]:
    puppet = Puppet()

    class Strings(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            run = Run(asked["runId"], asked["messages"][-1]["content"], asked["threadId"])
            puppet.runs.append(run)
            if puppet.auto is not None:
                puppet.auto(run)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            try:
                self._say({"type": "RUN_STARTED", "threadId": run.thread_id, "runId": run.run_id})
                while (event := run.events.get(timeout=LONGEST_SECONDS)) is not None:
                    self._say(event)
            except (OSError, queue.Empty):
                run.gone.set()

        def _say(self, event: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Strings)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    puppet.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield puppet
    finally:
        puppet.let_go()
        server.shutdown()
        server.server_close()
        thread.join(5)
