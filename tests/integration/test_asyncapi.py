"""What is really said on `/ws` is what the AsyncAPI document says, and the document is one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from tests.chat_server import ChatClient
from tests.integration.test_chat_behind_door import chatting
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from doorward.chat.asyncapi import NOTICES, REPLIES, document

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = ROOT / "tests/js/node_modules/@asyncapi/specs/schemas/3.0.0.json"

DOCUMENT = document(version("doorward"))
PAYLOADS = {message["name"]: message["payload"] for message in DOCUMENT["components"]["messages"].values()}

Frame = dict[str, Any]


def kind_of(frame: Frame) -> str:
    """The message that a frame of the server is, by the keys that tell them apart."""
    if "notice" in frame:
        return f"notice.{frame['notice']}"
    if "v" in frame:
        return "envelope.synthetic" if frame.get("synthetic") else "envelope"
    return "reply.error" if "error" in frame else frame.get("type", "reply")


def breaches(frame: Frame, kind: str) -> list[str]:
    return [error.message for error in Draft7Validator(PAYLOADS[kind]).iter_errors(frame)]


class Recorder(ChatClient):
    """Keeps every frame of both sides."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self.frames: list[Frame] = []
        self.replies: dict[str, str] = {}

    async def next(self) -> Frame:
        frame = await super().next()
        self.frames.append(frame)
        return frame

    async def receive_to_the_end(self) -> None:
        while True:
            await self.receive()

    async def ask(self, kind: str, **fields: Any) -> Frame:
        reply = await super().ask(kind, **fields)
        command = {"id": reply["reply_to"], "type": kind, **fields}
        assert breaches(command, f"command.{kind}") == []
        self.replies[reply["reply_to"]] = kind
        return reply

    def kinds(self) -> Iterable[tuple[str, Frame]]:
        for frame in self.frames:
            kind = kind_of(frame)
            yield (f"reply.{self.replies[frame['reply_to']]}" if kind == "reply" else kind), frame


@pytest.mark.skipif(
    not SPECIFICATION.is_file() and not os.environ.get("CI"),
    reason="NOT RUN: the AsyncAPI specification of tests/js is not installed (tools/install-node-packages)",
)
def test_the_document_is_asyncapi() -> None:
    specification = json.loads(SPECIFICATION.read_text(encoding="utf-8"))

    assert [error.message for error in Draft7Validator(specification).iter_errors(DOCUMENT)] == []


async def test_a_conversation_is_as_the_document_says(tmp_path: Path) -> None:
    async with (
        chatting(tmp_path) as (running, _),
        running.browser(running.auth.issue("alice", session_id="s")) as connection,
    ):
        client = Recorder(connection)
        await client.ask("ping")
        await client.ask("run.cancel", thread_id="t", run_id="none")
        await client.ask("thread.subscribe", thread_id="t")
        await client.ask("run.start", thread_id="t", run_id="r", message="How is the auth service?")
        while client.frames[-1].get("event", {}).get("type") != "RUN_FINISHED":
            await client.receive()
        await client.ask("run.cancel", thread_id="t", run_id="r")
        await client.ask("auth.refresh", token=running.auth.issue("alice", session_id="s"))
        await client.ask("thread.unsubscribe", thread_id="t")
        running.auth.revoke(user_id="alice")
        with pytest.raises(ConnectionClosed):
            await client.receive_to_the_end()

    seen = dict.fromkeys(kind for kind, _ in client.kinds())
    assert {kind: found for kind, frame in client.kinds() if (found := breaches(frame, kind))} == {}
    expected = {f"reply.{name}" for name in REPLIES} | {"reply.error", "envelope", "envelope.synthetic"}
    assert expected | {"notice.auth.assurance", "auth.error"} <= set(seen)


def test_another_shape_would_be_seen() -> None:
    assert breaches({"reply_to": "c1", "ok": True}, "reply.run.start") != []
    assert breaches({"notice": "auth.expiring"}, "notice.auth.expiring") != []
    assert set(NOTICES) >= {"auth.assurance", "auth.expiring", "auth.grace", "server.draining"}
