from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope

from doorward.chat.api import MAX_RENDERED_BYTES
from doorward.chat.limits import MAX_TEXT_BYTES
from doorward.chat.views import MAX_TEXTS, MAX_TITLE_CHARACTERS
from doorward.web.pages import INDEX, OPS, TRUSTED_TYPES, content_security_policy, load_pages, web_routes

ROOT = Path(__file__).parents[3]


async def get(
    path: str, *, host: str = "door.example:8000", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request to the routes, without a server in between."""
    fields = [
        (b"host", host.encode()),
        *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
    ]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": fields,
        "root_path": "",
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await Starlette(routes=web_routes())(scope, receive, send)
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:])


async def test_the_page_is_served() -> None:
    status, headers, body = await get("/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Doorward</title>" in body


@pytest.mark.parametrize("name", sorted(load_pages()))
async def test_every_file_is_served_as_what_it_is(name: str) -> None:
    status, headers, body = await get(f"/static/{name}")
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"].split(";")[0] in {"text/html", "text/css", "text/javascript", "image/svg+xml"}
    assert body


async def test_whatever_the_page_names_is_there() -> None:
    pages = load_pages()
    named = set()
    for document in (INDEX, OPS):
        named |= set(re.findall(r'(?:src|href)="static/([^"]+)"', pages[document].body.decode()))
    assert {"app.js", "ops.js", "style.css"} <= named
    for name, page in pages.items():
        if name.endswith(".js"):
            named |= set(re.findall(r'from "\./([^"]+)"', page.body.decode()))
    assert named <= set(pages)


@pytest.mark.parametrize("name", sorted(set(load_pages()) - {"doorward.js"}))
def test_nothing_is_named_from_the_root_of_the_origin(name: str) -> None:
    """A proxy may have put a path before ours."""
    text = strip_comments(load_pages()[name].body.decode())
    ours = r"/(?:ws|api|auth|ops|static)\b"
    assert re.findall(rf"""(?:src|href|action)="/|[`"']{ours}|(?<!\$\{{BASE)\}}{ours}""", text) == []


def strip_comments(script: str) -> str:
    return re.sub(r"/\*(?s:.*?)\*/|^\s*//.*$", "", script, flags=re.MULTILINE)


async def test_a_slash_too_many_leads_to_the_page_by_a_relative_address() -> None:
    status, headers, _ = await get("/ops/")
    assert (status, headers["location"]) == (307, "../ops")


async def test_the_page_and_the_policy_mean_the_same_trusted_types() -> None:
    assert f'createPolicy("{TRUSTED_TYPES}"'.encode() in load_pages()["html.js"].body


async def test_the_page_runs_the_very_client_that_is_published() -> None:
    _, _, body = await get("/static/doorward.js")
    assert body == (ROOT / "clients" / "js" / "doorward.js").read_bytes()


@pytest.mark.parametrize(
    "path", ["/static/pages.py", "/static/..%2fpages.py", "/static/../pages.py", "/static/", "/static/nothing.js"]
)
async def test_nothing_else_exists(path: str) -> None:
    status, _, _ = await get(path)
    assert status == 404


async def test_an_unchanged_file_is_not_sent_again() -> None:
    _, headers, _ = await get("/static/style.css")
    status, again, body = await get("/static/style.css", if_none_match=headers["etag"])
    assert (status, body) == (304, b"")
    assert again["etag"] == headers["etag"]


async def test_head_is_answered_and_post_is_not() -> None:
    assert (await get("/", method="HEAD"))[0] == 200
    assert (await get("/", method="POST"))[0] == 405


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/nothing.js"])
async def test_every_answer_carries_the_policy(path: str) -> None:
    _, headers, _ = await get(path)
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://door.example:8000 wss://door.example:8000"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == TRUSTED_TYPES
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("host", ["", "a b", "evil;script-src *", "a\r\nb", "x" * 300, "*"])
def test_a_host_that_is_none_does_not_get_into_the_policy(host: str) -> None:
    assert "connect-src 'self';" in content_security_policy(host)


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:8000", "192.0.2.1", "door.example"])
def test_a_host_is_named_for_its_websocket(host: str) -> None:
    assert f"connect-src 'self' ws://{host} wss://{host};" in content_security_policy(host)


SINKS = rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|parseFromString|\beval\(|new Function"


def test_no_page_writes_html_or_runs_text_but_what_the_server_cleaned_and_in_one_place() -> None:
    for name, page in load_pages().items():
        found = re.findall(SINKS, page.body)
        assert found == ([b"innerHTML"] if name == "html.js" else []), name
        if name == "html.js":
            assert b"template.innerHTML = policy.createHTML(html);" in page.body
    assert not re.search(rb'\son\w+="|style="|javascript:', load_pages()[INDEX].body)


def test_the_page_keeps_the_bounds_of_the_server() -> None:
    pages = load_pages()

    def number(file: str, name: str) -> int:
        found = re.search(rf"\b{name} = ([\d_]+);", pages[file].body.decode())
        assert found
        return int(found[1])

    assert number("composer.js", "maxBytes") == MAX_TEXT_BYTES
    assert number("rendering.js", "MAX_BYTES") <= MAX_RENDERED_BYTES
    assert number("rendering.js", "MAX_TEXTS") == MAX_TEXTS
    assert number("rename.js", "LONGEST") == MAX_TITLE_CHARACTERS
