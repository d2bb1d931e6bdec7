"""The web pages: a few static files under a strict Content-Security-Policy.

The files are read once, when the routes are made: serving them touches no disk, and a name that is not among them does
not exist.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.requests import Request

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
OPS = "ops.html"
TRUSTED_TYPES = "doorward-html"
"""The one policy by which a page makes nodes of HTML, and only of what `/api/render` made."""

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it goes over the wire."""

    body: bytes
    media_type: str
    etag: str


def content_security_policy(host: str) -> str:
    """The policy of every page. `host` is the request's own, so that `connect-src` can name its WebSocket.

    Not every browser counts `ws:` under `'self'`, so the socket's address is named too. A host that is not one is left out.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self'{sockets}",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            f"trusted-types {TRUSTED_TYPES}",
        )
    )


def load_pages(folder: Traversable | None = None) -> dict[str, Page]:
    """Every file of the page by its name."""
    source = folder or files("doorward.web").joinpath("static")
    return {
        entry.name: _page(entry.name, entry.read_bytes()) for entry in source.iterdir() if _suffix(entry.name) in TYPES
    }


def web_routes() -> tuple[Route, ...]:
    """`/`, `/ops` and `/static/<file>`, for `GET` and `HEAD`. What they name of ours they name by relative addresses."""
    pages = load_pages()

    async def index(request: Request) -> Response:
        return _answer(request, pages[INDEX])

    async def ops(request: Request) -> Response:
        return _answer(request, pages[OPS])

    async def ops_folder(_: Request) -> Response:
        return RedirectResponse("../ops")  # relative: a proxy may have put a path of its own before ours

    async def static(request: Request) -> Response:
        page = pages.get(request.path_params["name"])
        if page is None:
            return PlainTextResponse("Not found", status_code=404, headers=_secured(request))
        return _answer(request, page)

    return (
        Route("/", index, methods=["GET"]),
        Route("/ops", ops, methods=["GET"]),
        Route("/ops/", ops_folder, methods=["GET"]),
        Route("/static/{name}", static, methods=["GET"]),
    )


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _page(name: str, body: bytes) -> Page:
    return Page(body, TYPES[_suffix(name)], f'"{hashlib.sha256(body).hexdigest()[:20]}"')


def _answer(request: Request, page: Page) -> Response:
    headers = _secured(request) | {"etag": page.etag}
    if page.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(page.body, media_type=page.media_type, headers=headers)


def _secured(request: Request) -> dict[str, str]:
    return _HEADERS | {"content-security-policy": content_security_policy(request.headers.get("host", ""))}
