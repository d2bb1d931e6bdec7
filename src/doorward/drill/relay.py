"""Between the fault proxy and an auth service that speaks TLS: the proxy must read what passes, so it is plain up to here."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from doorward.drill.clients import http_address

ANSWER_SECONDS = 30.0
MAX_REQUEST_BYTES = 1 << 20
STOP_SECONDS = 0.2
HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, section 7.6.1; and what is said anew on each side."""


@asynccontextmanager
async def plain_address(upstream: str) -> AsyncIterator[tuple[str, int]]:
    """Host and port at which this http:// or https:// service can be reached in plain HTTP.

    An https service is asked over TLS under its own name, and its certificate is checked against the system's authorities
    (OpenSSL's `SSL_CERT_FILE` names others).
    """
    if urlsplit(upstream).scheme == "http":
        yield http_address(upstream)
        return
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        runner = web.AppRunner(_relay(session, upstream.rstrip("/")), access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            yield host, port
        finally:
            await runner.cleanup()


def _relay(session: aiohttp.ClientSession, upstream: str) -> web.Application:
    async def pass_on(request: web.Request) -> web.Response:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        try:
            async with session.request(
                request.method,
                URL(upstream + request.raw_path, encoded=True),
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return web.Response(status=502, text=f"{upstream} could not be asked: {type(error).__name__}: {error}")
        kept = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP)
        return web.Response(status=answer.status, body=body, headers=kept)

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.router.add_route("*", "/{rest:.*}", pass_on)
    return app
