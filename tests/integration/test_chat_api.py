"""`/api` over real HTTP: whose threads, in which pages, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from ag_ui.core import BaseEvent
from tests.chat_server import ChatServer
from tests.chat_support import FakeInsight, Script, ScriptedAgent, echo, forever
from websockets import Subprotocol

from doorward.chat.agents.port import TOLD, AgentError, AgentFault, RunRequest
from doorward.chat.api import MAX_BODY_BYTES, MAX_RENDERED_BYTES
from doorward.chat.app import create_app
from doorward.chat.limits import ChatLimits
from doorward.chat.markdown import Budget
from doorward.config import Settings
from doorward.testing.waiting import eventually

Json = dict[str, Any]


@dataclass
class Answer:
    status: int
    content: Json
    headers: dict[str, str]


class Api:
    """One person's requests, each answer held to the OpenAPI document."""

    def __init__(self, client: aiohttp.ClientSession, url: str, document: Json, user: str) -> None:
        self._client = client
        self._url = url
        self._document = document
        self._headers = {"Authorization": f"Bearer {user}"} if user else {}

    async def __call__(self, method: str, path: str, content: Any = None, **options: Any) -> Answer:
        body = {} if content is None else {"json": content}
        async with self._client.request(
            method, f"{self._url}{path}", headers=self._headers | options.pop("headers", {}), **body, **options
        ) as response:
            text = await response.text()
            answer = Answer(response.status, json.loads(text) if text else {}, dict(response.headers))
        self._conforms(method, path.partition("?")[0], answer)
        return answer

    def _conforms(self, method: str, path: str, answer: Answer) -> None:
        parts = path.split("/")
        if len(parts) > 3:
            parts[3] = "{thread_id}"
        described = self._document["paths"]["/".join(parts)][method.lower()]["responses"][str(answer.status)]
        for kind, content in described.get("content", {}).items():
            assert answer.headers["Content-Type"].partition(";")[0] == kind
            schema = content["schema"] | {"components": self._document["components"]}
            jsonschema.validate(answer.content, schema, jsonschema.Draft202012Validator)
        assert answer.headers["Cache-Control"] == "no-store"


@asynccontextmanager
async def serving(
    script: Script = echo, limits: ChatLimits | None = None, data_file: Path | None = None
) -> AsyncIterator[tuple[ChatServer, Callable[[str], Api]]]:
    app = create_app(
        Settings(auth={"url": "http://127.0.0.1:1"}),
        insight=FakeInsight(),
        ready=lambda: True,
        agent=ScriptedAgent(script),
        limits=limits,
        data_file=data_file,
    )
    async with ChatServer.serving(app) as server, aiohttp.ClientSession() as client:
        async with client.get(f"{server.url}/api/openapi.json") as response:
            document = await response.json()
        yield server, lambda user: Api(client, server.url, document, user)


async def said(server: ChatServer, thread_id: str, question: str, run_id: str = "r1", user: str = "alice") -> None:
    """One whole run."""
    async with server.client(user) as client:
        await client.ask("thread.subscribe", thread_id=thread_id)
        await client.envelope()
        assert (await client.ask("run.start", thread_id=thread_id, run_id=run_id, message=question))["ok"] is True
        await client.run()


async def walked(page: Callable[[str], Awaitable[Answer]], of: str) -> list[list[Json]]:
    """All pages, by their cursors."""
    pages: list[list[Json]] = []
    cursor = ""
    while True:
        answer = await page(cursor)
        assert answer.status == 200
        pages.append(answer.content[of])
        if answer.content["next_cursor"] is None:
            return pages
        cursor = f"&cursor={answer.content['next_cursor']}"


async def test_a_thread_from_its_making_to_its_end() -> None:
    async with serving() as (_, person):
        alice = person("alice")
        made = await alice("POST", "/api/threads", {"thread_id": "t", "title": "  Doors\n and wards "})
        assert (made.status, made.content["title"], made.content["active_run_id"]) == (201, "Doors and wards", None)
        again = await alice("POST", "/api/threads", {"thread_id": "t", "title": "other"})
        assert (again.status, again.content) == (200, made.content)
        assert (await alice("GET", "/api/threads/t")).content == made.content
        renamed = await alice("PATCH", "/api/threads/t", {"title": "Wards"})
        assert (renamed.status, renamed.content["title"]) == (200, "Wards")
        assert (await alice("DELETE", "/api/threads/t")).status == 204
        assert (await alice("GET", "/api/threads/t")).status == 404
        assert (await alice("DELETE", "/api/threads/t")).status == 404
        named = await alice("POST", "/api/threads", {})
        assert (named.status, len(named.content["thread_id"])) == (201, 36)


@pytest.mark.parametrize("durable", [False, True])
async def test_what_was_said_is_there_at_once(durable: bool, tmp_path: Path) -> None:
    async with serving(data_file=tmp_path / "chat.sqlite3" if durable else None) as (server, person):
        alice = person("alice")
        for number in range(1, 4):
            await said(server, "t", f"question {number}", f"r{number}")
            page = (await alice("GET", "/api/threads/t/messages?limit=1")).content
            assert page["messages"][0]["message"]["content"] == f"question {number} "
            assert (await alice("GET", "/api/threads/t")).content["active_run_id"] is None
        pages = await walked(lambda cursor: alice("GET", f"/api/threads/t/messages?limit=4{cursor}"), "messages")
        contents = [[item["message"]["content"] for item in page] for page in pages]
        assert contents == [
            ["question 2", "question 2 ", "question 3", "question 3 "],
            ["question 1", "question 1 "],
        ]
        assert [item["position"] for item in pages[1]] == [1, 2]
        runs = await walked(lambda cursor: alice("GET", f"/api/threads/t/runs?limit=2{cursor}"), "runs")
        assert [[run["run_id"] for run in page] for page in runs] == [["r3", "r2"], ["r1"]]
        assert {run["ending"] for page in runs for run in page} == {"finished"}
        assert (await alice("GET", "/api/threads")).content["threads"][0]["title"] == "question 1"


@pytest.mark.parametrize("durable", [False, True])
async def test_how_a_run_ended_is_told_as_it_was_then(durable: bool, tmp_path: Path) -> None:
    async def script(request: RunRequest) -> AsyncIterator[BaseEvent]:
        if request.message != "hello":
            raise AgentError(AgentFault(request.message), "a reason that is nobody's business")
        async for event in echo(request):
            yield event

    async with serving(script, data_file=tmp_path / "chat.sqlite3" if durable else None) as (server, person):
        for number, question in enumerate(["agent_busy", "hello", "agent_declined"]):
            await said(server, "t", question, f"r{number}")
        runs = (await person("alice")("GET", "/api/threads/t/runs")).content["runs"]
    assert [(run["ending"], run["error"]) for run in runs] == [
        ("failed", {"code": "agent_declined", "message": TOLD[AgentFault.DECLINED], "retryable": False}),
        ("finished", None),
        ("failed", {"code": "agent_busy", "message": TOLD[AgentFault.BUSY], "retryable": True}),
    ]


async def test_threads_come_last_used_first_in_pages() -> None:
    async with serving() as (server, person):
        alice = person("alice")
        for number in range(5):
            await alice("POST", "/api/threads", {"thread_id": f"t{number}"})
        await person("bob")("POST", "/api/threads", {"thread_id": "bobs"})
        await asyncio.sleep(0.002)  # the order is by milliseconds
        await said(server, "t1", "hello")
        pages = await walked(lambda cursor: alice("GET", f"/api/threads?limit=2{cursor}"), "threads")
        names = [[thread["thread_id"] for thread in page] for page in pages]
        assert names[0][0] == "t1"
        assert [len(page) for page in names] == [2, 2, 1]
        assert {name for page in names for name in page} == {f"t{number}" for number in range(5)}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("LIGHTHOUSE", {"history"}),
        ("straße", {"streets"}),
        ("STRASSE", {"streets"}),
        ("100%", {"percent"}),
        ("100_", set()),
        ('"quoted"', {"percent"}),
        ("café", {"titled"}),
        ("  ", {"history", "streets", "percent", "titled"}),
        ("nothing like it", set()),
    ],
)
async def test_search_looks_into_titles_and_messages(words: str, found: set[str]) -> None:
    async with serving() as (server, person):
        alice = person("alice")
        await said(server, "history", "Tell me of the Lighthouse")
        await said(server, "streets", "Wie heißt die Straße?")
        await said(server, "percent", 'I am 100% sure that I said "quoted"')
        await alice("POST", "/api/threads", {"thread_id": "titled", "title": "The CAFÉ"})
        await said(server, "bobs", "lighthouse straße 100% café", user="bob")
        answer = await alice("GET", "/api/threads", params={"q": words})
        assert {thread["thread_id"] for thread in answer.content["threads"]} == found


async def test_what_was_searched_for_is_shown_where_it_was_said_last() -> None:
    async with serving() as (server, person):
        alice = person("alice")
        await said(server, "t", "Tell me of the Lighthouse")
        await said(server, "t", "Is a LIGHTHOUSE high?", "r2")
        await alice("POST", "/api/threads", {"thread_id": "titled", "title": "Lighthouse"})
        found = (await alice("GET", "/api/threads", params={"q": "lighthouse"})).content["threads"]
        excerpts = {thread["thread_id"]: thread.get("excerpt") for thread in found}
        listed = (await alice("GET", "/api/threads")).content["threads"]
        assert excerpts == {"t": {"before": "Is a ", "match": "LIGHTHOUSE", "after": " high? "}, "titled": None}
        assert not any("excerpt" in thread for thread in listed)


async def test_another_users_thread_is_not_there() -> None:
    async with serving() as (server, person):
        await said(server, "t", "a secret")
        bob = person("bob")
        nothing = await bob("GET", "/api/threads/nothing")
        for method, path, content in (
            ("GET", "", None),
            ("PATCH", "", {"title": "mine"}),
            ("DELETE", "", None),
            ("GET", "/messages", None),
            ("GET", "/runs", None),
        ):
            answer = await bob(method, f"/api/threads/t{path}", content)
            assert (answer.status, answer.content) == (404, nothing.content), method
        assert (await bob("POST", "/api/threads", {"thread_id": "t"})).status == 404
        assert (await bob("GET", "/api/threads?q=secret")).content["threads"] == []
        assert (await person("alice")("GET", "/api/threads/t")).status == 200


async def test_without_a_door_nobody_is_served() -> None:
    async with serving() as (_, person):
        answer = await person("")("GET", "/api/threads")
        assert (answer.status, answer.content["code"]) == (401, "AUTH_REQUIRED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/api/threads?limit=0", None, 400),
        ("GET", "/api/threads?limit=101", None, 400),
        ("GET", "/api/threads?limit=many", None, 400),
        ("GET", "/api/threads?cursor=x", None, 400),
        ("GET", "/api/threads?cursor=1.a%20b", None, 400),
        ("GET", f"/api/threads?q={'x' * 201}", None, 400),
        ("GET", "/api/threads/t/messages?cursor=-1", None, 400),
        ("GET", f"/api/threads/{'x' * 129}", None, 404),
        ("GET", "/api/threads/a%20b", None, 404),
        ("POST", "/api/threads", {"thread_id": "a b"}, 400),
        ("POST", "/api/threads", {"title": "x" * 201}, 400),
        ("POST", "/api/threads", {"title": " \n "}, 400),
        ("POST", "/api/threads", ["t"], 400),
        ("POST", "/api/threads", {"title": "x" * (MAX_BODY_BYTES + 1)}, 413),
        ("PATCH", "/api/threads/t", {}, 400),
        ("PATCH", "/api/threads/t", {"title": None}, 400),
        ("POST", "/api/render", {"texts": "x"}, 400),
        ("POST", "/api/render", {"texts": ["x"] * 101}, 400),
        ("POST", "/api/render", {"texts": ["x" * MAX_RENDERED_BYTES, "y"]}, 413),
    ],
)
async def test_what_cannot_be_done_is_said(method: str, path: str, content: Any, status: int) -> None:
    async with serving() as (_, person):
        answer = await person("alice")(method, path, content)
        assert answer.status == status
        assert answer.content["status"] == status
        assert answer.content["code"]


async def test_only_json_is_read() -> None:
    async with serving() as (_, person):
        alice = person("alice")
        answer = await alice("POST", "/api/threads", data=b"{}", headers={"Content-Type": "text/plain"})
        assert answer.status == 415
        answer = await alice("POST", "/api/threads", data=b"{", headers={"Content-Type": "application/json"})
        assert answer.status == 400


async def test_so_many_threads_and_no_more() -> None:
    async with serving(limits=ChatLimits(threads_per_user=2)) as (_, person):
        alice = person("alice")
        answers = [await alice("POST", "/api/threads", {}) for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 409]
        assert answers[-1].content["code"] == "TOO_MANY_THREADS"


async def test_renders_markdown_that_cannot_act() -> None:
    async with serving() as (_, person):
        answer = await person("alice")(
            "POST", "/api/render", {"texts": ["**bold**", "<script>alert(1)</script>", "```py\nx\n```"]}
        )
        bold, script, code = answer.content["html"]
        assert "<strong>bold</strong>" in bold
        assert "<script" not in script
        assert 'class="language-py"' in code


async def test_many_renders_of_one_user_delay_another_by_one_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def slowly(text: str, _: Budget) -> str:
        time.sleep(0.2)
        order.append(text)
        return text

    monkeypatch.setattr("doorward.chat.api.markdown.render", slowly)
    async with serving() as (_, person), asyncio.TaskGroup() as group:

        async def render(user: str) -> Answer:
            return await person(user)("POST", "/api/render", {"texts": [user]})

        burst = [group.create_task(render("alice")) for _ in range(14)]
        await eventually(lambda: order, what="the first is rendered")
        assert (await render("bob")).status == 200
        assert order.index("bob") < 7, "and not after all of them"
        answers = [await answer for answer in burst]
        assert {answer.status for answer in answers} == {200, 503}
        assert all(answer.content["code"] == "OVERLOADED" for answer in answers if answer.status == 503)
    assert len(order) < 14, "what nobody waits for any more is not rendered"


async def test_of_a_growing_text_it_says_what_is_settled() -> None:
    async with serving() as (_, person):
        growing = {"texts": ["# one\n\ntwo\n\nthr", "one"], "growing": True}
        content = (await person("alice")("POST", "/api/render", growing)).content
        assert content["html"] == ["<h3>one</h3>\n<p>two</p>\n<p>thr</p>\n", "<p>one</p>\n"]
        assert content["settled"] == [{"lines": 2, "elements": 1}, {"lines": 0, "elements": 0}]


async def test_every_tab_hears_of_every_change() -> None:
    async with (
        serving() as (server, person),
        server.client(subprotocols=[Subprotocol("doorward.v1")]) as tab,
        server.client("bob", subprotocols=[Subprotocol("doorward.v1")]) as bob,
        server.client() as plain,
    ):
        alice = person("alice")
        await alice("POST", "/api/threads", {"thread_id": "t"})
        await alice("PATCH", "/api/threads/t", {"title": "Doors"})
        await said(server, "t", "hello")
        await alice("DELETE", "/api/threads/t")

        async def heard() -> bool:
            await tab.ask("ping")
            return bool(tab.notices) and tab.notices[-1]["notice"] == "thread.deleted"

        for _ in range(100):
            if await heard():
                break
        assert tab.notices[-1] == {"notice": "thread.deleted", "thread_id": "t"}
        changes = [notice["thread"] for notice in tab.notices[:-1]]
        assert {(change["title"], change["active_run_id"]) for change in changes} >= {("Doors", "r1"), ("Doors", None)}
        for other in (bob, plain):
            await other.ask("ping")
            assert other.notices == []


async def test_deleting_a_thread_ends_its_run_and_its_subscriptions() -> None:
    async with serving(forever) as (server, person), server.client() as tab:
        await tab.ask("thread.subscribe", thread_id="t")
        await tab.envelope()
        await tab.ask("run.start", thread_id="t", run_id="r", message="go on")
        assert (await person("alice")("DELETE", "/api/threads/t")).status == 204
        chat = server.app.state.chat
        await eventually(lambda: len(chat.runs) == 0)
        assert (await tab.ask("run.cancel", thread_id="t", run_id="r"))["error"]["code"] == "NOT_FOUND"
        reply = await tab.ask("thread.subscribe", thread_id="t")
        assert (reply["ok"], reply["resumed"]) == (True, False)
        tab.inbox.clear()
        started = await tab.ask("run.start", thread_id="t", run_id="r", message="again")
        assert started["duplicate"] is False
        envelope = await tab.envelope()
        while envelope.get("synthetic"):
            envelope = await tab.envelope()
        assert envelope["event"]["type"] == "RUN_STARTED"
        assert envelope["seq_from"] == reply["after_seq"] + 1
